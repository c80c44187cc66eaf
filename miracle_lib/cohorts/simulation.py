"""Simulated case/control cohorts with planted pathways, shaped like 450K array data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.cohorts.simulated_annotation import (
    Graph,
    make_annotation,
    use_annotation,
    validation_sets,
)
from miracle_lib.cohorts.simulated_effects import Module, plant
from miracle_lib.cohorts.simulated_hospital import Hospital
from miracle_lib.cohorts.simulated_values import People, Traits, draw_people, draw_values
from miracle_lib.errors import MiracleError

PAPER_SIZES = {"IBD": 53, "MS": 88, "Psoriasis": 79, "RA": 49, "SLE": 160, "T1D": 118}


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes
    ----------
    pathways : DataFrame
        One row per task and planted pathway: task, pathway, shared (bool), direction (+1, -1).
    genes : DataFrame
        One row per task and gene with a shifted site: task, gene.
    sites : DataFrame
        One row per task and shifted site: task, site, effect (mean M-value shift of the cases).
    """

    pathways: pd.DataFrame
    genes: pd.DataFrame
    sites: pd.DataFrame


@dataclass(frozen=True)
class Simulation:
    """Simulated cohorts, their annotation and what was planted in them.

    Attributes
    ----------
    cohorts : dict of str to AnnData
        One cohort per task, samples x sites of beta values (float32, NaN for missing).
    site_gene : DataFrame
        Annotation with the columns site, gene, group.
    gene_sets : dict of str to list of str
        Pathways and their genes: the sets meant for the mask.
    validation_sets : dict of str to dict
        Two further libraries over the same genes whose sets have other boundaries.
    truth : Truth
        Planted pathways, genes and sites of every task.
    hospitals : list of AnnData
        Further cohorts of the tasks, seen in other hospitals.
    """

    cohorts: dict[str, AnnData]
    site_gene: pd.DataFrame
    gene_sets: dict[str, list[str]]
    validation_sets: dict[str, dict[str, list[str]]]
    truth: Truth
    hospitals: list[AnnData]


def simulate_cohorts(
    sizes: Mapping[str, int] | None = None,
    *,
    n_sites: int | None = None,
    n_genes: int | None = None,
    n_pathways: int | None = None,
    n_planted: int = 5,
    shared: float = 0.4,
    effect: float = 0.3,
    outside: float = 0.0,
    missing: float = 0.01,
    cohort_effect: float = 0.5,
    annotation: tuple[pd.DataFrame, Mapping[str, Sequence[str]]] | None = None,
    null: bool = False,
    hospitals: Mapping[str, Sequence[Hospital]] | None = None,
    random_state: int = 0,
) -> Simulation:
    """Simulate one case/control cohort per task with planted pathway effects.

    Beta values are bimodal. In M-values every site has its own mean and standard deviation;
    sites of one gene and genes of one pathway vary together. Age, sex, smoking, cell-type
    fractions and the cohort act on some sites. Unless ``null``, cell fractions, age and smoking
    are weakly associated with being a case. A few subjects have two samples.

    Parameters
    ----------
    sizes : mapping of str to int, optional
        Samples per task; half of the subjects are cases. Default: the paper's six cohorts.
    n_sites : int, optional
        Sites, a quarter of them without a gene. Default 2,000, or the sites of ``annotation``.
    n_genes, n_pathways : int, optional
        Default: a quarter of ``n_sites``, and a fifth of ``n_genes``. Not with ``annotation``.
    n_planted : int, default 5
        Planted pathways per task.
    shared : float, default 0.4
        Share of the planted pathways that all tasks have, with one direction.
    effect : float, default 0.3
        Mean shift of a planted site in cases, in M-value units.
    outside : float, default 0
        Share of ``n_planted`` that is planted in genes which no pathway contains.
    missing : float, default 0.01
        Share of values that are missing; the rate differs between sites.
    cohort_effect : float, default 0.5
        Standard deviation over cohorts of a site's level, in M-value units; half of it is the
        standard deviation of the log of its scale, and a sixth that of the log of one factor which
        stretches all levels of a cohort.
    annotation : tuple of (DataFrame, mapping), optional
        A real (site_gene, gene_sets) to simulate on; rows without a gene are sites without one.
    null : bool, default False
        Plant nothing, and make nothing depend on being a case.
    hospitals : mapping of str to sequence of Hospital, optional
        Further cohorts of some tasks, by task. The first cohorts are the same with and without.
    random_state : int, default 0
        Seed; the same arguments give the same values.

    Returns
    -------
    Simulation
        Cohorts, annotation, gene sets, validation sets, truth and other hospitals.

    Raises
    ------
    MiracleError
        If an argument is out of range or there are too few pathways to plant.

    Examples
    --------
    >>> simulation = simulate_cohorts({"RA": 40, "SLE": 60}, n_sites=500, random_state=1)
    >>> simulation.cohorts["SLE"].shape
    (60, 500)
    >>> sorted(simulation.truth.pathways.columns)
    ['direction', 'pathway', 'shared', 'task']
    """
    sizes = dict(PAPER_SIZES if sizes is None else sizes)
    hospitals = hospitals or {}
    _check_arguments(sizes, n_planted, effect, shared, outside, missing, cohort_effect)
    if unknown := hospitals.keys() - sizes:
        raise MiracleError(f"hospitals names {min(unknown)!r}, which is not a task of sizes.")
    rng = np.random.default_rng(random_state)
    if annotation is None:
        n_sites = 2000 if n_sites is None else n_sites
        sites, site_gene, gene_sets = make_annotation(rng, n_sites, n_genes, n_pathways)
    elif n_genes is not None or n_pathways is not None:
        raise MiracleError("n_genes and n_pathways cannot be given with an annotation.")
    else:
        sites, site_gene, gene_sets = use_annotation(rng, annotation, n_sites)
    graph = Graph.of(rng, sites, site_gene, gene_sets)
    modules: dict[str, list] = {task: [] for task in sizes}
    if not null and n_planted:
        modules = plant(rng, list(sizes), graph, n_planted, shared, effect, outside)
    people = {
        task: draw_people(rng, task, n, len(modules[task]), null) for task, n in sizes.items()
    }
    traits = Traits.draw(rng, graph)
    values = draw_values(rng, graph, traits, people, modules, missing, cohort_effect)
    settings = f"effect {effect}, shared {shared}, outside {outside}, seed {random_state}"
    cohorts = {task: _as_cohort(values[task], people[task], graph, settings) for task in sizes}
    validation = validation_sets(rng, gene_sets)
    others = [
        _elsewhere(task, number, hospital, graph, traits, modules[task], missing, null, rng)
        for task, of_task in hospitals.items()
        for number, hospital in enumerate(of_task, start=2)
    ]
    return Simulation(cohorts, site_gene, gene_sets, validation, _truth(modules, graph), others)


def _as_cohort(values: np.ndarray, people: People, graph: Graph, settings: str) -> AnnData:
    """Put values and people together."""
    provenance = {"source": "simulated", "settings": settings}
    return AnnData(values, obs=people.obs, var=graph.var, uns={"provenance": provenance})


def _elsewhere(
    task: str,
    number: int,
    hospital: Hospital,
    graph: Graph,
    traits: Traits,
    modules: list[Module],
    missing: float,
    null: bool,
    rng: np.random.Generator,
) -> AnnData:
    """Simulate a task in another hospital: same disease, same sites, other people and levels."""
    people = draw_people(
        rng,
        task,
        hospital.n,
        len(modules),
        null,
        name=f"{task} (hospital {number})",
        cases=hospital.cases,
        granulocytes=hospital.granulocytes,
    )
    values = draw_values(
        rng, graph, traits, {task: people}, {task: modules}, missing, hospital.cohort_effect
    )
    present = rng.random(len(graph.var)) >= hospital.absent
    return _as_cohort(values[task], people, graph, str(hospital))[:, present].copy()


def _check_arguments(
    sizes: dict[str, int],
    n_planted: int,
    effect: float,
    shared: float,
    outside: float,
    missing: float,
    cohort_effect: float,
) -> None:
    """Refuse arguments that no simulation can follow."""
    if not sizes:
        raise MiracleError("sizes is empty; give at least one task with its number of samples.")
    for task, n in sizes.items():
        if n < 8:
            raise MiracleError(f"sizes[{task!r}] is {n}; a cohort needs at least 8 samples.")
    for name, share in {"shared": shared, "outside": outside, "missing": missing}.items():
        if not 0 <= share <= 1:
            raise MiracleError(f"{name} is {share}; it must lie between 0 and 1.")
    for name, value in {"n_planted": n_planted, "cohort_effect": cohort_effect}.items():
        if value < 0:
            raise MiracleError(f"{name} is {value}; it must not be negative.")
    if not np.isfinite(effect):
        raise MiracleError(f"effect is {effect}; it must be a finite number of M-value units.")


def _truth(modules: dict[str, list[Module]], graph: Graph) -> Truth:
    """Tabulate the planted modules."""
    pathways = [
        (task, module.pathway, module.shared, module.direction)
        for task, planted in modules.items()
        for module in planted
        if module.pathway is not None
    ]
    rows = [
        pd.DataFrame({"task": task, "site": graph.var.index[m.sites], "effect": m.effect})
        for task, planted in modules.items()
        for m in planted
    ]
    sites = (
        pd.concat(rows).groupby(["task", "site"], as_index=False)["effect"].sum()
        if rows
        else pd.DataFrame({"task": [], "site": [], "effect": []})
    )
    genes = [
        (task, gene)
        for task, planted in modules.items()
        if planted
        for gene in graph.genes[
            np.unique(graph.site_gene[np.concatenate([m.sites for m in planted])].indices)
        ]
    ]
    return Truth(
        pd.DataFrame(pathways, columns=["task", "pathway", "shared", "direction"]),
        pd.DataFrame(genes, columns=["task", "gene"]),
        sites,
    )
