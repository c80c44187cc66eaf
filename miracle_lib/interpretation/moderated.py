"""Moderated t-tests: variances that borrow from all sites, as limma has them."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from miracle_lib.errors import MiracleError
from miracle_lib.interpretation.least_squares import Fit


def fit_prior(variance: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """Estimate the prior of the sites' variances from the moments of their logarithms.

    A variance divided by the prior one follows an F distribution with ``df`` and the prior's
    degrees of freedom.

    Parameters
    ----------
    variance : ndarray of shape (n_sites,)
        Residual variances; NaN is left out.
    df : ndarray of shape (n_sites,)
        Their degrees of freedom.

    Returns
    -------
    prior_df, prior_variance : float
        ``inf`` and the mean variance if the variances differ no more than by chance; 0 and the
        variance itself for one site.

    References
    ----------
    Smyth 2004, section 6.2, doi:10.2202/1544-6115.1027.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> df, variance = fit_prior(0.04 * rng.f(20, 8, 50_000), np.full(50_000, 20.0))
    >>> round(df, 1), round(variance, 3)
    (8.0, 0.04)
    """
    usable = np.isfinite(variance) & (df > 0)
    variance, df = variance[usable], df[usable]
    if not len(variance):
        raise MiracleError("No site has cases and controls beside its missing values.")
    if len(variance) == 1:
        return 0.0, float(variance[0])
    middle = np.median(variance)
    variance = np.maximum(variance, 1e-5 * (middle if middle > 0 else 1))
    logs = np.log(variance) - special.digamma(df / 2) + np.log(df / 2)
    spread = logs.var(ddof=1) - special.polygamma(1, df / 2).mean()
    if spread <= 0:
        return float("inf"), float(variance.mean())
    prior = 2 * _trigamma_inverse(spread)
    return prior, float(np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2)))


def _trigamma_inverse(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method on 1 / trigamma, which is convex."""
    if value > 1e7:
        return value**-0.5
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = special.polygamma(1, x)
        step = trigamma * (1 - trigamma / value) / special.polygamma(2, x)
        x += step
        if -step / x < 1e-10:
            break
    return float(x)


def moderated_tests(fit: Fit, prior_df: float, prior_variance: float) -> pd.DataFrame:
    """Turn fits into moderated t-tests."""
    if np.isinf(prior_df):
        variance = np.where(np.isnan(fit.variance), np.nan, prior_variance)
    else:
        variance = (fit.df * fit.variance + prior_df * prior_variance) / (fit.df + prior_df)
    se = fit.unscaled * np.sqrt(variance)
    # One site cannot know its variance better than all sites together do.
    df = np.minimum(fit.df + prior_df, np.nansum(fit.df))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = fit.effect / se
    p = two_sided(t, df)
    return pd.DataFrame(
        {"effect": fit.effect, "se": se, "t": t, "df": df, "p_value": p, "q_value": q_values(p)}
    )


def two_sided(t: Any, df: Any) -> np.ndarray:
    """Return two-sided p-values of t, exact in the far tail.

    Parameters
    ----------
    t, df : array or Series
        Statistic and degrees of freedom.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> two_sided([0.0, 1.0], [1.0, 1.0]).round(3).tolist()
    [1.0, 0.5]
    """
    t, df = np.asarray(t, float), np.asarray(df, float)
    finite = np.where(np.isinf(df), 1, df)
    p = special.betainc(finite / 2, 0.5, finite / (finite + t**2))
    return np.where(np.isinf(df), 2 * special.ndtr(-np.abs(t)), p)


def q_values(p: np.ndarray) -> np.ndarray:
    """Return Benjamini-Hochberg q-values; NaN stays NaN and does not count.

    Examples
    --------
    >>> q_values(np.array([0.01, np.nan, 0.5])).tolist()
    [0.02, nan, 0.5]
    """
    known = np.flatnonzero(~np.isnan(p))
    ranked = known[np.argsort(p[known], kind="stable")]
    scaled = p[ranked] * len(ranked) / np.arange(1, len(ranked) + 1)
    q = np.full(len(p), np.nan)
    q[ranked] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return q
