"""What the labels say of every site, gene and pathway, and of their relatives in the hierarchy.

A feature's association with a task, a moderated t statistic, is its effect in units of its noise
plus noise of variance 1. How large the effect may be is predicted from the others: the sites of the
same gene, the genes of the same pathways, the same feature in the other tasks. How much each of
these relatives says is found from the data by least squares, over all features and tasks at once,
so that a hierarchy, a pathway or a task that says nothing gets no weight. The feature's own
association then moves its expected square as Bayes' rule has it; this is the variance of the prior
of its weight.

Sites of one gene vary together, so that their associations are of like size where no effect is
real, too: squares of two normal values with correlation r have covariance 2 r^2. What this makes of
the regression is taken off first.

References
----------
Group-adaptive priors: van de Wiel et al. 2016, Better prediction by use of co-data, doi
10.1002/sim.6732. Moderated t: Smyth 2004, doi 10.2202/1544-6115.1027.
"""

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from miracle_lib.model.vae import Masks
from miracle_lib.training.pathway_variances import excess_from_pathways

LEAST = 1e-3  # expected squared effect, in units of the noise, of a feature of which nothing speaks
PRIOR_DF = 10  # samples' worth of belief in the variance that is common to all features
NEGLIGIBLE = 0.01  # share of the variance that the least features may lose together
ROUNDS = 3  # of re-weighted least squares

# Features, their excess, and what their relatives say.
Group = tuple[slice, np.ndarray, list[np.ndarray]]


class Relatives:
    """Means over the relatives of every node, the node itself left out.

    Parameters
    ----------
    hierarchy : Hierarchy
    n_outside : int
        Sites after those of the hierarchy, which have no relatives but themselves in other tasks.
    """

    def __init__(self, hierarchy: Masks, n_outside: int) -> None:
        self.site_gene = ones_of(hierarchy.site_gene)
        self.gene_pathway = ones_of(hierarchy.gene_pathway)
        self.n_sites, self.n_outside = self.site_gene.shape[0], n_outside
        self.genes_of_site = np.asarray(self.site_gene.sum(axis=1)).ravel()

    def groups(self, block: str, excess: np.ndarray, chance: float = 0.0) -> list[Group]:
        """Return what relatives say of the features of a block.

        Parameters
        ----------
        block : {"sites", "genes", "pathways"}
        excess : ndarray, shape (n_features, n_tasks)
            Squared association minus 1.
        chance : float, default 0
            Covariance of the excess of a site with the mean of its gene's others by chance, as
            `by_chance` finds it.

        Returns
        -------
        list of (slice, ndarray, list of ndarray)
            Per group of features its part of ``excess``, beyond what chance makes of the others of
            a site's gene, and one table of the same shape per relative.
        """
        if block == "sites":
            inside, outside = excess[: self.n_sites], excess[self.n_sites :]
            own = [self._gene(inside), self._pathways_of_sites(inside)]
            gene = _filled(own[0])
            slope = min(chance / max(gene.var(), 1e-300), 1.0)
            beyond = inside - slope * (gene - gene.mean())
            return [
                (slice(0, self.n_sites), beyond, own + _other_tasks([inside, *own])),
                (slice(self.n_sites, None), outside, _other_tasks([outside])),
            ]
        own = [self._pathways_of_genes(excess)] if block == "genes" else []
        return [(slice(None), excess, own + _other_tasks([excess, *own]))]

    def by_chance(self, association: np.ndarray) -> float:
        """Return how squared associations covary with the mean of their gene's others by chance.

        Parameters
        ----------
        association : ndarray, shape (n_sites, any number)
            Of the sites with random directions of the samples.
        """
        own = association[: self.n_sites] ** 2
        others = self._gene(own)
        known = ~np.isnan(others)
        return max(float(np.cov(own[known], others[known])[0, 1]), 0.0) if known.any() else 0.0

    def _gene(self, excess: np.ndarray) -> np.ndarray:
        """Mean over the other sites of a site's genes."""
        total, number = (
            self.site_gene @ (self.site_gene.T @ part) - self.genes_of_site[:, None] * part
            for part in _parts(excess)
        )
        return _mean(total, number)

    def _pathways_of_sites(self, excess: np.ndarray) -> np.ndarray:
        """Mean over a site's genes of what their pathways say of them."""
        squares, present = _parts(excess + 1)
        of_genes = excess_from_pathways(
            self.site_gene.T @ squares, self.site_gene.T @ present, self.gene_pathway
        )
        value, present = _parts(of_genes)
        return _mean(self.site_gene @ value, self.site_gene @ present)

    def _pathways_of_genes(self, excess: np.ndarray) -> np.ndarray:
        """What a gene's pathways say of it."""
        return excess_from_pathways(*_parts(excess + 1), self.gene_pathway)


def ones_of(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return a mask, or a matrix with its edges, as ones."""
    matrix = sp.csr_matrix(matrix, dtype=float)
    matrix.data[:] = 1
    return matrix


def _parts(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a table with 0 where it is not known, and 1 where it is."""
    present = ~np.isnan(table)
    return np.where(present, table, 0.0), present.astype(float)


def _mean(total: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return totals over numbers, NaN where there is none."""
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _other_tasks(tables: list[np.ndarray]) -> list[np.ndarray]:
    """Return the mean of each table over the other tasks that know; nothing for one task."""
    if tables[0].shape[1] == 1:
        return []
    parts = [_parts(table) for table in tables]
    return [
        _mean(value.sum(1, keepdims=True) - value, present.sum(1, keepdims=True) - present)
        for value, present in parts
    ]


def _filled(table: np.ndarray) -> np.ndarray:
    """Return a table with the mean of the known where there is no relative."""
    present = ~np.isnan(table)
    return np.where(present, table, table[present].mean() if present.any() else 0.0)


def moderated_t(
    total: np.ndarray, square: np.ndarray, number: np.ndarray, alive: np.ndarray
) -> np.ndarray:
    """Return the moderated t statistic of cases against controls of each feature.

    Parameters
    ----------
    total, square : ndarray, shape (2, n_features)
        Sums and sums of squares over controls and cases.
    number : ndarray, shape (2,)
        Controls and cases.
    alive : ndarray of bool, shape (n_features,)
        Features that vary; the others get 0. One that varies, but not in this task, as a site that
        its cohort did not measure, gets NaN: it says nothing, which is not that it has no effect.
    """
    mean = total / number[:, None]
    df = max(number.sum() - 2, 1)
    variance = (square - mean**2 * number[:, None]).sum(0).clip(min=0) / df
    measured = variance > 1e-9
    common = np.median(variance[alive & measured]) if (alive & measured).any() else 1.0
    variance = (PRIOR_DF * common + df * variance) / (PRIOR_DF + df)
    noise = np.sqrt(variance * (1 / number).sum() + 1e-12)
    found = np.where(alive, (mean[1] - mean[0]) / noise, 0.0)
    return np.where(alive & ~measured, np.nan, found)


def prior_variances(
    association: np.ndarray,
    alive: np.ndarray,
    relatives: Relatives,
    block: str,
    chance: float = 0.0,
) -> np.ndarray:
    """Return the prior variance of the weight of every feature in every task.

    Parameters
    ----------
    association : ndarray, shape (n_features, n_tasks)
        Moderated t statistics, NaN where a task did not measure a feature.
    alive : ndarray of bool, shape (n_features,)
        Features that vary; the others get 0.
    relatives : Relatives
    block : str
    chance : float, default 0
        See `Relatives.groups`.

    Returns
    -------
    ndarray, shape (n_features, n_tasks)
        Adds up to 1 in the mean over tasks. Features that together have less than 1 % get 0.
    """
    squares = association**2
    expected = np.full_like(squares, LEAST)
    for part, excess, tables in relatives.groups(block, squares - 1, chance):
        if excess.size:
            expected[part] = _expected_excess(excess, tables)
    shrink = expected / (1 + expected)
    present = alive[:, None] & ~np.isnan(squares)
    variance = np.where(present, shrink**2 * squares + shrink, 0.0)
    variance[variance < _threshold(variance)] = 0
    return variance / max(variance.sum(0).mean(), 1e-300)


def _threshold(variance: np.ndarray) -> np.ndarray:
    """Return the variance below which features add up to a negligible share, per task."""
    ordered = np.sort(variance, axis=0)
    total = np.cumsum(ordered, axis=0)
    last = (total < NEGLIGIBLE * total[-1]).sum(0)
    return ordered[np.minimum(last, len(ordered) - 1), np.arange(variance.shape[1])]


def _expected_excess(excess: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
    """Regress the excess on what the relatives say; weights and result are never negative."""
    columns = [*map(_filled, tables), np.ones_like(excess)]
    design = np.stack([column.ravel() for column in columns], axis=1)
    expected = np.zeros(excess.size)
    value, present = (part.ravel() for part in _parts(excess))
    for _ in range(ROUNDS):
        weight = present / (1 + expected) ** 2  # a squared normal varies more the larger its mean
        weighted = design * weight[:, None]
        inner = design.T @ weighted
        inner[np.diag_indices_from(inner)] *= 1 + 1e-9
        root = cholesky(inner + 1e-12 * np.eye(len(inner)), lower=True)
        found, _ = nnls(root.T, solve_triangular(root, weighted.T @ value, lower=True))
        expected = np.maximum(design @ found, LEAST)
    return expected.reshape(excess.shape)
