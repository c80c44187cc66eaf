"""Scores of probabilities against labels, with intervals that resample patients.

Every metric takes sample weights of shape (n_draws, n_samples), so a bootstrap is one call: a draw
is a row of counts. Weights of one give the plain metric.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.isotonic import isotonic_regression

from miracle_lib.errors import MiracleError

METRICS = ("auroc", "auprc", "balanced_accuracy", "mcc", "brier")


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Divide; NaN where the denominator is 0."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def _cumulated(
    label: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted true and false positives at each distinct threshold, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    positives = np.cumsum(weights[:, order] * label[order], axis=1)[:, ends]
    negatives = np.cumsum(weights[:, order] * (1 - label[order]), axis=1)[:, ends]
    return positives, negatives


def auroc(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the receiver operating characteristic; ties count half."""
    true, false = _cumulated(label, score, weights)
    true = np.pad(true, ((0, 0), (1, 0)))
    width = np.diff(np.pad(false, ((0, 0), (1, 0))), axis=1)
    area = (width * (true[:, 1:] + true[:, :-1]) / 2).sum(axis=1)
    return _ratio(area, true[:, -1] * false[:, -1])


def auprc(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision: precision weighted by the recall that each threshold adds."""
    true, false = _cumulated(label, score, weights)
    precision = np.nan_to_num(_ratio(true, true + false))
    gained = np.diff(np.pad(true, ((0, 0), (1, 0))), axis=1)
    total = true[:, -1].copy()
    return _ratio((precision * gained).sum(axis=1), total)


def _confusion(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple:
    """Weighted counts (tp, fp, fn, tn) at the threshold 0.5."""
    called = score >= 0.5
    cases = label == 1
    return tuple(
        weights[:, rows].sum(axis=1)
        for rows in (called & cases, called & ~cases, ~called & cases, ~called & ~cases)
    )


def balanced_accuracy(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of sensitivity and specificity at the threshold 0.5."""
    tp, fp, fn, tn = _confusion(label, score, weights)
    return (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2


def mcc(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Matthews correlation at the threshold 0.5; 0 if all samples are called alike."""
    tp, fp, fn, tn = _confusion(label, score, weights)
    bottom = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.divide(tp * tn - fp * fn, bottom, out=np.zeros_like(bottom), where=bottom > 0)


def brier(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of the probabilities."""
    return weights @ (score - label) ** 2 / weights.sum(axis=1)


def calibration(
    label: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope of the label's log-odds on the predicted log-odds (ideal: 0 and 1).

    Newton's method with a ridge of 1e-6, for all draws at once. A slope below 1 means
    over-confident probabilities. Source: Van Calster et al. 2019, doi 10.1186/s12916-019-1466-7.
    """
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    x = np.stack([np.ones_like(clipped), np.log(clipped / (1 - clipped))], axis=1)
    beta = np.zeros((len(weights), 2))
    for _ in range(30):
        fitted = 1 / (1 + np.exp(-np.clip(beta @ x.T, -30, 30)))
        gradient = (weights * (label - fitted)) @ x - 1e-6 * beta
        curvature = weights * fitted * (1 - fitted)
        hessian = np.einsum("dn,ni,nj->dij", curvature, x, x) + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        beta += np.clip(step, -2, 2)
    return beta[:, 0], beta[:, 1]


def calibration_intercept(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Intercept of :func:`calibration`."""
    return calibration(label, score, weights)[0]


def calibration_slope(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Slope of :func:`calibration`."""
    return calibration(label, score, weights)[1]


def brier_parts(
    label: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Miscalibration, discrimination and uncertainty, of which the Brier score is made.

    Brier score = miscalibration - discrimination + uncertainty. The reference is the isotonic
    regression of the labels on the scores, so that no bins have to be chosen. Source: Dimitriadis,
    Gneiting & Jordan 2021, doi 10.1073/pnas.2016191118.
    """
    _, place = np.unique(score, return_inverse=True)
    recalibrated = np.empty(len(weights))
    for draw, weight in enumerate(weights):
        total, cases = np.bincount(place, weight), np.bincount(place, weight * label)
        total, cases = total[total > 0], cases[total > 0]
        share = isotonic_regression(cases / total, sample_weight=total)
        recalibrated[draw] = (cases * (1 - share) ** 2 + (total - cases) * share**2).sum()
    recalibrated /= weights.sum(axis=1)
    base = weights @ label / weights.sum(axis=1)
    uncertainty = base * (1 - base)
    return brier(label, score, weights) - recalibrated, uncertainty - recalibrated, uncertainty


_FUNCTIONS: dict[str, Callable] = {
    "auroc": auroc,
    "auprc": auprc,
    "balanced_accuracy": balanced_accuracy,
    "mcc": mcc,
    "brier": brier,
    "calibration_intercept": calibration_intercept,
    "calibration_slope": calibration_slope,
}


def score_task(label: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Score one task's probabilities.

    Parameters
    ----------
    label : array of shape (n_samples,)
        0 or 1.
    score : array of shape (n_samples,)
        Probability of being a case.

    Returns
    -------
    dict
        auroc, auprc, balanced_accuracy, mcc, brier. A metric that needs both classes is NaN
        where one is absent.

    Examples
    --------
    >>> score_task(np.array([0, 1]), np.array([0.2, 0.9]))["auroc"]
    1.0
    """
    label, score = np.asarray(label, float), np.asarray(score, float)
    ones = np.ones((1, len(label)))
    return {name: float(_FUNCTIONS[name](label, score, ones)[0]) for name in METRICS}


def _draw_weights(predictions: pd.DataFrame, n_draws: int, seed: int) -> pd.DataFrame:
    """Bootstrap counts per sample (columns) and draw (rows); groups drawn whole, by stratum."""
    rng = np.random.default_rng(seed)
    labels = predictions.groupby(["sample", "task"])["label"].first().unstack()
    group = predictions.groupby("sample")["group"].first().reindex(labels.index)
    pattern = labels.astype(str).agg("|".join, axis=1)
    # Groups whose samples carry the same labels are exchangeable.
    stratum = pattern.groupby(group).agg(lambda values: ";".join(sorted(values)))
    counts = pd.DataFrame(0, index=range(n_draws), columns=stratum.index)
    for _, members in stratum.groupby(stratum).groups.items():
        n = len(members)
        counts[members] = rng.multinomial(n, np.full(n, 1 / n), size=n_draws)
    return pd.DataFrame(counts[group].to_numpy(float), columns=labels.index)


def _estimate(name: str, table: pd.DataFrame, weights: pd.DataFrame) -> np.ndarray:
    """Metric per draw: AUROC within folds, the others within repeats, then averaged."""
    keys = ["repeat", "fold"] if name == "auroc" else ["repeat"]
    parts = []
    for _, part in table.groupby(keys):
        drawn = weights[part["sample"]].to_numpy()
        parts.append(
            _FUNCTIONS[name](part["label"].to_numpy(float), part["score"].to_numpy(float), drawn)
        )
    # A draw may leave a small fold without cases: that fold does not count in that draw.
    return _ratio(np.nansum(parts, axis=0), np.sum(~np.isnan(parts), axis=0))


def summarise(
    scores: pd.DataFrame,
    metrics: tuple[str, ...] = (*METRICS, "calibration_slope"),
    n_boot: int = 1000,
    level: float = 0.95,
    random_state: int = 0,
) -> pd.DataFrame:
    """Scores per task with bootstrap intervals over patients, and their mean over tasks.

    AUROC is averaged within test folds, since scores of two folds come from two models and
    pooling them biases it (Forman & Scholz 2010, doi 10.1145/1882471.1882479); the other metrics
    pool the out-of-fold predictions of a repeat. The bootstrap draws patients (groups whole),
    stratified by task and label. It holds the fitted models fixed: compare methods with
    :func:`compare_methods`, which also counts the variation between training sets.

    Parameters
    ----------
    scores : DataFrame
        Result of :func:`cross_validate` (its ``attrs["predictions"]`` are used).
    metrics : tuple of str
    n_boot : int, default 1000
        Bootstrap draws.
    level : float, default 0.95
        Coverage of the interval.
    random_state : int, default 0

    Returns
    -------
    DataFrame
        Rows task x metric, the last task being ``"all"`` (mean over tasks); columns estimate,
        low, high, fold_sd (NaN for metrics that are not scored by fold), n, n_cases, prevalence
        (chance level of auprc).

    Raises
    ------
    MiracleError
        If the table carries no predictions.
    """
    predictions = predictions_of(scores)
    weights = _draw_weights(predictions, n_boot, random_state)
    ones = pd.DataFrame(np.ones((1, weights.shape[1])), columns=weights.columns)
    tail = 100 * (1 - level) / 2
    rows = []
    for name in metrics:
        points, draws = [], []
        for task, table in predictions.groupby("task", sort=False):
            labels = table.drop_duplicates("sample")["label"]
            points.append(_estimate(name, table, ones)[0])
            draws.append(_estimate(name, table, weights))
            low, high = np.nanpercentile(draws[-1], [tail, 100 - tail])
            rows.append(
                {"task": task, "metric": name, "estimate": points[-1], "low": low, "high": high}
                | {"fold_sd": _fold_sd(scores, task, name)}
                | {"n": len(labels), "n_cases": int(labels.sum()), "prevalence": labels.mean()}
            )
        low, high = np.nanpercentile(np.mean(draws, axis=0), [tail, 100 - tail])
        rows.append(
            {"task": "all", "metric": name, "estimate": np.mean(points), "low": low, "high": high}
        )
    return pd.DataFrame(rows)


def predictions_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Out-of-fold predictions that :func:`cross_validate` attached to its table."""
    if "predictions" not in scores.attrs:
        raise MiracleError(
            "The table has no attrs['predictions']; expected the result of cross_validate."
        )
    return scores.attrs["predictions"]


def _fold_sd(scores: pd.DataFrame, task: str, name: str) -> float:
    """SD over folds of one task's metric."""
    return scores.loc[scores["task"] == task, name].std() if name in scores else np.nan


def calibration_curve(scores: pd.DataFrame, n_bins: int = 5) -> pd.DataFrame:
    """Observed share of cases in bins of equal size of the predicted probability.

    Of several repeats, a sample's mean prediction counts.

    Parameters
    ----------
    scores : DataFrame
        Result of :func:`cross_validate`.
    n_bins : int, default 5

    Returns
    -------
    DataFrame
        task, predicted (bin mean), observed (share of cases), low, high (Wilson 95 %), n.
    """
    rows = []
    for task, table in predictions_of(scores).groupby("task", sort=False):
        # Of several repeats the mean: a patient counts once.
        table = table.groupby("sample", sort=False)[["label", "score"]].mean().sort_values("score")
        for rows_of_bin in np.array_split(np.arange(len(table)), min(n_bins, len(table))):
            part = table.iloc[rows_of_bin]
            cases, n = int(part["label"].sum()), len(part)
            interval = binomtest(cases, n).proportion_ci(method="wilson")
            rows.append((task, part["score"].mean(), cases / n, interval.low, interval.high, n))
    return pd.DataFrame(rows, columns=["task", "predicted", "observed", "low", "high", "n"])


def calibration_table(
    scores: pd.DataFrame, n_boot: int = 200, level: float = 0.95, random_state: int = 0
) -> pd.DataFrame:
    """Brier score and what it is made of, per task and per cohort, with bootstrap intervals.

    Parameters
    ----------
    scores : DataFrame
        Result of :func:`cross_validate`.
    n_boot, level, random_state
        As in :func:`summarise`.

    Returns
    -------
    DataFrame
        task, cohort (``"all cohorts"`` first where a task has several), part (brier,
        miscalibration, discrimination, uncertainty, intercept, slope), estimate, low, high, n,
        n_cases. Best are a miscalibration of 0, an intercept of 0 and a slope of 1. Parts that are
        found by a fit (:func:`brier_parts`) are a little too large in small cohorts.

    Examples
    --------
    >>> from miracle_lib.evaluation import scores_of
    >>> table = pd.DataFrame({"label": [0, 0, 1, 1.0], "score": [0.2, 0.4, 0.6, 0.8]})
    >>> table[["task", "cohort"]], table[["repeat", "fold"]] = ("RA", "ours"), 0
    >>> table["sample"] = table["group"] = list("abcd")
    >>> parts = calibration_table(scores_of(table)).set_index("part")["estimate"]
    >>> parts[["brier", "miscalibration", "discrimination", "uncertainty"]].round(2).to_list()
    [0.1, 0.1, 0.25, 0.25]
    """
    predictions = predictions_of(scores)
    tail, rows = 100 * (1 - level) / 2, []
    for task, table in predictions.groupby("task", sort=False):
        parts = list(table.groupby("cohort"))
        for cohort, part in [("all cohorts", table), *parts] if len(parts) > 1 else parts:
            labels = part.drop_duplicates("sample")["label"]
            about = {"n": len(labels), "n_cases": int(labels.sum())}
            drawn = _draw_weights(part, n_boot, random_state)
            weights = pd.concat([pd.DataFrame(1.0, [0], drawn.columns), drawn])
            for name, values in _calibration_parts(part, weights).items():
                low, high = np.percentile(values[1:], [tail, 100 - tail])
                found = {"part": name, "estimate": values[0], "low": low, "high": high}
                rows.append({"task": task, "cohort": cohort} | found | about)
    return pd.DataFrame(rows)


def _calibration_parts(table: pd.DataFrame, weights: pd.DataFrame) -> dict[str, np.ndarray]:
    """What :func:`calibration_table` reports, per draw, averaged over the repeats."""
    parts = []
    for _, part in table.groupby("repeat"):
        given = part["label"].to_numpy(float), part["score"].to_numpy(float)
        drawn = weights[part["sample"]].to_numpy()
        parts.append(
            [brier(*given, drawn), *brier_parts(*given, drawn), *calibration(*given, drawn)]
        )
    names = ("brier", "miscalibration", "discrimination", "uncertainty", "intercept", "slope")
    return dict(zip(names, np.mean(parts, axis=0), strict=True))
