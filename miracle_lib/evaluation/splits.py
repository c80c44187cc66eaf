"""Repeated folds, stratified by task and label, that never cut a group in two."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from miracle_lib.errors import MiracleError


class Fold(NamedTuple):
    """One split: row numbers of the training and the test part."""

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray


def strata(Y: pd.DataFrame) -> np.ndarray:
    """Name of each sample's pattern of labels over the tasks, for example ``RA=1``."""
    named = [
        Y[task].map({0: f"{task}=0", 1: f"{task}=1"}).fillna("").astype(str) for task in Y.columns
    ]
    return np.array([" ".join(filter(None, row)) for row in zip(*named, strict=True)], dtype=str)


def check_labels(Y: pd.DataFrame) -> None:
    """Refuse a task table that holds anything but 0, 1 and NaN."""
    for task in Y.columns:
        found = [value for value in Y[task].dropna().unique() if value not in (0, 1)]
        if found:
            raise MiracleError(
                f"Task {task!r} has the label {found[0]}; expected 0, 1 or NaN (not labelled)."
            )


def make_folds(
    Y: pd.DataFrame,
    groups: pd.Series | np.ndarray | None = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
) -> Iterator[Fold]:
    """Split samples into folds, stratified by task and label; groups stay whole.

    Parameters
    ----------
    Y : DataFrame of shape (n_samples, n_tasks)
        0, 1 or NaN (not labelled).
    groups : array-like of shape (n_samples,), optional
        Samples of one subject (or twin pair) share a value and are never separated.
    n_splits : int, default 5
    n_repeats : int, default 1
        Repeat r is shuffled with ``random_state + r``.
    random_state : int, default 0

    Yields
    ------
    Fold
        ``repeat, fold, train, test``.

    Raises
    ------
    MiracleError
        If a class of a task has fewer samples (or groups) than ``n_splits``.

    Examples
    --------
    >>> Y = pd.DataFrame({"RA": [0, 0, 1, 1], "MS": [0, 1, 0, 1]})
    >>> [len(fold.test) for fold in make_folds(pd.concat([Y] * 2), n_splits=2)]
    [4, 4]
    """
    check_labels(Y)
    units = np.arange(len(Y)) if groups is None else np.asarray(groups)
    if len(units) != len(Y):
        raise MiracleError(f"groups has {len(units)} entries; expected one per sample, {len(Y)}.")
    for task in Y.columns:
        for label, name in ((1, "cases"), (0, "controls")):
            found = len(np.unique(units[(Y[task] == label).to_numpy()]))
            if found < n_splits:
                raise MiracleError(
                    f"Task {task!r} has {found} independent {name}; "
                    f"{n_splits} folds need at least {n_splits}."
                )
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    pattern = strata(Y)
    for repeat in range(n_repeats):
        splitter = kind(n_splits, shuffle=True, random_state=random_state + repeat)
        with warnings.catch_warnings():
            # Rare patterns over several tasks cannot be in every fold; each task was checked above.
            warnings.simplefilter("ignore", UserWarning)
            parts = list(splitter.split(pattern, pattern, groups))
        for fold, (train, test) in enumerate(parts):
            yield Fold(repeat, fold, train, test)
