"""Taking the part of every site that covariates explain off, learned on training samples."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from miracle_lib.constraints import Interval
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.coding import CovariateCoder
from miracle_lib.preprocessing.table import (
    SiteTransformer,
    cohort_of,
    fitted_rows,
    site_positions,
)
from miracle_lib.samples import covariate_table


class CovariateResidualizer(SiteTransformer):
    """Subtract from every site what a linear model of the covariates predicts.

    Put it after `CohortStandardizer`: it takes z-scores, without missing values. Covariates are
    centred within the cohort as the sites are. If cases are older than controls, part of the
    disease effect goes with age: report results with and without.

    Parameters
    ----------
    ridge : float, default 1.0
        Penalty on the coefficients, in samples: keeps small cohorts and collinear cell fractions
        stable.

    Attributes
    ----------
    coef_ : DataFrame
        Covariates (text ones as one column per level but the first) x sites.
    centre_ : DataFrame
        Cohorts x covariates: the training means.

    Examples
    --------
    >>> age = pd.DataFrame({"age": [20.0, 40, 60, 80]})
    >>> X = pd.DataFrame({"cg1": [-1.5, -0.5, 0.5, 1.5]})
    >>> rest = CovariateResidualizer(ridge=0).fit(X, covariates=age).transform(X, age)
    >>> rest["cg1"].abs().max().item() < 1e-6
    True
    """

    _parameter_constraints: ClassVar = {"ridge": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, ridge: float = 1.0) -> None:
        self.ridge = ridge

    def fit(
        self, X: Any, y: Any = None, covariates: pd.DataFrame | None = None, cohort: Any = None
    ) -> Self:
        """Learn the coefficients.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            Standardised values, none missing.
        y : ignored
        covariates : DataFrame of shape (n_samples, n_covariates)
            Numbers or text. A missing number counts as the cohort's mean, a missing text as none
            of the levels. Columns without any value are left out.
        cohort : Series or array of shape (n_samples,), optional
            Cohort of each sample. Default: one cohort.

        Returns
        -------
        CovariateResidualizer

        Raises
        ------
        MiracleError
            If covariates are not given, do not fit ``X``, or ``X`` has missing values.
        """
        X = self._learn(X)
        covariates = _aligned(X, covariates)
        values = _complete(X, X.to_numpy(np.float64))
        names = cohort_of(X, "all" if cohort is None else cohort)
        self.coder_ = CovariateCoder.learn(covariates)
        self.covariates_ = list(covariates.columns[covariates.notna().any()])
        design = self._numbers(covariates)
        self.centre_ = design.groupby(names).mean().fillna(design.mean())
        centred = self._centred(design, names)
        gram = centred.T @ centred + self.ridge * np.eye(centred.shape[1])
        coefficients = np.linalg.lstsq(gram, centred.T @ values, rcond=None)[0]
        self.coef_ = pd.DataFrame(coefficients, design.columns, X.columns)
        return self

    def transform(
        self, X: Any, covariates: pd.DataFrame | None = None, cohort: Any = None
    ) -> pd.DataFrame:
        """Return the residuals, float32.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            Standardised values, none missing.
        covariates : DataFrame of shape (n_samples, n_covariates)
            The fitted columns; a level of text that was not fitted counts as missing.
        cohort : Series or array of shape (n_samples,), or str, optional
            Cohort of each sample, or one for all. May be left out if one cohort was fitted.

        Returns
        -------
        DataFrame of shape (n_samples, n_sites)

        Raises
        ------
        MiracleError
            If a cohort was not fitted, or a covariate, site or value is missing.
        """
        check_is_fitted(self)
        X = self._known(X)
        covariates = _aligned(X, covariates)
        absent = [name for name in self.covariates_ if name not in covariates]
        if absent:
            raise MiracleError(f"The covariates lack the column {absent[0]!r}.")
        if cohort is None and len(self.centre_) > 1:
            raise MiracleError("cohort is not given but several cohorts were fitted.")
        names = cohort_of(X, self.centre_.index[0] if cohort is None else cohort)
        fitted_rows(names, self.centre_.index)  # refuses others
        sites = self.coef_.columns
        values = X.iloc[:, site_positions(X, sites)].to_numpy(np.float32)
        explained = self._centred(self._numbers(covariates), names) @ self.coef_.to_numpy()
        residual = _complete(X, values) - explained.astype(np.float32)
        return pd.DataFrame(residual, X.index, sites)

    def fit_transform(
        self, X: Any, y: Any = None, covariates: pd.DataFrame | None = None, cohort: Any = None
    ) -> pd.DataFrame:
        """Fit, then transform the same samples; see ``fit`` and ``transform``."""
        return self.fit(X, y, covariates, cohort).transform(X, covariates, cohort)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = False
        return tags

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the fitted sites."""
        check_is_fitted(self, "coef_")
        return self.coef_.columns.to_numpy(dtype=object)

    def _numbers(self, covariates: pd.DataFrame) -> pd.DataFrame:
        """Return the coded columns that had a value at fit, NaN where missing."""
        return self.coder_.numbers(covariates).reindex(columns=list(self.coder_.mean))

    def _centred(self, design: pd.DataFrame, names: np.ndarray) -> np.ndarray:
        """Centre within cohorts and scale; missing becomes 0."""
        centred = (design - self.centre_.loc[names].to_numpy()) / pd.Series(self.coder_.sd)
        return np.nan_to_num(centred.to_numpy(np.float64))


def _aligned(X: pd.DataFrame, covariates: pd.DataFrame | None) -> pd.DataFrame:
    """Return the covariates of the samples of ``X``, in its order."""
    if covariates is None or not len(covariates.columns):
        raise MiracleError("No covariates are given.")
    return covariate_table(covariates, X.index)


def _complete(X: pd.DataFrame, values: np.ndarray) -> np.ndarray:
    """Refuse values that are missing or infinite."""
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise MiracleError(
            f"Sample {X.index[row]!r} has {values[row, column]} at site {X.columns[column]!r}, "
            "neither NaN nor inf is expected; standardise or impute first."
        )
    return values
