"""Attribution of a task's logit to sites, genes and pathways."""

import warnings
from itertools import combinations
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import pandas as pd
import torch

from miracle_lib.errors import MiracleError
from miracle_lib.extras import needs
from miracle_lib.samples import Samples, as_samples

if TYPE_CHECKING:
    from miracle_lib.estimator import MiracleClassifier
    from miracle_lib.estimator.prediction import TaskLogit
    from miracle_lib.model import TaskHeads

_BATCH = 256
_VALUES = 2**26  # of the sites, at a time
Level = Literal["site", "gene", "pathway"]
Method = Literal["integrated_gradients", "deeplift"]


def attribute(
    model: "MiracleClassifier",
    X: Samples | pd.DataFrame,
    task: str,
    level: Level = "pathway",
    method: Method = "integrated_gradients",
    n_steps: int = 16,
) -> pd.DataFrame:
    """Attribute the logit of every sample to the nodes of one level.

    The baseline is the average sample of the task's cohort (standardised values of 0). What a
    pathway contributes passes through its latent variable; what a gene contributes also
    includes the head's direct use of the gene. Contributions of an ensemble are averaged.

    Parameters
    ----------
    model : MiracleClassifier
        Fitted.
    X : Samples or DataFrame, samples x sites
        Beta values.
    task : str
        One of ``model.tasks_``.
    level : {"pathway", "gene", "site"}
        Which nodes.
    method : {"integrated_gradients", "deeplift"}
        Captum's method; they agree where the network is linear.
    n_steps : int, default 16
        Steps of the integral.

    Returns
    -------
    DataFrame, samples x nodes
        Contributions in units of the logit.

    Raises
    ------
    MiracleError
        If the task, the level or the method is unknown.

    References
    ----------
    Sundararajan et al. 2017, arXiv:1703.01365; Shrikumar et al. 2017, arXiv:1704.02685;
    Kokhlikyan et al. 2020, arXiv:2009.07896 (captum).

    Examples
    --------
    >>> import miracle_lib as ml
    >>> simulation = ml.simulate_cohorts({"RA": 30}, n_sites=200, n_planted=1)
    >>> X, Y, obs = ml.merge_cohorts(list(simulation.cohorts.values()))
    >>> mask = ml.Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    >>> training = ml.Training(epochs=(1, 1, 0), progress=False)
    >>> model = ml.MiracleClassifier(mask, training=training).fit(X, Y)
    >>> attribute(model, X, "RA", "site").shape
    (30, 200)
    """
    if level not in ("site", "gene", "pathway"):
        raise MiracleError(f"level is {level!r}; expected 'site', 'gene' or 'pathway'.")
    if method not in ("integrated_gradients", "deeplift"):
        raise MiracleError(f"method is {method!r}; expected 'integrated_gradients' or 'deeplift'.")
    X = as_samples(X).values
    module, z = model.logit_module(task).eval(), model.standardized(X, task)
    names = {"site": model.sites_, "gene": model.hierarchy_.genes}
    columns = names.get(level, model.hierarchy_.pathways)
    batch = min(_BATCH, max(1, _VALUES // z.shape[1]))  # bounds the memory
    options: dict[str, int] = {}
    if method == "integrated_gradients":
        options = {"n_steps": n_steps, "internal_batch_size": batch}
    explainers = _explainers(module, level, method)
    parts = []
    for chunk in z.split(batch):
        chunk = chunk.detach().requires_grad_(True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks")  # DeepLIFT's way
            values = sum(
                e.attribute(chunk, baselines=torch.zeros_like(chunk), **options) for e in explainers
            )
        parts.append(values.detach()[:, : len(columns)])
    return pd.DataFrame(torch.cat(parts).cpu().numpy(), index=X.index, columns=columns)


def _explainers(module: "TaskLogit", level: Level, method: Method) -> list:
    """One explainer per member for inner nodes (members add up), one for the sites."""
    with needs("interpret", "Attribution"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # a notebook widget of tqdm
        from captum import attr
    integrated = method == "integrated_gradients"
    if level == "site":
        return [(attr.IntegratedGradients if integrated else attr.DeepLift)(module)]
    kind = attr.LayerIntegratedGradients if integrated else attr.LayerDeepLift
    layer = "site_to_gene" if level == "gene" else "gene_to_mean"
    return [kind(module, getattr(member.network, layer)) for member in module.members]


def task_attributions(
    model: "MiracleClassifier",
    X: Samples | pd.DataFrame,
    Y: pd.DataFrame | None = None,
    level: Level = "pathway",
    method: Method = "integrated_gradients",
) -> pd.DataFrame:
    """Summarise attributions per task, and over the tasks.

    Parameters
    ----------
    model, level, method
        As in :func:`attribute`.
    X : Samples or DataFrame, samples x sites
        Beta values.
    Y : DataFrame, samples x tasks, optional
        1, 0 or NaN; a task is summarised over its labelled samples. A Samples holds it.

    Returns
    -------
    DataFrame, nodes x (tasks and "shared")
        Mean contribution in cases minus mean contribution in controls: positive where the node
        separates them. "shared" is the mean over tasks of values scaled to unit sum of squares,
        positive only for nodes that several tasks use.
    """
    samples, columns = as_samples(X, Y), {}
    for task in samples.tasks:
        labelled = samples.task(task)
        columns[task] = contrast(
            attribute(model, labelled, task, level, method), labelled.labels[task]
        )
    table = pd.DataFrame(columns)
    scaled = table / np.sqrt((table**2).mean()).replace(0, 1)
    return table.assign(shared=scaled.mean(axis=1))


def contrast(values: pd.DataFrame, label: pd.Series) -> pd.Series:
    """Mean of the cases minus mean of the controls, per column."""
    case = label.to_numpy() == 1
    return values[case].mean() - values[~case].mean()


def weight_products(model: "MiracleClassifier", task: str) -> dict[str, pd.Series]:
    """Products of weights along the paths from each node to the logit, summed over paths.

    Parameters
    ----------
    model : MiracleClassifier
        Fitted.
    task : str
        One of ``model.tasks_``.

    Returns
    -------
    dict of str to Series
        ``"pathway"``: the head's weight. ``"gene"``: through its pathways plus direct.
        ``"site"``: through its genes plus direct. Means over members; the
        activation is passed over, so that they are exact for a linear network only.

    Raises
    ------
    MiracleError
        If the heads have a hidden layer.
    """
    refuse_hidden_heads(model)
    index, h = model.tasks_.index(task), model.hierarchy_
    totals: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for member in model.members_:
            network, heads = member.network, cast("TaskHeads", member.heads).blocks
            weight = {k: head.output.weight[index, 0].cpu().numpy() for k, head in heads.items()}
            pathway = weight.get("pathways", np.zeros(len(h.pathways)))
            gene = network.gene_to_mean.csr_weight() @ pathway
            gene = gene + weight.get("genes", 0.0)
            site = network.site_to_gene.csr_weight() @ gene
            direct = weight.get("sites", np.zeros(len(site)))
            site = np.pad(site, (0, len(direct) - len(site))) + direct  # outside: direct only
            for name, value in {"pathway": pathway, "gene": gene, "site": site}.items():
                totals[name] = totals.get(name, 0) + value / len(model.members_)
    axes = {"pathway": h.pathways, "gene": h.genes, "site": model.sites_}
    return {name: pd.Series(value, axes[name]) for name, value in totals.items()}


def refuse_hidden_heads(model: "MiracleClassifier") -> None:
    """Stop where one weight per node and task is read."""
    if not model.design.exact:
        units = model.design.head_units
        kind = f"have a hidden layer of {units} units" if units else "are not linear"
        raise MiracleError(
            f"The heads {kind}, so that no node has one weight; expected linear heads "
            "(attribute works with both)."
        )


def agreement(model: "MiracleClassifier", X: Samples | pd.DataFrame, task: str) -> pd.DataFrame:
    """Rank correlation between the attribution methods and the weight products.

    Parameters
    ----------
    model : MiracleClassifier
        Fitted.
    X : Samples or DataFrame, samples x sites
        Beta values.
    task : str
        One of ``model.tasks_``.

    Returns
    -------
    DataFrame
        Indexed by level; columns are pairs of methods, values Spearman correlations of the mean
        absolute contributions (for the weights: absolute product times the node's SD). Heads that
        are not linear have no weights to compare.

    Notes
    -----
    In a linear network the three are the same by construction: their agreement is evidence of
    nothing but that. Only of one with activations or hidden layers does it say something.
    """
    X = as_samples(X).values
    products = weight_products(model, task) if model.design.exact else None
    spread = {
        "site": pd.Series(model.standardized(X, task).std(0).cpu().numpy(), model.sites_),
        "pathway": model.transform(X).std(),
    }
    rows = {}
    for level in ("pathway", "site"):
        gradient = attribute(model, X, task, level).abs().mean()
        deeplift = attribute(model, X, task, level, "deeplift").abs().mean()
        sizes = {"integrated gradients": gradient, "DeepLIFT": deeplift}
        if products is not None:
            sizes["weights"] = products[level].abs() * spread[level]
        sizes = {name: _rounded(size) for name, size in sizes.items()}
        rows[level] = {
            f"{one} ~ {other}": _rank_correlation(sizes[one], sizes[other])
            for one, other in combinations(sizes, 2)
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("level")


def _rounded(sizes: pd.Series) -> pd.Series:
    """Set to zero what is there by rounding only, so that it has no rank of its own."""
    return sizes.where(sizes > 1e-5 * sizes.max(), 0.0)


def _rank_correlation(one: pd.Series, other: pd.Series) -> float:
    """Spearman's correlation; NaN where one of the two is the same for all nodes."""
    if min(one.nunique(), other.nunique()) < 2:
        return np.nan
    return one.corr(other, method="spearman")
