"""One linear model at many sites, each on the samples that it has."""

from typing import NamedTuple

import numpy as np

DEPENDENT = 1e-7  # share of a column's length that must be left beside the columns before it
_LOST = 0.9  # leverage of the missing samples up to which the design surely keeps its rank


class Fit(NamedTuple):
    """Least squares per site, shape (n_sites,) each; NaN where the label cannot be told apart.

    Attributes
    ----------
    effect : ndarray
        Coefficient of the label.
    unscaled : ndarray
        Its standard error per unit of the residual standard deviation.
    variance : ndarray
        Residual variance.
    df : ndarray
        Residual degrees of freedom.
    """

    effect: np.ndarray
    unscaled: np.ndarray
    variance: np.ndarray
    df: np.ndarray


class Design(NamedTuple):
    """The samples used and their linear model, the label in its last column."""

    rows: np.ndarray  # positions in X
    label: np.ndarray
    columns: np.ndarray  # intercept, coded covariates, label
    basis: np.ndarray  # orthonormal, of the same span column by column
    length: float  # of the label beside all other columns


def fit_block(design: Design, m: np.ndarray) -> Fit:
    """Fit every site of a block on the samples that it has."""
    missing = np.isnan(m)
    leverage = (design.basis**2).sum(axis=1)
    lost = leverage @ missing
    fit = Fit(*np.full((4, m.shape[1]), np.nan))
    complete = ~missing.any(axis=0)
    _put(fit, complete, _fit_complete(design.basis, design.length, m[:, complete]))
    few = ~complete & (lost < _LOST)
    if few.any():
        _put(fit, few, _fit_with_gaps(design, m[:, few], missing[:, few]))
    rest = np.flatnonzero(~complete & ~few)
    if len(rest):
        patterns, group = np.unique(missing[:, rest], axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            chosen = rest[group == number]
            _put(fit, chosen, _fit_part(design.columns[~pattern], m[~pattern][:, chosen]))
    return fit


def _put(fit: Fit, where: np.ndarray, part: Fit) -> None:
    """Enter the results of some sites."""
    for whole, values in zip(fit, part, strict=True):
        whole[where] = values


def _fit_complete(basis: np.ndarray, length: float, m: np.ndarray) -> Fit:
    """Fit sites without a gap on an orthonormal basis whose last column is the label's."""
    centred = m - m.mean(axis=0)
    projected = basis.T @ centred
    total = (centred**2).sum(axis=0)
    return _summary(
        projected[-1] / length,
        np.full(m.shape[1], 1 / abs(length)),
        total,
        (projected**2).sum(axis=0),
        np.full(m.shape[1], float(np.subtract(*basis.shape))),
    )


def _fit_with_gaps(design: Design, m: np.ndarray, missing: np.ndarray) -> Fit:
    """Fit sites with a few gaps, each on the samples it has, all at once."""
    basis, width = design.basis, design.basis.shape[1]
    counts = (~missing).sum(axis=0)
    centred = np.where(missing, 0, m - np.nansum(m, axis=0) / counts)
    centred[missing] = 0
    # The basis is orthonormal over all samples: what the missing ones held is taken off.
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), -1)
    gram = np.eye(width) - (products.T @ missing).T.reshape(-1, width, width)
    inverse = np.linalg.inv(gram)
    projected = basis.T @ centred
    coefficients = np.einsum("sij,js->is", inverse, projected)
    return _summary(
        coefficients[-1] / design.length,
        np.sqrt(inverse[:, -1, -1]) / abs(design.length),
        (centred**2).sum(axis=0),
        (projected * coefficients).sum(axis=0),
        (counts - width).astype(float),
    )


def _fit_part(columns: np.ndarray, m: np.ndarray) -> Fit:
    """Fit sites of one pattern of gaps, without the columns that say nothing in what is left."""
    others, label = columns[:, :-1], columns[:, -1]
    undefined = Fit(*np.full((4, m.shape[1]), np.nan))
    if not len(label):
        return undefined
    left, lengths, _ = np.linalg.svd(others, full_matrices=False)
    span = left[:, lengths > DEPENDENT * lengths[0]]
    own = label - span @ (span.T @ label)
    length = float(np.linalg.norm(own))
    if length <= DEPENDENT * np.sqrt(len(label)) or len(label) <= span.shape[1] + 1:
        return undefined
    return _fit_complete(np.column_stack([span, own / length]), length, m)


def _summary(
    effect: np.ndarray,
    unscaled: np.ndarray,
    total: np.ndarray,
    explained: np.ndarray,
    df: np.ndarray,
) -> Fit:
    """Give the residual variance; what is left of rounding counts as none."""
    rest = total - explained
    rest = np.where(rest > 1e-12 * total, rest, 0)
    return Fit(effect, unscaled, rest / df, df)
