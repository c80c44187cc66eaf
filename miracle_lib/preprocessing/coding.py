"""The one coder of covariates: numbers and text in, centred columns of numbers out."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd


@dataclass
class CovariateCoder:
    """Covariates as numbers, coded as learned from training samples.

    A text becomes an indicator for each of its levels but the first; a column that has no value
    is left out.

    Attributes
    ----------
    levels : dict of str to list of str
        Levels of every column of text, sorted.
    mean, sd : dict of str to float
        Of every coded column.

    Examples
    --------
    >>> table = pd.DataFrame({"age": [40.0, 60, None], "sex": ["F", "M", "F"]})
    >>> coder = CovariateCoder.learn(table)
    >>> coder.encode(table).round(2).tolist()
    [[-1.0, -0.71], [1.0, 1.41], [0.0, -0.71]]
    """

    levels: dict[str, list[str]] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)
    sd: dict[str, float] = field(default_factory=dict)

    @classmethod
    def learn(cls, covariates: pd.DataFrame | None) -> Self:
        """Learn levels, means and SDs; None: there are no covariates."""
        coder = cls()
        if covariates is None:
            return coder
        for name, column in covariates.items():
            if not pd.api.types.is_numeric_dtype(column):
                coder.levels[str(name)] = sorted(column.dropna().astype(str).unique())
        coded = coder.numbers(covariates)
        measured = coded.columns[coded.notna().any()]
        coder.mean = {name: float(coded[name].mean()) for name in measured}
        coder.sd = {name: float(coded[name].std(ddof=0)) or 1.0 for name in measured}
        return coder

    def numbers(self, covariates: pd.DataFrame) -> pd.DataFrame:
        """Return numbers as they are and an indicator per further level, NaN where missing."""
        columns = {}
        for name, column in covariates.items():
            levels = self.levels.get(str(name))
            if levels is None:
                columns[str(name)] = pd.to_numeric(column, errors="coerce").astype(float)
                continue
            text = column.astype(object).map(str, na_action="ignore")
            for level in levels[1:]:
                columns[f"{name}={level}"] = (text == level).astype(float).where(text.isin(levels))
        return pd.DataFrame(columns, index=covariates.index)

    def encode(self, covariates: pd.DataFrame) -> np.ndarray:
        """Return float64 (n_samples, n_columns), centred and scaled; unknown counts as average."""
        coded = self.numbers(covariates).reindex(columns=list(self.mean))
        return ((coded - pd.Series(self.mean)) / pd.Series(self.sd)).fillna(0).to_numpy()
