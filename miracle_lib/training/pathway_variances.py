"""Which pathways speak: what the pathways of a gene say of how large its associations are.

The association of a site, in units of its noise, is taken as normal with variance 1 + b + the sum
of c over the pathways of its gene; b and all c are at least 0 and found by maximum likelihood. A
pathway in which no site speaks beyond what its other pathways explain gets a c near 0, so that of
twenty pathways of a gene the one that is active is heard, which their mean would drown.

References
----------
Additive variances by multiplicative steps (Itakura-Saito divergence): Fevotte, Bertin & Durrieu
2009, doi 10.1162/neco.2008.04-08-771.
"""

import numpy as np
import scipy.sparse as sp

PARTS = 3  # of the genes; what is said of a gene comes from the other parts
STEPS = 20  # two hundred give the same variances to the second digit
START = 0.3


def excess_from_pathways(
    total: np.ndarray, number: np.ndarray, gene_pathway: sp.csr_matrix
) -> np.ndarray:
    """Return the expected squared association, minus 1, that a gene's pathways give its sites.

    Parameters
    ----------
    total, number : ndarray, shape (n_genes, n_tasks)
        Sum of the squared associations of each gene's sites, and how many of them were measured.
    gene_pathway : csr_matrix, shape (n_genes, n_pathways)
        1 where a gene is in a pathway.

    Returns
    -------
    ndarray, shape (n_genes, n_tasks)
        Found without the gene itself; NaN for genes without a pathway that another part measured.
    """
    part = np.arange(len(total)) % PARTS
    found = np.empty(total.shape)
    for left_out in range(PARTS):
        rest, own = gene_pathway[part != left_out], gene_pathway[part == left_out]
        variances = fit_variances(total[part != left_out], number[part != left_out], rest)
        present = own @ (rest.T @ number[part != left_out]) > 0
        found[part == left_out] = np.where(present, own @ variances, np.nan)
    return found


def fit_variances(total: np.ndarray, number: np.ndarray, mask: sp.csr_matrix) -> np.ndarray:
    """Return the variance c of every pathway in every task, (n_pathways, n_tasks)."""
    transposed = mask.T.tocsr()
    measured = transposed @ number > 0
    pathway = np.where(measured, START, 0.0)
    base = np.full((1, total.shape[1]), START)
    for _ in range(STEPS):
        variance = 1 + base + mask @ pathway
        seen, expected = total / variance**2, number / variance
        above, below = transposed @ seen, transposed @ expected
        pathway *= np.sqrt(np.where(measured, above / np.where(measured, below, 1), 0))
        base *= np.sqrt(seen.sum(0) / np.maximum(expected.sum(0), 1e-300))
    return pathway
