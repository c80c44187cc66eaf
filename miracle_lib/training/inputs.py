"""What a user passes becomes `Samples`."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.classes import two_classes
from miracle_lib.preprocessing.table import as_frame
from miracle_lib.samples import Samples, as_samples
from miracle_lib.stored import StoredValues


def read_samples(X: Any, sites: pd.Index, **parts: Any) -> Samples:
    """Return what a user passes as one object, aligned and checked.

    Parameters
    ----------
    X : Samples, AnnData, DataFrame or array, shape (n_samples, n_sites)
        An array is in the order of ``sites``.
    sites : Index
        Names of the columns of an array.
    **parts
        Any of cohort, groups and covariates: those given replace what ``X`` holds.

    Raises
    ------
    MiracleError
        As `Samples`, or if an array has another number of columns.
    """
    if isinstance(X, Samples | AnnData | StoredValues):
        return as_samples(X, **parts)
    values = as_frame(X)
    if not isinstance(X, pd.DataFrame):
        if values.shape[1] != len(sites):
            raise MiracleError(
                f"X has {values.shape[1]} features, but MiracleClassifier is expecting "
                f"{len(sites)} features as input, in the order of its sites"
            )
        values = values.set_axis(sites, axis=1)
    return as_samples(values, **parts)


def vector_of(Y: Any) -> Any:
    """Return labels that are one task in a vector as such; None where they are a table."""
    if isinstance(Y, pd.DataFrame) or Y is None:
        return None
    if not isinstance(Y, pd.Series):
        Y = np.asarray(Y)
    return Y if Y.ndim == 1 else None


def labels_of_vector(y: Any, names: pd.Index) -> tuple[pd.Series, np.ndarray]:
    """Return a vector of two classes as labels 0 and 1, named as its task, and the classes."""
    labels, classes = two_classes(y)
    index = y.index if isinstance(y, pd.Series) else names
    if len(labels) != len(index):
        raise MiracleError(f"y has {len(labels)} labels; expected {len(index)}, one per sample")
    name = y.name if isinstance(y, pd.Series) and y.name is not None else "task"
    return pd.Series(labels, index, name=str(name)), classes


def require_both_classes(samples: Samples) -> None:
    """Refuse a fit without tasks, or a task without two subjects of each class for inner folds."""
    labels, subject = samples.labels, samples.subject
    if labels.shape[1] == 0:
        raise MiracleError(
            "requires y to be passed, but the target y is None: there is no task to learn"
        )
    for task, column in labels.items():
        units = column.index if subject is None else subject
        cases, controls = (units[(column == value).to_numpy()].nunique() for value in (1, 0))
        if min(cases, controls) < 2:
            different = "" if subject is None else " of different subjects"
            raise MiracleError(
                f"task {task!r} has {cases} cases and {controls} controls{different}; at least 2 "
                "of each class are expected"
            )


def cohorts_of_labels(Y: pd.DataFrame) -> np.ndarray:
    """Name a cohort per sample: tasks that share samples make one cohort."""
    labelled = Y.notna().to_numpy()
    linked = labelled.T.astype(int) @ labelled.astype(int) > 0
    for _ in range(len(linked)):
        linked = linked.astype(int) @ linked.astype(int) > 0
    names = np.array(["+".join(Y.columns[row].astype(str)) for row in linked], dtype=object)
    cohort = np.full(len(Y), "unlabelled", dtype=object)
    for task in range(labelled.shape[1]):
        cohort[labelled[:, task]] = names[task]
    return cohort
