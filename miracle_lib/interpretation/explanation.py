"""Which pathways a model relies on, and which of them beat their controls."""

import warnings
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from miracle_lib.errors import MiracleError
from miracle_lib.interpretation.attribution import (
    attribute,
    contrast,
    refuse_hidden_heads,
)
from miracle_lib.interpretation.evidence import Problem, evidence, site_parts
from miracle_lib.preprocessing.coding import CovariateCoder
from miracle_lib.samples import Samples, as_samples
from miracle_lib.training.member import Member

if TYPE_CHECKING:
    from miracle_lib.estimator import MiracleClassifier

# Prior variance of what each block adds to a logit, of the heads that are refitted.
REFIT_VARIANCE = {"pathways": 4.0, "genes": 1.0, "sites": 1.0}


def explain(
    model: "MiracleClassifier",
    X: Samples | pd.DataFrame,
    task: str,
    y: pd.Series | pd.DataFrame | None = None,
    *,
    cohort: pd.Series | None = None,
    covariates: pd.DataFrame | None = None,
    groups: pd.Series | None = None,
    n_permutations: int = 500,
    random_state: int = 0,
) -> pd.DataFrame:
    """Rank pathways by attribution and by evidence against shuffled labels.

    ``attribution`` says what the network does; ``p_value`` says whether the pathway differs
    between cases and controls more than its sites, its size and its overlaps give it by chance
    (see :mod:`miracle_lib.interpretation.evidence`). Attributions follow the number of genes of a
    pathway and vary between seeds, so none is to be named on its attribution alone.

    Parameters
    ----------
    model : MiracleClassifier
        Fitted.
    X : Samples or DataFrame, samples x sites
        Beta values; a Samples holds all that follows. If the sites were selected by the labels of
        the same samples, p-values are too small: explain samples that took no part in the
        selection, or select by variance.
    task : str
        One of ``model.tasks_``.
    y : Series or DataFrame, optional
        Labels of the task (1, 0, NaN for not labelled), or the label table of all tasks. Without
        labels there is no control: z, p_value, q_value and direction are NaN or empty.
    cohort, groups : Series, optional
        Labels are shuffled within cohorts and over subjects (``groups``).
    covariates : DataFrame, optional
        Adjusted for: age, sex, smoking, cell fractions. Text columns become indicators.
    n_permutations : int, default 500
        Shuffles.
    random_state : int, default 0
        Seed.

    Returns
    -------
    DataFrame
        Indexed by pathway, sorted by ``rank``:

        - attribution: contribution to the logit by integrated gradients, mean of the cases minus
          mean of the controls (without labels: mean absolute contribution);
        - rank: by evidence (without labels: by attribution); 1 is first;
        - attribution_rank, degree_rank: ranks by attribution and by degree alone;
        - degree: genes with a measured site; n_sites;
        - direction: "hyper" or "hypo", the pathway's sites in cases against controls;
        - directed, undirected, network, z: evidence in standard deviations of shuffled labels;
        - p_value, q_value: against shuffled labels, Benjamini-Hochberg over all pathways.

        ``attrs["block_share"]`` says which shares of the spread of the task's predictions come
        from pathways, genes and single sites; they add up to 1.

    Raises
    ------
    MiracleError
        If the task is unknown, or fewer than four cases or four controls are labelled.

    Examples
    --------
    >>> import miracle_lib as ml
    >>> simulation = ml.simulate_cohorts({"RA": 60}, n_sites=300, n_planted=1, effect=1.0)
    >>> X, Y, obs = ml.merge_cohorts(list(simulation.cohorts.values()))
    >>> mask = ml.Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    >>> training = ml.Training(epochs=(2, 5, 0), progress=False)
    >>> model = ml.MiracleClassifier(mask, training=training).fit(X, Y)
    >>> table = explain(model, X, "RA", Y, groups=obs["subject"])
    >>> table.index[0] in set(simulation.truth.pathways["pathway"])
    True
    >>> sorted(table.attrs["block_share"])
    ['genes', 'pathways', 'sites']
    """
    if task not in model.tasks_:
        raise MiracleError(f"There is no task {task!r}; the model has: {', '.join(model.tasks_)}.")
    h = model.hierarchy_
    degree = np.asarray(h.gene_pathway.sum(axis=0)).ravel()
    member = membership(h)
    table = pd.DataFrame(
        {"degree": degree, "n_sites": np.asarray(member.sum(axis=0)).ravel()}, index=h.pathways
    )
    samples = _samples_of(X, task, y, cohort=cohort, covariates=covariates, groups=groups)
    if not samples.tasks:
        table["attribution"] = attribute(model, samples, task).abs().mean()
        missing = ["directed", "undirected", "network", "z", "p_value", "q_value"]
        table = table.assign(direction="", **dict.fromkeys(missing, np.nan))
        order = table["attribution"]
    else:
        attributions = attribute(model, samples, task)
        table["attribution"] = contrast(attributions, samples.labels[task])
        problem = _problem(model, samples, task)
        _warn_of_selection(problem, task)
        found = evidence(problem, n_permutations, random_state)
        table[found.columns] = found.to_numpy()
        table["direction"] = np.where(table["directed"] > 0, "hyper", "hypo")
        order = table["z"]
    table["rank"] = _rank(order)
    table["attribution_rank"] = _rank(table["attribution"])
    table["degree_rank"] = _rank(table["degree"])
    table.attrs["block_share"] = model.block_share_.loc[task].to_dict()
    return table.sort_values("rank")[COLUMNS].rename_axis("pathway")


COLUMNS = [
    *("attribution", "rank", "attribution_rank", "degree_rank", "degree", "n_sites"),
    *("direction", "directed", "undirected", "network", "z", "p_value", "q_value"),
]


def explain_paths(
    model: "MiracleClassifier",
    X: Samples | pd.DataFrame,
    task: str,
    pathway: str,
    y: pd.Series | pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Follow a pathway's contribution down to its genes and sites.

    A path's contribution is the product of the weights from site to gene to pathway to logit
    times the site's value; at a non-linear gene the slope between the average sample and this
    sample is used (the rescale rule of DeepLIFT), so that paths add up to the pathway.

    Parameters
    ----------
    model : MiracleClassifier
        Fitted.
    X : Samples or DataFrame, samples x sites
        Beta values.
    task : str
        One of ``model.tasks_``.
    pathway : str
        One of ``model.hierarchy_.pathways``.
    y : Series or DataFrame, optional
        Labels; contributions are then cases minus controls, else mean absolute values.

    Returns
    -------
    DataFrame
        One row per path: gene, site, contribution, gene_contribution (sum over its sites in this
        pathway), difference (mean standardised methylation of cases minus controls; NaN without
        labels). Sorted by gene, then site, largest first.

    Raises
    ------
    MiracleError
        If the pathway is unknown, or the heads have a hidden layer.
    """
    samples = _samples_of(X, task, y)
    values = path_contributions(model, samples.values, task, pathway)
    table = values.columns.to_frame(index=False)
    if not samples.tasks:
        table["contribution"], table["difference"] = values.abs().mean().to_numpy(), np.nan
    else:
        label = samples.labels[task]
        z = model.standardized(samples.values, task).cpu().numpy()
        difference = contrast(pd.DataFrame(z, columns=model.sites_), label)
        table["contribution"] = contrast(values, label).to_numpy()
        table["difference"] = difference[table["site"]].to_numpy()
    table["gene_contribution"] = table.groupby("gene")["contribution"].transform("sum")
    order = ["gene_contribution", "gene", "contribution"]
    return table.sort_values(order, ascending=[False, True, False], ignore_index=True)


def path_contributions(
    model: "MiracleClassifier", X: Samples | pd.DataFrame, task: str, pathway: str
) -> pd.DataFrame:
    """Contribution of every path through a pathway to the logit of every sample.

    Parameters
    ----------
    model, X, task, pathway
        As in :func:`explain_paths`.

    Returns
    -------
    DataFrame, samples x (gene, site)
        In units of the logit, against the average sample of the task's cohort; a row adds up to
        the contribution of the pathway that :func:`attribute` gives. Missing sites contribute 0.

    Raises
    ------
    MiracleError
        As :func:`explain_paths`; the heads do not read pathways.
    """
    refuse_hidden_heads(model)
    h = model.hierarchy_
    if pathway not in h.pathways:
        raise MiracleError(
            f"There is no pathway {pathway!r} among the {len(h.pathways)} of the model."
        )
    if "pathways" not in model.design.reads:
        read = ", ".join(model.design.reads)
        raise MiracleError(f"The heads read {read}: no path leads on from a pathway.")
    column = h.pathways.get_loc(pathway)
    genes = np.flatnonzero(h.gene_pathway[:, [column]].toarray().ravel())
    edges = h.site_gene[:, genes].tocoo()
    X = as_samples(X).values
    z, index = model.standardized(X, task), model.tasks_.index(task)
    paths = [_path_values(m, h, z, genes, edges, column, index) for m in model.members_]
    names = pd.MultiIndex.from_arrays(
        [h.genes[genes[edges.col]], h.sites[edges.row]], names=["gene", "site"]
    )
    return pd.DataFrame(reduce(np.add, paths) / len(paths), X.index, names)


def membership(hierarchy):
    """Sparse matrix sites x pathways: 1 where a site reaches the pathway through a gene."""
    reach = hierarchy.site_gene.astype(np.int32) @ hierarchy.gene_pathway.astype(np.int32)
    return reach.astype(bool).astype(np.float64)


@torch.no_grad()
def _path_values(member, hierarchy, z, genes, edges, column, task) -> np.ndarray:
    """Contribution of every path (columns) for every sample (rows), one member."""
    network = member.network.eval()
    first = network.site_to_gene.csr_weight()[:, genes].tocoo()
    second = network.gene_to_mean.csr_weight()[genes, column]
    head = member.heads.blocks["pathways"].output.weight[task, 0, column].item()
    weights = first.tocsr()[edges.row, edges.col].A1 * second.toarray().ravel()[edges.col] * head
    x = member.sites(z)
    before = network.site_to_gene(x)[:, genes] - network.site_to_gene(x[:1] * 0)[:, genes]
    after = network.encode(x)[0][:, genes] - network.encode(x[:1] * 0)[0][:, genes]
    slope = torch.where(before.abs() > 1e-6, after / before, 1.0).cpu().numpy()
    return x.cpu().numpy()[:, edges.row] * slope[:, edges.col] * weights


def _samples_of(X, task: str, y, **parts) -> Samples:
    """The labelled samples of a task, enough of both kinds; all samples where there is no label."""
    samples = as_samples(X, y.rename(task) if isinstance(y, pd.Series) else y, **parts)
    if not samples.tasks:
        return samples
    samples = samples.task(task)
    cases = int(samples.labels[task].sum())
    controls = len(samples) - cases
    if min(cases, controls) < 4:
        raise MiracleError(
            f"Task {task!r} has {cases} cases and {controls} controls; expected at least four of "
            "each."
        )
    return samples


def _problem(model, samples: Samples, task: str) -> Problem:
    """Collect what the evidence needs from the model's frozen encoder."""
    z = model.standardized(samples.values, task)
    conditions = model.logit_module(task).covariates.expand(len(z), -1)
    encoders = model.members_
    if model.encoder_is_from_labels:  # true labels would stand out: averages that have seen none
        encoders = [Member(model.hierarchy_, 0, 1, conditions.shape[1], seed=0).to(z.device)]
    members = [encoder.features(z, conditions) for encoder in encoders]
    # The model's own prior has seen the labels, and would not be exchangeable with shuffled ones.
    covariance = np.zeros((len(z), len(z)))
    for name, variance in REFIT_VARIANCE.items():
        blocks = [member[name] for member in members]
        for part in site_parts(blocks[0]):
            values = _mean_scaled(blocks, part)
            covariance += variance * values @ values.T / blocks[0].shape[1]
    n = len(samples)
    cohort = np.full(n, task) if samples.cohort is None else samples.cohort.to_numpy()
    names, stratum = np.unique(cohort, return_inverse=True)
    coder = CovariateCoder.learn(samples.covariates, names.tolist())
    return Problem(
        sites=z.cpu().numpy()[:, : len(model.hierarchy_.sites)],
        latent=_mean_scaled([member["pathways"] for member in members]),
        covariance=covariance,
        member=membership(model.hierarchy_),
        label=samples.labels[task].to_numpy(),
        block=np.arange(n) if samples.subject is None else pd.factorize(samples.subject)[0],
        stratum=stratum,
        covariates=coder.encode(samples.covariates, cohort).astype(float),
    )


def _warn_of_selection(problem: Problem, task: str) -> None:
    """Warn when hardly any site is unrelated to the label, as after selection by the label."""
    label = unit_variance(problem.label[:, None])
    association = np.empty(problem.sites.shape[1])
    for part in site_parts(problem.sites):
        association[part] = (unit_variance(problem.sites[:, part]).T @ label).ravel()
    unrelated = (
        np.abs(association) / np.sqrt(len(label)) < 0.5
    ).mean()  # 38% if nothing is related
    if unrelated < 0.05:
        warnings.warn(
            f"Only {unrelated:.1%} of the sites are unrelated to {task}: if they were selected by "
            "these labels, p-values are too small; select by variance or explain other samples.",
            stacklevel=3,
        )


def _mean_scaled(blocks: list[torch.Tensor], part: slice = slice(None)) -> np.ndarray:
    """Mean over the members of some columns, each scaled to variance one."""
    scaled = [unit_variance(block[:, part].double().cpu().numpy()) for block in blocks]
    return np.mean(scaled, axis=0)


def unit_variance(values: np.ndarray) -> np.ndarray:
    """Centre columns and scale them to variance one; constant columns become zero."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf)


def _rank(values: pd.Series) -> np.ndarray:
    """Rank from 1 (largest); ties share a rank."""
    return rankdata(-values.to_numpy(float), method="average")
