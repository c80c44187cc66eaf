"""Sex of a single sample, from what women and men of the training looked like on X and Y."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.manifest import Strict
from miracle_lib.preprocessing.samples import MIN_SEX_SITES, autosomal, predict_sex

UNCLEAR = 0.5  # of the way from the middle to the mean of a sex


class SexReference(Strict):
    """Means of sites on X and Y in women and in men.

    Attributes
    ----------
    sites : list of str
    female, male, sd : list of float
        Mean beta values, and the SD within a sex.
    """

    sites: list[str]
    female: list[float]
    male: list[float]
    sd: list[float]

    @classmethod
    def learn(cls, cohorts: Iterable[AnnData], n_sites: int = 200) -> Self | None:
        """Learn from cohorts whose samples `predict_sex` can tell apart.

        Parameters
        ----------
        cohorts : iterable of AnnData
            One cohort each, as `predict_sex` takes it.
        n_sites : int, default 200
            Sites kept: those whose two means lie most SDs apart.

        Returns
        -------
        SexReference or None
            None where no cohort has both sexes on at least ten sites that all of them share.
        """
        tables, sexes = [], []
        for adata in cohorts:
            sex = predict_sex(adata).astype(object)
            if sex.notna().any():
                tables.append(adata[:, ~autosomal(adata)].to_df())
                sexes.append(sex)
        values = pd.concat(tables, join="inner") if tables else pd.DataFrame()
        if values.shape[1] < MIN_SEX_SITES:
            return None
        groups = values.groupby(pd.concat(sexes).to_numpy())
        mean = groups.mean()
        sd = np.sqrt(np.square(values - groups.transform("mean")).mean()).clip(lower=1e-3)
        apart = ((mean.loc["F"] - mean.loc["M"]).abs() / sd).dropna()
        best = apart.nlargest(n_sites).index
        parts = {"female": mean.loc["F"], "male": mean.loc["M"], "sd": sd}
        lists = {name: part[best].astype(float).tolist() for name, part in parts.items()}
        return cls(sites=list(best), **lists)

    def predict(self, X: pd.DataFrame) -> pd.Series:
        """Predict the sex of each sample by itself.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            Beta values.

        Returns
        -------
        Series of str
            ``"F"``, ``"M"``, ``"unclear"`` halfway between the two, ``"not known"`` where fewer
            than ten of the sites are measured.

        Examples
        --------
        >>> from miracle_lib.cohorts.simulation import simulate_cohorts
        >>> cohort = simulate_cohorts({"RA": 40}, random_state=0).cohorts["RA"]
        >>> reference = SexReference.learn([cohort[:30]])
        >>> (reference.predict(cohort[30:].to_df()) == cohort.obs["sex"][30:]).all().item()
        True
        """
        female, male, sd = (np.array(part) for part in (self.female, self.male, self.sd))
        values = X.reindex(columns=self.sites).to_numpy(float)
        weight = np.where(np.isnan(values), 0.0, (female - male) / sd**2)
        position = (weight * np.nan_to_num(values - (female + male) / 2)).sum(axis=1)
        full = (weight * (female - male) / 2).sum(axis=1)  # where the mean of women would be
        names = np.where(position > 0, "F", "M").astype(object)
        names[np.abs(position) < UNCLEAR * full] = "unclear"
        names[(weight != 0).sum(axis=1) < MIN_SEX_SITES] = "not known"
        return pd.Series(names, X.index, name="sex_predicted")
