"""The site-gene-pathway graph, held as named axes and boolean sparse masks."""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import networkx as nx
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import storage
from miracle_lib.hierarchy.build import NO_SET, NO_SET_OF_SIZE, boolean_csr, build
from miracle_lib.hierarchy.gene_sets import redundant_sets
from miracle_lib.hierarchy.rewiring import permute_edges, random_edges, removable_edges

log = logging.getLogger(__name__)

MAX_DENSE_EDGES = 50_000_000  # 200 MB per float32 copy of the weights
_LISTED, _STEP = ["name", "layer", "reason"], ["layer", "step", "removed", "left"]
_QUANTILES = {0: "least", 0.25: "25 %", 0.5: "median", 0.75: "75 %", 0.95: "95 %", 1: "most"}


class Hierarchy:
    """Which site belongs to which gene, and which gene to which pathway.

    Holds only what is annotated: every site has a gene, every gene a site and a pathway, every
    pathway a gene. What is not annotated is listed in `unannotated`, with the reason. Instances
    are not changed after they are made; every method returns a new one.

    Parameters
    ----------
    layers : sequence of Index
        Sorted names of the sites, the genes, the pathways and, optionally, of further levels.
    masks : sequence of csr_matrix of bool
        ``masks[i]`` connects ``layers[i]`` (rows) to ``layers[i + 1]`` (columns).
    groups : array of str, optional
        RefGene groups of every site-gene edge, in CSR order. Default: empty.
    unannotated : DataFrame, optional
        Columns name, layer, reason. Default: no rows.
    filters : DataFrame, optional
        Columns layer, step, removed, left. Default: no rows.
    sources : sequence of str, optional
        Where the edges of each mask come from. Default: "site_gene", "gene_sets", then "parents".
    min_genes : int, default 1
        Least genes of a pathway, which holds when sites are taken away, too; see `restrict`.

    Attributes
    ----------
    layers, masks, groups, unannotated, filters, sources, min_genes
        As above.

    Examples
    --------
    >>> pairs = pd.DataFrame({"site": ["cg1", "cg2", "cg3"], "gene": ["A", "A", "B"]})
    >>> h = Hierarchy.from_tables(pairs, {"P": ["A", "B"], "Q": ["B", "C"]}, min_genes=1)
    >>> h
    Hierarchy(3 sites, 2 genes, 2 pathways; 3 + 3 edges)
    >>> h.gene_pathway.toarray().tolist()
    [[True, False], [True, True]]
    >>> h.restrict(["cg1", "cg2"]).pathways.tolist()
    ['P']
    >>> h.members("Q")["site"].tolist()
    ['cg3']
    >>> h.unannotated.values.tolist()
    [['C', 'gene', 'not on the array']]
    >>> h.permuted(seed=0).degrees()["sites per gene"].tolist()
    [2, 1]
    >>> rest, held_out = h.hold_out(0.3, seed=0)
    >>> len(held_out), rest.gene_pathway.nnz
    (1, 2)
    """

    def __init__(
        self,
        layers: Sequence[pd.Index],
        masks: Sequence[csr_matrix],
        *,
        groups: np.ndarray | None = None,
        unannotated: pd.DataFrame | None = None,
        filters: pd.DataFrame | None = None,
        sources: Sequence[str] | None = None,
        min_genes: int = 1,
    ) -> None:
        self.layers = list(layers)
        self.masks = list(masks)
        for mask, (lower, upper) in zip(masks, pairwise(layers), strict=True):
            if mask.shape != (len(lower), len(upper)):
                raise MiracleError(
                    f"a mask has shape {mask.shape}, its layers have {len(lower)} and "
                    f"{len(upper)} names"
                )
        self.groups = np.full(masks[0].nnz, "", dtype=object) if groups is None else groups
        self.unannotated = pd.DataFrame(columns=_LISTED) if unannotated is None else unannotated
        self.filters = pd.DataFrame(columns=_STEP) if filters is None else filters
        default = ["site_gene", "gene_sets", *["parents"] * (len(masks) - 2)]
        self.sources = default if sources is None else list(sources)
        if len(self.sources) != len(masks):
            raise MiracleError(f"{len(self.sources)} sources are named for {len(masks)} masks")
        self.min_genes = min_genes
        self._hash: str | None = None

    @classmethod
    def from_tables(
        cls,
        site_gene: pd.DataFrame,
        gene_sets: Mapping[str, Sequence[str]],
        *,
        sites: Iterable[str] | pd.DataFrame | None = None,
        min_genes: int = 5,
        max_genes: int = 500,
        parents: pd.DataFrame | None = None,
        n_parent_levels: int = 1,
        sources: Sequence[str] | None = None,
    ) -> Self:
        """Connect sites to genes and genes to pathways.

        Parameters
        ----------
        site_gene : DataFrame
            Columns ``site`` and ``gene``, optionally ``group``; other columns are ignored, as are
            rows without a gene.
        gene_sets : mapping of str to sequence of str
            Genes of every pathway.
        sites : iterable of str or DataFrame, optional
            Keep these sites only, and account for those among them without a gene. A DataFrame is
            indexed by site and its column ``reason``, if any, says why a site has no gene (as
            `ArrayAnnotation.sites` does). Default: all sites of ``site_gene``.
        min_genes, max_genes : int
            Gene sets of another size are left out. A set's size is the number of its genes that
            have a site (one of ``sites``, if given).
        parents : DataFrame, optional
            Columns ``child`` and ``parent``, names of pathways: adds layers above the pathways
            (see `read_go`, `read_reactome`). A pathway without a parent stands for itself there.
        n_parent_levels : int, default 1
            Number of layers to add if ``parents`` is given.
        sources : sequence of str, optional
            What `to_frame` names as the source of each mask's edges, such as the versions of the
            array annotation and of the gene sets. Default: the names of the arguments.

        Returns
        -------
        Hierarchy

        Raises
        ------
        MiracleError
            Columns missing, an empty set, no gene in common, symbols that differ in case, no set
            within the limits, or none of ``sites`` annotated.
        """
        parts = build(site_gene, gene_sets, sites, min_genes, max_genes, parents, n_parent_levels)
        return cls(
            parts.layers,
            parts.masks,
            groups=parts.groups,
            unannotated=parts.unannotated,
            filters=parts.filters,
            sources=sources,
            min_genes=min_genes,
        )

    @property
    def sites(self) -> pd.Index:
        """Names of the sites, sorted."""
        return self.layers[0]

    @property
    def genes(self) -> pd.Index:
        """Names of the genes, sorted."""
        return self.layers[1]

    @property
    def pathways(self) -> pd.Index:
        """Names of the pathways, sorted."""
        return self.layers[2]

    @property
    def site_gene(self) -> csr_matrix:
        """Mask of shape (n_sites, n_genes), boolean."""
        return self.masks[0]

    @property
    def gene_pathway(self) -> csr_matrix:
        """Mask of shape (n_genes, n_pathways), boolean."""
        return self.masks[1]

    @property
    def layer_names(self) -> list[str]:
        """Kind of node of every layer: "site", "gene", "pathway", "parent", "parent 2" ..."""
        upper = ["parent"] + [f"parent {i}" for i in range(2, len(self.layers) - 2)]
        return ["site", "gene", "pathway", *upper][: len(self.layers)]

    @property
    def level_names(self) -> list[str]:
        """Name of every mask: "site-gene", "gene-pathway", "pathway-parent" ..."""
        return [f"{lower}-{upper}" for lower, upper in pairwise(self.layer_names)]

    @property
    def hash(self) -> str:
        """SHA-256 of all names, edges and the limit: equal for equal graphs, whatever made them."""
        if self._hash is None:
            digest = hashlib.sha256(str(self.min_genes).encode())
            for layer in self.layers:
                digest.update(json.dumps(list(layer)).encode())
            for mask in self.masks:
                digest.update(mask.indptr.astype("<i8").tobytes())
                digest.update(mask.indices.astype("<i8").tobytes())
            self._hash = digest.hexdigest()
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hierarchy) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # never changed, so that clones of an estimator can share it

    def __repr__(self) -> str:
        edges = " + ".join(f"{mask.nnz:,}" for mask in self.masks)
        named = zip(self.layer_names, self.layers, strict=True)
        counts = ", ".join(f"{len(names):,} {kind.split()[0]}s" for kind, names in named)
        return f"Hierarchy({counts}; {edges} edges)"

    def restrict(self, sites: Iterable[str], *, min_genes: int | None = None) -> Self:
        """Keep these sites, and the genes and pathways they still reach.

        Parameters
        ----------
        sites : iterable of str
            Names not in the hierarchy are listed in `unannotated`; repeats count once.
        min_genes : int, optional
            Pathways left with fewer genes go too, and what reached only them. Default: the limit
            that the hierarchy was made with; where no pathway has so many genes left, the most
            that one has, and a warning says so.

        Returns
        -------
        Hierarchy

        Raises
        ------
        MiracleError
            If none of the sites is in the hierarchy, or no pathway has ``min_genes`` genes left.
        """
        wanted = pd.Index(list(sites), dtype=object).unique()
        keep = self.sites.isin(wanted)
        if not keep.any():
            raise MiracleError(
                f"none of the {len(wanted)} sites (such as {', '.join(map(repr, wanted[:2]))}) is "
                f"among the {len(self.sites)} sites of the hierarchy (such as {self.sites[0]!r})"
            )
        genes_left = self._genes_left(keep)
        most = int(genes_left.max())
        if min_genes is not None and most < min_genes:
            raise MiracleError(
                f"no pathway has {min_genes} genes among those of the {int(keep.sum())} sites"
            )
        limit = min(self.min_genes, most) if min_genes is None else min_genes
        if min_genes is None and most < self.min_genes:
            log.warning(
                "no pathway has %d genes among those of %d sites: those with %d are kept",
                self.min_genes,
                keep.sum(),
                most,
            )
        alive = self._alive(keep, genes_left >= limit)
        masks = [
            mask[lower][:, upper]
            for mask, (lower, upper) in zip(self.masks, pairwise(alive), strict=True)
        ]
        edges = (
            np.repeat(alive[0], np.diff(self.site_gene.indptr)) & alive[1][self.site_gene.indices]
        )
        listed = self.unannotated
        listed = listed[(listed["layer"] != "site") | listed["name"].isin(wanted)]
        unknown = wanted[~wanted.isin(self.sites) & ~wanted.isin(listed["name"])]
        lost = self.sites[keep & ~alive[0]]
        unannotated = [
            listed,
            pd.DataFrame({"name": unknown, "layer": "site", "reason": "not in this hierarchy"}),
            pd.DataFrame({"name": lost, "layer": "site", "reason": NO_SET_OF_SIZE}),
        ]
        steps = [
            (kind, "left out by restriction to given sites", int((~left).sum()), int(left.sum()))
            for kind, left in zip(self.layer_names, alive, strict=True)
        ]
        return type(self)(
            [names[left] for names, left in zip(self.layers, alive, strict=True)],
            masks,
            groups=self.groups[edges],
            unannotated=_stack(unannotated),
            filters=_stack([self.filters, pd.DataFrame(steps, columns=_STEP)]),
            sources=self.sources,
            min_genes=limit,
        )

    def _genes_left(self, sites: np.ndarray) -> np.ndarray:
        """Per pathway, how many of its genes some sites reach."""
        genes = self.gene_pathway[_reached(self.site_gene, sites)]
        return np.bincount(genes.indices, minlength=len(self.pathways))

    def _alive(self, sites: np.ndarray, pathways: np.ndarray) -> list[np.ndarray]:
        """Per layer, which nodes remain when only some sites and pathways are kept."""
        genes = _reached(self.site_gene, sites)
        genes &= self.gene_pathway @ pathways.astype(np.int32) > 0
        sites = sites & (self.site_gene @ genes.astype(np.int32) > 0)
        alive = [sites, genes, pathways]
        for mask in self.masks[2:]:
            alive.append(_reached(mask, alive[-1]))
        return alive

    def permuted(self, seed: int = 0) -> Self:
        """Shuffle the edges of every mask; every node keeps its degrees.

        Parameters
        ----------
        seed : int

        Returns
        -------
        Hierarchy
            Same names; the control for "is it the biology, or only the shape of the mask".

        Warns
        -----
        UserWarning
            If no edge has another place: it is no control then.
        """
        rng = np.random.default_rng(seed)
        return self._rewired([permute_edges(mask, rng) for mask in self.masks], "permuted")

    def random(self, seed: int = 0) -> Self:
        """Draw as many edges per mask at random, with no regard to degrees.

        Parameters
        ----------
        seed : int

        Returns
        -------
        Hierarchy
            Same names; every node keeps at least one edge.
        """
        rng = np.random.default_rng(seed)
        return self._rewired([random_edges(mask, rng) for mask in self.masks], "random")

    def fully_connected(self) -> Self:
        """Connect every node to all nodes of the next layer.

        Returns
        -------
        Hierarchy

        Raises
        ------
        MiracleError
            If that makes more than 50 million edges.
        """
        n_edges = sum(rows * columns for rows, columns in (mask.shape for mask in self.masks))
        if n_edges > MAX_DENSE_EDGES:
            raise MiracleError(
                f"fully connected, this hierarchy would have {n_edges:,} edges, more than the "
                f"{MAX_DENSE_EDGES:,} allowed: restrict it to fewer sites first"
            )
        dense = [csr_matrix(np.ones(mask.shape, dtype=bool)) for mask in self.masks]
        return self._rewired(dense, "fully connected")

    def hold_out(
        self, share: float, seed: int = 0, *, level: str = "gene-pathway"
    ) -> tuple[Self, pd.DataFrame]:
        """Take away some edges, to ask whether training would find them again.

        Parameters
        ----------
        share : float
            Share of the edges of the level, between 0 and 1.
        seed : int
        level : {"gene-pathway", "site-gene"} or a further level of `level_names`
            Where edges are taken away.

        Returns
        -------
        hierarchy : Hierarchy
            Same names; every node keeps at least one edge.
        edges : DataFrame
            The edges held out: ``child`` and ``parent``, sorted.

        Raises
        ------
        MiracleError
            If the level does not exist, or so many edges cannot go without emptying a node.
        """
        if level not in self.level_names:
            raise MiracleError(
                f"there is no level {level!r}; there are {', '.join(self.level_names)}"
            )
        if not 0 < share < 1:
            raise MiracleError(f"share is {share}; expected a number between 0 and 1")
        i = self.level_names.index(level)
        mask = self.masks[i]
        free = removable_edges(mask, np.random.default_rng(seed))
        n_out = round(share * mask.nnz)
        if n_out > len(free):
            raise MiracleError(
                f"{n_out} of the {mask.nnz} {level} edges cannot be held out: all but {len(free)} "
                "are needed to leave every node an edge"
            )
        out = np.zeros(mask.nnz, dtype=bool)
        out[free[:n_out]] = True
        rows = np.repeat(np.arange(mask.shape[0]), np.diff(mask.indptr))
        kept = boolean_csr(rows[~out], mask.indices[~out], mask.shape)
        edges = pd.DataFrame(
            {"child": self.layers[i][rows[out]], "parent": self.layers[i + 1][mask.indices[out]]}
        )
        rest = type(self)(
            self.layers,
            [*self.masks[:i], kept, *self.masks[i + 1 :]],
            groups=self.groups[~out] if i == 0 else self.groups,
            unannotated=self.unannotated,
            filters=self.filters,
            sources=self.sources,
            min_genes=self.min_genes,
        )
        return rest, edges

    def members(self, pathway: str) -> pd.DataFrame:
        """List the genes and sites of one pathway.

        Parameters
        ----------
        pathway : str

        Returns
        -------
        DataFrame
            One row per site-gene pair, sorted by gene and site: ``gene``, ``site``, ``group``.

        Raises
        ------
        MiracleError
            If there is no such pathway.
        """
        if pathway not in self.pathways:
            raise MiracleError(f"there is no pathway {pathway!r} among the {len(self.pathways)}")
        column = self.gene_pathway[:, [self.pathways.get_loc(pathway)]]
        inside = np.diff(column.indptr) > 0
        edges = np.flatnonzero(inside[self.site_gene.indices])
        rows = np.repeat(np.arange(len(self.sites)), np.diff(self.site_gene.indptr))
        table = pd.DataFrame(
            {
                "gene": self.genes[self.site_gene.indices[edges]],
                "site": self.sites[rows[edges]],
                "group": self.groups[edges],
            }
        )
        return table.sort_values(["gene", "site"], ignore_index=True)

    def gene_sets(self) -> dict[str, list[str]]:
        """Genes of every pathway, as far as they are in the hierarchy.

        Returns
        -------
        dict of str to list of str
        """
        columns = self.gene_pathway.tocsc()
        ends = zip(columns.indptr[:-1], columns.indptr[1:], strict=True)
        return {
            name: self.genes[np.sort(columns.indices[start:end])].tolist()
            for name, (start, end) in zip(self.pathways, ends, strict=True)
        }

    def to_frame(self) -> pd.DataFrame:
        """All edges as one tidy table.

        Returns
        -------
        DataFrame
            One row per edge: ``child``, ``parent``, ``level`` (see `level_names`), ``source`` and
            ``group`` (RefGene groups of a site-gene edge, else empty).
        """
        tables = []
        for i, mask in enumerate(self.masks):
            rows = np.repeat(np.arange(mask.shape[0]), np.diff(mask.indptr))
            tables.append(
                pd.DataFrame(
                    {
                        "child": self.layers[i][rows],
                        "parent": self.layers[i + 1][mask.indices],
                        "level": self.level_names[i],
                        "source": self.sources[i],
                        "group": self.groups if i == 0 else "",
                    }
                )
            )
        return pd.concat(tables, ignore_index=True)

    def to_networkx(self) -> nx.DiGraph:
        """Return the graph with edges from child to parent.

        Returns
        -------
        networkx.DiGraph
            Nodes are pairs (layer, name), because a gene and a pathway may share a name; node
            attributes ``layer`` and ``name``, edge attributes ``level``, ``source``, ``group``.
        """
        graph = nx.DiGraph()
        for kind, names in zip(self.layer_names, self.layers, strict=True):
            graph.add_nodes_from(((kind, name), {"layer": kind, "name": name}) for name in names)
        kinds = dict(zip(self.level_names, pairwise(self.layer_names), strict=True))
        for row in self.to_frame().itertuples(index=False):
            lower, upper = kinds[row.level]
            attributes = {"level": row.level, "source": row.source, "group": row.group}
            graph.add_edge((lower, row.child), (upper, row.parent), **attributes)
        return graph

    def degrees(self) -> dict[str, pd.Series]:
        """Count the edges of every node.

        Returns
        -------
        dict of str to Series
            "genes per site", "sites per gene", "pathways per gene", "genes per pathway" (and so
            on for further levels), each indexed by the node's name.
        """
        found = {}
        for i, mask in enumerate(self.masks):
            lower, upper = self.layer_names[i : i + 2]
            up = np.diff(mask.indptr)
            down = np.bincount(mask.indices, minlength=mask.shape[1])
            found[f"{upper}s per {lower}"] = pd.Series(up, index=self.layers[i])
            found[f"{lower}s per {upper}"] = pd.Series(down, index=self.layers[i + 1])
        return found

    def describe(self) -> pd.DataFrame:
        """Summarise coverage, degrees and what each filter removed.

        Returns
        -------
        DataFrame
            Columns ``part`` ("coverage", "size", "redundancy", "degree" or "filter"), ``what`` and
            ``value``. `redundant_sets` names the pathways that repeat or contain one another.
        """
        listed = self.unannotated[self.unannotated["layer"] == "site"]
        n_gene = int(listed["reason"].isin([NO_SET, NO_SET_OF_SIZE]).sum()) + len(self.sites)
        n_given = len(self.sites) + len(listed)
        rows: list[tuple[str, str, float]] = [
            ("coverage", "sites given", n_given),
            ("coverage", "sites with a gene", n_gene),
            ("coverage", "share of sites with a gene", n_gene / n_given),
            ("coverage", "sites that reach a pathway", len(self.sites)),
            ("coverage", "share of sites that reach a pathway", len(self.sites) / n_given),
        ]
        for kind, names in zip(self.layer_names, self.layers, strict=True):
            rows.append(("size", f"{kind}s", len(names)))
        for level, mask in zip(self.level_names, self.masks, strict=True):
            rows.append(("size", f"{level} edges", mask.nnz))
        redundant = redundant_sets(self.gene_sets())
        for relation, what in (("duplicate of", "equal to"), ("nested in", "nested in")):
            n_sets = redundant.loc[redundant["relation"] == relation, "set"].nunique()
            rows.append(("redundancy", f"pathways {what} another", n_sets))
        for what, degree in self.degrees().items():
            for share, value in degree.quantile([0, 0.25, 0.5, 0.75, 0.95, 1]).items():
                rows.append(("degree", f"{what}, {_QUANTILES[share]}", value))
        for step in self.filters.itertuples(index=False):
            rows.append(("filter", f"{step.layer}s {step.step}", step.removed))
        return pd.DataFrame(rows, columns=["part", "what", "value"])

    def _rewired(self, masks: list[csr_matrix], source: str) -> Self:
        """Same names under other masks; edge groups no longer apply."""
        if not any((new != old).nnz for new, old in zip(masks, self.masks, strict=True)):
            warnings.warn(f"the {source} mask is the mask itself, and no control", stacklevel=3)
        return type(self)(
            self.layers,
            masks,
            unannotated=self.unannotated,
            filters=self.filters,
            sources=[source] * len(masks),
            min_genes=self.min_genes,
        )

    def save(self, path: str | Path) -> None:
        """Write everything to one file (NumPy ``.npz`` without pickled objects).

        Parameters
        ----------
        path : str or Path
        """
        values: dict[str, Any] = {
            "layers": [list(layer) for layer in self.layers],
            "sources": self.sources,
            "min_genes": self.min_genes,
            "unannotated": self.unannotated.to_dict("list"),
            "filters": self.filters.to_dict("list"),
            "groups": list(self.groups),
        }
        for i, mask in enumerate(self.masks):
            values[f"indptr{i}"], values[f"indices{i}"] = mask.indptr, mask.indices
        storage.write(path, values)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a hierarchy written by `save`.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Hierarchy

        Raises
        ------
        MiracleError
            If the file is absent, is no hierarchy, or was written by a later version.
        """
        values, name = storage.read(path), Path(path).name
        layers, masks = storage.graph(values, name)
        try:
            tables = [pd.DataFrame(values[key]) for key in ("unannotated", "filters")]
            groups, sources = np.array(values["groups"], dtype=object), list(values["sources"])
            min_genes = int(values.get("min_genes", 1))  # files of before had no limit
        except (KeyError, TypeError, ValueError):
            raise MiracleError(f"{name} is damaged: a table of it cannot be read") from None
        if groups.shape != (masks[0].nnz,) or [list(t) for t in tables] != [_LISTED, _STEP]:
            raise MiracleError(f"{name} is damaged: its tables do not fit its masks")
        return cls(
            layers,
            masks,
            groups=groups,
            unannotated=tables[0],
            filters=tables[1],
            sources=sources,
            min_genes=min_genes,
        )


def _reached(mask: csr_matrix, rows: np.ndarray) -> np.ndarray:
    """Columns with an edge from one of the rows."""
    return np.bincount(mask[rows].indices, minlength=mask.shape[1]) > 0


def _stack(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other; empty ones would change the types."""
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
