"""Standardisation removes what a cohort adds, learns only from the samples it is fitted on."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from miracle_lib.cohorts.merge import merge_cohorts
from miracle_lib.cohorts.simulation import simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing import CohortStandardizer, beta_to_m, m_to_beta
from miracle_lib.preprocessing import table as table_module


def frame(values, **kwargs):
    values = np.asarray(values, float)
    names = [f"cg{i}" for i in range(values.shape[1])]
    return pd.DataFrame(values, columns=names, **kwargs)


@pytest.fixture(scope="module")
def merged():
    simulation = simulate_cohorts({"A": 40, "B": 60}, n_sites=300, missing=0.05)
    return merge_cohorts(list(simulation.cohorts.values()))


@pytest.mark.parametrize("scale", ["m", "beta"])
def test_equals_a_plain_computation(merged, scale, monkeypatch):
    monkeypatch.setattr(table_module, "BLOCK", 37)  # several blocks, the last one short
    X, _, obs = merged
    z = CohortStandardizer(scale=scale).fit_transform(X, cohort=obs["cohort"])
    values = beta_to_m(X.astype(float)) if scale == "m" else X.astype(float)
    expected = values.groupby(obs["cohort"]).transform(lambda c: (c - c.mean()) / c.std())
    np.testing.assert_allclose(z, expected.fillna(0), atol=2e-3)
    assert z.dtypes.unique().tolist() == [np.dtype(np.float32)]
    assert z.index.equals(X.index)
    assert z.columns.equals(X.columns)


def test_cohort_cannot_be_told_afterwards(merged):
    X, _, obs = merged
    standard = CohortStandardizer().fit(X, cohort=obs["cohort"])
    z = standard.transform(X, cohort=obs["cohort"])
    z[X.isna()] = np.nan
    means = z.groupby(obs["cohort"]).mean()
    assert means.abs().max().max() < 1e-4


def test_what_is_missing_does_not_name_the_cohort():
    cohorts = simulate_cohorts({"A": 120, "B": 120}, n_sites=300, missing=0.05).cohorts
    X, _, obs = merge_cohorts([cohorts["A"][:, 50:], cohorts["B"][:, :250]], sites="union")
    cohort, is_a = obs["cohort"], (obs["cohort"] == "Simulated A").to_numpy()
    filled, standardised = [], []
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, is_a):
        # inside the fold: centred over all samples, test means would mirror training means
        fitted = CohortStandardizer().fit(X.iloc[train], cohort=cohort.iloc[train])
        z = fitted.transform(X, cohort=cohort)
        for values, scores in ((X.fillna(0), filled), (z, standardised)):
            model = LogisticRegression(C=0.01, max_iter=500)
            model.fit(values.iloc[train], is_a[train])
            score = model.decision_function(values.iloc[test])
            scores.append(roc_auc_score(is_a[test], score))
    assert np.mean(filled) > 0.99
    assert 0.35 < np.mean(standardised) < 0.65


def test_missing_becomes_zero(merged):
    X, _, obs = merged
    z = CohortStandardizer().fit_transform(X, cohort=obs["cohort"])
    assert X.isna().any().any()
    assert (z.to_numpy()[X.isna()] == 0).all()


def test_test_samples_do_not_touch_the_fit(merged):
    X, _, obs = merged
    train = np.arange(len(X)) % 4 > 0
    fitted = CohortStandardizer().fit(X[train], cohort=obs["cohort"][train])
    changed = X.copy()
    changed[~train] = 0.5
    again = CohortStandardizer().fit(changed[train], cohort=obs["cohort"][train])
    pd.testing.assert_frame_equal(fitted.mean_, again.mean_)
    whole = fitted.transform(X, cohort=obs["cohort"])
    alone = fitted.transform(X[~train], cohort=obs["cohort"][~train])
    pd.testing.assert_frame_equal(whole[~train], alone)


def test_one_name_for_all_samples(merged):
    X, _, obs = merged
    standard = CohortStandardizer().fit(X, cohort=obs["cohort"])
    one = standard.transform(X, cohort="Simulated A")
    each = standard.transform(X, cohort=["Simulated A"] * len(X))
    pd.testing.assert_frame_equal(one, each)


def test_series_is_aligned_on_sample_names(merged):
    X, _, obs = merged
    straight = CohortStandardizer().fit_transform(X, cohort=obs["cohort"])
    shuffled = CohortStandardizer().fit_transform(X, cohort=obs["cohort"].sample(frac=1))
    pd.testing.assert_frame_equal(straight, shuffled)


def test_without_cohort_all_samples_are_one(merged):
    X, _, _ = merged
    z = CohortStandardizer().fit(X).transform(X)
    assert abs(z.to_numpy().mean()) < 0.01


def test_constant_site_does_not_explode():
    train = frame([[0.5, 0.1], [0.5, 0.2], [0.5, 0.3]])
    standard = CohortStandardizer().fit(train)
    test = frame([[0.51, 0.1]])
    shift = np.log2(0.51 / 0.49)
    assert standard.transform(test)["cg0"].item() == pytest.approx(shift / 0.05, rel=1e-4)


def test_site_without_training_values_is_zero_even_if_present_later():
    train = frame([[np.nan, 0.1], [np.nan, 0.2]])
    z = CohortStandardizer().fit(train).transform(frame([[0.9, 0.1]]))
    assert z["cg0"].item() == 0


def test_further_sites_are_ignored_and_order_is_the_fitted_one(merged):
    X, _, _ = merged
    standard = CohortStandardizer().fit(X.iloc[:, :50])
    z = standard.transform(X.iloc[:, ::-1])
    pd.testing.assert_frame_equal(z, standard.transform(X.iloc[:, :50]))


def test_clones_and_runs_in_a_pipeline(merged):
    X, Y, _ = merged
    labelled = Y["B"].notna()
    model = make_pipeline(clone(CohortStandardizer(clip=0.01)), LogisticRegression(C=0.01))
    model.fit(X[labelled], Y.loc[labelled, "B"])
    assert model[0].clip == 0.01
    assert model.score(X[labelled], Y.loc[labelled, "B"]) > 0.8


def test_refuses(merged):
    X, _, obs = merged
    standard = CohortStandardizer().fit(X, cohort=obs["cohort"])
    with pytest.raises(MiracleError, match=r"'C' was not fitted; known cohorts are Simulated A, "):
        standard.transform(X, cohort="C")
    with pytest.raises(MiracleError, match="cohort is not given but 2 cohorts were fitted"):
        standard.transform(X)
    with pytest.raises(MiracleError, match=f"lacks 1 of the 300 sites .*{X.columns[7]}"):
        standard.transform(X.drop(columns=X.columns[7]), cohort="Simulated A")
    with pytest.raises(MiracleError, match="cohort has shape .1,.; expected 100 entries"):
        standard.fit(X, cohort=["A"])
    with pytest.raises(MiracleError, match="cohort of sample 'A-001' is missing"):
        standard.fit(X, cohort=obs["cohort"].mask(obs.index == "A-001"))
    with pytest.raises(MiracleError, match="no entry for sample 'A-001'"):
        standard.fit(X, cohort=obs["cohort"].drop("A-001"))
    wrong = X.copy()
    wrong.iloc[2, 5] = 3.5
    with pytest.raises(MiracleError, match=rf"Sample 'A-003' has 3.5 at site '{X.columns[5]}'"):
        CohortStandardizer().fit(wrong)
    with pytest.raises(MiracleError, match="scale is 'z'"):
        CohortStandardizer(scale="z").fit(X)
    with pytest.raises(MiracleError, match="clip is 0"):
        CohortStandardizer(clip=0).fit(X)
    with pytest.raises(MiracleError, match="Column 'name' of values holds object"):
        CohortStandardizer().fit(X.assign(name="text"))
    twice = pd.concat([X, X.iloc[:, :1]], axis=1)
    with pytest.raises(MiracleError, match=f"values has site '{X.columns[0]}' more than once"):
        CohortStandardizer().fit(twice)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=20))
def test_m_values_turn_back_into_beta_values(values):
    beta = np.array(values)
    np.testing.assert_allclose(m_to_beta(beta_to_m(beta)), beta, rtol=1e-9)


@pytest.mark.parametrize(("clip", "bound"), [(0.001, 9.9644), (0.01, 6.6294)])
def test_clip_bounds_m_values(clip, bound):
    m = beta_to_m(np.array([0.0, 1.0, np.nan]), clip)
    np.testing.assert_allclose(m, [-bound, bound, np.nan], atol=1e-3)


@pytest.mark.mirror
def test_logistic_regression_on_a_real_cohort(mirror):
    from miracle_lib.cohorts import load_cohort

    cohort = load_cohort("GSE42861", mirror=mirror, allow_subset=True)
    model = make_pipeline(CohortStandardizer(), LogisticRegression(C=0.01, max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(
        model, cohort.to_df(), cohort.obs["label"], cv=folds, scoring="roc_auc"
    )
    assert scores.mean() > 0.85
