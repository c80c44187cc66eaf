"""Blood cell fractions from beta values."""

from __future__ import annotations

import logging
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.optimize import nnls

from miracle_lib.cohorts.site_table import without_suffix
from miracle_lib.errors import MiracleError

_log = logging.getLogger(__name__)

_WEIGHT = 1e4  # of the row that makes fractions sum to 1 where they would exceed it
# Names of some references; neutrophils are nearly all of the granulocytes.
_CALLED = {"cd8_t_cell": "CD8T", "cd4_t_cell": "CD4T", "nk_cell": "NK", "b_cell": "Bcell"}
_CALLED |= {"monocyte": "Mono", "neutrophil": "Gran"}
_BLOOD = re.compile(r"blood|leu[ck]ocytes|PBMC|PBL", re.IGNORECASE)
_ONE_KIND = re.compile(r"sorted|monocyte|lymphocyte|[TB][ -]cell|CD\d+", re.IGNORECASE)


def is_blood(tissue: str) -> bool:
    """Whether a tissue is a mixture of blood cells, whose fractions can be estimated.

    Parameters
    ----------
    tissue : str
        As a cohort calls it.

    Examples
    --------
    >>> [is_blood(name) for name in ("whole blood", "sorted blood cells", "CD4+ T-cells", "skin")]
    [True, False, False, False]
    """
    return bool(_BLOOD.search(tissue)) and not _ONE_KIND.search(tissue)


def read_cell_reference(path: str | Path) -> pd.DataFrame:
    """Read mean beta values of sorted cell types.

    Parameters
    ----------
    path : str or Path
        CSV, plain or gzipped: the first column is the site, every other one a cell type.
        Replicates of a site (EPICv2) are averaged.

    Returns
    -------
    DataFrame of shape (n_sites, n_cell_types)
        Beta values.

    Raises
    ------
    MiracleError
        If the file cannot be read as such a table, or a value lies outside [0, 1].

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "reference.csv"
    >>> _ = path.write_text("cpg,Mono,Gran\\ncg1,0.1,0.9\\ncg2,0.8,0.2\\n")
    >>> read_cell_reference(path).shape
    (2, 2)
    """
    path = Path(path)
    try:
        table = pd.read_csv(path, index_col=0)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise MiracleError(f"{path.name} cannot be read as a CSV table: {error}.") from error
    table = _checked(table, path.name)
    return table.groupby(without_suffix(table.index.astype(str)), sort=False).mean()


def estimate_cell_fractions(
    samples: AnnData | pd.DataFrame,
    reference: pd.DataFrame,
    *,
    n_sites: int = 25,
    min_present: float = 0.5,
) -> pd.DataFrame:
    """Estimate the fraction of every cell type in every sample.

    The beta values of a sample are projected on those of the cell types by least squares, with
    fractions that are not negative and sum to at most 1. Only meaningful for the tissue of the
    reference; nothing is learned from the samples. Close relatives such as CD4 and CD8 T cells
    are told apart less well than their sum.

    Parameters
    ----------
    samples : AnnData, or DataFrame of shape (n_samples, n_sites)
        Beta values.
    reference : DataFrame of shape (n_sites, n_cell_types)
        Mean beta values of sorted cells.
    n_sites : int, default 25
        Sites per cell type and direction (more or less methylated than in the other types) that
        tell the cell types apart; all if the reference has fewer.
    min_present : float, default 0.5
        Smallest share of these sites that a sample must have; with fewer nothing is estimated.

    Returns
    -------
    DataFrame of shape (n_samples, n_cell_types)
        Columns "cell_<type>", under the short names of deposited fractions (CD8T, CD4T, NK, Bcell,
        Mono, Gran) where the reference has long ones; NaN for a sample with fewer than
        ``min_present`` of the sites. A warning is logged if no sample has them, as on an array
        that lacks the sites.
        ``attrs`` has "n_sites", the sites used, "n_wanted", and "share_present", used of wanted.

    Raises
    ------
    MiracleError
        If the reference is not a table of beta values.

    References
    ----------
    Houseman et al. 2012, doi:10.1186/1471-2105-13-86.

    Examples
    --------
    >>> reference = pd.DataFrame(
    ...     {"Mono": [0.1, 0.9, 0.2], "Gran": [0.8, 0.1, 0.3]}, index=["cg1", "cg2", "cg3"]
    ... )
    >>> mixed = pd.DataFrame([reference @ [0.3, 0.7]], columns=reference.index)
    >>> estimate_cell_fractions(mixed, reference).round(3).values.tolist()
    [[0.3, 0.7]]
    """
    reference = _checked(reference, "The reference")
    wanted = _informative(reference, n_sites)
    names = samples.var_names if isinstance(samples, AnnData) else samples.columns
    positions = names.get_indexer(wanted)
    here = positions >= 0
    if here.mean() < min_present:
        _log.warning(
            "cell fractions are not estimated: the samples have %d of the %d sites that tell the "
            "cell types apart, and %.0f%% are needed",
            here.sum(),
            len(wanted),
            100 * min_present,
        )
    index = samples.obs_names if isinstance(samples, AnnData) else samples.index
    values = samples.X if isinstance(samples, AnnData) else samples.to_numpy()
    beta = np.asarray(values[:, positions[here]], dtype=np.float64)
    profiles = reference.loc[wanted[here]].to_numpy(np.float64)
    least = max(min_present * len(wanted), profiles.shape[1])
    fractions = np.full((len(beta), profiles.shape[1]), np.nan)
    for row, sample in enumerate(beta):
        present = ~np.isnan(sample)
        if present.sum() >= least:
            fractions[row] = _project(profiles[present], sample[present])
    columns = [f"cell_{_CALLED.get(str(name), name)}" for name in reference.columns]
    result = pd.DataFrame(fractions, index, columns)
    result.attrs = {"n_sites": int(here.sum()), "n_wanted": len(wanted)}
    result.attrs["share_present"] = float(here.mean())
    return result


def _checked(reference: pd.DataFrame, name: str) -> pd.DataFrame:
    """Refuse a reference that is not a table of beta values."""
    if reference.shape[1] < 2 or not len(reference):
        raise MiracleError(
            f"{name} has {len(reference)} sites and {reference.shape[1]} cell types; at least one "
            "site and two cell types are needed."
        )
    for column, kind in reference.dtypes.items():
        if not np.issubdtype(kind, np.number):
            raise MiracleError(f"{name}: cell type {column!r} holds {kind}, not numbers.")
    if reference.index.has_duplicates:
        site = reference.index[reference.index.duplicated()][0]
        raise MiracleError(f"{name}: site {site!r} occurs more than once.")
    wrong = ~((reference >= 0) & (reference <= 1)).all(axis=1)
    if wrong.any():
        site = reference.index[wrong][0]
        raise MiracleError(
            f"{name}: site {site!r} has a value that is missing or outside [0, 1]; expected beta "
            "values."
        )
    return reference


def _informative(reference: pd.DataFrame, n: int) -> pd.Index:
    """Choose the sites where one cell type differs most from the mean of the others."""
    chosen: set[str] = set()
    for cell in reference:
        gap = (reference[cell] - reference.drop(columns=cell).mean(axis=1)).sort_values()
        chosen.update(gap.index[:n], gap.index[-n:])
    return reference.index[reference.index.isin(chosen)]


def _project(profiles: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Solve least squares with fractions >= 0 and sum <= 1."""
    fractions = nnls(profiles, sample)[0]
    if fractions.sum() <= 1:
        return fractions
    # The optimum lies on the face where the sum is 1: one heavy row holds it there.
    profiles = np.vstack([profiles, np.full(profiles.shape[1], _WEIGHT)])
    return nnls(profiles, np.append(sample, _WEIGHT))[0]
