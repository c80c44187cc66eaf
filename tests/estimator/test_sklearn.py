"""The classifier under scikit-learn's own checks, and in its tools."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse, special
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import miracle_lib as ml
from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.estimator.options import OF_CLASSIFIER, OF_TRAINING
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.preprocessing import SiteSelector

QUICK = {"training__epochs": (1, 2, 0), "training__progress": False}


@pytest.fixture(scope="module")
def one_task():
    simulated = simulate_cohorts({"RA": 120}, n_sites=200, effect=0.6, random_state=0)
    X, Y, obs = merge_cohorts(list(simulated.cohorts.values()))
    hierarchy = Hierarchy.from_tables(simulated.site_gene, simulated.gene_sets)
    return (
        X,
        Y["RA"].map({0: "control", 1: "sick"}),
        obs,
        ml.MiracleClassifier(hierarchy).set_params(**QUICK),
    )


def any_hierarchy(n=100):
    """Each of the sites x0, x1, ... is a gene of its own."""
    pairs = pd.DataFrame({"site": [f"x{i}" for i in range(n)], "gene": [f"G{i}" for i in range(n)]})
    return Hierarchy.from_tables(pairs, {"P": list(pairs["gene"])})


class MiracleClassifier(ml.MiracleClassifier):
    """Takes any numbers as beta values and names the columns of an array at fit.

    The checks know neither a range of values nor sites.
    """

    def fit(self, X, Y=None):
        X = as_beta(X)
        if isinstance(X, np.ndarray) and X.ndim == 2 and X.size and X.dtype.kind in "fiu":
            X = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
        return super().fit(X, Y)

    def transform(self, X):
        return super().transform(as_beta(X))

    def predict(self, X):
        return super().predict(as_beta(X))

    def predict_proba(self, X):
        return super().predict_proba(as_beta(X))

    def decision_function(self, X):
        return super().decision_function(as_beta(X))

    def score(self, X, Y=None):
        return super().score(as_beta(X), Y)


def as_beta(X):
    if sparse.issparse(X):
        return X
    array = np.asarray(X)
    if array.dtype == object:
        try:
            array = array.astype(float)
        except (TypeError, ValueError):
            return X
    return special.expit(array / 100) if array.ndim == 2 and array.dtype.kind in "fiu" else X


EXPECTED = {
    "check_n_features_in_after_fitting": "labels are Y, not y, in score: they may be a table",
    "check_classifier_multioutput": "a table of tasks gives a DataFrame, named by task",
    "check_supervised_y_2d": "a table of one task gives a DataFrame, too",
}


@parametrize_with_checks(
    [MiracleClassifier(any_hierarchy()).set_params(**QUICK)],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_scikit_learn_finds_a_classifier(estimator, check):
    check(estimator)


def test_an_array_of_other_width_is_refused_by_every_method(one_task):
    X, y, _, model = one_task
    X = X[model.hierarchy.sites]
    model = clone(model).fit(X.to_numpy(), y.to_numpy())
    assert not hasattr(model, "feature_names_in_")
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        got = np.asarray(getattr(model, method)(X.to_numpy()))
        assert (got == np.asarray(getattr(model, method)(X))).all()
        with pytest.raises(ValueError, match=r"X has 3 features, but .* features as input"):
            getattr(model, method)(X.to_numpy()[:, :3])
    with pytest.raises(ValueError, match=r"X has 3 features"):
        model.score(X.to_numpy()[:, :3], y.to_numpy())
    with pytest.raises(ValueError, match=r"X has 3 features, .* in the order of its sites"):
        model.fit(X.to_numpy()[:, :3], y)


def test_a_vector_of_two_classes_answers_as_a_classifier(one_task):
    X, y, _, model = one_task
    model = clone(model).fit(X, y.iloc[::-1])
    assert model.classes_.tolist() == ["control", "sick"]
    assert model.tasks_ == ["RA"]
    proba = model.predict_proba(X)
    assert proba.shape == (len(X), 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (model.predict(X) == model.classes_[(proba[:, 1] > 0.5).astype(int)]).all()
    table = clone(model).fit(X, (y == "sick").astype(float).to_frame())
    np.testing.assert_allclose(table.predict_proba(X)["RA"], proba[:, 1])
    assert model.score(X, y.iloc[::-1]) == table.score(X, (y == "sick").astype(float).to_frame())
    with pytest.raises(ValueError, match=r"y holds 'ill' for sample .*; expected one of 'control'"):
        model.score(X, y.replace("sick", "ill"))
    assert not hasattr(clone(model).fit(X, (y == "sick").astype(float).to_frame()), "classes_")


def test_cross_validation_and_search_give_numbers(one_task):
    X, y, obs, model = one_task
    cv, groups = GroupKFold(3), obs["subject"]
    for scoring in ("roc_auc", "average_precision", "neg_log_loss", "accuracy", None):
        y_num = (y == "sick").astype(int)
        scores = cross_val_score(model, X, y_num, cv=cv, groups=groups, scoring=scoring)
        assert np.isfinite(scores).all(), scoring
    assert cross_val_score(model, X, y_num, cv=cv, groups=groups, scoring="roc_auc").mean() > 0.7
    search = GridSearchCV(
        make_pipeline(SiteSelector(k=50), model),
        {"siteselector__k": [20, 100], "miracleclassifier__training__epochs": [(1, 2, 0)]},
        cv=cv,
        scoring="roc_auc",
    )
    assert search.fit(X, y, groups=groups).best_score_ > 0.7
    assert set(search.predict(X)) == {"control", "sick"}


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_probabilities_can_be_calibrated(one_task, method):
    X, y, _, model = one_task
    calibrated = CalibratedClassifierCV(model, method=method, cv=3).fit(X, y)
    proba = calibrated.predict_proba(X)
    assert proba.shape == (len(X), 2)
    assert ((proba >= 0) & (proba <= 1)).all()
    assert (calibrated.predict(X) == y).mean() > 0.7


def test_cohort_covariates_and_groups_are_routed(one_task):
    X, y, obs, model = one_task
    cohort = pd.Series(np.where(np.arange(len(X)) % 2, "one", "two"), X.index)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = make_pipeline(
            SiteSelector(k=50),
            clone(model).set_fit_request(cohort=True, covariates=True, groups=True),
        )
        routed.fit(X, y, cohort=cohort, covariates=obs[["age"]], groups=obs["subject"])
        inner = routed[-1]
        assert inner.standardizer_.cohorts_ == ["one", "two"]
        assert list(inner._coder.mean) == ["age"]
        scores = cross_val_score(
            clone(model).set_fit_request(cohort=True).set_score_request(cohort=True),
            X,
            y,
            params={"cohort": cohort},
            cv=3,
        )
    assert np.isfinite(scores).all()


def test_every_kind_of_table_gives_the_same_model(one_task):
    X, y, obs, model = one_task
    Y = (y == "sick").astype(float).to_frame("RA")
    samples = ml.Samples(X, Y, cohort="RA", covariates=obs[["age"]], subject=obs["subject"])
    known = {"covariates": obs[["age"]], "groups": obs["subject"]}
    want = clone(model).fit(X, Y, **known)
    adata = samples.to_anndata()
    for table, parts in ((samples, {}), (adata, {}), (X.astype("Float64"), {"Y": Y} | known)):
        got = clone(model).fit(table, **parts)
        pd.testing.assert_frame_equal(got.predict_proba(X), want.predict_proba(X), atol=1e-6)
    pd.testing.assert_frame_equal(
        want.predict_proba(samples), want.predict_proba(X, covariates=obs[["age"]])
    )
    assert want.score(samples) == want.score(adata) > 0.7
    with_pathways = want.transform(adata)
    assert "pathways" not in adata.obsm
    assert with_pathways.X is adata.X
    expected = want.transform(X, covariates=obs[["age"]])
    np.testing.assert_allclose(with_pathways.obsm["pathways"], expected, atol=1e-6)
    assert list(with_pathways.obsm["pathways"]) == list(want.get_feature_names_out())


def test_order_of_the_rows_changes_nothing_beyond_rounding(one_task):
    X, y, obs, model = one_task
    order = np.random.default_rng(0).permutation(len(X))
    known = {"covariates": obs[["age"]], "groups": obs["subject"]}
    one = clone(model).fit(X, y, **known)
    two = clone(model).fit(X.iloc[order], y, **known)
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-4)


def test_scores_are_aligned_by_the_name_of_the_task():
    simulated = simulate_cohorts({"A": 60, "B": 60}, n_sites=200, effect=0.5, random_state=0)
    X, Y, _ = merge_cohorts(list(simulated.cohorts.values()))
    hierarchy = Hierarchy.from_tables(simulated.site_gene, simulated.gene_sets)
    model = ml.MiracleClassifier(hierarchy).set_params(**QUICK).fit(X, Y)
    score = model.score(X, Y)
    assert model.score(X, Y[["B", "A"]]) == score
    assert model.score(X, Y.to_numpy()) == score
    assert (model.score(X, Y["A"]) + model.score(X, Y[["B"]])) / 2 == pytest.approx(score)
    with pytest.raises(ValueError, match="there is no task 'C'"):
        model.score(X, Y.rename(columns={"A": "C"}))
    with pytest.raises(ValueError, match=r"Y has shape \(120,\); expected a column for each"):
        model.score(X, Y["A"].to_numpy())


def test_options_are_grouped_and_each_has_a_constraint():
    model = ml.MiracleClassifier(any_hierarchy())
    assert model.training is None
    assert model.get_params()["training__batch_size"] == "preset"
    other = clone(model).set_params(training__epochs=(1, 1, 0), n_members=2)
    assert other.get_params()["training__epochs"] == (1, 1, 0)
    assert model.get_params()["training__epochs"] is None
    assert clone(other).get_params()["training__epochs"] == (1, 1, 0)
    assert model.get_params(deep=False).keys() == OF_CLASSIFIER.keys()
    assert ml.Training().get_params().keys() == OF_TRAINING.keys()
    with pytest.raises(ValueError, match="Invalid parameter 'epoch'"):
        model.set_params(training__epoch=3)


def test_without_a_seed_every_fit_is_another(one_task):
    X, y, _, model = one_task
    one, two = (clone(model).set_params(random_state=None).fit(X, y) for _ in range(2))
    assert (one.predict_proba(X) != two.predict_proba(X)).any()


def test_without_a_seed_numpys_global_generator_says_what_is_drawn(one_task, monkeypatch):
    X, y, _, model = one_task
    found = []
    for seed in (0, 0, 1):
        monkeypatch.setattr(np.random.mtrand, "_rand", np.random.RandomState(seed))
        found.append(clone(model).set_params(random_state=None).fit(X, y).predict_proba(X))
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()


def test_infinite_covariates_are_refused(one_task):
    X, y, obs, model = one_task
    covariates = obs[["age"]].astype(float)
    covariates.iloc[2, 0] = np.inf
    with pytest.raises(ValueError, match="Covariate 'age' of sample 'RA-003' is inf"):
        clone(model).fit(X, y, covariates=covariates)
