"""Turning tables of site-gene pairs and gene sets into named, sorted axes and boolean masks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy.gene_sets import check_gene_sets
from miracle_lib.spreadsheet import refuse_dates

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


class _Log:
    """What was left out, and by which filter."""

    def __init__(self) -> None:
        self._names: list[pd.DataFrame] = []
        self._steps: list[tuple[str, str, int, int]] = []

    def names(self, layer: str, names: Iterable[str], reason: object) -> None:
        names = np.asarray(names, dtype=object)
        self._names.append(pd.DataFrame({"name": names, "layer": layer, "reason": reason}))

    def step(self, layer: str, step: str, removed: int, left: int) -> None:
        self._steps.append((layer, step, int(removed), int(left)))

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        steps = pd.DataFrame(self._steps, columns=["layer", "step", "removed", "left"])
        return pd.concat(self._names, ignore_index=True).astype(object), steps


def build(
    site_gene: pd.DataFrame,
    gene_sets: Mapping[str, Sequence[str]],
    sites: Iterable[str] | pd.DataFrame | None,
    min_genes: int,
    max_genes: int,
    parents: pd.DataFrame | None,
    n_parent_levels: int,
) -> Parts:
    """Make the masks of everything that is annotated; see `Hierarchy.from_tables`.

    Parameters
    ----------
    site_gene, gene_sets, sites, min_genes, max_genes, parents, n_parent_levels
        As in `Hierarchy.from_tables`.

    Returns
    -------
    Parts
    """
    on_array = _check_site_gene(site_gene)
    check_gene_sets(gene_sets)
    if not 1 <= min_genes <= max_genes:
        raise MiracleError(
            f"min_genes={min_genes} and max_genes={max_genes}: expected 1 <= min_genes <= max_genes"
        )
    universe = _universe(site_gene["site"] if sites is None else sites)
    pairs = _pairs(site_gene if sites is None else _among(site_gene, universe.index))
    if pairs.empty:
        raise MiracleError(
            f"none of the {len(universe)} sites given (such as {universe.index[0]!r}) has a "
            f"gene in site_gene (whose sites look like {site_gene['site'].iloc[0]!r})"
        )
    log = _Log()
    genes, pathways, gene_pathway, fate = _connect_sets(
        pairs, on_array, gene_sets, min_genes, max_genes, log
    )
    _log_sites(pairs, fate[genes.get_indexer(pairs["gene"])], universe, log)
    reached = fate == ""
    genes, gene_pathway = genes[reached], gene_pathway[reached]
    pairs = pairs[pairs["gene"].isin(genes)]
    site_code, site_names = pd.factorize(pairs["site"], sort=True)
    site_gene_mask, groups = _edges_with_groups(
        site_code,
        genes.get_indexer(pairs["gene"]),
        pairs["group"].to_numpy(),
        (len(site_names), len(genes)),
    )
    layers = [pd.Index(site_names, dtype=object), genes, pathways]
    masks = [site_gene_mask, gene_pathway]
    if parents is not None:
        names, uppers = _parent_levels(pathways, parents, n_parent_levels)
        layers, masks = layers + names, masks + uppers
    return Parts(layers, masks, groups, *log.tables())


def boolean_csr(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    """Boolean CSR mask with sorted indices; repeated edges count once."""
    keys = np.unique(rows.astype(np.int64) * shape[1] + columns)
    indptr = np.searchsorted(keys, np.arange(shape[0] + 1, dtype=np.int64) * shape[1])
    return csr_matrix(
        (np.ones(len(keys), dtype=bool), (keys % shape[1]).astype(np.int32), indptr), shape=shape
    )


def _connect_sets(
    pairs: pd.DataFrame,
    on_array: pd.Index,
    gene_sets: Mapping[str, Sequence[str]],
    min_genes: int,
    max_genes: int,
    log: _Log,
) -> tuple[pd.Index, pd.Index, csr_matrix, np.ndarray]:
    """Genes with a site, sets within the limits, their mask, and why a gene has no set."""
    names = np.array(sorted(gene_sets), dtype=object)
    members = np.concatenate([np.array(list(gene_sets[name]), dtype=object) for name in names])
    of_set = np.repeat(np.arange(len(names)), [len(gene_sets[name]) for name in names])
    _check_symbols(on_array, members)
    genes = pd.Index(np.sort(pairs["gene"].unique()), dtype=object)
    position = genes.get_indexer(members)
    found = position >= 0
    mask = boolean_csr(position[found], of_set[found], (len(genes), len(names)))
    sizes = np.bincount(mask.indices, minlength=len(names))
    small, large = sizes < min_genes, sizes > max_genes
    fits = ~small & ~large
    if not fits.any():
        raise MiracleError(
            f"none of the {len(names)} gene sets has between {min_genes} and {max_genes} genes "
            f"with a site (their sizes run from {sizes.min()} to {sizes.max()}): "
            "change min_genes or max_genes"
        )
    in_any, in_kept = np.diff(mask.indptr) > 0, np.diff(mask[:, fits].indptr) > 0
    fate = np.where(in_kept, "", np.where(in_any, NO_SET_OF_SIZE, NO_SET)).astype(object)
    no_site = pd.Index(members[~found]).unique().sort_values()
    log.names("gene", no_site, _why_no_site(no_site, on_array))
    log.names("gene", genes[~in_any], "in no gene set")
    log.names("gene", genes[in_any & ~in_kept], "only in gene sets outside the size limits")
    log.names("pathway", names[small], f"fewer than {min_genes} genes with a site")
    log.names("pathway", names[large], f"more than {max_genes} genes with a site")
    log.step("gene", "of the sets, without a site", len(no_site), in_any.sum())
    log.step("pathway", f"with fewer than {min_genes} genes", small.sum(), (~small).sum())
    log.step("pathway", f"with more than {max_genes} genes", large.sum(), fits.sum())
    log.step("gene", "in no gene set", (~in_any).sum(), in_any.sum())
    log.step("gene", "only in sets of another size", (in_any & ~in_kept).sum(), in_kept.sum())
    return genes, pd.Index(names[fits], dtype=object), mask[:, fits], fate


def _why_no_site(genes: pd.Index, on_array: pd.Index) -> np.ndarray:
    """Why genes of the sets have no site."""
    other_case = genes.str.upper().isin(on_array.str.upper())
    reason = np.where(other_case, "on the array in other letters", "not on the array")
    return np.where(genes.isin(on_array), "no site among those given", reason)


def _log_sites(pairs: pd.DataFrame, fate: np.ndarray, universe: pd.Series, log: _Log) -> None:
    """List the sites without a gene, and those whose genes reach no pathway."""
    lonely = universe[~universe.index.isin(pairs["site"])].sort_index()
    log.names("site", lonely.index, lonely.where(lonely != "", NO_GENE).to_numpy())
    log.step("site", "without a gene", len(lonely), len(universe) - len(lonely))
    reached = pairs["site"][fate == ""]
    lost = pd.Index(pairs["site"][~pairs["site"].isin(reached)].unique()).sort_values()
    other_size = lost.isin(pairs["site"][fate == NO_SET_OF_SIZE])
    log.names("site", lost, np.where(other_size, NO_SET_OF_SIZE, NO_SET))
    log.step("site", "whose genes reach no pathway", len(lost), reached.nunique())


def _parent_levels(
    pathways: pd.Index, parents: pd.DataFrame, n_levels: int
) -> tuple[list[pd.Index], list[csr_matrix]]:
    """Further layers upwards; a pathway without a parent stands for itself."""
    absent = [column for column in ("child", "parent") if column not in parents]
    if absent:
        raise MiracleError(
            f"the table of parents has no column {absent[0]!r}; its columns are "
            f"{', '.join(map(str, parents.columns))}"
        )
    if n_levels < 1:
        raise MiracleError(f"n_parent_levels is {n_levels}; expected at least 1")
    check_acyclic(parents)
    layers: list[pd.Index] = []
    masks: list[csr_matrix] = []
    lower = pathways
    for _ in range(n_levels):
        edges = parents[parents["child"].isin(lower)]
        roots = lower[~lower.isin(edges["child"])]
        if len(roots) == len(lower):
            raise MiracleError(
                "no pathway of the hierarchy has a parent in the table of parents"
                if not layers
                else f"there are no parents above level {len(layers)}; lower n_parent_levels"
            )
        child = np.concatenate([edges["child"].to_numpy(dtype=object), roots])
        parent = np.concatenate([edges["parent"].to_numpy(dtype=object), roots])
        upper = pd.Index(np.sort(pd.unique(parent)), dtype=object)
        masks.append(
            boolean_csr(
                lower.get_indexer(child), upper.get_indexer(parent), (len(lower), len(upper))
            )
        )
        layers.append(upper)
        lower = upper
    return layers, masks


def check_acyclic(parents: pd.DataFrame, where: str = "the table of parents") -> None:
    """Refuse parent-child relations that run in a circle, naming one."""
    graph = nx.DiGraph(list(zip(parents["child"], parents["parent"], strict=True)))
    if not nx.is_directed_acyclic_graph(graph):
        cycle = [child for child, _ in nx.find_cycle(graph)]
        raise MiracleError(
            f"{where} is cyclic: {' -> '.join(map(str, [*cycle, cycle[0]]))}; "
            "expected every path to end at a root"
        )


def _check_site_gene(site_gene: pd.DataFrame) -> pd.Index:
    """Refuse what is no site-gene table; return its genes."""
    if not isinstance(site_gene, pd.DataFrame):
        raise MiracleError(
            "site_gene must be a DataFrame with columns site and gene, not "
            f"{type(site_gene).__name__}"
        )
    absent = [column for column in ("site", "gene") if column not in site_gene]
    if absent:
        raise MiracleError(
            f"site_gene has no column {absent[0]!r}; its columns are "
            f"{', '.join(map(str, site_gene.columns))}"
        )
    genes = pd.Index(site_gene["gene"].dropna().unique(), dtype=object).drop("", errors="ignore")
    if genes.empty:
        raise MiracleError("site_gene names no gene for any site")
    for column, values in (("site", site_gene["site"]), ("gene", genes)):
        if pd.api.types.infer_dtype(values, skipna=False) not in ("string", "empty"):
            odd = next(value for value in values if not isinstance(value, str))
            raise MiracleError(f"site_gene, column {column}: found {odd!r}, expected text")
    refuse_dates(genes, "site_gene, column gene")
    return genes


def _among(site_gene: pd.DataFrame, sites: pd.Index) -> pd.DataFrame:
    """Rows of some sites."""
    return site_gene[site_gene["site"].isin(sites)]


def _pairs(site_gene: pd.DataFrame) -> pd.DataFrame:
    """Columns site, gene, group of the rows with a gene."""
    pairs = site_gene[site_gene["gene"].notna() & (site_gene["gene"] != "")]
    group = pairs["group"].fillna("").astype(object) if "group" in pairs else ""
    return pairs[["site", "gene"]].astype(object).assign(group=group)


def _universe(sites: Iterable[str] | pd.DataFrame) -> pd.Series:
    """Sites to account for, with the reason why one has no gene where that is known."""
    reason = ""
    if isinstance(sites, pd.DataFrame):
        reason = sites.get("reason", "")
        sites = sites.index
    elif isinstance(sites, str):
        raise MiracleError(f"sites must be a list of site names, not the text {sites!r}")
    universe = pd.Series(
        np.asarray(reason), index=pd.Index(list(sites), dtype=object), dtype=object
    )
    if universe.empty:
        raise MiracleError("the list of sites is empty")
    return universe[~universe.index.duplicated()]


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


def _check_symbols(genes: pd.Index, members: np.ndarray) -> None:
    """Refuse symbols of which more match when case is ignored than match as written."""
    of_sets = pd.Index(members).unique()
    exact = of_sets.isin(genes)
    by_upper = {gene.upper(): gene for gene in genes}
    other_case = [gene for gene in of_sets[~exact] if gene.upper() in by_upper]
    if len(other_case) > exact.sum():
        raise MiracleError(
            f"gene symbols differ in case: {other_case[0]!r} of the gene sets is "
            f"{by_upper[other_case[0].upper()]!r} in site_gene; write both as the nomenclature "
            "does (human symbols in capitals)"
        )
    if not exact.any():
        raise MiracleError(
            f"no gene of the gene sets (such as {of_sets[0]!r}) is among the genes of site_gene "
            f"(such as {genes[0]!r})"
        )
