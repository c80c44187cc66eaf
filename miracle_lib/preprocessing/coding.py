"""The one coder of covariates: cohorts, numbers and text in, centred columns of numbers out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd


@dataclass
class CovariateCoder:
    """Cohort indicators and covariates as centred numbers, coded as learned from training samples.

    A text becomes an indicator for each of its levels but the first; a column that has no value
    is left out.

    Attributes
    ----------
    cohorts : list of str
        Cohorts with an indicator; none if there are fewer than two.
    levels : dict of str to list of str
        Levels of every column of text, sorted.
    mean, sd : dict of str to float
        Of every coded column.

    Examples
    --------
    >>> table = pd.DataFrame({"age": [40.0, 60, None], "sex": ["F", "M", "F"]})
    >>> coder = CovariateCoder.learn(table)
    >>> coder.encode(table).round(2)
    array([[-1.  , -0.71],
           [ 1.  ,  1.41],
           [ 0.  , -0.71]], dtype=float32)
    """

    cohorts: list[str] = field(default_factory=list)
    levels: dict[str, list[str]] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)
    sd: dict[str, float] = field(default_factory=dict)

    @classmethod
    def learn(cls, covariates: pd.DataFrame | None, cohorts: Sequence[str] = ()) -> Self:
        """Learn levels, means and SDs; None: there are no covariates."""
        coder = cls(list(cohorts) if len(cohorts) > 1 else [])
        if covariates is None:
            return coder
        for name, column in covariates.items():
            if not pd.api.types.is_numeric_dtype(column):
                coder.levels[str(name)] = sorted(column.dropna().astype(str).unique())
        coded = coder.numbers(covariates)
        measured = coded.columns[coded.notna().any()]
        coder.mean = {name: float(coded[name].mean()) for name in measured}
        varies = coded[measured].nunique() > 1  # the SD of equal numbers is 0 up to rounding only
        coder.sd = {n: float(coded[n].std(ddof=0)) if varies[n] else 1.0 for n in measured}
        return coder

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.cohorts) + len(self.mean)

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

    def encode(
        self, covariates: pd.DataFrame | None, cohort: np.ndarray | None = None
    ) -> np.ndarray:
        """Return float32 (n_samples, width); what is unknown counts as average.

        Parameters
        ----------
        covariates : DataFrame of shape (n_samples, n_covariates), optional
        cohort : array of shape (n_samples,), optional
            May be left out where no cohorts were learned.
        """
        given = covariates if cohort is None else cohort
        table = np.zeros((0 if given is None else len(given), self.width), np.float32)
        for column, name in enumerate(self.cohorts):
            table[:, column] = (cohort == name) - 1 / len(self.cohorts)
        if covariates is not None and self.mean:
            coded = self.numbers(covariates).reindex(columns=list(self.mean))
            scaled = (coded - pd.Series(self.mean)) / pd.Series(self.sd)
            table[:, len(self.cohorts) :] = scaled[list(self.mean)].fillna(0)
        return table
