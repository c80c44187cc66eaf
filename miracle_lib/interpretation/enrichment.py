"""Over-representation of gene sets among sites, corrected for the number of sites per gene."""

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.signal import fftconvolve
from scipy.stats import false_discovery_control, hypergeom

from miracle_lib.errors import MiracleError
from miracle_lib.interpretation.wallenius import log_sf


def overrepresentation(
    sites: Collection[str],
    universe: Collection[str],
    site_gene: pd.DataFrame,
    gene_sets: Mapping[str, Collection[str]],
    method: Literal["wallenius", "hypergeometric"] = "wallenius",
) -> pd.DataFrame:
    """Test which gene sets hold more of the chosen sites than chance gives them.

    A gene with 100 sites is hit by a random list far more often than a gene with two, and gene
    sets differ in this. ``"wallenius"`` corrects for it as missMethyl's ``gsameth`` does: the
    chance of a gene to be hit is a moving average over genes ordered by their number of sites,
    its mean inside over its mean outside a set is the odds of Wallenius' noncentral
    hypergeometric distribution, and a site of k genes counts 1/k in each. ``"hypergeometric"``
    is the plain test, every hit gene counted as one; it is the contrast, not the recommendation.

    Parameters
    ----------
    sites : collection of str
        The chosen sites, all of them in ``universe``.
    universe : collection of str
        All sites that were tested, not all sites of the array.
    site_gene : DataFrame
        Columns ``site`` and ``gene``; one row per pair, repeated pairs count once.
    gene_sets : mapping of str to collection of str
        Genes per set; genes without a tested site are left out, and sets without any gene too.
    method : {"wallenius", "hypergeometric"}, default "wallenius"
        The test.

    Returns
    -------
    DataFrame
        Indexed by set, most significant first. In brackets the name in missMethyl's output:
        ``n_genes`` [N], ``n_significant`` [DE], ``odds`` (bias of the set, 1 without bias; not an
        odds ratio of enrichment), ``p_value`` [P.DE], ``q_value`` [FDR, Benjamini-Hochberg over
        all sets returned], ``genes`` [SigGenesInSet].

    Raises
    ------
    MiracleError
        If a chosen site was not tested, or no tested site or no set has an annotated gene.

    References
    ----------
    Phipson et al. 2016, doi:10.1093/bioinformatics/btv560; Maksimovic et al. 2021,
    doi:10.1186/s13059-021-02388-x.

    Examples
    --------
    >>> table = pd.DataFrame({"site": list("abcdef"), "gene": ["A", "A", "B", "C", "D", "E"]})
    >>> overrepresentation(["c", "d"], "abcdef", table, {"S": ["B", "C"]})["n_significant"]["S"]
    np.float64(2.0)
    """
    if method not in ("wallenius", "hypergeometric"):
        raise MiracleError(f"method is {method!r}; expected 'wallenius' or 'hypergeometric'.")
    pairs, genes = _gene_table(sites, universe, site_gene)
    names, members = _membership(gene_sets, genes.index)
    n_genes = members.sum(axis=0).astype(int)
    hit = genes["hit"].to_numpy()
    if method == "wallenius":
        counted = pairs[pairs["chosen"]].groupby("gene")["weight"].sum().clip(upper=1)
        count = counted.reindex(genes.index, fill_value=0.0).to_numpy() @ members
        odds = _odds(_bias_curve(genes), members, n_genes)
        # Fractions are floored: the test is for whole genes (1e-9 guards 1/3 + 1/3 + 1/3).
        whole = np.floor(count + 1e-9).astype(int)
        p = np.exp(log_sf(whole, n_genes, len(genes), int(hit.sum()), odds))
    else:
        count = hit.astype(float) @ members
        odds = np.ones(len(n_genes))
        p = hypergeom.sf(count - 1, len(genes), n_genes, int(hit.sum()))
    return pd.DataFrame(
        {
            "n_genes": n_genes,
            "n_significant": count,
            "odds": odds,
            "p_value": p,
            "q_value": false_discovery_control(np.clip(p, 0, 1)),
            "genes": _hit_genes(members, genes),
        },
        index=names,
    ).sort_values(["p_value", "n_significant"], ascending=[True, False], kind="stable")


def _gene_table(sites, universe, site_gene) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs among tested sites with their weights; per gene, equivalent site count and hit."""
    for column in ("site", "gene"):
        if column not in site_gene:
            raise MiracleError(f"site_gene has no column {column!r}; expected 'site' and 'gene'.")
    chosen, universe = set(sites), set(universe)
    if not chosen <= universe:
        example = min(chosen - universe)
        raise MiracleError(
            f"{len(chosen - universe)} chosen sites are not in the universe, for example "
            f"{example!r}; expected the universe to be all sites that were tested."
        )
    pairs = site_gene[["site", "gene"]].dropna().astype(str).drop_duplicates()
    pairs = pairs[pairs["site"].isin(universe)]
    if pairs.empty:
        raise MiracleError("No site of the universe has a gene in site_gene.")
    weight = 1 / pairs.groupby("site")["gene"].transform("size")
    pairs = pairs.assign(weight=weight, chosen=pairs["site"].isin(chosen))
    grouped = pairs.groupby("gene")
    genes = pd.DataFrame({"n_sites": grouped["weight"].sum(), "hit": grouped["chosen"].any()})
    return pairs, genes


def _membership(gene_sets, genes: pd.Index) -> tuple[pd.Index, sparse.csc_array]:
    """Names of the sets that hold a known gene, and the matrix genes x sets."""
    members = {name: genes.get_indexer(pd.Index(set(s))) for name, s in gene_sets.items()}
    members = {name: np.sort(m[m >= 0]) for name, m in members.items() if (m >= 0).any()}
    if not members:
        raise MiracleError("No gene set holds a gene with a tested site.")
    rows = np.concatenate(list(members.values()))
    pointers = np.cumsum([0, *map(len, members.values())])
    shape = (len(genes), len(members))
    matrix = sparse.csc_array((np.ones(len(rows)), rows, pointers), shape=shape)
    return pd.Index(list(members), name="set"), matrix


def _bias_curve(genes: pd.DataFrame) -> np.ndarray:
    """Chance of each gene to be hit: tricube moving average along the number of its sites."""
    # Rounding makes equal counts equal (1/3 + 1/3 + 1/3), so that ties stay in name order.
    order = np.argsort(genes["n_sites"].to_numpy().round(9), kind="stable")
    half = len(genes) // 4
    kernel = (1 - (np.abs(np.arange(-half, half + 1)) / (half + 1)) ** 3) ** 3
    hit = genes["hit"].to_numpy(float)[order]
    weighted, weights = (fftconvolve(x, kernel, mode="same") for x in (hit, np.ones(len(hit))))
    curve = np.empty(len(hit))
    curve[order] = np.clip(weighted / weights, 1e-12, 1)
    return curve


def _odds(curve: np.ndarray, members: sparse.csc_array, n_genes: np.ndarray) -> np.ndarray:
    """Mean chance to be hit inside over outside each set; 1 where nothing is outside."""
    inside = curve @ members
    n_outside = len(curve) - n_genes
    outside = (curve.sum() - inside) / np.maximum(n_outside, 1)
    return np.where(n_outside > 0, inside / n_genes / np.where(n_outside > 0, outside, 1), 1.0)


def _hit_genes(members: sparse.csc_array, genes: pd.DataFrame) -> list[str]:
    """Names of the hit genes of each set, separated by commas."""
    hit, names = genes["hit"].to_numpy(), genes.index.to_numpy()
    columns = np.split(members.indices, members.indptr[1:-1])
    return [", ".join(names[column[hit[column]]]) for column in columns]
