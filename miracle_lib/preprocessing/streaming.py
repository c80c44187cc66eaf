"""Standardisation of values that stay on disk: the same numbers, some samples at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from miracle_lib.preprocessing.standardize import CohortStandardizer
from miracle_lib.preprocessing.table import moments, site_positions
from miracle_lib.stored import StoredValues, scratch_array


class Moments:
    """Count, mean and sum of squared deviations per site, of samples that come in parts.

    References
    ----------
    Chan, Golub and LeVeque 1983, doi 10.1080/00031305.1983.10483115.

    Examples
    --------
    >>> found = Moments(1)
    >>> for part in ([[1.0], [2.0]], [[6.0], [np.nan]]):
    ...     found.add(slice(0, 1), np.array(part))
    >>> found.mean.tolist(), found.variance.tolist()
    ([3.0], [7.0])
    """

    def __init__(self, n_sites: int) -> None:
        self.count, self.mean, self.squares = np.zeros((3, n_sites))

    def add(self, sites: slice, values: np.ndarray) -> None:
        """Take in the values of some sites in further samples, NaN where missing."""
        count, mean, variance = moments(values)
        squares = np.nan_to_num(variance * (count - 1))  # none where there is but one value
        before = self.count[sites]
        total = before + count
        share = count / np.maximum(total, 1)
        shift = np.nan_to_num(mean - self.mean[sites])
        self.squares[sites] += squares + shift**2 * before * share
        self.mean[sites] += shift * share
        self.count[sites] = total

    @property
    def variance(self) -> np.ndarray:
        """Variance (n - 1); NaN where there are less than two values."""
        return self.squares / np.where(self.count > 1, self.count - 1, np.nan)


def learn_cohorts(
    X: pd.DataFrame | StoredValues, cohort: np.ndarray, scale: str
) -> CohortStandardizer:
    """Fit a `CohortStandardizer`; to values on disk in one pass over them.

    Parameters
    ----------
    X : DataFrame or StoredValues
        Beta values.
    cohort : ndarray of str, shape (n_samples,)
    scale : {"m", "beta"}
    """
    standardizer = CohortStandardizer(scale)
    if not isinstance(X, StoredValues):
        return standardizer.fit(X, cohort=cohort)
    found = {name: Moments(len(X.columns)) for name in sorted(set(cohort))}
    for places, part in X.parts():
        for sites, values in standardizer.scaled_blocks(part):
            for name in set(cohort[places]):
                found[name].add(sites, values[cohort[places] == name])
    mean = np.stack([np.where(m.count > 0, m.mean, np.nan) for m in found.values()])
    variance = np.stack([m.variance for m in found.values()])
    return standardizer.keep(list(found), X.columns, mean, variance)


def standardized(
    standardizer: CohortStandardizer, X: pd.DataFrame | StoredValues, cohort: np.ndarray
) -> np.ndarray:
    """Return the z-scores of `CohortStandardizer.transform`; of values on disk in a temporary file.

    Parameters
    ----------
    standardizer : CohortStandardizer
        Fitted.
    X : DataFrame or StoredValues
        Beta values; must have every fitted site.
    cohort : ndarray of str, shape (n_samples,)

    Raises
    ------
    MiracleError
        As `scratch_array`, and as `CohortStandardizer.transform`.
    """
    if not isinstance(X, StoredValues):
        return standardizer.transform(X, cohort=cohort).to_numpy()
    sites = standardizer.mean_.columns
    site_positions(X, sites)  # refuses absent ones
    z = scratch_array((len(X), len(sites)), "the standardised values")
    for places, part in X.reindex(sites).parts():
        z[places] = standardizer.transform(part, cohort=cohort[places]).to_numpy()
    return z
