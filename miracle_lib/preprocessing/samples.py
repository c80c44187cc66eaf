"""Checks of samples: sex, outliers and duplicates, from beta values alone."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.scale import beta_to_m
from miracle_lib.preprocessing.table import blocks, moments
from miracle_lib.stored import StoredValues

MIN_SEX_SITES = 10  # with fewer X and Y sites the two groups are not reliable
_SEPARATION = 4.0  # distance of the two groups' means in within-group SDs


def autosomal(adata: AnnData) -> np.ndarray:
    """Return which sites are not known to lie on X or Y; all if chromosomes are not known."""
    return ~_sex_sites(adata)


def predict_sex(adata: AnnData) -> pd.Series:
    """Predict sex from the sites on X and Y.

    Samples are split in two along the first principal component of these sites. The group whose
    values are closer to one half is female: one of two X chromosomes is silenced by methylation,
    and readings of an absent Y are background. As only sites that are unmethylated in men gain by
    that, a group that differs as much at others is no sex but failed arrays.

    Parameters
    ----------
    adata : AnnData
        Samples x sites of beta values; ``var["chromosome"]`` holds "X" and "Y".

    Returns
    -------
    Series, categorical
        "F", "M", or NaN for all samples if there are fewer than 10 such sites, fewer than four
        samples, or no two clearly separate groups (as in a cohort of one sex).

    Examples
    --------
    >>> from miracle_lib.cohorts.simulation import simulate_cohorts
    >>> cohort = simulate_cohorts({"RA": 40}).cohorts["RA"]
    >>> (predict_sex(cohort) == cohort.obs["sex"]).mean().item()
    1.0
    """
    kind = pd.CategoricalDtype(["F", "M"])  # text with gaps cannot be written to .h5ad
    unknown = pd.Series(np.nan, adata.obs_names, dtype=kind, name="sex_predicted")
    columns = np.flatnonzero(_sex_sites(adata))
    if len(columns) < MIN_SEX_SITES or adata.n_obs < 4:
        return unknown
    beta = adata.X[:, columns]
    scores, loadings = _components(beta, 1)
    groups = _split(scores[:, 0])
    if groups is None:
        return unknown
    weight = np.abs(loadings[:, 0])
    extreme = [np.nansum(weight * np.abs(moments(beta[g])[1] - 0.5)) for g in groups]
    female, male = groups if extreme[0] < extreme[1] else groups[::-1]
    on_x = _lies_on(adata, "X")[columns]
    if on_x.any() and not _one_x_is_silenced(beta[female][:, on_x], beta[male][:, on_x]):
        return unknown
    unknown.iloc[female], unknown.iloc[male] = "F", "M"
    return unknown


def outlier_scores(
    adata: AnnData,
    n_components: int = 5,
    n_sites: int = 5000,
    exclude: Collection[str] = (),
) -> pd.Series:
    """Measure how far each sample lies from the others of its cohort.

    Parameters
    ----------
    adata : AnnData
        Samples x sites of beta values of one cohort; X and Y are left out.
    n_components : int, default 5
        Principal components looked at.
    n_sites : int, default 5000
        Most variable sites used.
    exclude : collection of str, default ()
        Samples left out, such as copies of others: they score NaN.

    Returns
    -------
    Series of float
        Largest distance from the median over the components, in robust standard deviations
        (1.4826 times the median absolute deviation).

    References
    ----------
    In the manner of ``outlyx`` of wateRmelon (Pidsley et al. 2013, BMC Genomics 14:293).

    Examples
    --------
    >>> from miracle_lib.cohorts.simulation import simulate_cohorts
    >>> cohort = simulate_cohorts({"RA": 40}).cohorts["RA"]
    >>> cohort.X[0] = 1 - cohort.X[0]
    >>> outlier_scores(cohort).idxmax()
    'RA-001'
    """
    kept = ~adata.obs_names.isin(exclude)
    values = _variable(adata, n_sites)[kept]
    scores, _ = _components(values, min(n_components, len(values) - 1, values.shape[1]))
    distance = np.abs(scores - np.median(scores, axis=0))
    spread = 1.4826 * np.median(distance, axis=0)
    worst = (distance / np.maximum(spread, 1e-9)).max(axis=1, initial=0)
    return pd.Series(worst, adata.obs_names[kept], name="outlier_score").reindex(adata.obs_names)


def duplicate_pairs(adata: AnnData, threshold: float = 0.99, n_sites: int = 1000) -> pd.DataFrame:
    """Find samples that are copies of each other.

    Parameters
    ----------
    adata : AnnData
        Samples x sites of beta values of one cohort; X and Y are left out.
    threshold : float, default 0.99
        Smallest correlation of a pair, over the most variable sites after each site's mean is
        taken off. Repeated samples of one person lie below it.
    n_sites : int, default 1000
        Most variable sites used.

    Returns
    -------
    DataFrame
        Columns sample, copy, correlation; ``copy`` comes later in ``adata``.

    Examples
    --------
    >>> from miracle_lib.cohorts.simulation import simulate_cohorts
    >>> cohort = simulate_cohorts({"RA": 40}).cohorts["RA"]
    >>> cohort.X[7] = cohort.X[3]
    >>> duplicate_pairs(cohort)[["sample", "copy"]].values.tolist()
    [['RA-004', 'RA-008']]
    """
    return _pairs(_variable(adata, n_sites), adata.obs_names, threshold)


def copies(
    X: pd.DataFrame | StoredValues,
    cohort: np.ndarray,
    threshold: float = 0.99,
    n_sites: int = 1000,
) -> pd.DataFrame:
    """Find samples that are copies of each other in a table of several cohorts.

    Parameters
    ----------
    X : DataFrame or StoredValues, shape (n_samples, n_sites)
        Beta values. Of more than 40,000 sites some 20,000 to 40,000, evenly spaced, are looked at.
    cohort : array of shape (n_samples,)
        Cohort of each sample; a cohort of fewer than 10 is left out, as are tables of fewer than
        100 sites: there, chance correlates samples.
    threshold, n_sites
        As in `duplicate_pairs`.

    Returns
    -------
    DataFrame
        As of `duplicate_pairs`.
    """
    step = max(1, X.shape[1] // 20_000)
    if isinstance(X, StoredValues):
        X = X.reindex(columns=X.columns[::step]).load()
    else:
        X = X.iloc[:, ::step]
    tables = [pd.DataFrame(columns=["sample", "copy", "correlation"])]
    for name in pd.unique(cohort) if X.shape[1] >= 100 else ():
        part = X[cohort == name]
        if len(part) >= 10:
            columns = _most_variable(part, np.arange(X.shape[1]), n_sites)
            tables.append(_pairs(part.to_numpy()[:, columns], part.index, threshold))
    return pd.concat([t for t in tables if len(t)] or tables, ignore_index=True)


def _pairs(values: np.ndarray, names: pd.Index, threshold: float) -> pd.DataFrame:
    """Pairs of rows that correlate after each column's mean is taken off."""
    centred = _centred(values)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.maximum(norm, 1e-12)
    correlation = np.triu(unit @ unit.T, 1)
    first, second = np.nonzero(correlation >= threshold)
    return pd.DataFrame(
        {
            "sample": names[first],
            "copy": names[second],
            "correlation": correlation[first, second],
        }
    )


def _split(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Split samples in two with least variance within; None if the groups are not far apart."""
    order = np.argsort(scores)
    ranked = scores[order]

    def within(cut: int) -> float:
        low, high = ranked[:cut], ranked[cut:]
        return (cut * low.var() + len(high) * high.var()) / len(ranked)

    cut = min(range(1, len(ranked)), key=within)
    gap = ranked[cut:].mean() - ranked[:cut].mean()
    if gap < _SEPARATION * np.sqrt(within(cut)):
        return None
    return order[:cut], order[cut:]


def _one_x_is_silenced(female: np.ndarray, male: np.ndarray) -> bool:
    """Whether two groups differ on X more where the men are unmethylated than elsewhere."""
    of_women, of_men = (moments(beta_to_m(beta))[1] for beta in (female, male))
    gap = np.nan_to_num(np.abs(of_women - of_men))
    low = of_men < 0
    return bool(gap[low].sum() / max(low.sum(), 1) > gap[~low].sum() / max((~low).sum(), 1))


def _sex_sites(adata: AnnData) -> np.ndarray:
    """Return which sites lie on X or Y."""
    return _lies_on(adata, "X", "Y")


def _lies_on(adata: AnnData, *chromosomes: str) -> np.ndarray:
    """Return which sites lie on some chromosomes; none where these are not known."""
    if "chromosome" not in adata.var:
        return np.zeros(adata.n_vars, bool)
    name = adata.var["chromosome"].astype(str).str.removeprefix("chr").str.upper()
    return name.isin(chromosomes).to_numpy()


def _variable(adata: AnnData, n_sites: int) -> np.ndarray:
    """Return the beta values of the autosomal sites with the most variable M-values."""
    columns = np.flatnonzero(autosomal(adata))
    if not len(columns):
        raise MiracleError("No autosomal site is left to compare samples on.")
    values = adata.X
    X = pd.DataFrame(values, adata.obs_names, adata.var_names, copy=False)
    return values[:, _most_variable(X, columns, n_sites)]


def _most_variable(X: pd.DataFrame, columns: np.ndarray, n_sites: int) -> np.ndarray:
    """Return those of some columns whose M-values vary most, in order."""
    variance = np.empty(len(columns))
    for part, beta in blocks(X, columns):
        variance[part] = moments(beta_to_m(beta))[2]
    best = np.argsort(-np.nan_to_num(variance, nan=-1), kind="stable")[:n_sites]
    return columns[np.sort(best)]


def _centred(beta: np.ndarray) -> np.ndarray:
    """Return M-values less each site's mean, 0 where missing."""
    m = beta_to_m(np.asarray(beta, dtype=np.float64))
    return np.nan_to_num(m - moments(m)[1], nan=0.0)


def _components(beta: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (samples x n) and loadings (sites x n) of the principal components."""
    u, s, v = np.linalg.svd(_centred(beta), full_matrices=False)
    return u[:, :n] * s[:n], v[:n].T
