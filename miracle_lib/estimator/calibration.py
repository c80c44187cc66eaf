"""Scores of held-out samples turn the score of a new one into a probability with an interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.isotonic import isotonic_regression

from miracle_lib.errors import MiracleError


def venn_abers(
    score: np.ndarray, label: np.ndarray, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give the calibrated probability of new samples as an interval, the Venn-Abers predictor.

    Parameters
    ----------
    score, label : array of shape (n_held_out,)
        Scores of samples that the model has not seen, and 1 (case) or 0 (control).
    new : array of shape (n_samples,)
        Scores of new samples.

    Returns
    -------
    low, high : ndarray of shape (n_samples,)
        Isotonic regression of the labels on the scores, with the new sample among them as a control
        and as a case. One of the two is calibrated, whatever the model: of held-out samples with
        this value, so many are cases. The interval is wide where held-out samples are few.

    References
    ----------
    Vovk, Petej & Fedorova 2015, arXiv 1511.00213; Vovk & Petej 2014, arXiv 1211.0025.

    Examples
    --------
    >>> score, label = np.linspace(0, 1, 200), np.arange(200) % 4 == 0
    >>> low, high = venn_abers(score, label, np.array([0.5]))
    >>> round(low.item(), 2), round(high.item(), 2)
    (0.25, 0.26)
    """
    known, place_of, count = np.unique(score, return_inverse=True, return_counts=True)
    cases = np.bincount(place_of, np.asarray(label, float))
    place = np.searchsorted(known, new)
    tied = np.append(known, np.nan)[place] == new
    (places, ties), same = np.unique(np.stack([place, tied]), axis=1, return_inverse=True)
    ends = np.empty((2, len(places)))
    for column, (where, tie) in enumerate(zip(places, ties, strict=True)):
        if not tie:  # a place of its own for the new sample
            total, weight = np.insert(cases, where, 0.0), np.insert(count, where, 0)
        else:
            total, weight = cases.copy(), count.copy()
        weight[where] += 1
        for end in (0, 1):
            total[where] += end
            ends[end, column] = isotonic_regression(total / weight, sample_weight=weight)[where]
    return tuple(ends[:, same.ravel()])  # type: ignore[return-value]


def merge(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Give the one probability of a Venn-Abers interval that loses least in the worst case.

    Source: Vovk, Petej & Fedorova 2015, arXiv 1511.00213 (log loss).

    Examples
    --------
    >>> merge(np.array([0.4]), np.array([0.6])).tolist()
    [0.5]
    """
    return high / (1 - low + high)


def classes(
    score: np.ndarray, label: np.ndarray, new: np.ndarray, coverage: float = 0.9
) -> np.ndarray:
    """Name the classes that a new sample may belong to: a conformal prediction set.

    Parameters
    ----------
    score, label, new
        As in `venn_abers`.
    coverage : float, default 0.9
        Share of the cases, and of the controls, whose class is to be named.

    Returns
    -------
    ndarray of str, shape (n_samples,)
        ``"case"``, ``"control"``, ``"case or control"`` or ``"neither"``: the score would be
        unusual in both, as some are where the classes lie further apart than was asked for.

    Notes
    -----
    A class is named unless fewer than ``1 - coverage`` of its held-out samples score as unusual or
    more so, the new one counted; for each class by itself, so that neither the prevalence nor the
    scale of the scores has a say. Source: Vovk 2013, doi 10.1007/s10994-013-5355-6.

    Examples
    --------
    >>> score, label = np.linspace(0, 1, 200), np.arange(200) >= 100
    >>> classes(score, label, np.array([0.1, 0.98, 0.5])).tolist()
    ['control', 'case', 'neither']
    """
    cases, controls = (np.sort(score[np.asarray(label) == value]) for value in (1, 0))
    below = np.searchsorted(cases, new, side="right")
    above = len(controls) - np.searchsorted(controls, new, side="left")
    case = (below + 1) / (len(cases) + 1) > 1 - coverage
    control = (above + 1) / (len(controls) + 1) > 1 - coverage
    names = np.array(["neither", "control", "case", "case or control"])
    return names[2 * case + control]


def at_prevalence(
    probability: np.ndarray | pd.Series, known: float, wanted: float
) -> np.ndarray | pd.Series:
    """Move probabilities from the prevalence they were calibrated at to another.

    Parameters
    ----------
    probability : array or Series
    known, wanted : float
        Share of cases among the held-out samples, and where the probability is used.

    Returns
    -------
    array or Series

    Raises
    ------
    MiracleError
        A prevalence that is not between 0 and 1.

    Notes
    -----
    Odds are multiplied by the ratio of the two prevalences' odds; right where cases look alike, and
    controls look alike, in both places. Source: Saerens et al. 2002, doi
    10.1162/089976602753284446.

    Examples
    --------
    >>> at_prevalence(np.array([0.5, 0.9]), 0.5, 0.01).round(3).tolist()
    [0.01, 0.083]
    """
    for share in (known, wanted):
        if not 0 < share < 1:
            raise MiracleError(f"prevalence is {share!r}; expected a share between 0 and 1.")
    ratio = wanted / (1 - wanted) * (1 - known) / known
    return ratio * probability / (1 - probability + ratio * probability)
