"""People of simulated cohorts, and the beta values of their sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from miracle_lib.cohorts.simulated_annotation import Graph
from miracle_lib.cohorts.simulated_effects import Module

CELL_TYPES = {"CD8T": 0.10, "CD4T": 0.16, "NK": 0.04, "Bcell": 0.05, "Mono": 0.08, "Gran": 0.57}

_PENETRANCE = 0.6  # share of cases in whom a planted pathway is active
_REPEATED = 0.03  # share of samples that are a second sample of one subject
_HIDDEN = 4  # unrecorded technical factors, such as plate and array position
_BLOCK = 8192  # sites generated at a time: bounds the memory beside the result


@dataclass(frozen=True)
class People:
    """Samples of one cohort: their table, subjects, and activity of each planted process."""

    obs: pd.DataFrame
    subject: np.ndarray
    activity: np.ndarray


def draw_people(
    rng: np.random.Generator,
    task: str,
    n: int,
    n_modules: int,
    null: bool,
    *,
    name: str | None = None,
    cases: float = 0.5,
    granulocytes: float = 0.0,
) -> People:
    """Draw age, sex, smoking, cell fractions and labels of one cohort.

    Its samples are called after ``name``, by default the task; of `Hospital` it takes ``cases``
    and ``granulocytes``.
    """
    name = task if name is None else name
    n_subjects = n - round(_REPEATED * n)
    case = np.zeros(n_subjects)
    case[rng.permutation(n_subjects)[: int(cases * n_subjects)]] = 1
    link = np.zeros(3) if null else rng.uniform(0, 1, 3)
    age = np.clip(rng.normal(rng.uniform(35, 55), 12, n_subjects) + 3 * link[0] * case, 18, 85)
    female = rng.random(n_subjects) < rng.uniform(0.45, 0.8)
    smokes = rng.random(n_subjects) < 0.2 + 0.12 * link[1] * case
    formerly = rng.random(n_subjects) < 0.25
    alpha = 40 * np.array(list(CELL_TYPES.values()))
    inflamed = case * link[2] + (1 - case) * granulocytes
    alpha = alpha + np.outer(inflamed, [0, -1, 0, 0, 0, 6])
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
            "cohort": f"Simulated {name}",
            "subject": [f"{name}-S{number:0{digits}d}" for number in subject + 1],
            "task": task,
            "label": case[subject],
            "age": (age[subject] + repeated).round(1),
            "sex": np.where(female[subject], "F", "M"),
            "smoking": smoking[subject],
            "tissue": "whole blood (simulated)",
        },
        index=[f"{name}-{number:0{digits}d}" for number in range(1, n + 1)],
    )
    for index, cell in enumerate(CELL_TYPES):
        obs[f"cell_{cell}"] = fractions[subject, index]
    return People(obs, subject, activity[subject])


@dataclass(frozen=True)
class _Factors:
    """What varies between subjects: design columns and a factor per gene."""

    design: np.ndarray
    gene: np.ndarray


def _factors(rng: np.random.Generator, people: People, graph: Graph) -> _Factors:
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


def draw_values(
    rng: np.random.Generator,
    graph: Graph,
    traits: Traits,
    people: dict[str, People],
    modules: dict[str, list[Module]],
    missing: float,
    cohort_effect: float,
) -> dict[str, np.ndarray]:
    """Generate all beta values, a block of sites at a time."""
    n_sites = len(graph.var)
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


def _shifts(modules: list[Module], n_sites: int) -> sparse.csc_array:
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
class Traits:
    """Per site: mean and SD in M-values, its gene, and what age, sex, smoke and cells do."""

    mean: np.ndarray
    sd: np.ndarray
    gene: np.ndarray
    loading: np.ndarray
    fragility: np.ndarray
    coefficients: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, graph: Graph) -> Traits:
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
