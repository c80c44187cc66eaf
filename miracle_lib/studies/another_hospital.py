"""Does it hold in another hospital? Scores within a cohort beside those in another cohort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation.grid import Cell, Data, Tables, run_grid
from miracle_lib.evaluation.metrics import summarise
from miracle_lib.evaluation.splits import make_folds
from miracle_lib.evaluation.validation import fitted, predictions_on, scores_of
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.samples import Samples
from miracle_lib.studies.hospital_views import (
    AS_IT_IS,
    LEVEL,
    VIEWS,
    View,
    at_prevalence,
    measured_sites,
    possible_views,
    share_of_cases,
)
from miracle_lib.studies.variants import Variant, build, selection_of

OWN = "MIRACLE"
METHODS: dict[str, str | None] = {
    OWN: None,
    "L2 logistic regression": "logistic_l2",
    "RBF support vectors": "rbf_svm",
    "best single CpG": "single_cpg",
    "covariates only": "covariates",
}
MEASURES = ("auroc", "brier", "calibration_intercept", "calibration_slope")
ROUND_VIEWS = (AS_IT_IS, LEVEL)


class Pair(NamedTuple):
    """Cohorts of a task to train on, and another one to test."""

    task: str
    train: tuple[str, ...]
    test: str


def pairs_of(samples: Samples, external: list[str]) -> list[Pair]:
    """Every way to test a task in a cohort that the others of the task have not seen.

    Parameters
    ----------
    samples : Samples
    external : list of str
        Cohorts that are for testing only. Without one, each cohort of a task is left out in turn.

    Returns
    -------
    list of Pair

    Examples
    --------
    >>> values = pd.DataFrame({"cg1": [0.1, 0.2, 0.3, 0.4]}, index=list("abcd"))
    >>> labels = pd.DataFrame({"RA": [1, 0, 1, 0]}, list("abcd"))
    >>> samples = Samples(values, labels, cohort=pd.Series(list("AABB"), list("abcd")))
    >>> [(pair.train, pair.test) for pair in pairs_of(samples, external=["B"])]
    [(('A',), 'B')]
    """
    found = []
    for task in samples.tasks:
        cohorts = cohorts_of(samples, task)
        home = [name for name in cohorts if name not in external]
        for test in cohorts:
            train = tuple(name for name in home if name != test)
            if train:
                found.append(Pair(task, train, test))
    return found


def rounds_of(samples: Samples) -> list[Pair]:
    """Leave each cohort of a task out; train on every other one, and on the others together."""
    found = []
    for task in samples.tasks:
        cohorts = cohorts_of(samples, task)
        for test in cohorts:
            others = tuple(name for name in cohorts if name != test)
            trains = [(name,) for name in others] + [others] * (len(others) > 1)
            found += [Pair(task, train, test) for train in trains]
    return found


def cohorts_of(samples: Samples, task: str) -> list[str]:
    """Cohorts with both classes of a task, in the order of the samples."""
    labels = samples.labels[task].groupby(_cohort(samples), sort=False).nunique()
    return list(labels.index[labels == 2])


def _cohort(samples: Samples) -> pd.Series:
    """Cohort of each sample, which must be known."""
    if samples.cohort is None:
        raise MiracleError("the samples have no cohort; expected the cohort of each.")
    return samples.cohort


def parts_of(samples: Samples, pair: Pair) -> tuple[Samples, Samples]:
    """Samples to train on and to test, at the sites that the training measured."""
    labelled = samples.task(pair.task)
    cohort = _cohort(labelled)
    home, away = labelled.take(cohort.isin(pair.train)), labelled.take(cohort == pair.test)
    sites = measured_sites(home)
    home, away = (part.replace(values=part.values[sites]) for part in (home, away))
    return home, away


def elsewhere(
    estimator: BaseEstimator, views: dict[str, View], home: Samples, away: Samples
) -> dict[str, pd.DataFrame]:
    """Train on all of one part and predict the other in every view; columns of `evaluate_fold`."""
    models: dict[View, BaseEstimator] = {}
    tables = {}
    for name, view in views.items():
        train, test = view.apply(home, away, measured_sites(away))
        if view.at_home not in models:
            models[view.at_home] = fitted(estimator, train)
        tables[name] = predictions_on(models[view.at_home], test)
        if view.prevalence:
            shares = share_of_cases(home), share_of_cases(away)
            tables[name]["score"] = at_prevalence(tables[name]["score"], *shares)
    return tables


def within(
    estimator: BaseEstimator,
    view: View,
    home: Samples,
    measured: pd.Index,
    n_splits: int,
    random_state: int,
) -> pd.DataFrame:
    """Cross-validate within the training cohorts; everything learned is learned in the fold."""
    parts = []
    for fold in make_folds(home, n_splits=n_splits, random_state=random_state):
        train, test = view.apply(home.take(fold.train), home.take(fold.test), measured)
        parts.append(predictions_on(fitted(estimator, train), test, fold=fold.fold))
    return pd.concat(parts, ignore_index=True)


def pair_cell(
    pair: list,
    variant: dict[str, Any],
    n_splits: int,
    random_state: int,
    samples: Samples,
    hierarchy: Hierarchy,
) -> Tables:
    """Score one method on one pair in every view, within the training cohorts and without."""
    home, away = parts_of(samples, Pair(*pair))
    estimator = build(Variant(**variant), hierarchy, random_state)
    views = possible_views(home, away)
    outside = elsewhere(estimator, views, home, away)
    inside: dict[View, pd.DataFrame] = {}
    tables = []
    for name, view in views.items():
        if view.at_home not in inside:
            folds = within(
                estimator, view.at_home, home, measured_sites(away), n_splits, random_state
            )
            inside[view.at_home] = _summary(folds, random_state)
        tables += [
            inside[view.at_home].assign(view=name, where="within"),
            _summary(outside[name], random_state).assign(view=name, where="without"),
        ]
    return {"scores": pd.concat(tables, ignore_index=True)}


def round_cell(
    pair: list, variant: dict[str, Any], random_state: int, samples: Samples, hierarchy: Hierarchy
) -> Tables:
    """Score one method on one pair as it is and at the new cohort's level, without folds."""
    home, away = parts_of(samples, Pair(*pair))
    estimator = build(Variant(**variant), hierarchy, random_state)
    views = {name: VIEWS[name] for name in ROUND_VIEWS}
    tables = [
        _summary(table, random_state).assign(view=name)
        for name, table in elsewhere(estimator, views, home, away).items()
    ]
    return {"scores": pd.concat(tables, ignore_index=True)}


def _summary(predictions: pd.DataFrame, random_state: int) -> pd.DataFrame:
    """Measures of one task with intervals over its patients."""
    table = summarise(scores_of(predictions), MEASURES, random_state=random_state)
    columns = ["metric", "estimate", "low", "high", "n", "n_cases"]
    return table.loc[table["task"] != "all", columns]


def hospital_scores(
    samples: Samples,
    hierarchy: Hierarchy,
    external: list[str],
    store: str | Path,
    *,
    selector: SiteSelector | None = None,
    n_splits: int = 5,
    n_jobs: int = 1,
    random_state: int = 0,
) -> pd.DataFrame:
    """Score every method within the training cohorts of a task and in another cohort.

    Every task is learned alone. What the scores fall by is taken apart by taking one difference
    between the cohorts away at a time, see `View`.

    Parameters
    ----------
    samples : Samples
        All cohorts; sites that one does not have are NaN.
    hierarchy : Hierarchy
    external, store, n_jobs
        As in `pairs_of` and :func:`run_grid`.
    selector : SiteSelector, optional
        Fitted inside the training part, before every method.
    n_splits : int, default 5
        Folds within the training cohorts.
    random_state : int, default 0

    Returns
    -------
    DataFrame
        One row per task, train, test, method, view, where ("within" or "without") and metric:
        estimate, low and high (95 % over patients), n, n_cases. Empty without a pair.
    """
    settings = {"n_splits": n_splits, "random_state": random_state}
    return _scored(
        pair_cell,
        pairs_of(samples, external),
        METHODS,
        settings,
        Data(samples=samples, hierarchy=hierarchy),
        selector,
        store=store,
        n_jobs=n_jobs,
    )


def leave_one_cohort_out(
    samples: Samples,
    hierarchy: Hierarchy,
    store: str | Path,
    *,
    selector: SiteSelector | None = None,
    n_jobs: int = 1,
    random_state: int = 0,
) -> pd.DataFrame:
    """Score each cohort of a task by models of each other one, and of the others together.

    Parameters
    ----------
    samples, hierarchy, store, selector, n_jobs, random_state
        As in `hospital_scores`.

    Returns
    -------
    DataFrame
        As of `hospital_scores`, of MIRACLE and logistic regression, without "where".
    """
    return _scored(
        round_cell,
        rounds_of(samples),
        dict(list(METHODS.items())[:2]),
        {"random_state": random_state},
        Data(samples=samples, hierarchy=hierarchy),
        selector,
        store=store,
        n_jobs=n_jobs,
    )


def _scored(
    function: Callable[..., Tables],
    pairs: Sequence[Pair],
    methods: dict[str, str | None],
    settings: dict[str, Any],
    data: Data,
    selector: SiteSelector | None,
    **grid: Any,
) -> pd.DataFrame:
    """Run a cell for every pair and method, and join what they found."""
    with_covariates = data["samples"].covariates is not None
    cells, owners = [], []
    for pair in pairs:
        for method, baseline in methods.items():
            if baseline == "covariates" and not with_covariates:
                continue
            variant = {"baseline": baseline} | selection_of(selector)
            cells.append(Cell(function, {"pair": list(pair), "variant": variant} | settings, data))
            owners.append({"task": pair.task, "train": " + ".join(pair.train), "test": pair.test})
            owners[-1]["method"] = method
    columns = ["task", "train", "test", "method", "view", "where", "metric"]
    columns += ["estimate", "low", "high", "n", "n_cases"]
    tables = [
        found["scores"].assign(**owner)
        for found, owner in zip(run_grid(cells, **grid), owners, strict=True)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def falls(scores: pd.DataFrame, metric: str = "auroc") -> pd.DataFrame:
    """Score within minus score without, with an interval, for every method and view.

    The two scores come from different patients; their intervals are joined by the method of
    variance estimates recovery.

    Parameters
    ----------
    scores : DataFrame
        Result of `hospital_scores`.
    metric : str, default "auroc"

    Returns
    -------
    DataFrame
        task, train, test, method, view; within, without, fall, low, high.

    References
    ----------
    Zou & Donner 2008, doi 10.1002/sim.3095

    Examples
    --------
    >>> row = dict(task="RA", train="A", test="B", method="M", view="as it is", metric="auroc")
    >>> inside = row | dict(where="within", estimate=0.9, low=0.86, high=0.93)
    >>> outside = row | dict(where="without", estimate=0.7, low=0.67, high=0.73)
    >>> falls(pd.DataFrame([inside, outside]))[["fall", "low", "high"]].round(2).values.tolist()
    [[0.2, 0.15, 0.24]]
    """
    keys = ["task", "train", "test", "method", "view"]
    chosen = scores[scores["metric"] == metric]
    inside, outside = (
        chosen[chosen["where"] == where].set_index(keys) for where in ("within", "without")
    )
    fall = inside["estimate"] - outside["estimate"]
    below = np.hypot(inside["estimate"] - inside["low"], outside["high"] - outside["estimate"])
    above = np.hypot(inside["high"] - inside["estimate"], outside["estimate"] - outside["low"])
    columns = {"within": inside["estimate"], "without": outside["estimate"], "fall": fall}
    return pd.DataFrame(columns | {"low": fall - below, "high": fall + above}).reset_index()


def calibration_table(scores: pd.DataFrame, method: str = OWN) -> pd.DataFrame:
    """Brier score, intercept and slope of calibration of one method in every view, with intervals.

    Parameters
    ----------
    scores : DataFrame
        Result of `hospital_scores`.
    method : str, default "MIRACLE"

    Returns
    -------
    DataFrame
        task, test, where, view; brier, intercept, slope as text: estimate (low to high), 95 % over
        patients. Within, the views that change the training.
    """
    chosen = scores[(scores["method"] == method) & (scores["metric"] != "auroc")]
    home = [name for name, view in VIEWS.items() if view == view.at_home]
    chosen = chosen[(chosen["where"] == "without") | chosen["view"].isin(home)]
    text = [f"{row.estimate:.2f} ({row.low:.2f} to {row.high:.2f})" for row in chosen.itertuples()]
    keys = ["task", "test", "where", "view"]
    wide = chosen.assign(text=text).pivot_table(
        "text", keys, "metric", aggfunc="first", sort=False, observed=True
    )
    wide.columns = [str(name).removeprefix("calibration_") for name in wide.columns]
    return wide.reset_index()
