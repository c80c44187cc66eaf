"""Cross-validation of multi-task estimators with every learned step inside the fold."""

import inspect
import warnings
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation.metrics import METRICS, score_task
from miracle_lib.evaluation.splits import Fold, make_folds
from miracle_lib.parallel import spread
from miracle_lib.preprocessing.samples import copies
from miracle_lib.samples import Samples, as_samples
from miracle_lib.training.inputs import cohorts_of_labels


def last_step(estimator: BaseEstimator) -> tuple[BaseEstimator, str]:
    """Estimator that sees the labels last, and the prefix of its fit arguments."""
    if isinstance(estimator, Pipeline):
        return estimator[-1], f"{estimator.steps[-1][0]}__"
    return estimator, ""


def fitted(estimator: BaseEstimator, samples: Samples) -> BaseEstimator:
    """Fit a clone; its ``fit`` gets of cohort, covariates and groups what it accepts.

    In a Pipeline they go to the last step.
    """
    model = clone(estimator)
    last, prefix = last_step(model)
    parts = {
        "cohort": samples.cohort,
        "covariates": samples.covariates,
        "groups": samples.subject,
    }
    accepted = inspect.signature(last.fit).parameters
    extra = {
        prefix + name: part for name, part in parts.items() if part is not None and name in accepted
    }
    return model.fit(samples.values, samples.labels, **extra)


def probabilities(model: BaseEstimator, samples: Samples) -> pd.DataFrame:
    """Probability of being a case, samples x tasks; covariates go where they are accepted."""
    extra = {}
    accepted = inspect.signature(last_step(model)[0].predict_proba).parameters
    if samples.covariates is not None and "covariates" in accepted:
        extra["covariates"] = samples.covariates
    return model.predict_proba(samples.values, **extra)


def evaluate_fold(
    estimator: BaseEstimator, samples: Samples, fold: Fold
) -> tuple[pd.DataFrame, BaseEstimator]:
    """Fit on a fold's training part and predict its test part.

    Returns
    -------
    predictions : DataFrame
        sample, group, cohort, task, repeat, fold, label, score; labelled test samples only.
    model : BaseEstimator
        The fitted clone.
    """
    model = fitted(estimator, samples.take(fold.train))
    return predictions_on(model, samples.take(fold.test), fold.repeat, fold.fold), model


def predictions_on(
    model: BaseEstimator, test: Samples, repeat: int = 0, fold: int = 0
) -> pd.DataFrame:
    """Predict the labelled among samples that a model has not seen; columns of `evaluate_fold`."""
    proba = probabilities(model, test)
    subject = test.names if test.subject is None else test.subject
    cohort = _cohorts(test)
    tables = []
    for task, label in test.labels.items():
        labelled = label.notna().to_numpy()
        score = proba[task].to_numpy(float)[labelled]
        if np.isnan(score).any():
            raise MiracleError(
                f"{type(last_step(model)[0]).__name__} predicted NaN for task {task!r}; "
                "expected probabilities."
            )
        tables.append(
            pd.DataFrame(
                {
                    "sample": test.names[labelled],
                    "group": np.asarray(subject)[labelled],
                    "cohort": cohort[labelled],
                    "task": task,
                    "repeat": repeat,
                    "fold": fold,
                    "label": label.to_numpy()[labelled],
                    "score": score,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


class Predictions(pd.DataFrame):
    """A table that another table can carry in ``attrs``.

    pandas copies and compares ``attrs`` when it prints or joins tables, which fails for a plain
    DataFrame in them; this one is passed on as it is and compared by identity.
    """

    def __deepcopy__(self, memo: object = None) -> "Predictions":
        return self

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]  # as Python does beside __eq__


def scores_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Metrics per task, repeat and fold; the predictions are kept in ``attrs``."""
    rows = [
        {"task": task, "repeat": repeat, "fold": fold}
        | score_task(part["label"].to_numpy(), part["score"].to_numpy())
        | {"n": len(part), "n_cases": int(part["label"].sum())}
        for (task, repeat, fold), part in predictions.groupby(
            ["task", "repeat", "fold"], sort=False
        )
    ]
    table = pd.DataFrame(rows, columns=["task", "repeat", "fold", *METRICS, "n", "n_cases"])
    table.attrs["predictions"] = Predictions(predictions)
    return table


def select_before_split(
    estimator: BaseEstimator, samples: Samples
) -> tuple[BaseEstimator, Samples]:
    """Apply the Pipeline's selecting steps, fitted on all samples: the leak of the paper."""
    if not isinstance(estimator, Pipeline) or len(estimator.steps) < 2:
        raise MiracleError(
            "protocol='leaky' needs a Pipeline whose first step selects sites; "
            f"found {type(estimator).__name__}."
        )
    selector = clone(estimator[:-1]).fit(samples.values, samples.labels)
    return estimator[-1], samples.replace(values=selector.transform(samples.values))


def cross_validate(
    estimator: BaseEstimator,
    X: Samples | pd.DataFrame,
    Y: pd.DataFrame | None = None,
    groups: pd.Series | np.ndarray | None = None,
    cohort: pd.Series | np.ndarray | None = None,
    covariates: pd.DataFrame | None = None,
    protocol: Literal["nested", "leaky"] = "nested",
    n_splits: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Score a multi-task estimator by repeated, stratified, grouped cross-validation.

    The estimator is cloned for every fold and sees only the training part of it: site selection,
    standardisation, tuning and early stopping belong into the estimator (or a Pipeline) and are
    fitted anew in every fold.

    Parameters
    ----------
    estimator : estimator or Pipeline
        ``fit(X, Y)`` and ``predict_proba(X) -> DataFrame`` of samples x tasks. ``cohort``,
        ``covariates`` and ``groups`` are passed on where ``fit`` (of a Pipeline: of its last
        step) takes them.
    X : Samples, AnnData or DataFrame of shape (n_samples, n_sites)
        Beta values, NaN where missing. A Samples holds all that follows.
    Y : DataFrame of shape (n_samples, n_tasks), optional
        0, 1 or NaN (not labelled).
    groups : Series or array of shape (n_samples,), optional
        Subjects or twin pairs; never separated by a split.
    cohort : Series or array of shape (n_samples,), optional
        Cohort of each sample.
    covariates : DataFrame of shape (n_samples, n_covariates), optional
        As the other tables aligned with ``X`` by the names of the samples.
    protocol : {"nested", "leaky"}, default "nested"
        "leaky" fits the Pipeline's selecting steps on all samples before the split, as the
        original protocol does. It exists to show how much that inflates a score.
    n_splits, n_repeats : int, default 5 and 1
    random_state : int, default 0
        Repeat r is shuffled with ``random_state + r``; two estimators scored with the same value
        see the same folds.
    n_jobs : int, default 1
        Folds fitted at the same time on this machine; see `miracle_lib.parallel.cluster` for more.

    Returns
    -------
    DataFrame
        One row per task, repeat and fold: auroc, auprc, balanced_accuracy, mcc, brier, n,
        n_cases. ``attrs["predictions"]`` holds the out-of-fold predictions: sample, group, cohort,
        task, repeat, fold, label, score.

    Raises
    ------
    MiracleError
        For labels other than 0, 1 and NaN, a sample that a table lacks, a class too small for
        ``n_splits``, an unknown protocol, or a leaky protocol without a selecting step.

    References
    ----------
    Ambroise & McLachlan 2002, doi 10.1073/pnas.102102699; Varma & Simon 2006,
    doi 10.1186/1471-2105-7-91.

    Examples
    --------
    >>> from miracle_lib.evaluation import PerTaskBaseline
    >>> rng = np.random.default_rng(0)
    >>> Y = pd.DataFrame({"RA": [0.0, 1.0] * 20}, index=[f"s{i}" for i in range(40)])
    >>> X = pd.DataFrame(rng.uniform(0.2, 0.8, (40, 5)), index=Y.index, columns=list("abcde"))
    >>> scores = cross_validate(PerTaskBaseline("naive_bayes"), X, Y, n_splits=2)
    >>> scores[["task", "fold", "n"]].values.tolist()
    [['RA', 0, 20], ['RA', 1, 20]]
    """
    samples = as_samples(X, Y, cohort=cohort, groups=groups, covariates=covariates)
    _warn_of_copies(samples)
    if protocol == "leaky":
        estimator, samples = select_before_split(estimator, samples)
    elif protocol != "nested":
        raise MiracleError(f"protocol is {protocol!r}; expected 'nested' or 'leaky'.")
    folds = list(make_folds(samples, None, n_splits, n_repeats, random_state))
    jobs = [(estimator, samples, fold) for fold in folds]
    parts = list(spread(_predictions, jobs, [estimator, samples], n_jobs=n_jobs, title="folds"))
    return scores_of(pd.concat(parts, ignore_index=True))


def _cohorts(samples: Samples) -> np.ndarray:
    """Cohort of each sample; where none is given, named by the tasks as a model would."""
    given = samples.cohort
    return cohorts_of_labels(samples.labels) if given is None else given.to_numpy()


def _warn_of_copies(samples: Samples) -> None:
    """Warn of samples that are copies of each other though they count as two subjects."""
    pairs = copies(samples.values, _cohorts(samples))
    if samples.subject is not None:
        first, second = (samples.subject.loc[pairs[name]] for name in ("sample", "copy"))
        pairs = pairs[first.to_numpy() != second.to_numpy()]
    if len(pairs):
        sample, other, correlation = pairs.iloc[0]
        warnings.warn(
            f"{len(pairs)} pairs of samples are copies of each other (the first, {sample!r} and "
            f"{other!r}, correlate at {correlation:.4f}) and may be on both sides of a split, so "
            "that scores are too good: leave one out or name both as one subject in groups.",
            stacklevel=3,
        )


def _predictions(estimator: BaseEstimator, samples: Samples, fold: Fold) -> pd.DataFrame:
    """Predictions alone, so that no model travels between processes."""
    return evaluate_fold(estimator, samples, fold)[0]
