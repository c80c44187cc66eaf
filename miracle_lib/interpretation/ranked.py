"""Ranked gene-set tests on gene scores that do not grow with the number of sites of a gene."""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from scipy.stats import beta, false_discovery_control, norm

from miracle_lib.errors import MiracleError
from miracle_lib.extras import needs


def gene_scores(ranking: pd.Series, site_gene: pd.DataFrame) -> pd.Series:
    """Score genes by their best site, corrected for how many sites each could choose from.

    The best of n random sites has a beta(n, 1) distributed quantile: its probability integral,
    as a normal deviate, is alike for genes of one and of a thousand sites when nothing is there.

    Parameters
    ----------
    ranking : Series indexed by site
        Importance of every tested site (absolute values are taken).
    site_gene : DataFrame
        Columns ``site`` and ``gene``.

    Returns
    -------
    Series indexed by gene
        Standard normal under chance, larger is more important; sorted, largest first.

    Raises
    ------
    MiracleError
        If no ranked site has a gene.

    Examples
    --------
    >>> table = pd.DataFrame({"site": list("abc"), "gene": ["A", "A", "B"]})
    >>> gene_scores(pd.Series([3.0, 1.0, 2.0], index=list("abc")), table).index.tolist()
    ['A', 'B']
    """
    pairs = site_gene[["site", "gene"]].dropna().drop_duplicates()
    pairs = pairs[pairs["site"].isin(ranking.index)]
    if pairs.empty:
        raise MiracleError("No ranked site has a gene in site_gene.")
    quantile = (ranking.abs().rank() - 0.5) / len(ranking)
    by_gene = pairs["site"].map(quantile).groupby(pairs["gene"])
    n_sites, best = by_gene.size(), by_gene.max()
    # Upper tail first: close to 1 the lower tail has no digits left.
    deviate = norm.isf(beta.sf(best, n_sites, 1))
    return pd.Series(deviate, index=best.index, name="score").sort_values(ascending=False)


def prerank(
    scores: pd.Series,
    gene_sets: Mapping[str, Collection[str]],
    *,
    min_genes: int = 5,
    max_genes: int = 500,
    permutations: int = 1000,
    random_state: int = 0,
) -> pd.DataFrame:
    """Gene-set enrichment analysis of ranked gene scores (gseapy, multilevel p-values).

    Parameters
    ----------
    scores : Series indexed by gene
        From :func:`gene_scores`.
    gene_sets : mapping of str to collection of str
        Genes per set.
    min_genes, max_genes : int
        Sets with fewer or more scored genes are not eligible.
    permutations : int, default 1000
        Size of the sample behind the p-values.
    random_state : int, default 0
        Seed.

    Returns
    -------
    DataFrame
        Indexed by set, most significant first: n_genes, nes, p_value (one-sided: important
        genes are enriched), q_value over all eligible sets, genes (leading edge).

    Raises
    ------
    MiracleError
        If no set is eligible.

    References
    ----------
    Subramanian et al. 2005, doi:10.1073/pnas.0506580102; Korotkevich et al. 2021,
    doi:10.1101/060012.
    """
    eligible = _eligible(scores.index, gene_sets, min_genes, max_genes)
    # Genes that share their best site tie; an order by name keeps the result reproducible.
    scores = scores.sort_index().sort_values(ascending=False, kind="stable")
    scores = scores - 1e-9 * np.arange(len(scores))
    with needs("interpret", "Ranked enrichment"):
        import gseapy
    found = gseapy.prerank(
        rnk=scores,
        gene_sets=eligible,
        min_size=min_genes,
        max_size=max_genes,
        permutation_num=permutations,
        method="multilevel",
        seed=random_state,
        threads=1,
        no_plot=True,
        outdir=None,
        verbose=False,
    ).res2d.set_index("Term")
    found = found.reindex(eligible)
    nes, two_sided = found["NES"].astype(float), found["NOM p-val"].astype(float)
    # A p-value belongs to the tail of its sign; a set among unimportant genes is not of interest.
    p = pd.Series(np.where(nes > 0, two_sided, 1.0), index=found.index).fillna(1.0)
    return (
        pd.DataFrame(
            {
                "n_genes": [len(genes) for genes in eligible.values()],
                "nes": nes,
                "p_value": p,
                "q_value": false_discovery_control(p.clip(0, 1)),
                "genes": found["Lead_genes"].fillna("").str.replace(";", ", "),
            }
        )
        .rename_axis("set")
        .sort_values(["p_value", "nes"], ascending=[True, False])
    )


def ssgsea(
    values: pd.DataFrame,
    site_gene: pd.DataFrame,
    gene_sets: Mapping[str, Collection[str]],
    *,
    min_genes: int = 5,
    max_genes: int = 500,
) -> pd.DataFrame:
    """Single-sample enrichment of every set (gseapy), on gene means of standardised sites.

    The mean over the sites of a gene is divided by its standard deviation over samples, so that
    genes of few and of many sites have one spread.

    Parameters
    ----------
    values : DataFrame, samples x sites
        Standardised methylation (no NaN).
    site_gene : DataFrame
        Columns ``site`` and ``gene``.
    gene_sets : mapping of str to collection of str
        Genes per set.
    min_genes, max_genes : int
        Sets with fewer or more measured genes are left out.

    Returns
    -------
    DataFrame, samples x sets
        Normalised enrichment scores.

    References
    ----------
    Barbie et al. 2009, doi:10.1038/nature08460.
    """
    pairs = site_gene[["site", "gene"]].dropna().drop_duplicates()
    pairs = pairs[pairs["site"].isin(values.columns)]
    by_gene = values[pairs["site"]].T.groupby(pairs["gene"].to_numpy()).mean()
    spread = by_gene.std(axis=1)
    by_gene = by_gene[spread > 0].div(spread[spread > 0], axis=0)
    eligible = _eligible(by_gene.index, gene_sets, min_genes, max_genes)
    with needs("interpret", "Single-sample enrichment"):
        import gseapy
    found = gseapy.ssgsea(
        data=by_gene,
        gene_sets=eligible,
        min_size=min_genes,
        max_size=max_genes,
        outdir=None,
        no_plot=True,
        verbose=False,
    ).res2d
    scores = found.pivot(index="Name", columns="Term", values="NES").astype(float)
    return scores.reindex(index=values.index, columns=list(eligible))


def _eligible(
    scored_genes: pd.Index, gene_sets: Mapping[str, Collection[str]], min_genes: int, max_genes: int
) -> dict[str, list[str]]:
    """Sets within the size limits, with their scored genes."""
    scored = set(scored_genes)
    sets = {name: sorted(scored.intersection(genes)) for name, genes in gene_sets.items()}
    sets = {name: genes for name, genes in sets.items() if min_genes <= len(genes) <= max_genes}
    if not sets:
        raise MiracleError(f"No gene set has {min_genes} to {max_genes} scored genes.")
    return sets
