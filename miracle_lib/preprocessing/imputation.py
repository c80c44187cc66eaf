"""Filling missing beta values with what training samples say."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.impute import KNNImputer
from sklearn.utils.validation import check_is_fitted

from miracle_lib.constraints import AT_LEAST_ONE, StrOptions
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.table import (
    SiteTransformer,
    blocks,
    cohort_of,
    fitted_rows,
    site_positions,
)


class SiteImputer(SiteTransformer):
    """Fill missing beta values, learning from the samples it is fitted on.

    Beta values rather than M-values are filled, which is more accurate. `CohortStandardizer` needs
    no filling: to it a missing value is the cohort's mean. Sites without any training value are
    left out.

    Parameters
    ----------
    method : {"mean", "median", "knn"}, default "mean"
        Mean or median of the site (of the sample's cohort, where cohorts are given), or the mean
        over the nearest training samples. "knn" compares every pair of samples over all sites:
        use it after a choice of sites.
    n_neighbors : int, default 5
        Samples that "knn" averages.

    Attributes
    ----------
    sites_ : Index
        Sites with at least one training value.
    fill_ : Series
        Per site: the value over all samples, where no cohort is given. Not for "knn".
    cohort_fill_ : DataFrame
        Cohorts x sites: the values filled in within a cohort. Not for "knn".

    References
    ----------
    Di Lena et al. 2020, doi:10.1186/s12859-020-03592-5 (beta values against M-values).

    Examples
    --------
    >>> train = pd.DataFrame({"cg1": [0.1, 0.3, np.nan], "cg2": [0.5, 0.5, 0.8]})
    >>> SiteImputer().fit(train).transform(train)["cg1"]
    0    0.1
    1    0.3
    2    0.2
    Name: cg1, dtype: float32
    """

    _parameter_constraints: ClassVar = {
        "method": [StrOptions({"mean", "median", "knn"})],
        "n_neighbors": [AT_LEAST_ONE],
    }

    def __init__(self, method: str = "mean", n_neighbors: int = 5) -> None:
        self.method = method
        self.n_neighbors = n_neighbors

    def fit(self, X: Any, y: Any = None, cohort: Any = None) -> Self:
        """Learn what to fill in.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            Beta values, NaN for missing.
        y : ignored
        cohort : Series or array of shape (n_samples,), optional
            Cohort of each sample: the mean or median is then the cohort's, or that over all
            samples for a site the cohort lacks. Not used by "knn".

        Returns
        -------
        SiteImputer

        Raises
        ------
        MiracleError
            If a parameter is unknown, a value lies outside [0, 1], or nothing is present.
        """
        X = self._learn(X)
        names = np.array([]) if cohort is None else cohort_of(X, cohort)
        cohorts = sorted(set(names))
        groups = [np.arange(len(X)), *(np.flatnonzero(names == name) for name in cohorts)]
        fill = np.empty((len(groups), X.shape[1]), np.float32)
        for part, beta in blocks(X, np.arange(X.shape[1])):
            for row, members in enumerate(groups):
                fill[row, part] = self._centre(beta[members])
        fill = np.where(np.isnan(fill), fill[0], fill)
        present = ~np.isnan(fill[0])
        if not present.any():
            raise MiracleError("Nothing can be filled in: every value of X is missing.")
        self.sites_ = X.columns[present]
        if self.method == "knn":
            self.neighbours_ = KNNImputer(n_neighbors=self.n_neighbors).fit(X[self.sites_])
            return self
        self.fill_ = pd.Series(fill[0, present], self.sites_)
        self.cohort_fill_ = pd.DataFrame(fill[1:, present], cohorts, self.sites_)
        return self

    def transform(self, X: Any, cohort: Any = None) -> pd.DataFrame:
        """Return beta values without missing ones, float32, restricted to ``sites_``.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            Beta values; must have every site of ``sites_``.
        cohort : Series or array of shape (n_samples,), or str, optional
            Cohort of each sample; without it, values over all cohorts are filled in.

        Returns
        -------
        DataFrame of shape (n_samples, n_kept_sites)

        Raises
        ------
        MiracleError
            If a cohort was not fitted, a site is absent, or a value lies outside [0, 1].
        """
        check_is_fitted(self, "sites_")
        X = self._known(X)
        positions = site_positions(X, self.sites_)
        if self.method == "knn":
            for _ in blocks(X, positions):  # which refuse what is no beta value
                pass
            filled = self.neighbours_.transform(X.iloc[:, positions]).astype(np.float32)
            return pd.DataFrame(filled, X.index, self.sites_)
        fill, rows = self.fill_.to_numpy()[None], np.array([0])
        if cohort is not None:
            fill = self.cohort_fill_.to_numpy()
            rows = fitted_rows(cohort_of(X, cohort), self.cohort_fill_.index)
        filled = np.empty((len(X), len(self.sites_)), np.float32)
        for part, beta in blocks(X, positions):
            filled[:, part] = np.where(np.isnan(beta), fill[rows, part], beta)
        return pd.DataFrame(filled, X.index, self.sites_, copy=False)

    def fit_transform(self, X: Any, y: Any = None, cohort: Any = None) -> pd.DataFrame:
        """Fit, then transform the same samples; see ``fit`` and ``transform``."""
        return self.fit(X, y, cohort).transform(X, cohort)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the sites kept."""
        check_is_fitted(self, "sites_")
        return self.sites_.to_numpy(dtype=object)

    def _centre(self, beta: np.ndarray) -> np.ndarray:
        """Return mean or median per site; NaN where no value is present."""
        centre = np.full(beta.shape[1], np.nan, np.float32)
        present = ~np.isnan(beta).all(axis=0)
        middle = np.nanmedian if self.method == "median" else np.nanmean
        centre[present] = middle(beta[:, present].astype(np.float64), axis=0)
        return centre
