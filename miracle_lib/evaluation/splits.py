"""Repeated folds, stratified by task and label, that never cut a subject in two."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from miracle_lib.errors import MiracleError
from miracle_lib.folds import fold_numbers
from miracle_lib.samples import Samples, as_labelled


class Fold(NamedTuple):
    """One split: row numbers of the training and the test part, in the order of their names."""

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


def make_folds(
    Y: Samples | pd.DataFrame,
    groups: pd.Series | np.ndarray | None = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
) -> Iterator[Fold]:
    """Split samples into folds, stratified by task and label; subjects stay whole.

    Folds are drawn over the samples in the order of their names: with the rows in another order
    the same samples are tested together.

    Parameters
    ----------
    Y : Samples or DataFrame of shape (n_samples, n_tasks)
        0, 1 or NaN (not labelled).
    groups : Series or array of shape (n_samples,), optional
        Samples of one subject (or twin pair) share a value and are never separated. A Series is
        aligned by the names of the samples.
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
        If a class of a task has fewer samples (or subjects) than ``n_splits``, a label is not 0,
        1 or NaN, or a sample has no entry in ``groups``.

    Examples
    --------
    >>> Y = pd.DataFrame({"RA": [0, 0, 1, 1] * 2, "MS": [0, 1, 0, 1] * 2})
    >>> [len(fold.test) for fold in make_folds(Y, n_splits=2)]
    [4, 4]
    """
    samples = as_labelled(Y, groups=groups)
    order = samples.order
    labels = samples.labels.iloc[order]
    units = order if samples.subject is None else samples.subject.to_numpy()[order]
    for task in labels.columns:
        for label, name in ((1, "cases"), (0, "controls")):
            found = len(np.unique(units[(labels[task] == label).to_numpy()]))
            if found < n_splits:
                raise MiracleError(
                    f"Task {task!r} has {found} independent {name}; "
                    f"{n_splits} folds need at least {n_splits}."
                )
    pattern = strata(labels)
    for repeat in range(n_repeats):
        numbers = fold_numbers(pattern, units, n_splits, random_state + repeat)
        for fold in range(n_splits):
            yield Fold(repeat, fold, order[numbers != fold], order[numbers == fold])
