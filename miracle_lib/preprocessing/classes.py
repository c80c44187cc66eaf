"""One task as a vector of two classes of any type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import type_of_target

from miracle_lib.errors import MiracleError


def two_classes(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a vector of two classes as 0 and 1, and the classes.

    Parameters
    ----------
    y : array or Series, shape (n_samples,)
        Two different values of any type that can be sorted: numbers, texts, booleans, categories.
        A missing value is a sample without label.

    Returns
    -------
    labels : ndarray of float, shape (n_samples,)
        1 where the second class, the case, is meant, 0 where the first, NaN where missing.
    classes : ndarray, shape (2,)
        Sorted, as everywhere in scikit-learn.

    Raises
    ------
    MiracleError
        If ``y`` is no vector, or has other than two classes.

    Examples
    --------
    >>> labels, classes = two_classes(["sick", "healthy", "sick"])
    >>> labels.tolist(), classes.tolist()
    ([1.0, 0.0, 1.0], ['healthy', 'sick'])
    """
    values = np.asarray(y)
    if values.ndim != 1:
        raise MiracleError(f"y has shape {values.shape}; expected one label per sample")
    missing = np.asarray(pd.isna(values))
    present = values[~missing]
    if present.dtype == object:
        kinds = {type(each) for each in present}
        if len(kinds) > 1 and not kinds <= {int, float, bool}:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise MiracleError(f"Unknown label type: y mixes {names}; expected two classes")
        present = np.array(list(present))
    if present.dtype.kind == "f" and (present != np.round(present)).any():
        raise MiracleError(
            "Unknown label type: continuous; y holds numbers such as "
            f"{present[present != np.round(present)][0]:g}, expected two classes"
        )
    classes = np.unique(present)
    if len(classes) > 2:
        raise MiracleError(
            "Only binary classification is supported. The type of the target is "
            f"{type_of_target(present)}: y has {len(classes)} classes, expected 2"
        )
    if len(classes) < 2:
        found = f"one class, {classes[0]!r}" if len(classes) else "no label"
        raise MiracleError(f"y has {found}; expected two classes")
    labels = np.full(len(values), np.nan)
    labels[~missing] = np.searchsorted(classes, present)
    return labels, classes
