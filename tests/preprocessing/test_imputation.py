"""Imputation fills only what is missing, with training values only."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.impute import KNNImputer

from miracle_lib.cohorts.merge import merge_cohorts
from miracle_lib.cohorts.simulation import simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing import SiteImputer


@pytest.fixture(scope="module")
def merged():
    simulation = simulate_cohorts({"A": 40, "B": 60}, n_sites=300, missing=0.1)
    X, _, obs = merge_cohorts(list(simulation.cohorts.values()))
    return X, obs["cohort"]


@pytest.mark.parametrize("method", ["mean", "median"])
def test_fills_the_training_centre_of_the_cohort(merged, method):
    X, cohort = merged
    train = np.arange(len(X)) % 5 > 0
    imputer = SiteImputer(method).fit(X[train], cohort=cohort[train])
    filled = imputer.transform(X[~train], cohort=cohort[~train])
    overall = getattr(X[train].astype(float), method)()
    centres = getattr(X[train].astype(float).groupby(cohort[train]), method)().fillna(overall)
    kept = X.loc[~train, imputer.sites_]
    expected = kept.where(kept.notna(), centres.loc[cohort[~train], imputer.sites_].to_numpy())
    np.testing.assert_allclose(filled, expected, rtol=1e-5)
    assert not filled.isna().any().any()
    without = SiteImputer(method).fit(X[train]).transform(X[~train])
    expected = kept.fillna(overall)
    np.testing.assert_allclose(without, expected, rtol=1e-5)


def test_knn_is_scikit_learns_on_training_samples(merged):
    X, _ = merged
    X = X.iloc[:, :60]
    train = np.arange(len(X)) % 5 > 0
    imputer = SiteImputer("knn", n_neighbors=3).fit(X[train])
    sites = X.columns[X[train].notna().any()]
    expected = KNNImputer(n_neighbors=3).fit(X.loc[train, sites]).transform(X.loc[~train, sites])
    np.testing.assert_allclose(imputer.transform(X[~train]), expected, rtol=1e-5)


def test_neighbours_are_more_accurate_than_the_mean():
    cohort = simulate_cohorts({"A": 150}, n_sites=400, missing=0).cohorts["A"]
    truth = cohort.to_df()
    hidden = np.random.default_rng(0).random(truth.shape) < 0.05
    X = truth.mask(hidden)
    errors = {
        method: np.abs(SiteImputer(method).fit(X).transform(X) - truth).to_numpy()[hidden].mean()
        for method in ("mean", "knn")
    }
    assert errors["knn"] < errors["mean"]


def test_site_that_only_one_cohort_has_gets_its_mean_everywhere():
    X = pd.DataFrame({"cg1": [0.2, 0.4, np.nan, np.nan], "cg2": [0.1, 0.1, 0.9, 0.9]})
    filled = SiteImputer().fit_transform(X, cohort=["A", "A", "B", "B"])
    np.testing.assert_allclose(filled["cg1"], [0.2, 0.4, 0.3, 0.3], rtol=1e-6)


def test_a_cohort_may_have_any_name():
    X = pd.DataFrame({"cg1": [0.2, 0.4, np.nan, np.nan, 0.9], "cg2": [np.nan, np.nan, 0.1, 0.3, 1]})
    imputer = SiteImputer().fit(X, cohort=["all", "all", "B", "B", "B"])
    assert list(imputer.sites_) == ["cg1", "cg2"]  # the cohort "all" has no value of cg2
    hole = pd.DataFrame({"cg1": [np.nan], "cg2": [0.5]})
    means = [imputer.transform(hole, cohort).loc[0, "cg1"] for cohort in ("all", "B", None)]
    np.testing.assert_allclose(means, [0.3, 0.9, 0.5], rtol=1e-6)
    with pytest.raises(MiracleError, match="'all' was not fitted; known cohorts are none"):
        SiteImputer().fit(X).transform(X, "all")


def test_sites_without_training_values_are_left_out():
    train = pd.DataFrame({"cg1": [0.2, 0.4], "cg2": [np.nan, np.nan]})
    test = pd.DataFrame({"cg1": [np.nan], "cg2": [0.7]})
    for method in ("mean", "knn"):
        imputer = SiteImputer(method).fit(train)
        assert imputer.get_feature_names_out().tolist() == ["cg1"]
        np.testing.assert_allclose(imputer.transform(test), [[0.3]], rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    values=arrays(np.float32, (6, 4), elements=st.floats(0, 1, width=32)),
    holes=arrays(bool, (6, 4)),
    method=st.sampled_from(["mean", "median"]),
)
def test_present_values_stay_and_filled_ones_lie_between(values, holes, method):
    X = pd.DataFrame(np.where(holes, np.nan, values)).add_prefix("cg")
    if holes.all():
        return
    filled = SiteImputer(method).fit_transform(X)
    kept = X[filled.columns]
    assert not filled.isna().any().any()
    assert np.array_equal(filled.to_numpy()[kept.notna()], kept.to_numpy()[kept.notna()])
    assert (filled.ge(kept.min() - 1e-6) & filled.le(kept.max() + 1e-6)).all().all()


def test_refuses(merged):
    X, cohort = merged
    with pytest.raises(MiracleError, match="method is 'zero'; expected one of knn, mean, median"):
        SiteImputer("zero").fit(X)
    with pytest.raises(MiracleError, match="n_neighbors is 0"):
        SiteImputer("knn", n_neighbors=0).fit(X)
    with pytest.raises(MiracleError, match="every value of X is missing"):
        SiteImputer().fit(X * np.nan)
    with pytest.raises(MiracleError, match="'C' was not fitted; known cohorts are Simulated A"):
        SiteImputer().fit(X, cohort=cohort).transform(X, cohort="C")
    for method in ("mean", "knn"):
        with pytest.raises(MiracleError, match=r"expected beta values in \[0, 1\]"):
            SiteImputer(method).fit(X).transform(X * 10)
