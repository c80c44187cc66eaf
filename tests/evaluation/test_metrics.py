import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation import (
    calibration_curve,
    calibration_table,
    score_task,
    scores_of,
    summarise,
)
from miracle_lib.evaluation import metrics as ours


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    label = (rng.random(200) < 0.3).astype(float)
    score = np.round(1 / (1 + np.exp(-(label + rng.normal(size=200)))), 2)  # rounded: with ties
    return label, score, rng.integers(0, 4, (3, 200)).astype(float)


def test_weighted_metrics_equal_scikit_learn(data):
    label, score, weights = data
    called = (score >= 0.5).astype(int)
    for row, weight in enumerate(weights):
        expected = {
            "auroc": reference.roc_auc_score(label, score, sample_weight=weight),
            "auprc": reference.average_precision_score(label, score, sample_weight=weight),
            "balanced_accuracy": reference.balanced_accuracy_score(
                label, called, sample_weight=weight
            ),
            "mcc": reference.matthews_corrcoef(label, called, sample_weight=weight),
            "brier": reference.brier_score_loss(label, score, sample_weight=weight),
        }
        for name, value in expected.items():
            found = getattr(ours, name)(label, score, weights)[row]
            assert found == pytest.approx(value, abs=1e-12), name


def test_calibration_equals_unpenalised_logistic_regression(data):
    label, score, weights = data
    logit = np.log(score / (1 - score))[:, None]
    for row, weight in enumerate(weights):
        fit = LogisticRegression(C=1e8, tol=1e-10, max_iter=1000).fit(logit, label, weight)
        intercept, slope = ours.calibration(label, score, weights)
        assert slope[row] == pytest.approx(fit.coef_[0, 0], abs=1e-4)
        assert intercept[row] == pytest.approx(fit.intercept_[0], abs=1e-4)


def test_one_class_gives_nan_and_no_warning():
    found = score_task(np.ones(4), np.array([0.1, 0.6, 0.7, 0.8]))
    assert np.isnan(found["auroc"])
    assert np.isnan(found["balanced_accuracy"])
    assert found["mcc"] == 0


def predictions(label, score, fold=0, repeat=0, task="RA", group=None):
    names = [f"s{i}" for i in range(len(label))]
    return pd.DataFrame(
        {
            "sample": names,
            "group": names if group is None else group,
            "task": task,
            "repeat": repeat,
            "fold": fold,
            "label": np.asarray(label, float),
            "score": score,
        }
    )


def test_interval_covers_the_truth_as_often_as_it_says():
    # Normal scores one SD apart: the true AUROC is Phi(1 / sqrt 2) = 0.7602.
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        label = np.repeat([0.0, 1.0], 40)
        score = 1 / (1 + np.exp(-(label + rng.normal(size=80))))
        row = summarise(
            scores_of(predictions(label, score)), ("auroc",), n_boot=300, random_state=seed
        ).iloc[0]
        covered += row["low"] <= 0.7602 <= row["high"]
    assert 88 <= covered <= 99


def test_auroc_is_averaged_within_folds():
    # Perfect within each fold, but the second fold's scores are all higher.
    label = np.array([0, 0, 1, 1, 0, 0, 1, 1], float)
    score = np.array([0.1, 0.1, 0.2, 0.2, 0.8, 0.8, 0.9, 0.9])
    table = summarise(scores_of(predictions(label, score, fold=[0] * 4 + [1] * 4)), ("auroc",))
    assert table["estimate"].tolist() == [1.0, 1.0]
    assert reference.roc_auc_score(label, score) == 0.75


def test_groups_are_drawn_whole():
    # Eight copies of each of ten patients must not narrow the interval.
    rng = np.random.default_rng(2)
    label = np.repeat([0.0, 1.0], 5)
    score = np.clip(0.5 + 0.1 * label + 0.2 * rng.normal(size=10), 0.01, 0.99)
    once = scores_of(predictions(label, score))
    patients = np.repeat(np.arange(10), 8)
    copies = scores_of(predictions(label[patients], score[patients], group=patients))
    width = [summarise(table, ("auroc",)).eval("high - low").iloc[0] for table in (once, copies)]
    assert width[1] == pytest.approx(width[0], abs=0.05)


def test_summary_reports_the_mean_over_tasks_and_prevalence():
    first = predictions([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], task="RA")
    second = predictions([0, 1, 0, 0], [0.9, 0.1, 0.8, 0.7], task="MS")
    second["sample"] = second["group"] = [f"t{i}" for i in range(4)]
    table = summarise(scores_of(pd.concat([first, second])), ("auroc", "auprc"), n_boot=50)
    auroc = table[table["metric"] == "auroc"].set_index("task")
    assert auroc["estimate"].to_dict() == {"RA": 1.0, "MS": 0.0, "all": 0.5}
    assert auroc.loc["MS", "prevalence"] == 0.25
    assert auroc.loc["RA", "n_cases"] == 2


def test_summary_refuses_a_table_without_predictions():
    with pytest.raises(MiracleError, match="expected the result of cross_validate"):
        summarise(pd.DataFrame({"task": []}))


def test_calibration_curve_bins_by_predicted_probability():
    label = [0, 0, 0, 1, 1, 1, 0, 1]
    score = [0.1, 0.1, 0.2, 0.2, 0.8, 0.8, 0.9, 0.9]
    curve = calibration_curve(scores_of(predictions(label, score)), n_bins=2)
    assert curve["predicted"].tolist() == pytest.approx([0.15, 0.85])
    assert curve["observed"].tolist() == [0.25, 0.75]
    assert (curve["low"] < curve["observed"]).all()
    assert (curve["high"] > curve["observed"]).all()


def test_repeats_make_no_patients():
    label = [0, 0, 0, 1, 1, 1, 0, 1]
    score = np.array([0.1, 0.1, 0.2, 0.2, 0.8, 0.8, 0.9, 0.9])
    both = [predictions(label, score + shift, repeat=r) for r, shift in enumerate((-0.05, 0.05))]
    curve, once = (
        calibration_curve(scores_of(table), n_bins=2)
        for table in (pd.concat(both), predictions(label, score))
    )
    pd.testing.assert_frame_equal(curve, once)


@pytest.mark.parametrize("label", [0, 1])
def test_no_rounding_puts_a_share_outside_of_its_interval(label):
    for n in range(2, 50):
        scores = scores_of(predictions([1 - label] + [label] * n, [label * -1.0] + [0.5] * n))
        for n_bins in (1, 2, n + 1):
            curve = calibration_curve(scores, n_bins)
            assert (curve["low"] <= curve["observed"]).all()
            assert (curve["high"] >= curve["observed"]).all()


def test_parts_of_the_brier_score_add_up_and_equal_isotonic_regression(data):
    label, score, weights = data
    parts = ours.brier_parts(label, score, weights)
    np.testing.assert_allclose(
        parts[0] - parts[1] + parts[2], ours.brier(label, score, weights), atol=1e-12
    )
    for row, weight in enumerate(weights):
        fitted = IsotonicRegression(out_of_bounds="clip").fit(score, label, weight).predict(score)
        expected = reference.brier_score_loss(label, fitted, sample_weight=weight)
        assert parts[2][row] - parts[1][row] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("first", ["first", "all"])
def test_calibration_of_each_cohort_stands_beside_that_of_the_task(first):
    """The second cohort is believed too much, the first is not."""
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, 1000)
    label = (rng.random(1000) < 1 / (1 + np.exp(-logit))).astype(float)
    second = np.arange(1000) >= 500
    table = predictions(label, 1 / (1 + np.exp(-logit * np.where(second, 3, 1))))
    table["cohort"] = np.where(second, "second", first)
    found = calibration_table(scores_of(table), n_boot=50).set_index(["cohort", "part"])
    assert list(found.index.unique("cohort")) == ["all cohorts", first, "second"]
    assert found.loc[(first, "slope"), "estimate"] == pytest.approx(1, abs=0.2)
    assert found.loc[("second", "slope"), "high"] < 0.5
    worse = found.loc[("second", "miscalibration"), "low"]
    assert worse > found.loc[(first, "miscalibration"), "high"]
    assert (found["low"] <= found["high"]).all()
    assert found.loc[("all cohorts", "brier"), "n"] == 1000
