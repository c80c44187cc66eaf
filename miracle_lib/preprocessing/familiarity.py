"""How far a sample lies from a cohort, beside samples that the cohort's statistics never saw."""

from __future__ import annotations

import numpy as np

CLIP = 10.0  # SDs at which a single site stops to count for more


def profile_distance(z: np.ndarray) -> np.ndarray:
    """Return the distance of each sample from a cohort's mean profile.

    Parameters
    ----------
    z : ndarray, shape (n_samples, n_values)
        Values standardised by the cohort's means and SDs; 0 where missing.

    Returns
    -------
    ndarray, shape (n_samples,)
        Root mean square over the measured values, in SDs: about 1 within the cohort; NaN where
        nothing is measured.

    Examples
    --------
    >>> profile_distance(np.array([[1.0, -1.0], [3.0, 0.0]])).tolist()
    [1.0, 3.0]
    """
    total, measured = np.zeros(len(z)), np.zeros(len(z))
    for row, values in enumerate(z):  # one sample at a time: no copy of a whole array
        total[row] = np.square(np.clip(values, -CLIP, CLIP), dtype=np.float64).sum()
        measured[row] = np.count_nonzero(values)
    with np.errstate(invalid="ignore"):
        return np.sqrt(total / measured)


def count_values(z: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return how many of some samples were measured at each site, float64."""
    n = np.zeros(z.shape[1])
    for row in rows:  # one sample at a time: no copy of a whole array
        n += z[row] != 0
    return n


def leave_one_out(z: np.ndarray, n: np.ndarray | None = None) -> np.ndarray:
    """Return each training sample standardised by the means and SDs of all the others.

    Every sample has moved the means and SDs that standardised it; that is undone exactly, site by
    site, without fitting anything again.

    Parameters
    ----------
    z : ndarray, shape (n_samples, n_sites)
        Training values of one cohort, standardised by their own means and SDs (n - 1); 0 where
        missing.
    n : ndarray, shape (n_sites,), optional
        Values of the cohort at each site, where ``z`` has some of its samples only. Default: those
        of ``z``.

    Returns
    -------
    ndarray, shape (n_rows, n_sites)
        In the order of the samples; without rows where there are fewer than three samples.

    Notes
    -----
    With n values at a site, leaving one with z-score z out gives the squared z-score
    ``z^2 (n / (n - 1))^2 / (((n - 1) - n / (n - 1) z^2) / (n - 2))``, from the updates of mean and
    sum of squares (Welford 1962, doi 10.1080/00401706.1962.10490022).

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 4.0, 6.0])
    >>> others = values[:3]
    >>> z = ((values - values.mean()) / values.std(ddof=1))[:, None]
    >>> expected = (values[3] - others.mean()) / others.std(ddof=1)
    >>> bool(np.isclose(leave_one_out(z)[3, 0], expected))
    True
    """
    if n is None:
        n = count_values(z, np.arange(len(z)))
    if n.max(initial=0) < 3:
        return z[:0]
    usable = n > 2
    n = np.where(usable, n, 3.0)
    left_out = z.copy()
    for values in left_out:
        square = np.square(values, dtype=np.float64)
        rest = np.maximum((n - 1) - n / (n - 1) * square, 1e-12) / (n - 2)
        values[:] = np.where(usable, values * (n / (n - 1)) / np.sqrt(rest), 0.0)
    return left_out
