"""Centring and scaling of every site within its cohort."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from miracle_lib.constraints import CLIP, StrOptions
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.scale import beta_to_m
from miracle_lib.preprocessing.table import (
    SiteTransformer,
    blocks,
    cohort_of,
    fitted_rows,
    moments,
    site_positions,
)

# Smallest SD a site is divided by, so that sites constant in training do not explode later.
MIN_SD = {"m": 0.05, "beta": 0.001}

_ONE = "all"  # name of the only cohort when none is given


class CohortStandardizer(SiteTransformer):
    """Standardise every site by its mean and standard deviation within the cohort.

    Series differ strongly in level, so a site is compared only with samples of its own cohort.
    A missing value becomes 0, the cohort's mean, and so says nothing about the cohort.

    Parameters
    ----------
    scale : {"m", "beta"}, default "m"
        Standardise M-values or beta values.
    clip : float, default 0.001
        Limit of beta values to [clip, 1 - clip] before they become M-values.

    Attributes
    ----------
    cohorts_ : list of str
        Cohorts seen, sorted.
    mean_, sd_ : DataFrame
        Cohorts x sites, float32; NaN where a cohort has no value of a site.

    Examples
    --------
    >>> X = pd.DataFrame({"cg1": [0.1, 0.2, 0.7, 0.8], "cg2": [0.5, np.nan, 0.4, 0.6]})
    >>> cohort = ["A", "A", "B", "B"]
    >>> CohortStandardizer().fit(X, cohort=cohort).transform(X, cohort=cohort).round(2)
        cg1   cg2
    0 -0.71  0.00
    1  0.71  0.00
    2 -0.71 -0.71
    3  0.71  0.71
    """

    _parameter_constraints: ClassVar = {
        "scale": [StrOptions(set(MIN_SD))],
        "clip": [CLIP],
    }

    def __init__(self, scale: str = "m", clip: float = 0.001) -> None:
        self.scale = scale
        self.clip = clip

    def fit(self, X: Any, y: Any = None, cohort: Any = None) -> Self:
        """Learn each cohort's mean and standard deviation of every site.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            Beta values, NaN for missing.
        y : ignored
        cohort : Series or array of shape (n_samples,), optional
            Cohort of each sample. Default: one cohort.

        Returns
        -------
        CohortStandardizer

        Raises
        ------
        MiracleError
            If a value lies outside [0, 1], a cohort is missing, or a parameter is unknown.
        """
        X = self._learn(X)
        names = cohort_of(X, _ONE if cohort is None else cohort)
        cohorts = sorted(set(names))
        mean = np.empty((len(cohorts), X.shape[1]), np.float32)
        variance = np.empty_like(mean)
        rows = [np.flatnonzero(names == name) for name in cohorts]
        for part, scaled in self.scaled_blocks(X):
            for index, members in enumerate(rows):
                _, mean[index, part], variance[index, part] = moments(scaled[members])
        return self.keep(cohorts, X.columns, mean, variance)

    def scaled_blocks(self, X: pd.DataFrame) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the values of some sites at a time, on the scale chosen."""
        for part, beta in blocks(X, np.arange(X.shape[1])):
            yield part, self._scaled(beta)

    def keep(
        self, cohorts: list[str], sites: pd.Index, mean: np.ndarray, variance: np.ndarray
    ) -> Self:
        """Take means and variances, cohorts x sites, as what was learnt."""
        sd = np.sqrt(variance).astype(np.float32)
        # A single value has no SD: the floor applies, and the value itself becomes 0.
        sd = np.where(np.isnan(sd) & ~np.isnan(mean), 0, sd)
        sd = np.maximum(sd, np.float32(MIN_SD[self.scale]))
        self.cohorts_ = cohorts
        self.mean_ = pd.DataFrame(mean.astype(np.float32), cohorts, sites)
        self.sd_ = pd.DataFrame(sd, cohorts, sites)
        return self

    @classmethod
    def from_statistics(cls, mean: pd.DataFrame, sd: pd.DataFrame, scale: str = "m") -> Self:
        """Return a fitted standardiser of given statistics.

        Parameters
        ----------
        mean, sd : DataFrame of shape (n_cohorts, n_sites)
            As ``mean_`` and ``sd_``.
        scale : {"m", "beta"}, default "m"
        """
        fitted = cls(scale)
        fitted.mean_, fitted.sd_, fitted.cohorts_ = mean, sd, list(mean.index)
        fitted._sites_in, fitted.n_features_in_ = mean.columns, mean.shape[1]
        fitted.feature_names_in_ = mean.columns.to_numpy(dtype=object)
        return fitted

    def transform(self, X: Any, cohort: Any = None) -> pd.DataFrame:
        """Return z-scores, 0 where missing or where the cohort had no value to learn from.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            Beta values; must have every fitted site, others are ignored.
        cohort : Series or array of shape (n_samples,), or str, optional
            Cohort of each sample, or one fitted cohort for all of them. May be left out if only
            one cohort was fitted.

        Returns
        -------
        DataFrame of shape (n_samples, n_fitted_sites)
            float32.

        Raises
        ------
        MiracleError
            If a cohort was not fitted, a site is absent, or a value lies outside [0, 1].
        """
        check_is_fitted(self)
        X = self._known(X)
        if cohort is None and len(self.cohorts_) > 1:
            raise MiracleError(
                f"cohort is not given but {len(self.cohorts_)} cohorts were fitted; name one of "
                f"{', '.join(self.cohorts_)}, or one per sample."
            )
        names = cohort_of(X, self.cohorts_[0] if cohort is None else cohort)
        rows = fitted_rows(names, self.cohorts_)
        sites = self.mean_.columns
        mean, sd = self.mean_.to_numpy(), self.sd_.to_numpy()
        z = np.empty((len(X), len(sites)), np.float32)
        for part, beta in blocks(X, site_positions(X, sites)):
            block = self._scaled(beta)
            block -= mean[rows, part]
            block /= sd[rows, part]
            z[:, part] = np.nan_to_num(block, copy=False, nan=0.0)
        return pd.DataFrame(z, X.index, sites, copy=False)

    def fit_transform(self, X: Any, y: Any = None, cohort: Any = None) -> pd.DataFrame:
        """Fit, then transform the same samples; see ``fit`` and ``transform``."""
        return self.fit(X, y, cohort).transform(X, cohort)

    def nearest(self, X: Any, cohorts: Sequence[str] | None = None) -> np.ndarray:
        """Return the cohort whose mean profile is nearest to each sample.

        The distance is a mean over the sites that the sample and the cohort have; a cohort with
        less than half as many of them as another has is not considered.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            As for `transform`.
        cohorts : sequence of str, optional
            Those considered. Default: all.

        Returns
        -------
        ndarray of str, shape (n_samples,)

        Examples
        --------
        >>> X = pd.DataFrame({"cg1": [0.1, 0.2, 0.7, 0.8]})
        >>> CohortStandardizer().fit(X, cohort=["A", "A", "B", "B"]).nearest(X).tolist()
        ['A', 'A', 'B', 'B']
        """
        check_is_fitted(self)
        X, cohorts = self._known(X), list(self.cohorts_ if cohorts is None else cohorts)
        if len(cohorts) == 1:
            return np.full(len(X), cohorts[0], dtype=object)
        common = self.sd_.mean()
        measured = X[self.mean_.columns].notna().to_numpy()
        distance = np.empty((len(X), len(cohorts)))
        shared = np.empty_like(distance)
        for column, name in enumerate(cohorts):
            # In units of one SD per site, so that a cohort that spreads widely is not favoured.
            z = self.transform(X, cohort=name)
            z *= (self.sd_.loc[name] / common).fillna(0)
            learnt = self.mean_.loc[name].notna().to_numpy()
            shared[:, column] = measured[:, learnt].sum(axis=1)
            distance[:, column] = np.square(z).sum(axis=1) / np.maximum(shared[:, column], 1)
        distance[shared < shared.max(axis=1, keepdims=True) / 2] = np.inf
        return np.array(cohorts, dtype=object)[np.argmin(distance, axis=1)]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the fitted sites."""
        check_is_fitted(self, "mean_")
        return self.mean_.columns.to_numpy(dtype=object)

    def _scaled(self, beta: np.ndarray) -> np.ndarray:
        """Put beta values on the scale chosen."""
        return beta_to_m(beta, self.clip) if self.scale == "m" else beta
