"""What is left of pathways when cell composition is adjusted for."""

import numpy as np
import pandas as pd

from miracle_lib.samples import Samples

_SHOWN = ["z", "rank", "q_value"]


def without_composition(samples: Samples) -> Samples | None:
    """Return the samples without their cell fractions.

    Parameters
    ----------
    samples : Samples
        Covariates named ``cell_...`` are cell fractions.

    Returns
    -------
    Samples or None
        None where no cell fraction is known.

    Examples
    --------
    >>> values = pd.DataFrame({"cg1": [0.1, 0.9]}, index=["a", "b"])
    >>> blood = pd.DataFrame({"age": [40, 50], "cell_Gran": [0.5, 0.6]}, index=["a", "b"])
    >>> without_composition(Samples(values, covariates=blood)).covariates.columns.tolist()
    ['age']
    """
    if samples.covariates is None:
        return None
    cells = [name for name in samples.covariates if str(name).startswith("cell_")]
    rest = samples.covariates.drop(columns=cells)
    return samples.replace(covariates=rest if len(rest.columns) else None) if cells else None


def beside_composition(
    adjusted: pd.DataFrame, unadjusted: pd.DataFrame, q_threshold: float = 0.05
) -> pd.DataFrame:
    """Put each named pathway with and without adjustment for cell composition side by side.

    Parameters
    ----------
    adjusted, unadjusted : DataFrame
        What `explain` says of one task, of samples with their cell fractions and without.
    q_threshold : float, default 0.05
        False discovery rate at or under which a pathway is named.

    Returns
    -------
    DataFrame
        Indexed by pathway, by rank without adjustment: ``z``, ``rank`` and ``q_value`` adjusted,
        the same with the ending ``_unadjusted``, and ``named``: "both", "adjusted only" or
        "unadjusted only"; where none is named the first five of either, named "neither".

    Examples
    --------
    >>> columns = ["z", "rank", "q_value"]
    >>> adjusted = pd.DataFrame([[4.0, 1, 0.01], [0.5, 2, 0.9]], ["A", "B"], columns)
    >>> unadjusted = pd.DataFrame([[4.2, 2, 0.01], [6.0, 1, 0.001]], ["A", "B"], columns)
    >>> beside_composition(adjusted, unadjusted)["named"].to_dict()
    {'B': 'unadjusted only', 'A': 'both'}
    """
    table = adjusted[_SHOWN].join(unadjusted[_SHOWN], rsuffix="_unadjusted")
    after, before = (table[name] <= q_threshold for name in ("q_value", "q_value_unadjusted"))
    named = np.select(
        [after & before, after, before], ["both", "adjusted only", "unadjusted only"], "neither"
    )
    chosen = after | before
    if not chosen.any():
        chosen = table[["rank", "rank_unadjusted"]].min(axis=1) <= 5
    return table.assign(named=named)[chosen].sort_values("rank_unadjusted").rename_axis("pathway")
