"""Does a pathway beat its controls? Evidence per pathway, against the same under shuffled labels.

Three measures, each linear algebra, so that a shuffle costs a matrix product and no training:

- *directed*: the sites' associations with the label are regressed on the mask, so that a pathway is
  credited with what the pathways it shares genes with do not explain;
- *undirected*: the same for absolute associations, which finds pathways whose sites move in both
  directions, and which counts only what exceeds the average over all sites;
- *network*: the pathway's contribution to the logit (cases minus controls) after linear heads are
  refitted on the frozen encoder, beside genes and sites, whatever heads the model has. The encoder
  of a strict bottleneck is made from the labels; averages of sites and genes stand in for it.

Each is divided by its own standard deviation over the shuffles and the true labels. That removes
what the size of a node alone gives it. Their sum, standardised in the same way, is compared with
the sums of all nodes under all shuffles. Labels are exchangeable under the null hypothesis, so no
distribution is assumed; the p-values of a node are exact up to the pooling over nodes and the
labels' part in training the encoder, and the chance to name anything where nothing is there does
not exceed the q-value.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import false_discovery_control

RIDGE = 5.0  # sites' worth of shrinkage of a pathway's shift
LOGISTIC_VARIANCE = np.pi**2 / 3
_SITES = 4096  # sites at a time
_CHUNK = 100  # shuffles at a time: bounds the memory at sites x chunk


@dataclass
class Problem:
    """What the evidence is computed from: one task's labelled samples.

    Attributes
    ----------
    sites : array, n_samples x n_sites
        Standardised methylation of the sites in the hierarchy (float32 halves the memory).
    latent : array, n_samples x n_pathways
        Pathway activities.
    covariance : array, n_samples x n_samples
        Prior covariance of the logits of refitted heads on pathways, genes and sites, the same
        whatever the labels.
    member : sparse array, n_sites x n_pathways
        1 where a site reaches a pathway.
    label : array of 0 and 1
    block : array of int
        Subject of each sample; those of one subject move together, or change places.
    stratum : array
        Labels are shuffled within strata (cohorts).
    covariates : array, n_samples x any
        What associations are adjusted for.
    """

    sites: np.ndarray
    latent: np.ndarray
    covariance: np.ndarray
    member: sparse.csr_array
    label: np.ndarray
    block: np.ndarray
    stratum: np.ndarray
    covariates: np.ndarray


def evidence(problem: Problem, n_permutations: int = 500, random_state: int = 0) -> pd.DataFrame:
    """Measure every pathway and compare it with shuffled labels.

    Parameters
    ----------
    problem : Problem
        One task.
    n_permutations : int, default 500
        Shuffles; those of all nodes are pooled, so that p-values go down to about
        1 / (n_permutations * n_pathways).
    random_state : int, default 0
        Seed.

    Returns
    -------
    DataFrame
        One row per pathway: directed, undirected, network and z, in standard deviations of the
        shuffled labels (directed is signed: negative where cases have less methylation);
        p_value, q_value (Benjamini-Hochberg).
    """
    labels = shuffled_labels(problem, n_permutations, random_state)
    if (labels == labels[:, :1]).all():
        warnings.warn(
            "The labels cannot be shuffled: no two subjects of a cohort, and no two samples of a "
            "subject, differ in them. There is no control, and every p-value is 1.",
            stacklevel=2,
        )
    measures = _measures(problem, labels)
    parts = {name: _standardised(values) for name, values in measures.items()}
    z = _standardised(np.abs(parts["directed"]) + parts["undirected"] + parts["network"])
    pool = np.sort(z, axis=None)
    p = (len(pool) - np.searchsorted(pool, z, side="left")) / len(pool)
    columns = {name: values[:, 0] for name, values in (parts | {"z": z}).items()}
    return pd.DataFrame(columns | {"p_value": p[:, 0], "q_value": _q_values(p)})


def _q_values(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg for column 0, never below the share of shuffles that get as far.

    So a q-value of 0.05 anywhere has a chance of at most 5% when nothing is there, whatever the
    dependence between pathways.
    """
    q = np.apply_along_axis(false_discovery_control, 0, p)
    smallest = np.sort(q.min(axis=0))
    return np.maximum(q[:, 0], np.searchsorted(smallest, q[:, 0], side="right") / len(smallest))


def shuffled_labels(problem: Problem, n_permutations: int, random_state: int) -> np.ndarray:
    """Labels as they are in column 0, then shuffled over subjects within each stratum.

    Where a subject has both labels, as a pair of twins may, they change places within it and its
    stratum.
    """
    rng = np.random.default_rng(random_state)
    _, first, subject = np.unique(problem.block, return_index=True, return_inverse=True)
    label, stratum = problem.label[first], problem.stratum[first]
    mixed = np.bincount(subject, problem.label != label[subject]) > 0
    names = np.unique(problem.stratum)
    strata = [np.flatnonzero(~mixed & (stratum == name)) for name in names]
    pairs = [
        np.flatnonzero((subject == number) & (problem.stratum == name))
        for number in np.flatnonzero(mixed)
        for name in names
    ]
    columns = [problem.label]
    for _ in range(n_permutations):
        drawn = label.copy()
        for rows in strata:
            drawn[rows] = label[rng.permutation(rows)]
        shuffled = drawn[subject]
        for rows in pairs:
            shuffled[rows] = problem.label[rng.permutation(rows)]
        columns.append(shuffled)
    return np.column_stack(columns).astype(float)


def _measures(problem: Problem, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Every measure for every column of labels: n_pathways x n_columns."""
    n = len(labels)
    design = np.column_stack([np.ones(n), problem.covariates])
    basis, scale, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, scale > 1e-8 * scale[0]]

    y, latent = _adjusted(labels, basis), _adjusted(problem.latent, basis)
    member = problem.member.astype(float)
    inverse = np.linalg.inv((member.T @ member).toarray() + RIDGE * np.eye(member.shape[1]))
    noise = LOGISTIC_VARIANCE * np.eye(n)
    dual = np.linalg.solve(problem.covariance + noise, _residual(labels, basis))
    weight = (problem.latent - problem.latent.mean(axis=0)).T @ dual
    use = weight * (latent.T @ y)
    directed, undirected = [], []
    for start in range(0, labels.shape[1], _CHUNK):
        chunk = y[:, start : start + _CHUNK]
        association = np.empty((problem.sites.shape[1], chunk.shape[1]))
        for part in site_parts(problem.sites):
            association[part] = _adjusted(problem.sites[:, part], basis).T @ chunk
        association *= np.sqrt(n - basis.shape[1])
        size = np.abs(association)
        directed.append(inverse @ (member.T @ (association - association.mean(axis=0))))
        undirected.append(inverse @ (member.T @ (size - size.mean(axis=0))))
    root = np.sign(use) * np.sqrt(np.abs(use))  # a product of two normals; its root is near one
    return {
        "directed": np.hstack(directed),
        "undirected": np.hstack(undirected),
        "network": root,
    }


def site_parts(sites: np.ndarray) -> Iterator[slice]:
    """Yield some sites at a time, which bounds the memory that copies of their values take."""
    for start in range(0, sites.shape[1], _SITES):
        yield slice(start, start + _SITES)


def _residual(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Take from each column what the covariates explain."""
    own = basis.astype(values.dtype)
    return values - own @ (own.T @ values)


def _adjusted(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Take from each column what the covariates explain, and scale it to length one."""
    values = _residual(values, basis)
    length = np.sqrt((values**2).sum(axis=0))
    return values / np.where(length > 1e-9, length, np.inf)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Distance from the mean over all columns in their standard deviations, node by node.

    The true labels are one of the columns: that treats them like any shuffle, which is what makes
    the comparison exact.
    """
    sd = values.std(axis=1, keepdims=True)
    return (values - values.mean(axis=1, keepdims=True)) / np.where(sd > 1e-12, sd, np.inf)
