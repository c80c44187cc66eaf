"""Simulated case/control cohorts with planted pathways, shaped like 450K array data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from miracle_lib.errors import MiracleError

PAPER_SIZES = {"IBD": 53, "MS": 88, "Psoriasis": 79, "RA": 49, "SLE": 160, "T1D": 118}
CELL_TYPES = {"CD8T": 0.10, "CD4T": 0.16, "NK": 0.04, "Bcell": 0.05, "Mono": 0.08, "Gran": 0.57}
GROUPS = {
    "TSS1500": 0.16,
    "TSS200": 0.12,
    "5'UTR": 0.11,
    "1stExon": 0.06,
    "Body": 0.5,
    "3'UTR": 0.05,
}

_GENIC = 0.75  # share of sites with a gene
_RESPONSIVE = 0.7  # share of a planted pathway's sites that shift
_PENETRANCE = 0.6  # share of cases in whom a planted pathway is active
_REPEATED = 0.03  # share of samples that are a second sample of one subject
_HIDDEN = 4  # unrecorded technical factors, such as plate and array position
_BLOCK = 8192  # sites generated at a time: bounds the memory beside the result


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
    """

    cohorts: dict[str, AnnData]
    site_gene: pd.DataFrame
    gene_sets: dict[str, list[str]]
    validation_sets: dict[str, dict[str, list[str]]]
    truth: Truth


@dataclass(frozen=True)
class _Module:
    """Sites that one planted process shifts together."""

    sites: np.ndarray
    effect: np.ndarray
    pathway: str | None
    shared: bool
    direction: int


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
    random_state : int, default 0
        Seed; the same arguments give the same values.

    Returns
    -------
    Simulation
        Cohorts, annotation, gene sets, validation sets and truth.

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
    _check_arguments(sizes, n_planted, effect, shared, outside, missing, cohort_effect)
    rng = np.random.default_rng(random_state)
    if annotation is None:
        n_sites = 2000 if n_sites is None else n_sites
        sites, site_gene, gene_sets = _make_annotation(rng, n_sites, n_genes, n_pathways)
    else:
        sites, site_gene, gene_sets = _use_annotation(rng, annotation, n_sites)
    graph = _Graph.of(rng, sites, site_gene, gene_sets)
    modules = {task: [] for task in sizes}
    if not null and n_planted:
        modules = _plant(rng, list(sizes), graph, n_planted, shared, effect, outside)
    people = {task: _people(rng, task, n, len(modules[task]), null) for task, n in sizes.items()}
    values = _values(rng, graph, people, modules, missing, cohort_effect)
    settings = f"effect {effect}, shared {shared}, outside {outside}, seed {random_state}"
    cohorts = {
        task: AnnData(
            values[task],
            obs=people[task].obs,
            var=graph.var,
            uns={"provenance": {"source": "simulated", "settings": settings}},
        )
        for task in sizes
    }
    return Simulation(
        cohorts, site_gene, gene_sets, _validation_sets(rng, gene_sets), _truth(modules, graph)
    )


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


# ---------------------------------------------------------------- annotation


def _make_annotation(
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


def _use_annotation(
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
class _Graph:
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
    ) -> _Graph:
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


def _validation_sets(
    rng: np.random.Generator, gene_sets: dict[str, list[str]]
) -> dict[str, dict[str, list[str]]]:
    """Redraw the sets as two other libraries would: some genes left out, others added."""
    pool = sorted({gene for genes in gene_sets.values() for gene in genes})
    libraries = {}
    for letter, keep in {"A": 0.8, "B": 0.6}.items():
        library = {}
        for name, genes in gene_sets.items():
            kept = [gene for gene in genes if rng.random() < keep]
            added = rng.choice(pool, len(genes) - len(kept)) if len(kept) < len(genes) else []
            library[f"{name} ({letter})"] = sorted({*kept, *map(str, added)})
        libraries[f"Simulated library {letter}"] = library
    return libraries


# ---------------------------------------------------------------- planted effects


def _plant(
    rng: np.random.Generator,
    tasks: list[str],
    graph: _Graph,
    n_planted: int,
    shared: float,
    effect: float,
    outside: float,
) -> dict[str, list[_Module]]:
    """Choose each task's planted processes: pathways, and groups of genes outside of them all."""
    n_outside = round(outside * n_planted)
    inside = _pathway_modules(graph)
    hidden = _outside_modules(rng, graph)
    plan: dict[str, list[_Module]] = {task: [] for task in tasks}
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


def _pathway_modules(graph: _Graph) -> list[tuple[str | None, np.ndarray]]:
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


def _outside_modules(
    rng: np.random.Generator, graph: _Graph
) -> list[tuple[str | None, np.ndarray]]:
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
) -> _Module:
    """Draw which sites of a planted process respond, how strongly, and in which direction."""
    responds = rng.random(len(sites)) < _RESPONSIVE
    responds[rng.integers(len(sites))] = True
    direction = int(rng.choice([-1, 1]))
    strength = np.abs(rng.normal(1, 0.3, responds.sum()))
    return _Module(sites[responds], direction * effect * strength, pathway, shared, direction)


def _truth(modules: dict[str, list[_Module]], graph: _Graph) -> Truth:
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


# ---------------------------------------------------------------- people and values


@dataclass(frozen=True)
class _People:
    """Samples of one cohort: their table, subjects, and activity of each planted process."""

    obs: pd.DataFrame
    subject: np.ndarray
    activity: np.ndarray


def _people(rng: np.random.Generator, task: str, n: int, n_modules: int, null: bool) -> _People:
    """Draw age, sex, smoking, cell fractions and labels of one cohort."""
    n_subjects = n - round(_REPEATED * n)
    case = np.zeros(n_subjects)
    case[rng.permutation(n_subjects)[: n_subjects // 2]] = 1
    link = np.zeros(3) if null else rng.uniform(0, 1, 3)
    age = np.clip(rng.normal(rng.uniform(35, 55), 12, n_subjects) + 3 * link[0] * case, 18, 85)
    female = rng.random(n_subjects) < rng.uniform(0.45, 0.8)
    smokes = rng.random(n_subjects) < 0.2 + 0.12 * link[1] * case
    formerly = rng.random(n_subjects) < 0.25
    alpha = 40 * np.array(list(CELL_TYPES.values()))
    alpha = alpha + np.outer(case, [0, -1, 0, 0, 0, 6]) * link[2]
    fractions = rng.standard_gamma(alpha)
    fractions /= fractions.sum(axis=1, keepdims=True)
    active = rng.random((n_subjects, n_modules)) < _PENETRANCE
    strength = rng.gamma(4, 1 / (4 * _PENETRANCE), (n_subjects, n_modules))
    activity = case[:, None] * active * strength

    subject = np.arange(n)
    subject[n_subjects:] = rng.choice(n_subjects, n - n_subjects, replace=False)
    subject = subject[rng.permutation(n)]
    repeated = pd.Series(subject).duplicated().to_numpy()
    smoking = np.where(smokes, "current", np.where(formerly, "former", "never"))
    digits = max(len(str(n)), 3)
    obs = pd.DataFrame(
        {
            "cohort": f"Simulated {task}",
            "subject": [f"{task}-S{number:0{digits}d}" for number in subject + 1],
            "task": task,
            "label": case[subject],
            "age": (age[subject] + repeated).round(1),
            "sex": np.where(female[subject], "F", "M"),
            "smoking": smoking[subject],
            "tissue": "whole blood (simulated)",
        },
        index=[f"{task}-{number:0{digits}d}" for number in range(1, n + 1)],
    )
    for index, cell in enumerate(CELL_TYPES):
        obs[f"cell_{cell}"] = fractions[subject, index]
    return _People(obs, subject, activity[subject])


@dataclass(frozen=True)
class _Factors:
    """What varies between subjects: design columns and a factor per gene."""

    design: np.ndarray
    gene: np.ndarray


def _factors(rng: np.random.Generator, people: _People, graph: _Graph) -> _Factors:
    """Build the design (known and hidden traits) and draw gene factors that share pathways."""
    obs = people.obs
    cells = obs[[f"cell_{cell}" for cell in CELL_TYPES]].to_numpy() - list(CELL_TYPES.values())
    smoking = obs["smoking"].map({"current": 1.0, "former": 0.4, "never": 0.0}).to_numpy()
    hidden = rng.standard_normal((len(obs), _HIDDEN))
    design = np.column_stack(
        [(obs["age"] - 45) / 10, obs["sex"] == "M", smoking, 10 * cells, hidden]
    )
    n_subjects = people.subject.max() + 1
    pathway = rng.standard_normal((n_subjects, len(graph.pathways)), dtype=np.float32)
    gene = rng.standard_normal((n_subjects, len(graph.genes)), dtype=np.float32)
    degree = np.diff(graph.gene_pathway.indptr)
    mixed = (graph.gene_pathway @ pathway.T).T / np.sqrt(np.maximum(degree, 1))
    gene = np.where(degree > 0, np.sqrt(0.4) * gene + np.sqrt(0.6) * mixed, gene).astype(np.float32)
    return _Factors(design.astype(np.float32), gene[people.subject])


def _values(
    rng: np.random.Generator,
    graph: _Graph,
    people: dict[str, _People],
    modules: dict[str, list[_Module]],
    missing: float,
    cohort_effect: float,
) -> dict[str, np.ndarray]:
    """Generate all beta values, a block of sites at a time."""
    n_sites = len(graph.var)
    traits = _Traits.draw(rng, graph)
    factors = {task: _factors(rng, group, graph) for task, group in people.items()}
    stretch = {task: np.exp(rng.normal(0, cohort_effect / 6)) for task in people}
    shifts = {task: _shifts(planted, n_sites) for task, planted in modules.items()}
    values = {task: np.empty((len(p.obs), n_sites), np.float32) for task, p in people.items()}
    for start in range(0, n_sites, _BLOCK):
        block = slice(start, min(start + _BLOCK, n_sites))
        width = block.stop - start
        mean, sd, gene = traits.mean[block], traits.sd[block], traits.gene[block]
        loading = np.where(gene >= 0, traits.loading[block], 0)
        rate = missing * traits.fragility[block]
        for task, group in people.items():
            n = len(group.obs)
            level = stretch[task] * mean + rng.normal(0, cohort_effect, width)
            scale = sd * np.exp(rng.normal(0, cohort_effect / 2, width))
            m = rng.standard_normal((n, width), dtype=np.float32)
            m *= np.sqrt(1 - loading**2).astype(np.float32)
            m += factors[task].gene[:, gene] * loading.astype(np.float32)
            m *= scale.astype(np.float32)
            m += factors[task].design @ traits.coefficients[:, block]
            if modules[task]:
                m += group.activity.astype(np.float32) @ shifts[task][:, block].toarray()
            m += level.astype(np.float32)
            beta = _beta(m)
            beta[rng.random((n, width), dtype=np.float32) < rate.astype(np.float32)] = np.nan
            values[task][:, block] = beta
    return values


def _shifts(modules: list[_Module], n_sites: int) -> sparse.csc_array:
    """Stack the site effects of modules into a modules x sites matrix."""
    rows = np.repeat(np.arange(len(modules)), [len(module.sites) for module in modules])
    columns = np.concatenate([m.sites for m in modules]) if modules else np.array([], int)
    effect = np.concatenate([m.effect for m in modules]) if modules else np.array([])
    return sparse.csc_array(
        (effect.astype(np.float32), (rows, columns)), shape=(len(modules), n_sites)
    )


def _beta(m: np.ndarray) -> np.ndarray:
    """Turn M-values into beta values in place."""
    np.negative(m, out=m)
    np.exp2(m, out=m)
    m += 1
    return np.reciprocal(m, out=m)


@dataclass(frozen=True)
class _Traits:
    """Per site: mean and SD in M-values, its gene, and what age, sex, smoke and cells do."""

    mean: np.ndarray
    sd: np.ndarray
    gene: np.ndarray
    loading: np.ndarray
    fragility: np.ndarray
    coefficients: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, graph: _Graph) -> _Traits:
        """Draw the traits of every site; promoters are mostly unmethylated."""
        n = len(graph.var)
        kind = rng.random(n) + np.where(graph.promoter, -0.25, 0.05)
        low, high = kind < 0.42, kind > 0.58
        mean = np.where(low, rng.normal(-3.8, 0.8, n), np.where(high, rng.normal(2.9, 0.8, n), 0))
        between = ~(low | high)
        mean[between] = rng.normal(0.2, 0.9, between.sum())
        sd = rng.lognormal(np.log(0.35), 0.35, n)

        chromosome = graph.var["chromosome"].to_numpy()
        x, y = chromosome == "X", chromosome == "Y"
        coefficients = np.zeros((3 + len(CELL_TYPES) + _HIDDEN, n), np.float32)
        coefficients[0] = rng.normal(0, 0.1, n) * (rng.random(n) < 0.1)
        coefficients[1] = rng.normal(0, 0.25, n) * (rng.random(n) < 0.02)
        # One X is silenced in women, so unmethylated X sites read about a half in them.
        coefficients[1, x] = np.where(low[x], -2.8, 0.4)
        mean[x & low] += 2.8
        # Women have no Y: their readings there are background near a half.
        coefficients[1, y] = mean[y]
        mean[y] = 0
        coefficients[2] = rng.normal(-0.5, 0.2, n) * (rng.random(n) < 0.005)
        specific = rng.random(n) < 0.25
        coefficients[3:-_HIDDEN] = rng.normal(0, 0.12, (len(CELL_TYPES), n)) * specific
        coefficients[-_HIDDEN:] = rng.normal(0, 0.12, (_HIDDEN, n))
        return cls(
            mean,
            sd,
            graph.first_gene,
            np.clip(rng.normal(0.6, 0.1, n), 0.1, 0.85),
            rng.gamma(0.15, 1 / 0.15, n),
            coefficients,
        )
