"""Site selection finds planted sites, per task, and nothing of the samples it has not seen."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from miracle_lib.cohorts.merge import merge_cohorts
from miracle_lib.cohorts.simulation import simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing import CohortStandardizer, SiteSelector, beta_to_m
from miracle_lib.preprocessing import table as table_module
from miracle_lib.preprocessing.selection import select_in_each


@pytest.fixture(scope="module")
def simulation():
    return simulate_cohorts({"A": 80, "B": 120}, n_sites=600, effect=0.8, shared=0, n_planted=2)


@pytest.fixture(scope="module")
def merged(simulation):
    return merge_cohorts(list(simulation.cohorts.values()))


def test_p_values_are_welchs(merged, monkeypatch):
    monkeypatch.setattr(table_module, "BLOCK", 101)
    X, Y, _ = merged
    selector = SiteSelector(k=10).fit(X, Y)
    m = beta_to_m(X.astype(float))
    for task in Y:
        expected = stats.ttest_ind(
            m[Y[task] == 1], m[Y[task] == 0], equal_var=False, nan_policy="omit"
        ).pvalue
        np.testing.assert_allclose(selector.scores_[task], expected, rtol=1e-3)


def test_takes_the_best_of_each_task_and_their_union(simulation, merged):
    X, Y, _ = merged
    selector = SiteSelector(k=15).fit(X, Y)
    for task in Y:
        best = selector.scores_[task].nsmallest(15).index
        assert selector.selected_[task].tolist() == best.tolist()
        truth = simulation.truth.sites
        assert best.isin(truth.loc[truth["task"] == task, "site"]).mean() > 0.6
    union = selector.selected_["A"].union(selector.selected_["B"])
    assert set(selector.sites_) == set(union)
    assert selector.sites_.tolist() == [site for site in X.columns if site in union]
    assert 15 < len(selector.sites_) <= 30
    pd.testing.assert_frame_equal(selector.transform(X), X[selector.sites_])
    assert selector.get_feature_names_out().tolist() == selector.sites_.tolist()


def test_variance_is_within_tasks(merged):
    X, Y, _ = merged
    selector = SiteSelector("variance", k=20).fit(X, Y)
    variance = beta_to_m(X.astype(float))[Y["A"].notna()].var()
    np.testing.assert_allclose(selector.scores_["A"], variance, rtol=1e-3)
    assert set(selector.selected_["A"]) == set(variance.nlargest(20).index)
    alone = SiteSelector("variance", k=20).fit(X)
    assert list(alone.selected_) == ["all"]


def test_none_keeps_all_sites(merged):
    X, _, _ = merged
    assert SiteSelector("none").fit(X).transform(X).columns.equals(X.columns)


def test_more_than_all_sites(merged):
    X, Y, _ = merged
    assert len(SiteSelector(k=10_000).fit(X, Y).sites_) == X.shape[1]


def test_sites_without_enough_values_are_never_chosen():
    X = pd.DataFrame({"cg0": [np.nan] * 5 + [0.1], "cg1": [0.5] * 6, "cg2": [0.1, 0.9] * 3})
    Y = pd.DataFrame({"A": [0.0, 1.0] * 3})
    X.loc[0, "cg2"] = 0.11
    selector = SiteSelector(k=3).fit(X, Y)
    assert selector.sites_.tolist() == ["cg2"]
    assert selector.scores_["A"].isna().tolist() == [True, True, False]


def test_leaks_when_fitted_outside_of_the_folds_and_not_inside():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(0.2, 0.8, (60, 3000))).add_prefix("cg")
    y = pd.Series(rng.permutation([0, 1] * 30))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def auroc(model, values):
        score = cross_val_predict(model, values, y, cv=folds, method="predict_proba")[:, 1]
        return roc_auc_score(y, score)

    last = make_pipeline(CohortStandardizer(), LogisticRegression(C=0.01))
    honest = auroc(make_pipeline(SiteSelector(k=30), *[step for _, step in last.steps]), X)
    leaky = auroc(last, SiteSelector(k=30).fit(X, y).transform(X))
    assert leaky > 0.9
    assert 0.25 < honest < 0.75


def test_labels_are_aligned_and_may_be_any_two_classes(merged):
    X, Y, _ = merged
    rows = Y["A"].notna()
    X, y = X[rows], Y.loc[rows, "A"]
    sites = SiteSelector(k=5).fit(X, y.to_frame()).sites_
    text = y.map({0: "control", 1: "sick"})
    for labels in (y.iloc[::-1], y.to_numpy(), text, text.iloc[::-1], text.to_numpy(), y == 1):
        assert SiteSelector(k=5).fit(X, labels).sites_.equals(sites)
    with pytest.raises(MiracleError, match="y has 3 classes, expected 2"):
        SiteSelector().fit(X, np.arange(len(X)) % 3)


def test_refuses(merged):
    X, Y, _ = merged
    with pytest.raises(
        MiracleError, match="method is 'anova'; expected one of none, ttest, variance"
    ):
        SiteSelector("anova").fit(X, Y)
    with pytest.raises(MiracleError, match="k is 0"):
        SiteSelector(k=0).fit(X, Y)
    with pytest.raises(MiracleError, match="needs Y"):
        SiteSelector().fit(X)
    with pytest.raises(MiracleError, match="Y has no entry for sample 'A-001'"):
        SiteSelector().fit(X, Y.iloc[1:])
    with pytest.raises(MiracleError, match="Task 'A' has 0 cases and 40 controls"):
        SiteSelector().fit(X, Y.assign(A=Y["A"].where(Y["A"] == 0)))
    with pytest.raises(MiracleError, match="Task 'A' has the label case for sample"):
        SiteSelector().fit(X, Y.assign(A="case"))
    with pytest.raises(MiracleError, match="No site of X can be scored"):
        SiteSelector().fit(X * np.nan, Y)
    with pytest.raises(MiracleError, match="X lacks 1 of the"):
        selector = SiteSelector(k=5).fit(X, Y)
        selector.transform(X.drop(columns=selector.sites_[0]))


@pytest.mark.parametrize("method", ["ttest", "variance"])
@pytest.mark.parametrize("k", [1, 40, 700])
def test_one_pass_over_the_values_chooses_what_each_set_of_samples_would(method, k):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(0.1, 0.9, (120, 600)).astype(np.float32)).add_prefix("cg")
    X = X.mask(rng.random(X.shape) < 0.02)
    X["cg7"], X["cg8"], X["cg9"] = 0.5, np.nan, X["cg10"]
    X.loc[:59, "cg11"] = np.nan  # a cohort lacks it
    Y = pd.DataFrame({"RA": [0.0, 1.0] * 60, "MS": [1.0, 0.0, 0.0] * 40})
    Y.loc[60:, "RA"], Y.loc[:59, "MS"] = np.nan, np.nan
    trainings = [np.sort(rng.choice(120, 90, replace=False)) for _ in range(4)]
    parts = ((slice(a, a + 100), X.to_numpy()[:, a : a + 100]) for a in range(0, 600, 100))
    found = select_in_each(parts, X.columns, Y, trainings, SiteSelector(method, k))
    for sites, rows in zip(found, trainings, strict=True):
        expected = SiteSelector(method, k).fit(X.iloc[rows], Y.iloc[rows]).sites_
        assert sites.tolist() == expected.tolist()
