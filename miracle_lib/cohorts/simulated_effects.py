"""Effects planted in simulated cohorts: sites that a pathway shifts together in cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miracle_lib.cohorts.simulated_annotation import Graph
from miracle_lib.errors import MiracleError

_RESPONSIVE = 0.7  # share of a planted pathway's sites that shift


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
    inside = _pathway_modules(graph)
    hidden = _outside_modules(rng, graph)
    plan: dict[str, list[Module]] = {task: [] for task in tasks}
    for pool, number in ((inside, n_planted - n_outside), (hidden, n_outside)):
        n_common = round(shared * number)
        wanted = n_common + (number - n_common) * len(tasks)
        chosen = _least_overlapping(rng, pool, wanted)
        common, specific = chosen[:n_common], chosen[n_common:]
        for pathway, sites in common:
            module = _module(rng, sites, pathway, True, effect)
            for task in tasks:
                plan[task].append(module)
        for index, (pathway, sites) in enumerate(specific):
            module = _module(rng, sites, pathway, False, effect)
            plan[tasks[index % len(tasks)]].append(module)
    return plan


def _pathway_modules(graph: Graph) -> list[tuple[str | None, np.ndarray]]:
    """List the sites of each pathway that has 5 to 60 genes with autosomal sites."""
    autosomal = ~graph.var["chromosome"].isin(["X", "Y"]).to_numpy()
    gene_sites, pathway_genes = graph.site_gene.tocsc(), graph.gene_pathway.tocsc()
    found: list[tuple[str | None, np.ndarray]] = []
    for index, name in enumerate(graph.pathways):
        genes = pathway_genes.indices[pathway_genes.indptr[index] : pathway_genes.indptr[index + 1]]
        if 5 <= len(genes) <= 60:
            sites = np.unique(gene_sites[:, genes].indices)
            found.append((name, sites[autosomal[sites]]))
    return [(name, sites) for name, sites in found if len(sites)]


def _outside_modules(rng: np.random.Generator, graph: Graph) -> list[tuple[str | None, np.ndarray]]:
    """Group the genes that are in no pathway by tens and list the sites of each group."""
    autosomal = ~graph.var["chromosome"].isin(["X", "Y"]).to_numpy()
    free = rng.permutation(np.flatnonzero(np.diff(graph.gene_pathway.indptr) == 0))
    gene_sites = graph.site_gene.tocsc()
    groups = [free[start : start + 10] for start in range(0, len(free) - 4, 10)]
    found = [np.unique(gene_sites[:, group].indices) for group in groups]
    return [(None, sites[autosomal[sites]]) for sites in found if autosomal[sites].any()]


def _least_overlapping(
    rng: np.random.Generator, pool: list[tuple[str | None, np.ndarray]], wanted: int
) -> list[tuple[str | None, np.ndarray]]:
    """Pick ``wanted`` modules in random order, those sharing few sites with the picked first."""
    if len(pool) < wanted:
        raise MiracleError(
            f"{wanted} different gene groups must be planted over all tasks but only {len(pool)} "
            "of suitable size exist; lower n_planted or raise n_pathways, n_genes or shared."
        )
    left = [pool[index] for index in rng.permutation(len(pool))]
    taken: set[int] = set()
    chosen = []
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
