"""Sites, genes and pathways of simulated cohorts: invented, or taken from a real annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from miracle_lib.errors import MiracleError

GROUPS = {
    "TSS1500": 0.16,
    "TSS200": 0.12,
    "5'UTR": 0.11,
    "1stExon": 0.06,
    "Body": 0.5,
    "3'UTR": 0.05,
}

_GENIC = 0.75  # share of sites with a gene


def make_annotation(
    rng: np.random.Generator, n_sites: int, n_genes: int | None, n_pathways: int | None
) -> tuple[pd.Index, pd.DataFrame, dict[str, list[str]]]:
    """Invent sites, genes with a heavy-tailed number of sites, and overlapping pathways."""
    n_genes = max(n_sites // 4, 20) if n_genes is None else n_genes
    n_pathways = max(n_genes // 5, 12) if n_pathways is None else n_pathways
    for name, n in {"n_sites": n_sites, "n_genes": n_genes}.items():
        if n < 20:
            raise MiracleError(f"{name} is {n}; at least 20 are needed.")
    if n_pathways < 1:
        raise MiracleError(f"n_pathways is {n_pathways}; at least 1 is needed.")
    sites = _site_names(rng, n_sites)
    genes = np.array([f"SIM{number:0{len(str(n_genes))}d}" for number in range(1, n_genes + 1)])
    weight = rng.lognormal(0, 1, n_genes)

    genic = np.sort(rng.permutation(n_sites)[: round(_GENIC * n_sites)])
    pairs = pd.DataFrame(
        {
            "site": np.concatenate([genic, rng.choice(genic, len(genic) // 12, replace=False)]),
        }
    )
    pairs["gene"] = rng.choice(n_genes, len(pairs), p=weight / weight.sum())
    pairs = pairs.drop_duplicates().sort_values(["site", "gene"], ignore_index=True)
    site_gene = pd.DataFrame(
        {
            "site": sites[pairs["site"]],
            "gene": genes[pairs["gene"]],
            "group": rng.choice(list(GROUPS), len(pairs), p=list(GROUPS.values())),
        }
    )

    # Genes with more sites are better studied and sit in more pathways, as on the real array.
    member = rng.permutation(n_genes)[: max(round(0.6 * n_genes), 10)]
    studied = weight[member] ** 0.3
    largest = max(min(60, len(member) // 3), 5)
    size = np.clip(rng.lognormal(np.log(11), 0.6, n_pathways).round(), 5, largest).astype(int)
    digits = max(len(str(n_pathways)), 3)
    gene_sets = {
        f"Simulated pathway {number:0{digits}d}": sorted(
            genes[rng.choice(member, k, replace=False, p=studied / studied.sum())]
        )
        for number, k in enumerate(size, start=1)
    }
    return sites, site_gene, gene_sets


def use_annotation(
    rng: np.random.Generator,
    annotation: tuple[pd.DataFrame, Mapping[str, Sequence[str]]],
    n_sites: int | None,
) -> tuple[pd.Index, pd.DataFrame, dict[str, list[str]]]:
    """Take sites and genes from a real annotation; fill up with sites without a gene."""
    site_gene, gene_sets = annotation
    for column in ("site", "gene"):
        if column not in site_gene.columns:
            raise MiracleError(
                f"annotation has no column {column!r}; found {', '.join(site_gene.columns)}."
            )
    known = pd.Index(site_gene["site"].unique())
    has_gene = site_gene["gene"].notna() & (site_gene["gene"] != "")
    site_gene = site_gene[has_gene].drop_duplicates(["site", "gene"])
    sites = known
    if n_sites is not None:
        genic = pd.Index(site_gene["site"].unique())
        keep = min(len(genic), round(_GENIC * n_sites))
        genic = genic[np.sort(rng.permutation(len(genic))[:keep])]
        bare = known[~known.isin(site_gene["site"])][: n_sites - keep]
        sites = genic.append(bare)
        extra = _site_names(rng, 2 * (n_sites - len(sites))).difference(known, sort=False)
        sites = sites.append(extra[: n_sites - len(sites)])
    sites = sites.sort_values()
    site_gene = site_gene[site_gene["site"].isin(sites)].reset_index(drop=True)
    return sites, site_gene, {name: sorted(set(genes)) for name, genes in gene_sets.items()}


def _site_names(rng: np.random.Generator, n: int) -> pd.Index:
    """Give ``n`` distinct sorted probe names."""
    numbers = rng.choice(29_000_000, n, replace=False)
    return pd.Index([f"cg{number:08d}" for number in np.sort(numbers)])


@dataclass(frozen=True)
class Graph:
    """Annotation as index arrays: which genes a site has and which pathways a gene is in."""

    var: pd.DataFrame
    site_gene: sparse.csr_array
    gene_pathway: sparse.csr_array
    genes: pd.Index
    pathways: list[str]
    promoter: np.ndarray

    @classmethod
    def of(
        cls,
        rng: np.random.Generator,
        sites: pd.Index,
        site_gene: pd.DataFrame,
        gene_sets: dict[str, list[str]],
    ) -> Graph:
        """Index the tables."""
        genes = pd.Index(np.sort(site_gene["gene"].unique()))
        row, column = sites.get_indexer(site_gene["site"]), genes.get_indexer(site_gene["gene"])
        edges = sparse.csr_array(
            (np.ones(len(row), np.float32), (row, column)), shape=(len(sites), len(genes))
        )
        lengths = [len(members) for members in gene_sets.values()]
        set_index = np.repeat(np.arange(len(gene_sets)), lengths)
        gene_index = genes.get_indexer([gene for members in gene_sets.values() for gene in members])
        present = gene_index >= 0
        membership = sparse.csr_array(
            (np.ones(present.sum(), np.float32), (gene_index[present], set_index[present])),
            shape=(len(genes), len(gene_sets)),
        )
        promoter = np.zeros(len(sites), bool)
        if "group" in site_gene:
            promoter[row[site_gene["group"].isin(["TSS200", "1stExon", "5'UTR"])]] = True
        var = _positions(rng, sites, site_gene, len(genes), edges)
        return cls(var, edges, membership, genes, list(gene_sets), promoter)

    @property
    def first_gene(self) -> np.ndarray:
        """Index of each site's first gene, -1 without one."""
        start, stop = self.site_gene.indptr[:-1], self.site_gene.indptr[1:]
        first = np.full(len(start), -1)
        first[stop > start] = self.site_gene.indices[start[stop > start]]
        return first


def _positions(
    rng: np.random.Generator,
    sites: pd.Index,
    site_gene: pd.DataFrame,
    n_genes: int,
    edges: sparse.csr_array,
) -> pd.DataFrame:
    """Invent a chromosome and position per site; sites of one gene lie together."""
    lengths = np.array([249, 243, 198, 191, 181, 171, 159, 146, 141, 136, 135, 134, 115, 107, 103,
                        90, 81, 78, 59, 63, 48, 51, 155, 59])  # fmt: skip
    names = np.array([*map(str, range(1, 23)), "X", "Y"])
    share = np.append(lengths[:22] / lengths[:22].sum() * 0.97, [0.024, 0.006])
    place = edges.tocsc() if n_genes else None
    chromosome = rng.choice(24, len(sites), p=share)
    position = (rng.random(len(sites)) * lengths[chromosome] * 1e6).astype(np.int64)
    if place is not None:
        gene_chromosome = rng.choice(24, n_genes, p=share)
        start = (rng.random(n_genes) * lengths[gene_chromosome] * 1e6).astype(np.int64)
        gene = np.repeat(np.arange(n_genes), np.diff(place.indptr))
        chromosome[place.indices] = gene_chromosome[gene]
        position[place.indices] = start[gene] + rng.integers(0, 50_000, len(gene))
    joined = site_gene.groupby("site", sort=False)["gene"].agg(";".join).reindex(sites)
    return pd.DataFrame(
        {
            "chromosome": names[chromosome],
            "position": position,
            "genes": joined.fillna("").to_numpy(),
        },
        index=sites,
    )


def validation_sets(
    rng: np.random.Generator, gene_sets: dict[str, list[str]]
) -> dict[str, dict[str, list[str]]]:
    """Redraw the sets as two other libraries would: some genes left out, others added."""
    pool = sorted({gene for genes in gene_sets.values() for gene in genes})
    libraries = {}
    for letter, keep in {"A": 0.8, "B": 0.6}.items():
        library = {}
        for name, genes in gene_sets.items():
            kept = [gene for gene in genes if rng.random() < keep]
            lost = len(genes) - len(kept)
            added = map(str, rng.choice(pool, lost)) if lost else ()
            library[f"{name} ({letter})"] = sorted({*kept, *added})
        libraries[f"Simulated library {letter}"] = library
    return libraries
