"""Effects planted in simulated cohorts: sites that a pathway shifts together in cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miracle_lib.cohorts.simulated_annotation import Graph
from miracle_lib.errors import MiracleError

_RESPONSIVE = 0.7  # share of a planted pathway's sites that shift
_AUTOSOMAL = 0.8  # least share of a planted pathway's sites that are not on X or Y
_GROUP = (3, 10)  # genes without a pathway that are planted together

_Sites = tuple[str | None, np.ndarray]  # name of a pathway, if it is one, and its sites


@dataclass(frozen=True)
class Module:
    """Sites that one planted process shifts together."""

    sites: np.ndarray
    effect: np.ndarray
    pathway: str | None
    shared: bool
    direction: int


def plant(
    rng: np.random.Generator,
    tasks: list[str],
    graph: Graph,
    n_planted: int,
    shared: float,
    effect: float,
    outside: float,
) -> dict[str, list[Module]]:
    """Choose each task's planted processes: pathways, and groups of genes outside of them all."""
    n_outside = round(outside * n_planted)
    plan: dict[str, list[Module]] = {task: [] for task in tasks}
    for number, find in ((n_planted - n_outside, _pathway_modules), (n_outside, _outside_modules)):
        n_common = round(shared * number)
        wanted = n_common + (number - n_common) * len(tasks)
        chosen = _least_overlapping(rng, find(rng, graph, wanted), wanted)
        for index, (pathway, sites) in enumerate(chosen):
            common = index < n_common
            module = _module(rng, sites, pathway, common, effect)
            for task in tasks if common else [tasks[index % len(tasks)]]:
                plan[task].append(module)
    return plan


def _pathway_modules(rng: np.random.Generator, graph: Graph, wanted: int) -> list[_Sites]:
    """List the autosomal sites of each pathway that has 5 to 60 genes, few of them on X or Y."""
    autosomal = ~graph.var["chromosome"].isin(["X", "Y"]).to_numpy()
    gene_sites, pathway_genes = graph.site_gene.tocsc(), graph.gene_pathway.tocsc()
    found: list[_Sites] = []
    for index, name in enumerate(graph.pathways):
        genes = pathway_genes.indices[pathway_genes.indptr[index] : pathway_genes.indptr[index + 1]]
        sites = np.unique(gene_sites[:, genes].indices)
        if 5 <= len(genes) <= 60 and autosomal[sites].mean() > _AUTOSOMAL:
            found.append((name, sites[autosomal[sites]]))
    return found


def _outside_modules(rng: np.random.Generator, graph: Graph, wanted: int) -> list[_Sites]:
    """Group the genes that are in no pathway, and list the sites that no pathway reaches either."""
    known = np.diff(graph.gene_pathway.indptr) > 0
    usable = ~graph.var["chromosome"].isin(["X", "Y"]).to_numpy()
    usable &= graph.site_gene @ known.astype(np.float32) == 0
    free = rng.permutation(np.flatnonzero(~known))
    gene_sites = graph.site_gene.tocsc()
    size = int(np.clip(len(free) // max(wanted, 1), *_GROUP))
    groups = [free[start : start + size] for start in range(0, len(free) - size + 1, size)]
    found = [np.unique(gene_sites[:, group].indices) for group in groups]
    return [(None, sites[usable[sites]]) for sites in found if usable[sites].any()]


def _least_overlapping(rng: np.random.Generator, pool: list[_Sites], wanted: int) -> list[_Sites]:
    """Pick ``wanted`` modules in random order, those sharing few sites with the picked first."""
    if len(pool) < wanted:
        raise MiracleError(
            f"{wanted} different gene groups must be planted over all tasks but only {len(pool)} "
            "of suitable size exist; lower n_planted or raise n_pathways, n_genes or shared."
        )
    left = [pool[index] for index in rng.permutation(len(pool))]
    taken: set[int] = set()
    chosen: list[_Sites] = []
    for limit in (0.1, 0.25, 0.5, 1.0):
        rest = []
        for module in left:
            overlap = len(taken.intersection(module[1].tolist())) / len(module[1])
            if len(chosen) < wanted and overlap <= limit:
                chosen.append(module)
                taken.update(module[1].tolist())
            else:
                rest.append(module)
        left = rest
    return [chosen[index] for index in rng.permutation(len(chosen))]


def _module(
    rng: np.random.Generator, sites: np.ndarray, pathway: str | None, shared: bool, effect: float
) -> Module:
    """Draw which sites of a planted process respond, how strongly, and in which direction."""
    responds = rng.random(len(sites)) < _RESPONSIVE
    responds[rng.integers(len(sites))] = True
    direction = int(rng.choice([-1, 1]))
    strength = np.abs(rng.normal(1, 0.3, responds.sum()))
    return Module(sites[responds], direction * effect * strength, pathway, shared, direction)
