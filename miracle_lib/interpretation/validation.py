"""Network pathways against gene sets of other libraries, and against permuted masks."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from miracle_lib.errors import MiracleError
from miracle_lib.interpretation.enrichment import overrepresentation

GeneSets = Mapping[str, Collection[str]]


def library_agreement(
    explanation: pd.DataFrame,
    mask_sets: GeneSets,
    sites: Collection[str],
    universe: Collection[str],
    site_gene: pd.DataFrame,
    libraries: Mapping[str, GeneSets],
    *,
    permuted: Sequence[pd.DataFrame] = (),
    q_value: float = 0.05,
    n_shuffles: int = 300,
    random_state: int = 0,
) -> pd.DataFrame:
    """Compare the network's evidence with over-representation in other libraries.

    Every set of a library gets the network's evidence as the mean z of the mask's pathways,
    weighted by shared genes; agreement is its rank correlation with the set's
    over-representation among the chosen sites. The library that made the mask is labelled as
    circular: agreement there is built in, and validates nothing.

    Parameters
    ----------
    explanation : DataFrame
        From ``explain``: column ``z`` by pathway.
    mask_sets : mapping of str to collection of str
        Gene sets that made the mask.
    sites, universe, site_gene
        As in :func:`overrepresentation`.
    libraries : mapping of str to gene sets
        Libraries to compare with; one that has the mask's own sets is found to be circular.
    permuted : sequence of DataFrame, optional
        Explanations of networks trained with permuted masks: what agreement is without biology.
    q_value : float, default 0.05
        False discovery rate up to which a set counts as enriched.
    n_shuffles : int, default 300
        Shuffles of z over the mask's pathways.
    random_state : int, default 0
        Seed.

    Returns
    -------
    DataFrame
        Indexed by library: circular, n_sets, n_enriched, agreement (Spearman),
        shuffled_mean, p_value (against shuffled z), permuted_mean, permuted_max (NaN without
        permuted masks).

    Raises
    ------
    MiracleError
        If no pathway of the explanation is in ``mask_sets``, or one lacks evidence.
    """
    pathways = [p for p in explanation.index if p in mask_sets]
    if not pathways:
        raise MiracleError("No pathway of the explanation is among the mask's gene sets.")
    if explanation.loc[pathways, "z"].isna().any():
        raise MiracleError("The explanation lacks evidence (z); explain the task with its labels.")
    rng = np.random.default_rng(random_state)
    mask_content = {frozenset(genes) for genes in mask_sets.values()}
    rows = {}
    for name, library in libraries.items():
        tested = overrepresentation(sites, universe, site_gene, library)
        shared = _shared_genes(tested.index, library, pathways, mask_sets)
        enriched = -np.log10(tested["p_value"].clip(lower=1e-300)).rank().to_numpy()
        z = explanation["z"].reindex(pathways).to_numpy()
        shuffles = np.column_stack([rng.permutation(z) for _ in range(n_shuffles)])
        null = _agreement(shared, shuffles, enriched)
        observed = _agreement(shared, z[:, None], enriched)[0]
        others = []
        for table in permuted:
            # After a selection of sites, a permuted mask reaches other pathways than the mask does.
            z = table["z"].reindex(pathways).to_numpy()
            kept = ~np.isnan(z)
            others.append(_agreement(shared[:, kept], z[kept, None], enriched)[0])
        same = sum(frozenset(genes) in mask_content for genes in library.values())
        rows[name] = {
            "circular": same > len(library) / 2,
            "n_sets": len(tested),
            "n_enriched": int((tested["q_value"] <= q_value).sum()),
            "agreement": observed,
            "shuffled_mean": null.mean(),
            "p_value": (1 + (null >= observed).sum()) / (1 + n_shuffles),
            "permuted_mean": np.mean(others) if others else np.nan,
            "permuted_max": np.max(others) if others else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("library")


def _shared_genes(sets, library: GeneSets, pathways: list[str], mask_sets: GeneSets) -> np.ndarray:
    """Genes shared by each set and pathway, over the geometric mean of their sizes."""
    genes = sorted({g for p in pathways for g in mask_sets[p]})
    place = {gene: i for i, gene in enumerate(genes)}

    def indicator(collections: list[Collection[str]]) -> np.ndarray:
        matrix = np.zeros((len(collections), len(genes)), np.float32)
        for row, collection in enumerate(collections):
            matrix[row, [place[g] for g in set(collection) if g in place]] = 1
        return matrix / np.sqrt([[max(len(set(c)), 1)] for c in collections])

    return indicator([library[s] for s in sets]) @ indicator([mask_sets[p] for p in pathways]).T


def _agreement(shared: np.ndarray, z: np.ndarray, enriched: np.ndarray) -> np.ndarray:
    """Spearman correlation of projected evidence (a column per z) with ranks of enrichment."""
    weight = shared.sum(axis=1, keepdims=True)
    kept = weight[:, 0] > 0
    projected = shared[kept] @ z / weight[kept]
    ranks = rankdata(projected, axis=0)
    ranks -= ranks.mean(axis=0)
    other = enriched[kept] - enriched[kept].mean()
    length = np.sqrt((ranks**2).sum(axis=0) * (other @ other))
    return other @ ranks / np.where(length > 0, length, np.inf)
