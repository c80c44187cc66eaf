"""Turning tables of site-gene pairs and gene sets into named, sorted axes and boolean masks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy.gene_sets import check_gene_sets

NO_GENE = "no gene in the annotation"
NO_SET = "its genes are in no gene set"
NO_SET_OF_SIZE = "its genes are only in gene sets outside the size limits"


@dataclass
class Parts:
    """What a Hierarchy is made of, while it is being made."""

    layers: list[pd.Index]
    masks: list[csr_matrix]
    groups: np.ndarray
    unannotated: pd.DataFrame
    filters: pd.DataFrame


def build(
    site_gene: pd.DataFrame,
    gene_sets: Mapping[str, Sequence[str]],
    universe: pd.Series,
    min_genes: int,
    max_genes: int,
) -> Parts:
    """Make the site-gene and gene-pathway masks of everything that is annotated.

    Parameters
    ----------
    site_gene : DataFrame
        Columns site, gene and, optionally, group.
    gene_sets : mapping of str to sequence of str
    universe : Series of str
        Indexed by site: the sites to account for and, where known, why one has no gene.
    min_genes, max_genes : int
        Size limits of a set, counted in genes that have a site in ``site_gene``.

    Returns
    -------
    Parts
    """
    pairs = check_site_gene(site_gene)
    check_gene_sets(gene_sets)
    if not 1 <= min_genes <= max_genes:
        raise MiracleError(
            f"min_genes={min_genes} and max_genes={max_genes}: expected 1 <= min_genes <= max_genes"
        )
    site_codes, sites = pd.factorize(pairs["site"], sort=True)
    gene_codes, genes = pd.factorize(pairs["gene"], sort=True)
    sites, genes = pd.Index(sites, dtype=object), pd.Index(genes, dtype=object)

    names = np.array(sorted(gene_sets), dtype=object)
    sizes_given = np.array([len(gene_sets[name]) for name in names])
    flat = np.concatenate([np.asarray(gene_sets[name], dtype=object) for name in names])
    in_array = genes.get_indexer(flat)
    of_set = np.repeat(np.arange(len(names)), sizes_given)
    _check_symbols(genes, flat, in_array)
    hit = in_array >= 0
    gene_set = boolean_csr(in_array[hit], of_set[hit], (len(genes), len(names)))
    sizes = np.asarray(gene_set.sum(axis=0)).ravel()
    fits = (sizes >= min_genes) & (sizes <= max_genes)
    if not fits.any():
        raise MiracleError(
            f"none of the {len(names)} gene sets has between {min_genes} and {max_genes} genes "
            f"with a site (their sizes run from {sizes.min()} to {sizes.max()}): "
            "change min_genes or max_genes"
        )
    reaches = np.asarray(gene_set[:, fits].sum(axis=1)).ravel() > 0
    in_any = np.asarray(gene_set.sum(axis=1)).ravel() > 0

    edge = reaches[gene_codes]
    kept_gene = np.cumsum(reaches) - 1
    site_reaches = np.zeros(len(sites), dtype=bool)
    site_reaches[site_codes[edge]] = True
    kept_site = np.cumsum(site_reaches) - 1
    mask, groups = _edges_with_groups(
        kept_site[site_codes[edge]],
        kept_gene[gene_codes[edge]],
        pairs["group"].to_numpy()[edge],
        (int(site_reaches.sum()), int(reaches.sum())),
    )
    site_in_any = np.zeros(len(sites), dtype=bool)
    site_in_any[site_codes[in_any[gene_codes]]] = True

    universe = universe[~universe.index.duplicated()]
    missing = universe[~universe.index.isin(sites)]
    lost = sites[~site_reaches]
    off_array = pd.unique(flat[~hit])
    unannotated = pd.concat(
        [
            _listing(missing.index, "site", missing.where(missing != "", NO_GENE)),
            _listing(lost, "site", np.where(site_in_any[~site_reaches], NO_SET_OF_SIZE, NO_SET)),
            _listing(
                genes[~reaches],
                "gene",
                np.where(
                    in_any[~reaches], "only in gene sets outside the size limits", "in no gene set"
                ),
            ),
            _listing(np.sort(off_array), "gene", "no site in the annotation"),
            _listing(
                names[~fits],
                "pathway",
                np.where(
                    sizes[~fits] < min_genes,
                    f"fewer than {min_genes} genes with a site",
                    f"more than {max_genes} genes with a site",
                ),
            ),
        ],
        ignore_index=True,
    )
    n_universe = len(sites) + len(missing)
    filters = pd.DataFrame(
        [
            ("site", "sites without a gene", len(missing), len(sites)),
            ("gene", "genes of the sets without a site", len(off_array), int(in_any.sum())),
            ("pathway", f"fewer than {min_genes} genes", int((sizes < min_genes).sum()), 0),
            ("pathway", f"more than {max_genes} genes", int((sizes > max_genes).sum()), 0),
            ("gene", "genes with a site but no kept set", int((~reaches).sum()), mask.shape[1]),
            ("site", "sites whose genes reach no kept set", len(lost), mask.shape[0]),
        ],
        columns=["layer", "step", "removed", "left"],
    )
    filters.loc[2, "left"] = len(names) - filters.loc[2, "removed"]
    filters.loc[3, "left"] = int(fits.sum())
    assert n_universe == mask.shape[0] + (unannotated["layer"] == "site").sum()
    pathways = pd.Index(names[fits], name="pathway")
    kept = gene_set[reaches][:, fits]
    kept.sort_indices()
    return Parts(
        [
            pd.Index(sites[site_reaches], name="site"),
            pd.Index(genes[reaches], name="gene"),
            pathways,
        ],
        [mask, kept],
        groups,
        unannotated,
        filters,
    )


def check_site_gene(site_gene: pd.DataFrame) -> pd.DataFrame:
    """Return columns site, gene, group of the rows with a gene; refuse what cannot be read so."""
    if not isinstance(site_gene, pd.DataFrame):
        raise MiracleError(
            f"site_gene must be a DataFrame with columns site and gene, not {type(site_gene)}"
        )
    absent = [column for column in ("site", "gene") if column not in site_gene]
    if absent:
        raise MiracleError(
            f"site_gene has no column {' and '.join(absent)}; its columns are "
            f"{', '.join(map(str, site_gene.columns))}"
        )
    pairs = site_gene[["site", "gene"]].astype(object)
    pairs["group"] = site_gene["group"].fillna("").astype(object) if "group" in site_gene else ""
    pairs = pairs[pairs["gene"].notna() & (pairs["gene"] != "")]
    if pairs.empty:
        raise MiracleError("site_gene names no gene for any site")
    return pairs


def as_universe(sites: Iterable[str] | pd.DataFrame, site_gene: pd.DataFrame) -> pd.Series:
    """Sites to account for, with the reason why one has no gene where that is known."""
    if isinstance(sites, pd.DataFrame):
        reason = sites["reason"] if "reason" in sites else ""
        return pd.Series(reason, index=pd.Index(sites.index, dtype=object), dtype=object)
    return pd.Series("", index=pd.Index(list(sites), dtype=object), dtype=object)


def boolean_csr(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    """Boolean CSR mask with sorted indices; repeated edges count once."""
    keys = np.unique(rows.astype(np.int64) * shape[1] + columns)
    mask = csr_matrix(
        (np.ones(len(keys), dtype=bool), (keys // shape[1], keys % shape[1])), shape=shape
    )
    mask.sort_indices()
    return mask


def _edges_with_groups(
    rows: np.ndarray, columns: np.ndarray, groups: np.ndarray, shape: tuple[int, int]
) -> tuple[csr_matrix, np.ndarray]:
    """CSR mask and, in its edge order, the groups of every pair (those of repeated rows joined)."""
    keys, first, inverse = np.unique(
        rows.astype(np.int64) * shape[1] + columns, return_index=True, return_inverse=True
    )
    merged = groups[first].copy()
    if len(keys) < len(rows):
        repeated = np.flatnonzero(np.bincount(inverse)[inverse] > 1)
        table = pd.DataFrame({"edge": inverse[repeated], "group": groups[repeated]})
        joined = table.groupby("edge")["group"].agg(
            lambda parts: ";".join(sorted({g for part in parts for g in part.split(";") if g}))
        )
        merged[joined.index] = joined.to_numpy()
    return boolean_csr(rows, columns, shape), merged


def _listing(names: Iterable[str], layer: str, reason: object) -> pd.DataFrame:
    """Rows of the table of what is not annotated."""
    names = np.asarray(names, dtype=object)
    return pd.DataFrame({"name": names, "layer": layer, "reason": np.asarray(reason, object)})


def _check_symbols(genes: pd.Index, of_sets: np.ndarray, found: np.ndarray) -> None:
    """Refuse symbols of which fewer match as written than match when case is ignored."""
    exact = int((found >= 0).sum())
    upper = pd.Index(genes.str.upper().unique())
    ignoring_case = int((upper.get_indexer(pd.Index(of_sets).str.upper()) >= 0).sum())
    if ignoring_case > 2 * exact:
        example = next(
            g for g, i in zip(of_sets, found, strict=True) if i < 0 and g.upper() in upper
        )
        other = next(gene for gene in genes if gene.upper() == example.upper())
        raise MiracleError(
            f"gene symbols differ in case: {example!r} in the gene sets is {other!r} in site_gene; "
            "write both as the nomenclature does (human symbols in capitals)"
        )
    if not exact:
        raise MiracleError(
            f"no gene of the gene sets (such as {of_sets[0]!r}) is among the genes of site_gene "
            f"(such as {genes[0]!r})"
        )
