import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation import BASELINES, PerTaskBaseline, cross_validate
from miracle_lib.samples import Samples


@pytest.fixture(scope="module")
def planted():
    """Two tasks in two cohorts of very different level; ten sites shifted in the cases of each."""
    rng = np.random.default_rng(0)
    n, sites = 120, [f"cg{i:03d}" for i in range(150)]
    cohort = np.repeat(["one", "two"], n // 2)
    case = rng.permutation(np.arange(n) % 2).astype(float)
    logit = rng.normal(0, 0.5, (n, 150)) + np.where(cohort == "one", 1, -1)[:, None]
    logit[:60, :10] += 0.8 * case[:60, None]
    logit[60:, 10:20] += 0.8 * case[60:, None]
    X = pd.DataFrame(1 / (1 + np.exp(-logit)), [f"s{i}" for i in range(n)], sites)
    X = X.mask(rng.random(X.shape) < 0.02)
    Y = pd.DataFrame({"RA": case, "MS": case}, X.index)
    Y.iloc[60:, 0] = np.nan
    Y.iloc[:60, 1] = np.nan
    age = 50 + 8 * case + rng.normal(0, 5, n)
    covariates = pd.DataFrame({"age": age, "smoking": rng.choice(["never", "current"], n)}, X.index)
    covariates.iloc[3] = np.nan
    return X, Y, cohort, covariates


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_finds_the_planted_signal(planted, name):
    X, Y, cohort, covariates = planted
    options = {
        "dense_autoencoder": {"hidden": (32, 8)},
        "random_forest": {"n_estimators": 50},
        "gradient_boosting": {"n_estimators": 50},
    }.get(name)
    scores = cross_validate(
        PerTaskBaseline(name, 2, options), X, Y, None, cohort, covariates, n_splits=2
    )
    floor = {"knn": 0.65, "covariates": 0.75, "single_cpg": 0.6}.get(name, 0.75)
    assert scores["auroc"].mean() > floor
    assert scores.attrs["predictions"]["score"].between(0, 1).all()


def test_covariates_baseline_ignores_the_sites(planted):
    X, Y, cohort, covariates = planted
    model = PerTaskBaseline("covariates").fit(X, Y, cohort, covariates)
    other = model.predict_proba(1 - X, covariates)
    pd.testing.assert_frame_equal(other, model.predict_proba(X, covariates))


def test_new_samples_are_read_with_the_statistics_of_the_tasks_cohort(planted):
    # A constant shift of the whole cohort "two" cannot change the prediction of either task.
    X, Y, cohort, _ = planted
    shifted = X.copy()
    logit = np.log(X[cohort == "two"] / (1 - X[cohort == "two"]))
    shifted[cohort == "two"] = 1 / (1 + np.exp(-(logit + 0.7)))
    first = PerTaskBaseline().fit(X, Y, cohort).predict_proba(X)
    second = PerTaskBaseline().fit(shifted, Y, cohort).predict_proba(shifted)
    for task, rows in (("RA", cohort == "one"), ("MS", cohort == "two")):
        assert np.allclose(first[task][rows], second[task][rows], atol=1e-4)
    # Nor of a task that both cohorts have.
    one = Y.bfill(axis=1)[["RA"]]
    first = PerTaskBaseline().fit(X, one, cohort).predict_proba(X)
    second = PerTaskBaseline().fit(shifted, one, cohort).predict_proba(shifted)
    assert np.allclose(first, second, atol=1e-4)


def test_a_cohort_may_be_in_one_inner_fold_alone(planted):
    X, Y, cohort, _ = planted
    rare = np.where(np.arange(len(X)) == 0, "three", cohort)
    assert PerTaskBaseline().fit(X, Y, rare).predict_proba(X).notna().all(axis=None)


def test_a_task_with_two_cohorts_does_not_learn_their_level(planted):
    # Cases come mostly from the cohort of high level: its level alone must not predict them.
    X, _, cohort, _ = planted
    rng = np.random.default_rng(1)
    noise = X.apply(rng.permuted)  # destroys every effect
    level = np.where(cohort == "one", 0.2, -0.2)[:, None]
    noise = (0.5 + 0.2 * (noise - 0.5) + level).clip(0.01, 0.99)
    case = np.concatenate([rng.permutation(np.arange(60) < n) for n in (48, 12)]).astype(float)
    Y = pd.DataFrame({"RA": case}, X.index)
    scores = cross_validate(PerTaskBaseline("logistic_l2"), noise, Y, cohort=None)
    assert scores["auroc"].mean() > 0.6  # the leak that the cohort argument closes
    model = PerTaskBaseline("logistic_l2").fit(noise, Y, cohort)
    inside = model.models_["RA"].prepared.transform(Samples(noise, cohort=cohort))
    centre = [inside[cohort == name].mean(axis=0) for name in ("one", "two")]
    assert np.allclose(centre[0], centre[1], atol=1e-3)


def test_inner_folds_keep_groups_whole(planted):
    _, Y, _, _ = planted
    y = Y["RA"].dropna().to_numpy().astype(int)
    groups = pd.Series(np.arange(60) // 3)
    for train, test in PerTaskBaseline()._inner_folds(y, groups):
        assert not set(groups[train]) & set(groups[test])


def test_tuning_chooses_by_inner_score(planted):
    X, Y, cohort, _ = planted
    model = PerTaskBaseline("naive_bayes").fit(X, Y, cohort)
    assert set(model.parameters_) == {"RA", "MS"}
    rows = Y["RA"].notna()
    fitted = model.predict_proba(X)["RA"]
    assert roc_auc_score(Y["RA"][rows], fitted[rows]) > 0.8
    assert clone(model).get_params() == model.get_params()


def test_bad_input_is_named(planted):
    X, Y, cohort, _ = planted
    with pytest.raises(MiracleError, match="Unknown baseline 'lasso'; expected one of logistic_l2"):
        PerTaskBaseline("lasso").fit(X, Y)
    with pytest.raises(MiracleError, match="'covariates' needs covariates; expected a table"):
        PerTaskBaseline("covariates").fit(X, Y)
    with pytest.raises(MiracleError, match="Task 'RA' has one class in the training part"):
        PerTaskBaseline().fit(X, Y.assign(RA=Y["RA"] * 0), cohort)


def test_a_task_without_covariates_is_given_its_share_of_cases(planted, caplog):
    X, Y, _, _ = planted
    ages = pd.DataFrame({"age": np.arange(len(X), dtype=float)}, X.index)
    unknown = Y.columns[0]
    ages[Y[unknown].notna()] = np.nan
    model = PerTaskBaseline("covariates").fit(X, Y, covariates=ages)
    proba = model.predict_proba(X, covariates=ages)
    np.testing.assert_allclose(proba[unknown], Y[unknown].mean(), atol=1e-3)
    assert all(proba[task].nunique() > 1 for task in Y.columns[1:])
    assert "no covariate is known" in caplog.text


def test_the_best_site_is_found_beside_sites_without_a_value(recwarn):
    rng = np.random.default_rng(0)
    Y = pd.DataFrame({"RA": [0.0, 1.0] * 20})
    X = pd.DataFrame(rng.uniform(0.4, 0.6, (40, 6)), columns=[f"cg{i}" for i in range(6)])
    X["cg2"] = np.nan
    X["cg4"] += 0.3 * Y["RA"]
    model = PerTaskBaseline("single_cpg").fit(X, Y)
    assert float(((model.predict_proba(X) > 0.5) == Y).mean()["RA"]) == 1.0
    assert not [warning for warning in recwarn if "constant" in str(warning.message)]
