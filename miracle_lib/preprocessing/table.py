"""Tables of beta values: checks, alignment, and access by blocks of sites.

Blocks keep what is computed beside a table of array size small.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from miracle_lib.errors import MiracleError

BLOCK = 1024  # sites handled at a time


def as_frame(X: Any) -> pd.DataFrame:
    """Return ``X`` as a DataFrame of numbers without copying it."""
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X)
    text = [name for name, kind in frame.dtypes.items() if not np.issubdtype(kind, np.number)]
    if text:
        raise MiracleError(f"Column {text[0]!r} of X holds {frame[text[0]].dtype}, not numbers.")
    if not frame.columns.is_unique:
        name = frame.columns[frame.columns.duplicated()][0]
        raise MiracleError(f"Site {name!r} occurs more than once among the columns of X.")
    return frame


def site_positions(X: pd.DataFrame, sites: pd.Index) -> np.ndarray:
    """Return where ``sites`` are among the columns of ``X``; refuse ``X`` if it lacks some."""
    positions = X.columns.get_indexer(sites)
    absent = positions < 0
    if absent.any():
        raise MiracleError(
            f"X lacks {absent.sum()} of the {len(sites)} sites it was fitted on "
            f"(first: {sites[absent][0]}); add them as NaN to treat them as missing."
        )
    return positions


def blocks(X: pd.DataFrame, positions: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (slice of ``positions``, float32 beta values at those columns), checked for range."""
    values = X.to_numpy()
    for start in range(0, len(positions), BLOCK):
        part = slice(start, min(start + BLOCK, len(positions)))
        where = positions[part]
        if len(where) and where[-1] - where[0] == len(where) - 1 and (np.diff(where) == 1).all():
            where = slice(where[0], where[-1] + 1)
        beta = values[:, where].astype(np.float32)
        wrong = (beta < 0) | (beta > 1)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise MiracleError(
                f"Sample {X.index[row]!r} has {beta[row, column]:g} at site "
                f"{X.columns[positions[part][column]]!r}; expected beta values in [0, 1]."
            )
        yield part, beta


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return count, mean and variance (n - 1) per column, ignoring NaN; NaN where undefined."""
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(present, values, 0).sum(axis=0, dtype=np.float64) / count
        squares = np.where(present, values - mean, 0) ** 2
        variance = squares.sum(axis=0) / np.where(count > 1, count - 1, np.nan)
    return count, mean, variance


def cohort_of(X: pd.DataFrame, cohort: Any) -> np.ndarray:
    """Give one cohort name per sample of ``X``; a Series is aligned on the sample names."""
    if isinstance(cohort, str):
        return np.full(len(X), cohort, dtype=object)
    if isinstance(cohort, pd.Series) and not cohort.index.equals(X.index):
        absent = X.index.difference(cohort.index)
        if len(absent):
            raise MiracleError(f"cohort has no entry for sample {absent[0]!r} of X.")
        cohort = cohort.loc[X.index]
    names = np.asarray(cohort, dtype=object)
    if names.shape != (len(X),):
        raise MiracleError(f"cohort has shape {names.shape}; expected one name per {len(X)} rows.")
    missing = pd.isna(names)
    if missing.any():
        raise MiracleError(f"The cohort of sample {X.index[missing][0]!r} is missing.")
    return names.astype(str).astype(object)
