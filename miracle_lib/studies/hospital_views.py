"""Two cohorts of one disease as a model may be shown them, with a difference taken away or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from miracle_lib.preprocessing import CohortStandardizer, CovariateResidualizer
from miracle_lib.preprocessing.scale import beta_to_m, m_to_beta
from miracle_lib.samples import Samples


@dataclass(frozen=True)
class View:
    """What is taken away of the differences between the cohorts trained on and another one.

    Attributes
    ----------
    profile : bool
        Each new sample alone is put on the line that its M-values form over the mean profile of the
        training. Safe for a single sample.
    level : bool
        Each site of the new cohort gets the mean and standard deviation that it has in the
        training. Needs a cohort of unlabelled samples, and takes another share of cases for
        another level unless ``prevalence`` is taken away too.
    composition : bool
        What a linear model of the training's cell fractions explains is taken off both cohorts,
        and the fractions are no covariates. Safe for a single sample.
    array : bool
        Sites that the new cohort did not measure are left out of the training.
    prevalence : bool
        Probabilities are corrected for the new cohort's share of cases, which must be known.
    """

    profile: bool = False
    level: bool = False
    composition: bool = False
    array: bool = False
    prevalence: bool = False

    @property
    def at_home(self) -> Self:
        """What of it changes the training, and so a score within the cohort too."""
        return replace(self, profile=False, level=False, prevalence=False)

    def apply(self, train: Samples, test: Samples, measured: pd.Index) -> tuple[Samples, Samples]:
        """Return both as the model is shown them.

        Parameters
        ----------
        train, test : Samples
            Of one task and with the same sites, NaN where absent.
        measured : Index
            Sites that the other cohort has.
        """
        if self.array:
            train, test = (part.replace(values=part.values[measured]) for part in (train, test))
        if self.composition:
            train, test = without_composition(train, test)
        if self.profile:
            test = on_profile(train, test)
        if self.level:
            test = at_level(train, test, share_of_cases(test) if self.prevalence else None)
        return train, test


AS_IT_IS, ALONE, LEVEL, ALL = "as it is", "each sample alone", "level", "all of them"
VIEWS = {
    AS_IT_IS: View(),
    ALONE: View(profile=True),
    LEVEL: View(level=True),
    "composition": View(composition=True),
    "array": View(array=True),
    "prevalence": View(prevalence=True),
    ALL: View(level=True, composition=True, array=True, prevalence=True),
}


def possible_views(train: Samples, test: Samples) -> dict[str, View]:
    """Views whose difference can be taken away here, by name.

    Without cell fractions in both cohorts nothing can be said of the composition, and there is
    nothing to leave out of the array where the new cohort has every site.
    """
    cells = bool(cell_fractions(train, test))
    absent = len(measured_sites(test)) < len(test.sites)
    views = {
        name: replace(view, composition=view.composition and cells, array=view.array and absent)
        for name, view in VIEWS.items()
    }
    return {name: view for name, view in views.items() if name == AS_IT_IS or view != View()}


def measured_sites(samples: Samples) -> pd.Index:
    """Sites with a value in any sample."""
    return samples.sites[samples.values.notna().any()]


def cell_fractions(*parts: Samples) -> list[str]:
    """Covariates that are cell fractions known in all parts."""
    known = [set(_covariates(part).dropna(axis=1, how="all")) for part in parts]
    return sorted(name for name in set.intersection(*known) if name.startswith("cell_"))


def _covariates(samples: Samples) -> pd.DataFrame:
    """Covariates, without a column where none are given."""
    known = samples.covariates
    return pd.DataFrame(index=samples.names) if known is None else known


def at_level(train: Samples, test: Samples, cases: float | None = None) -> Samples:
    """Give each site of a cohort the mean and SD of its M-values in the training.

    Parameters
    ----------
    train, test : Samples
        With the same sites, of one task.
    cases : float, optional
        Share of cases that the training is weighted to have; default its own.

    Examples
    --------
    >>> train = Samples(pd.DataFrame({"cg1": [0.2, 0.5]}, ["a", "b"]))
    >>> test = Samples(pd.DataFrame({"cg1": [0.5, 0.8]}, ["c", "d"]))
    >>> [round(float(value), 2) for value in at_level(train, test).values["cg1"]]
    [0.2, 0.5]
    """
    z = CohortStandardizer().fit_transform(test.values)
    home = _largest(train)
    mean, sd = _moments(home, cases)
    return test.replace(values=m_to_beta(z * sd + mean).where(test.values.notna()))


def _moments(samples: Samples, cases: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD of each site's M-values, with another share of cases than there is if asked."""
    if cases is None:
        whole = CohortStandardizer().fit(samples.values)
        return whole.mean_.to_numpy()[0], whole.sd_.to_numpy()[0]
    label = np.where(samples.labels.iloc[:, 0] == 1, "case", "control")
    classes = CohortStandardizer().fit(samples.values, cohort=label)
    case, control = (classes.mean_.loc[name].to_numpy() for name in ("case", "control"))
    within = cases * classes.sd_.loc["case"] ** 2 + (1 - cases) * classes.sd_.loc["control"] ** 2
    between = cases * (1 - cases) * (case - control) ** 2
    return cases * case + (1 - cases) * control, np.sqrt(within.to_numpy() + between)


def share_of_cases(samples: Samples) -> float:
    """Share of cases in the only task of some samples."""
    return float(samples.labels.iloc[:, 0].mean())


def on_profile(train: Samples, test: Samples) -> Samples:
    """Take the line of each sample's M-values over the training's mean profile off it.

    Examples
    --------
    >>> train = Samples(pd.DataFrame({"cg1": [0.2, 0.2], "cg2": [0.5, 0.5]}, ["a", "b"]))
    >>> test = Samples(pd.DataFrame({"cg1": [0.5], "cg2": [0.8]}, ["c"]))
    >>> on_profile(train, test).values.round(2).values.tolist()
    [[0.2, 0.5]]
    """
    mean = CohortStandardizer().fit(_largest(train).values).mean_.to_numpy(float)[0]
    m = beta_to_m(test.values.to_numpy(float))
    for row in m:
        known = np.isfinite(row) & np.isfinite(mean)
        slope, level = np.polyfit(mean[known], row[known], 1)
        row -= level
        row /= slope
    return test.replace(values=pd.DataFrame(m_to_beta(m), test.names, test.sites))


def without_composition(train: Samples, test: Samples) -> tuple[Samples, Samples]:
    """Take off both what the training's cell fractions explain of every site's M-values.

    What of the disease goes with the fractions is taken off as well: effects estimated within the
    classes would leave their errors behind, which tell cases by their cells.
    """
    cells = cell_fractions(train, test)
    cohort = "all" if train.cohort is None else train.cohort
    scale = CohortStandardizer().fit(train.values, cohort=cohort)
    z = scale.transform(train.values, cohort)
    effects = CovariateResidualizer().fit(z, covariates=_covariates(train)[cells], cohort=cohort)

    def rest(samples: Samples, cohort: str | pd.Series) -> Samples:
        known = _covariates(samples)
        z = effects.transform(scale.transform(samples.values, cohort), known[cells], cohort)
        m = z * scale.sd_.loc[cohort].to_numpy() + scale.mean_.loc[cohort].to_numpy()
        values = m_to_beta(m).where(samples.values.notna())
        return samples.replace(values=values, covariates=known.drop(columns=cells))

    return rest(train, cohort), rest(test, _largest_name(train))


def at_prevalence(probability: pd.Series, trained: float, wanted: float) -> pd.Series:
    """Correct probabilities for another share of cases than that of the training.

    Parameters
    ----------
    probability : Series
    trained, wanted : float
        Shares of cases of the training and of the cohort predicted.

    References
    ----------
    Saerens, Latinne & Decaestecker 2002, doi 10.1162/089976602753284446

    Examples
    --------
    >>> at_prevalence(pd.Series([0.5, 0.8]), 0.5, 0.2).round(2).tolist()
    [0.2, 0.5]
    """
    case = probability * wanted / trained
    control = (1 - probability) * (1 - wanted) / (1 - trained)
    return case / (case + control)


def _largest_name(train: Samples) -> str:
    """Name of the training cohort with most samples, whose statistics a new sample is read with."""
    return "all" if train.cohort is None else str(train.cohort.mode()[0])


def _largest(train: Samples) -> Samples:
    """Samples of the largest training cohort."""
    return train if train.cohort is None else train.take(train.cohort == _largest_name(train))
