"""Is one method better than another, given folds that share training samples?"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation.metrics import predictions_of
from miracle_lib.evaluation.validation import cross_validate
from miracle_lib.parallel import spread
from miracle_lib.samples import Samples, as_labelled, as_samples


def correlated_t(
    differences: np.ndarray, test_share: float, rope: float = 0.01, level: float = 0.95
) -> dict[str, float]:
    """Compare two methods by their paired differences over the folds of repeated cross-validation.

    Folds share training samples, so the plain paired t-test claims too much. With J differences
    of variance s2, mean d and test share r = n_test / (n_test + n_train), the variance of d is
    taken as ``s2 (1 / J + r / (1 - r))`` (Nadeau & Bengio 2003). The Bayesian correlated t-test
    (Benavoli et al. 2017) has as posterior of the difference the Student t of J - 1 degrees of
    freedom with that mean and variance; its mass within the region of practical equivalence is
    the probability that the difference does not matter.

    Parameters
    ----------
    differences : array of shape (n_folds,)
        Method minus reference, one per fold.
    test_share : float
        Share of the samples in a test fold, 1 / n_splits.
    rope : float, default 0.01
        Half width of the region of practical equivalence.
    level : float, default 0.95

    Returns
    -------
    dict
        difference, low, high, t, p_value (two-sided), p_worse, p_equivalent, p_better (posterior
        probabilities, sum 1). With one fold, or differences that are all equal, no variance can
        be estimated and all but the difference are NaN.

    References
    ----------
    doi 10.1023/A:1024068626366; https://jmlr.org/papers/v18/16-305.html

    Examples
    --------
    >>> round(correlated_t(np.array([0.02, 0.04, 0.03, 0.05, 0.01]), 0.2)["p_value"], 4)
    0.0474
    """
    differences = np.asarray(differences, float)
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    mean = differences.mean() if n else np.nan
    names = ("low", "high", "t", "p_value", "p_worse", "p_equivalent", "p_better")
    variance = differences.var(ddof=1) if n > 1 else 0.0
    if variance < 1e-24:
        return {"difference": mean} | dict.fromkeys(names, np.nan)
    scale = np.sqrt(variance * (1 / n + test_share / (1 - test_share)))
    posterior = stats.t(n - 1, mean, scale)
    low, high = posterior.interval(level)
    worse, better = posterior.cdf(-rope), posterior.sf(rope)
    p_value = 2 * stats.t.sf(abs(mean / scale), n - 1)
    values = (low, high, mean / scale, p_value, worse, 1 - worse - better, better)
    return {"difference": mean} | {name: float(v) for name, v in zip(names, values, strict=True)}


def _wide(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Folds x tasks of one metric, with the mean over tasks as column ``all``."""
    if metric not in scores:
        raise MiracleError(f"The scores have no column {metric!r}; found {list(scores.columns)}.")
    wide = scores.pivot(index=["repeat", "fold"], columns="task", values=metric)
    wide = wide[list(dict.fromkeys(scores["task"]))]
    wide["all"] = wide.mean(axis=1, skipna=False)
    return wide


def _check_paired(scores: dict[str, pd.DataFrame], reference: str) -> None:
    """Refuse tables whose test folds hold different samples."""
    if reference not in scores:
        raise MiracleError(f"The reference {reference!r} is not among {list(scores)}.")
    keys = ["task", "repeat", "fold", "sample"]
    expected = pd.MultiIndex.from_frame(predictions_of(scores[reference])[keys]).sort_values()
    for name, table in scores.items():
        found = pd.MultiIndex.from_frame(predictions_of(table)[keys]).sort_values()
        if not found.equals(expected):
            raise MiracleError(
                f"{name!r} and {reference!r} were scored on different folds; expected the same "
                "samples, n_splits, n_repeats and random_state."
            )


def compare_methods(
    scores: dict[str, pd.DataFrame],
    reference: str,
    metric: str = "auroc",
    rope: float = 0.01,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare methods with a reference on the same folds, per task and on average.

    Parameters
    ----------
    scores : dict of str to DataFrame
        Results of :func:`cross_validate`, by method, with the same folds.
    reference : str
        The method that the others are compared with.
    metric : str, default "auroc"
    rope : float, default 0.01
        Half width of the region of practical equivalence.
    level : float, default 0.95

    Returns
    -------
    DataFrame
        One row per method and task (the last task is ``"all"``, the mean over tasks by fold):
        the columns of :func:`correlated_t`, n_folds. ``attrs["note"]`` says what the number of
        tasks can and cannot support.

    Raises
    ------
    MiracleError
        If the reference is absent or two methods were not scored on the same folds.
    """
    _check_paired(scores, reference)
    base = _wide(scores[reference], metric)
    n_splits = base.index.get_level_values("fold").nunique()
    rows = []
    for method, table in scores.items():
        if method == reference:
            continue
        difference = _wide(table, metric).loc[base.index] - base
        for task in base.columns:
            result = correlated_t(difference[task].to_numpy(), 1 / n_splits, rope, level)
            rows.append(
                {"method": method, "reference": reference, "task": task}
                | result
                | {"n_folds": int(difference[task].notna().sum())}
            )
    table = pd.DataFrame(rows)
    table.attrs["note"] = task_note(base.shape[1] - 1)
    return table


def task_note(n_tasks: int) -> str:
    """Say the smallest p-value that a signed-rank test over the tasks can reach."""
    smallest = 2.0 ** (1 - n_tasks)
    verdict = "cannot" if smallest > 0.05 else "can only just" if smallest > 0.025 else "can"
    return (
        f"With {n_tasks} task{'s' * (n_tasks > 1)} the two-sided Wilcoxon signed-rank test over "
        f"tasks cannot go below p = {smallest:.3g}: it {verdict} support a claim at the 0.05 level "
        "beyond these tasks."
    )


def compare_across_tasks(comparison: pd.DataFrame) -> pd.DataFrame:
    """Wilcoxon signed-rank test of each method's mean differences over tasks (Demsar 2006).

    Parameters
    ----------
    comparison : DataFrame
        Result of :func:`compare_methods`.

    Returns
    -------
    DataFrame
        method, n_tasks, n_better, p_value (exact), smallest_p (what so many tasks can reach), note.
    """
    rows = []
    single = comparison[comparison["task"] != "all"]
    for method, table in single.groupby("method", sort=False):
        difference = table["difference"].to_numpy()
        n = len(difference)
        p_value = stats.wilcoxon(difference, method="exact").pvalue if difference.any() else 1.0
        rows.append((method, n, int((difference > 0).sum()), p_value, 2.0 ** (1 - n), task_note(n)))
    columns = ["method", "n_tasks", "n_better", "p_value", "smallest_p", "note"]
    return pd.DataFrame(rows, columns=columns)


def shuffle_labels(
    Y: Samples | pd.DataFrame,
    rng: np.random.Generator,
    groups: pd.Series | np.ndarray | None = None,
    cohort: pd.Series | np.ndarray | None = None,
) -> pd.DataFrame:
    """Draw labels at random where it cannot matter if the samples have nothing to do with them.

    Labels move within a cohort, and missing ones stay where they are. Those of a sample move
    together, unless its cohort has samples that are labelled for some of the tasks only, as where
    two diseases share their controls: each task then is shuffled by itself. Groups of the same size
    change places as a whole, and then the samples within each: a pair of a case and a control is
    turned around with probability one half. They are drawn in the order of the samples' names.

    Parameters
    ----------
    Y : Samples or DataFrame of shape (n_samples, n_tasks)
        1, 0 or NaN.
    rng : numpy.random.Generator
    groups, cohort : Series or array of shape (n_samples,), optional
        Subject, pair of twins or matched pair; cohort.

    Returns
    -------
    DataFrame
        Of the form of the labels.

    Raises
    ------
    MiracleError
        If the labels of a task are the same after every exchange.

    References
    ----------
    Exchange of blocks and within blocks: Winkler et al. 2015, doi:10.1016/j.neuroimage.2015.05.092.

    Examples
    --------
    >>> Y = pd.DataFrame({"RA": [1, 0, 1, 0]})
    >>> twins = ["A", "A", "B", "B"]
    >>> shuffle_labels(Y, np.random.default_rng(1), groups=twins)["RA"].tolist()
    [1.0, 0.0, 0.0, 1.0]
    """
    samples = as_labelled(Y, cohort=cohort, groups=groups)
    order = samples.order
    labels = samples.labels.iloc[order]
    units = pd.DataFrame({"row": np.arange(len(labels)), "cohort": ""})
    if samples.cohort is not None:
        units["cohort"] = samples.cohort.to_numpy()[order]
    subject = units["row"] if samples.subject is None else samples.subject.to_numpy()[order]
    units["group"] = pd.factorize(subject)[0]
    shuffled = labels.copy()
    for tasks in _labelled_alike(labels, units["cohort"]):
        shuffled[tasks] = _exchanged(labels[tasks], units, rng)
    return shuffled.loc[samples.names]


def _labelled_alike(labels: pd.DataFrame, cohort: pd.Series) -> list[list[str]]:
    """Return the tasks whose labels may move together, then each other task by itself."""
    pattern = pd.Series(_patterns(labels), cohort.index)
    alone = []
    for task in labels:
        here = labels[task].notna().to_numpy()
        if (pattern[here].groupby(cohort[here]).nunique() > 1).any():
            alone.append(task)
    together = [task for task in labels if task not in alone]
    return [tasks for tasks in (together, *([task] for task in alone)) if tasks]


def _patterns(labels: pd.DataFrame) -> np.ndarray:
    """For which tasks each sample is labelled, as text."""
    return labels.notna().astype(int).astype(str).agg("".join, axis=1).to_numpy(dtype=object)


def _exchanged(labels: pd.DataFrame, units: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Exchange the labels of groups, and of the samples within each."""
    units = units.assign(key=_patterns(labels) + "|" + units["cohort"])
    units = units.sort_values(["group", "key"], kind="stable")
    units["block"] = units.groupby("group")["key"].transform("\n".join)
    _refuse_fixed(labels, units)
    values = labels.to_numpy()
    shuffled = values.copy()
    for _, part in units.groupby("block", sort=False):
        rows = part["row"].to_numpy().reshape(part["group"].nunique(), -1)
        shuffled[rows] = values[rng.permutation(rows)]
    alike = ["group", "key"]
    for _, part in units[units.duplicated(alike, keep=False)].groupby(alike):
        rows = part["row"].to_numpy()
        shuffled[rows] = shuffled[rng.permutation(rows)]
    return shuffled


def _refuse_fixed(labels: pd.DataFrame, units: pd.DataFrame) -> None:
    """Refuse tasks whose labels are the same wherever they may move: such a control is none."""
    table = labels.iloc[units["row"]].reset_index(drop=True)
    places = [units[name].to_numpy() for name in ("block", "key")]
    varies = (table.groupby(places).nunique() > 1).any()
    if not varies.all():
        fixed = ", ".join(map(str, varies.index[~varies]))
        raise MiracleError(
            f"the labels of {fixed} cannot be shuffled: within a cohort, no two samples differ in "
            "them that are of one group, or of groups of the same size"
        )


def permutation_test(
    estimator: Any,
    X: Samples | pd.DataFrame,
    Y: pd.DataFrame | None = None,
    groups: Any = None,
    cohort: Any = None,
    covariates: pd.DataFrame | None = None,
    protocol: str = "nested",
    metric: str = "auroc",
    n_permutations: int = 100,
    n_splits: int = 5,
    random_state: int = 0,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Test the score against shuffled labels, refitting the whole pipeline every time.

    Parameters
    ----------
    estimator, X, Y, groups, cohort, covariates, protocol, n_splits, random_state
        As in :func:`cross_validate`. Labels move within a cohort and between groups of one size.
    n_jobs : int, default 1
        Permutations scored at the same time on this machine.
    metric : str, default "auroc"
    n_permutations : int, default 100

    Returns
    -------
    DataFrame
        Per task and for ``"all"``: observed, null_mean, null_high (95th percentile), p_value =
        (1 + #(null >= observed)) / (1 + n_permutations), NaN where there is no score to test.
        ``attrs["null"]``: permutations x tasks.

    References
    ----------
    Ojala & Garriga 2010, https://jmlr.org/papers/v11/ojala10a.html
    """
    samples = as_samples(X, Y, cohort=cohort, groups=groups, covariates=covariates)
    folds: dict[str, Any] = {
        "protocol": protocol,
        "n_splits": n_splits,
        "random_state": random_state,
    }
    rng = np.random.default_rng(random_state)
    shuffled = [shuffle_labels(samples, rng) for _ in range(n_permutations)]
    jobs = [(estimator, samples, labels, folds, metric) for labels in (samples.labels, *shuffled)]
    observed, *of_shuffled = spread(
        _mean_score, jobs, [estimator, samples], n_jobs=n_jobs, title="permutations"
    )
    null = pd.DataFrame(of_shuffled)
    beaten = null > observed if metric == "brier" else null < observed  # where less is better
    p_value = (1 + (~beaten).sum()) / (1 + n_permutations)  # a null without a score beats nothing
    table = pd.DataFrame(
        {
            "observed": observed,
            "null_mean": null.mean(),
            "null_high": null.quantile(0.95),
            "p_value": p_value.where(observed.notna()),
        }
    )
    table = table.rename_axis("task").reset_index()
    table.attrs["null"] = null
    return table


def _mean_score(
    estimator: Any, samples: Samples, labels: pd.DataFrame, folds: dict[str, Any], metric: str
) -> pd.Series:
    """Score an estimator under some labels: mean over the folds, per task."""
    return _wide(cross_validate(estimator, samples.replace(labels=labels), **folds), metric).mean()
