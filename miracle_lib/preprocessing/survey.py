"""What there is to see of all values, from one pass over blocks of sites."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from miracle_lib.preprocessing.scale import beta_to_m
from miracle_lib.preprocessing.standardize import CohortStandardizer

BETA_EDGES, SD_EDGES = np.linspace(0, 1, 101), np.linspace(-4, 4, 101)


@dataclass
class Survey:
    """Gaps, distributions and main directions of the values of several cohorts.

    Standardised values are those of `CohortStandardizer`.

    Attributes
    ----------
    cohort : Series of shape (n_samples,)
        Cohort of each sample.
    absent : ndarray of shape (n_cohorts, n_sites)
        Share of the samples of a cohort that lack a site; cohorts as they first occur.
    missing : ndarray of shape (n_samples,)
        Share that a sample lacks of the sites which its cohort has.
    beta, standardized : ndarray of shape (n_cohorts, 100)
        How many values lie between two of `BETA_EDGES` and of `SD_EDGES`.
    before, after : ndarray of shape (n_samples, 2)
        First two principal components of the M-values and of the standardised values; a missing
        value counts as its site's mean.
    shares : ndarray of shape (2, 2)
        Of the variance in each component, before and after.
    """

    cohort: pd.Series
    absent: np.ndarray
    missing: np.ndarray
    beta: np.ndarray
    standardized: np.ndarray
    before: np.ndarray
    after: np.ndarray
    shares: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write all but the cohorts as arrays (``.npz``)."""
        np.savez(path, **{name: part for name, part in vars(self).items() if name != "cohort"})

    @classmethod
    def load(cls, path: str | Path, cohort: pd.Series) -> Self:
        """Read what `save` wrote of these samples."""
        with np.load(path) as parts:
            return cls(cohort, **parts)


def survey_values(blocks: Iterable[tuple[slice, np.ndarray]], cohort: pd.Series) -> Survey:
    """Look at all values once.

    Parameters
    ----------
    blocks : iterable of (slice, ndarray)
        Which sites, and the beta values of all samples at them, NaN for missing; see `site_blocks`.
    cohort : Series of shape (n_samples,)
        Cohort of each sample.

    Returns
    -------
    Survey

    Examples
    --------
    >>> values = np.array([[0.1, 0.2], [0.3, np.nan], [0.5, 0.6], [0.7, 0.8]])
    >>> seen = survey_values([(slice(0, 2), values)], pd.Series(["A", "A", "B", "B"]))
    >>> seen.absent.tolist(), seen.missing.tolist()
    ([[0.0, 0.5], [0.0, 0.0]], [0.0, 0.5, 0.0, 0.0])
    """
    sums = _Sums(cohort)
    for _, beta in blocks:
        sums.add(pd.DataFrame(beta, cohort.index, copy=False))
    before, share_before = _components(sums.products_before)
    after, share_after = _components(sums.products_after)
    return Survey(
        cohort,
        np.concatenate(sums.absent, axis=1),
        sums.gaps / np.maximum(sums.measured, 1),
        sums.beta,
        sums.standardized,
        before,
        after,
        np.array([share_before, share_after]),
    )


@dataclass
class _Sums:
    """What is added up over blocks of sites."""

    cohort: pd.Series
    absent: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.cohort)
        self.codes, names = pd.factorize(self.cohort)
        self.rows = [self.codes == code for code in range(len(names))]
        self.gaps, self.measured = np.zeros(n), np.zeros(n)
        self.beta, self.standardized = np.zeros((2, len(names), len(BETA_EDGES) - 1))
        self.products_before, self.products_after = np.zeros((2, n, n))

    def add(self, beta: pd.DataFrame) -> None:
        """Add the values of some sites."""
        missing = beta.isna().to_numpy()
        absent = np.array([missing[rows].mean(axis=0) for rows in self.rows])
        has = (absent < 1)[self.codes]
        self.absent.append(absent)
        self.gaps += (missing & has).sum(axis=1)
        self.measured += has.sum(axis=1)
        z = CohortStandardizer().fit_transform(beta, cohort=self.cohort).to_numpy()
        values = beta.to_numpy()
        for code, rows in enumerate(self.rows):
            known = ~missing[rows]
            self.beta[code] += _histogram(values[rows][known], BETA_EDGES)
            self.standardized[code] += _histogram(z[rows][known], SD_EDGES)
        self.products_before += _products(beta_to_m(beta).to_numpy())
        self.products_after += _products(z)


def _histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count values between evenly spaced edges."""
    return np.histogram(values, len(edges) - 1, (edges[0], edges[-1]))[0]


def _products(values: np.ndarray) -> np.ndarray:
    """Products of samples about each site's mean; a missing value counts as the mean."""
    known = ~np.isnan(values)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, values - mean, 0).astype(np.float32)
    return centred @ centred.T


def _components(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First two principal components of the samples, and their shares of the variance."""
    variances, vectors = np.linalg.eigh(products)
    first = [-1, -2]
    scores = vectors[:, first] * np.sqrt(np.maximum(variances[first], 0))
    return scores, variances[first] / variances.sum()
