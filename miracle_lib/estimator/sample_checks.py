"""What is wrong with a new sample as a whole, in words; empty text where nothing is."""

from __future__ import annotations

import numpy as np
import pandas as pd

SEXES = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}


def value_problems(X: pd.DataFrame) -> pd.Series:
    """Say of samples whose values are no beta values what they seem to be.

    Examples
    --------
    >>> X = pd.DataFrame({"cg1": [0.2, 20.0], "cg2": [0.7, 70.0]}, index=["a", "b"])
    >>> value_problems(X).to_list()
    ['', 'values from 20 to 70; beta values lie from 0 to 1 (percents?)']
    """
    low, high = X.min(axis=1), X.max(axis=1)
    problem = pd.Series("", X.index)
    problem[low.isna()] = "no value at all"
    outside = (low < 0) | (high > 1) | np.isinf(low) | np.isinf(high)
    for sample in X.index[outside]:
        scale = "M-values" if low[sample] < 0 else "percents" if high[sample] <= 100 else "other"
        named = f" ({scale}?)" if scale != "other" else ""
        problem[sample] = (
            f"values from {low[sample]:.3g} to {high[sample]:.3g}; "
            f"beta values lie from 0 to 1{named}"
        )
    return problem


def repeats(X: pd.DataFrame) -> pd.Series:
    """Say of a sample whose values an earlier one has, which that is."""
    codes = pd.util.hash_pandas_object(X.T.reset_index(drop=True).T, index=False)
    first = pd.Series(X.index, X.index).groupby(codes.to_numpy()).transform("first")
    same = first.to_numpy() != X.index.to_numpy()
    text = [f"the same values as sample {name!r}" for name in first]
    return pd.Series(text, X.index).where(same, "")


def read_sex(given: pd.Series) -> pd.Series:
    """Read sex as people write it: F, M, or missing.

    Examples
    --------
    >>> read_sex(pd.Series(["Male", "f", "unknown"])).to_list()
    ['M', 'F', nan]
    """
    return given.astype(str).str.strip().str.lower().map(SEXES)


def in_words_of(levels: list[str], given: pd.Series) -> pd.Series:
    """Write sex as a training did, where it is written otherwise.

    Examples
    --------
    >>> in_words_of(["female", "male"], pd.Series(["Male", "female", "F"])).to_list()
    ['male', 'female', 'female']
    """
    words = dict(zip(read_sex(pd.Series(levels)), levels, strict=True))
    return given.where(given.isin(levels), read_sex(given).map(words))


def swapped_sexes(given: pd.Series, predicted: pd.Series) -> pd.Series:
    """Say of a sample whose sex is given as another than the one predicted."""
    wrong = given.notna() & predicted.isin(["F", "M"]) & (given != predicted)
    return ("sex is given as " + given + " and predicted as " + predicted).where(wrong, "")


def in_one_text(parts: list[pd.Series]) -> pd.Series:
    """Join what different checks say of each sample."""
    joined = ["; ".join(filter(None, said)) for said in zip(*parts, strict=True)]
    return pd.Series(joined, parts[0].index)
