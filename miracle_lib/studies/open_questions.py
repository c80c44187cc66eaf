"""The open questions of the paper, asked of simulations whose answer is known."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation.diagnostics import ranking_stability
from miracle_lib.evaluation.grid import Cell, Tables, run_grid
from miracle_lib.evaluation.metrics import auroc, summarise
from miracle_lib.evaluation.validation import fitted, probabilities
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.studies.ablations import Ablations
from miracle_lib.studies.replicates import (
    Replicate,
    held_out_scores,
    make_replicate,
    mean_interval,
)

MODELS = ("masked", "masked + sites", "dense")
SITE_CURVE = [
    "level",
    "n_sites",
    "auroc",
    "low",
    "high",
    "spearman",
    "top_overlap",
    "expected_overlap",
]

HIDDEN: dict[str, dict[str, Any]] = {
    "small": {"outside": (0.0, 0.5, 1.0), "n_replicates": 2, "n": 60, "n_sites": 1000}
    | {"n_test": 200, "model": {"training__epochs": [8, 10, 5]}},
    "full": {"outside": (0.0, 0.25, 0.5, 0.75, 1.0), "n_replicates": 8, "n": 80, "n_sites": 1000}
    | {"n_test": 300, "model": {}},
}


def site_attributions(model: MiracleClassifier, X: pd.DataFrame, task: str) -> pd.Series:
    """Mean gradient of a task's logit, times the standard deviation of each site.

    Returns
    -------
    Series
        Indexed by site of the model: change of the logit for one standard deviation.
    """
    z = model.standardized(X, task).requires_grad_()
    model.logit_module(task)(z).sum().backward()
    values = cast(torch.Tensor, z.grad).mean(dim=0) * z.detach().std(dim=0)
    return pd.Series(values.cpu().numpy().astype(float), model.sites_)


def _rank_auroc(positive: np.ndarray, score: np.ndarray) -> float:
    """Probability that a positive scores above a negative."""
    return float(auroc(positive.astype(float), score, np.ones((1, len(score))))[0])


def all_sites_dense(data: Replicate) -> Hierarchy:
    """Every site connected to as many hidden units as the mask has, whatever its annotation."""
    sites = data.train.sites
    genes = np.resize(data.hierarchy.genes.to_numpy(), len(sites))
    table = pd.DataFrame({"site": sites, "gene": genes})
    return Hierarchy.from_tables(table, data.hierarchy.gene_sets()).fully_connected()


def hidden_cell(
    outside: float, name: str, n: int, n_test: int, n_sites: int, seed: int, model: dict[str, Any]
) -> Tables:
    """Plant a share of the effect outside the pathways and see what one model recovers."""
    planted_as = {"outside": outside, "shared": 1.0, "effect": 0.2}
    data = make_replicate(n, n_test, seed, n_sites=n_sites, **planted_as)
    hierarchy = all_sites_dense(data) if name == "dense" else data.hierarchy
    reads = ("pathways", "genes") if name == "masked" else ("pathways", "genes", "sites")
    network = MiracleClassifier(
        hierarchy, reads=reads, random_state=seed, training=Training(progress=False)
    ).set_params(**model)
    network = fitted(network, data.train)
    proba, sites = probabilities(network, data.test), data.train.sites
    inside = sites.isin(data.hierarchy.sites)
    rows = []
    for task, score in held_out_scores(proba, data.test.labels).items():
        test = data.test.task(task).values
        weight = site_attributions(network, test, task).abs().reindex(sites).fillna(0)
        truth = data.simulation.truth.sites
        planted = sites.isin(truth.loc[truth["task"] == task, "site"])
        row = {"task": task, "auroc": score}
        for part, where in (("found_inside", inside), ("found_outside", ~inside)):
            both = 0 < planted[where].sum() < where.sum()
            row[part] = _rank_auroc(planted[where], weight.to_numpy()[where]) if both else np.nan
        rows.append(row)
    return {"scores": pd.DataFrame(rows)}


def hidden_patterns(
    store: str | Path,
    scale: str = "small",
    n_jobs: int = 1,
    random_state: int = 0,
) -> pd.DataFrame:
    """Do the constraints hide new patterns? Plant effects in genes that no pathway contains.

    Three models of the same width are compared: masked alone (heads on pathways and genes), the
    default, whose heads read sites too, and a dense one that connects every site to every unit.

    Parameters
    ----------
    store, n_jobs
        As in :func:`run_grid`.
    scale : {"small", "full"}, default "small"
    random_state : int, default 0
        Replicate i is simulated with ``random_state + i``.

    Returns
    -------
    DataFrame
        One row per outside (share planted outside the pathways), model and replicate, means over
        the tasks: auroc on held-out samples; found_inside and found_outside, the probability that
        a planted site in (or out of) a pathway is attributed more than a site of the same kind
        that is not planted (0.5 is chance, NaN where nothing is planted).
    """
    size = HIDDEN[scale]
    fixed = {name: size[name] for name in ("n", "n_test", "n_sites", "model")}
    cells = [
        Cell(hidden_cell, {"outside": outside, "name": name, "seed": random_state + i, **fixed})
        for outside in size["outside"]
        for name in MODELS
        for i in range(size["n_replicates"])
    ]
    rows = []
    for cell, tables in zip(cells, run_grid(cells, store, n_jobs), strict=True):
        row = {"outside": cell.settings["outside"], "model": cell.settings["name"]}
        row["seed"] = cell.settings["seed"]
        rows.append(row | tables["scores"].drop(columns="task").mean().to_dict())
    return pd.DataFrame(rows)


def hidden_effects(patterns: pd.DataFrame, reference: str = "masked") -> pd.DataFrame:
    """Difference of each model from a reference, with an interval over replicates.

    Parameters
    ----------
    patterns : DataFrame
        Result of :func:`hidden_patterns`.
    reference : str, default "masked"

    Returns
    -------
    DataFrame
        outside, model, measure (auroc, found_inside, found_outside), mean, low, high,
        n_replicates.
    """
    long = patterns.melt(["outside", "model", "seed"], var_name="measure")
    wide = long.pivot(index=["outside", "measure", "seed"], columns="model", values="value")
    others = [name for name in MODELS if name != reference and name in wide]
    difference = wide[others].sub(wide[reference], axis=0).stack().rename("difference")
    effects = difference.groupby(["outside", "model", "measure"]).apply(mean_interval).unstack()
    return effects.reset_index()


EDGES: dict[str, dict[str, Any]] = {
    "small": {
        "n_replicates": 3,
        "n": 60,
        "n_sites": 800,
        "model": {"training__epochs": [20, 10, 10]},
    },
    "full": {
        "n_replicates": 8,
        "n": 80,
        "n_sites": 1000,
        "model": {"training__epochs": [60, 10, 20]},
    },
}


def false_edges(held: pd.DataFrame, hierarchy: Hierarchy, seed: int) -> set[tuple[str, str]]:
    """Pair the genes and pathways of held-out edges anew: the same degrees, none annotated."""
    annotated = {(gene, name) for name, genes in hierarchy.gene_sets().items() for gene in genes}
    rng = np.random.default_rng(seed)
    genes = held["child"].to_numpy()
    found: set[tuple[str, str]] = set()
    for _ in range(100):
        pairs = set(zip(rng.permutation(genes), held["parent"], strict=True)) - annotated
        found = max(found, pairs, key=len)
    return found


def edges_cell(n: int, n_sites: int, seed: int, share: float, model: dict[str, Any]) -> Tables:
    """Offer true and false gene-pathway edges to the network and see which ones it uses."""
    data = make_replicate(n, 10, seed, n_sites=n_sites)
    kept, held = data.hierarchy.hold_out(share, seed)
    decoys = false_edges(held, data.hierarchy, seed)
    true = set(zip(held["child"], held["parent"], strict=True))
    offered = {name: list(genes) for name, genes in kept.gene_sets().items()}
    for gene, name in sorted(true | decoys):
        offered[name].append(gene)
    sites = data.simulation.site_gene
    sites = sites[sites["gene"].isin(data.hierarchy.genes)]
    with_candidates = Hierarchy.from_tables(sites, offered, min_genes=1, max_genes=10**6)
    edges = pd.DataFrame(sorted(true) + sorted(decoys), columns=["gene", "pathway"])
    is_true = np.arange(len(edges)) < len(true)
    found: dict[str, float] = {"n_held_out": len(true)}
    for measure, hierarchy in (("weight", with_candidates), ("correlation", kept)):
        network = MiracleClassifier(
            hierarchy, random_state=seed, training=Training(progress=False)
        ).set_params(**model)
        network = fitted(network, data.train)
        strength = edge_strengths(network) if measure == "weight" else correlations(network, data)
        score = strength.reindex(pd.MultiIndex.from_frame(edges)).to_numpy()
        found[measure] = _rank_auroc(is_true, score)
    return {"found": pd.DataFrame([found])}


def correlations(model: MiracleClassifier, data: Replicate) -> pd.Series:
    """Absolute correlation of every gene's activation with every pathway's activity.

    Within tasks, so that differences between cohorts do not count. Indexed by (gene, pathway).
    """
    genes: list[np.ndarray] = []
    pathways: list[np.ndarray] = []
    network = model.network_
    for task in model.tasks_:
        z = model.standardized(data.train.task(task).values, task)[:, : network.n_sites]
        with torch.no_grad():
            activation, mean, _ = network.encode(z)
        for values, parts in ((activation, genes), (mean[:, : network.n_pathways], pathways)):
            parts.append(((values - values.mean(0)) / (values.std(0) + 1e-9)).cpu().numpy())
    table = np.concatenate(genes).T @ np.concatenate(pathways) / sum(map(len, genes))
    names = model.hierarchy_.genes, model.hierarchy_.pathways
    return pd.DataFrame(np.abs(table), *names).stack()


def edge_strengths(model: MiracleClassifier) -> pd.Series:
    """Geometric mean of the absolute weights of every gene-pathway edge in encoder and decoder.

    Indexed by (gene, pathway).
    """
    network, hierarchy = model.network_, model.hierarchy_
    n = network.n_pathways
    encoder = network.gene_to_mean.dense_weight()[:, :n].detach().abs()
    decoder = network.latent_to_gene.dense_weight()[:n].detach().abs().T
    table = torch.sqrt(encoder * decoder).cpu().numpy()
    return pd.DataFrame(table, hierarchy.genes, hierarchy.pathways).stack()


def held_out_edges(
    store: str | Path,
    scale: str = "small",
    share: float = 0.1,
    n_jobs: int = 1,
    random_state: int = 0,
) -> pd.DataFrame:
    """Does training find annotated edges again that were held out of the mask?

    Two answers. "weight": the held-out edges are offered to the network together with about as
    many false ones between the same genes and pathways, and a true edge should end with a larger
    weight than a false one. "correlation": the network is trained without them, and the
    activation of a gene should follow the activity of the pathway it was taken from.

    Parameters
    ----------
    store, scale, n_jobs, random_state
        As in :func:`hidden_patterns`.
    share : float, default 0.1
        Share of the edges held out.

    Returns
    -------
    DataFrame
        One row per replicate: seed, n_held_out, weight, correlation (probability that a true edge
        ranks above a false one; 0.5 is chance).
    """
    size = EDGES[scale]
    fixed = {"share": share} | {name: size[name] for name in ("n", "n_sites", "model")}
    cells = [
        Cell(edges_cell, {"seed": random_state + i, **fixed}) for i in range(size["n_replicates"])
    ]
    results = run_grid(cells, store, n_jobs)
    tables = [
        tables["found"].assign(seed=cell.settings["seed"])
        for cell, tables in zip(cells, results, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def policy_table(ablations: Ablations) -> pd.DataFrame:
    """Task-weighting policies: accuracy against the reference, and epochs to converge.

    Parameters
    ----------
    ablations : Ablations
        With the comparison "weighting".

    Returns
    -------
    DataFrame
        level, auroc (mean over tasks), difference, low, high, p_equivalent (against the
        reference; NaN for the reference itself), epochs, epochs_to_best, seconds (means over
        folds).
    """
    effects = ablations.effects()
    effects = effects[(effects["comparison"] == "weighting") & (effects["task"] == "all")]
    fits = ablations.fits[ablations.fits["comparison"] == "weighting"]
    table = fits.groupby("level", sort=False)[["epochs", "epochs_to_best", "seconds"]].mean()
    levels = ablations.levels("weighting")
    table.insert(0, "auroc", {name: scores["auroc"].mean() for name, scores in levels.items()})
    columns = ["difference", "low", "high", "p_equivalent"]
    return table.join(effects.set_index("level")[columns]).reset_index()


def site_curve(ablations: Ablations, top: int = 10, random_state: int = 0) -> pd.DataFrame:
    """Number of selected sites against accuracy and stability of the pathway ranking.

    Parameters
    ----------
    ablations : Ablations
        Those of the comparison "sites" are looked at.
    top : int, default 10
        Length of the compared lists of pathways.

    Returns
    -------
    DataFrame
        level, n_sites (per task; NaN for all), auroc, low, high (mean over tasks, bootstrap),
        spearman, top_overlap, expected_overlap (means over tasks; see
        :func:`ranking_stability`). No row where the data have too few sites to choose among: the
        grid has no such comparison then.
    """
    rows = []
    for level, scores in ablations.levels("sites").items():
        summary = summarise(scores, ("auroc",), random_state=random_state).iloc[-1]
        here = ablations.pathways
        here = here[(here["comparison"] == "sites") & (here["level"] == level)]
        stability = ranking_stability(here, top).drop(columns=["task", "n_pairs"]).mean()
        n_sites = ablations.grid.comparisons["sites"].levels[level].n_sites
        row = {"level": level, "n_sites": n_sites}
        row |= {"auroc": summary["estimate"], "low": summary["low"], "high": summary["high"]}
        rows.append(row | stability.to_dict())
    table = pd.DataFrame(rows, columns=SITE_CURVE)
    return table.sort_values("n_sites", na_position="last", ignore_index=True)
