"""Tables of beta values: checks, alignment, and access by blocks of sites.

Blocks keep what is computed beside a table of array size small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from miracle_lib.constraints import check_options
from miracle_lib.errors import MiracleError
from miracle_lib.samples import Samples, text_per_sample, value_table
from miracle_lib.stored import StoredValues

BLOCK = 1024  # sites handled at a time


class SiteTransformer(TransformerMixin, BaseEstimator):
    """What the transformers share: tables come in, sites are kept by name, values may be missing.

    A DataFrame, AnnData or Samples is read by the names of its sites, an array by their order.

    Attributes
    ----------
    n_features_in_ : int
        Sites seen at fit.
    feature_names_in_ : ndarray
        Their names, where `fit` was given names.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]]

    def _learn(self, X: Any) -> pd.DataFrame:
        """Check the options, return the table to fit on, and keep which sites it has."""
        check_options(self.get_params(), self._parameter_constraints)
        frame = as_frame(X)
        self._sites_in = frame.columns
        self.n_features_in_ = frame.shape[1]
        self.__dict__.pop("feature_names_in_", None)
        if isinstance(X, pd.DataFrame | AnnData | Samples):
            self.feature_names_in_ = frame.columns.to_numpy(dtype=object)
        return frame

    def _known(self, X: Any) -> pd.DataFrame:
        """Return the table to transform; an array has the sites of `fit`, in their order."""
        frame = as_frame(X)
        if isinstance(X, pd.DataFrame | AnnData | Samples):
            return frame
        if frame.shape[1] != self.n_features_in_:
            raise MiracleError(
                f"X has {frame.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return frame.set_axis(self._sites_in, axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the sites that `transform` gives."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def as_frame(X: Any) -> pd.DataFrame:
    """Return ``X`` as a DataFrame of numbers, without a copy where there is nothing to convert.

    Parameters
    ----------
    X : DataFrame, AnnData, Samples or array, shape (n_samples, n_sites)
        The sites of an array are named x0, x1 and so on. Columns of a nullable or sparse type of
        pandas become plain ones.

    Returns
    -------
    DataFrame

    Raises
    ------
    MiracleError
        If it is no table of real numbers, is empty, or names a site twice.

    Examples
    --------
    >>> as_frame([[0.1, 0.2]]).columns.tolist()
    ['x0', 'x1']
    """
    if isinstance(X, Samples):
        X = X.values
    if isinstance(X, StoredValues):
        raise MiracleError(
            f"The values of {len(X):,} samples x {len(X.columns):,} sites stay on disk, but are "
            "wanted in memory here; their method load() reads them."
        )
    if isinstance(X, AnnData):
        X = X.to_df()
    frame = X if isinstance(X, pd.DataFrame) else _named(X)
    for size, what in zip(frame.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise MiracleError(
                f"Found array with 0 {what}(s) (shape={frame.shape}) while a minimum of 1 is "
                "required."
            )
    return value_table(frame)


def _named(X: Any) -> pd.DataFrame:
    """Make a DataFrame of an array, its sites named by their place."""
    if sparse.issparse(X):
        raise MiracleError(
            "X is a sparse matrix; beta values are dense: pass an array, X.toarray()."
        )
    array = np.asarray(X)
    if array.ndim != 2:
        raise MiracleError(
            f"Expected a 2D array of samples x sites, got a {array.ndim}D array; Reshape your data."
        )
    if array.dtype.kind == "c":
        raise MiracleError("Complex data not supported: X holds complex numbers.")
    if array.dtype.kind not in "fiu":
        try:
            array = array.astype(np.float64)
        except TypeError as error:
            raise TypeError(f"X holds {array.dtype}: {error}") from None
        except ValueError as error:
            raise MiracleError(f"X holds {array.dtype}, not numbers: {error}.") from None
    return pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])], copy=False)


def site_positions(X: pd.DataFrame | StoredValues, sites: pd.Index) -> np.ndarray:
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
        where: np.ndarray | slice = positions[part]
        first, last = positions[part][[0, -1]]
        if last - first == part.stop - start - 1 and (np.diff(positions[part]) == 1).all():
            where = slice(first, last + 1)
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
    cohorts = text_per_sample(cohort, X.index, "cohort")
    if cohorts is None:
        raise MiracleError("cohort is not given; expected a name per sample, or one for all.")
    return cohorts.to_numpy(dtype=object)


def fitted_rows(names: np.ndarray, cohorts: Sequence[str] | pd.Index) -> np.ndarray:
    """Return the row of each name among fitted cohorts, one row where all are of one cohort.

    A table at one row is broadcast; at as many rows as samples it would be copied for each.

    Raises
    ------
    MiracleError
        If a cohort was not fitted.

    Examples
    --------
    >>> fitted_rows(np.array(["B", "A"]), ["A", "B"]).tolist()
    [1, 0]
    >>> fitted_rows(np.array(["B", "B"]), ["A", "B"]).tolist()
    [1]
    """
    rows = pd.Index(cohorts, dtype=object).get_indexer(names)
    if (rows < 0).any():
        raise MiracleError(
            f"Cohort {min(names[rows < 0])!r} was not fitted; known cohorts are "
            f"{', '.join(cohorts) or 'none'}."
        )
    return rows[:1] if (rows == rows[0]).all() else rows
