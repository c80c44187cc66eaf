"""Choice of the sites a model sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from scipy import special
from sklearn.utils.validation import check_is_fitted

from miracle_lib.constraints import AT_LEAST_ONE, CLIP, StrOptions
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.classes import two_classes
from miracle_lib.preprocessing.scale import beta_to_m
from miracle_lib.preprocessing.table import SiteTransformer, blocks, moments, site_positions
from miracle_lib.samples import align, label_numbers

_ROUNDING = 1e-20  # variance of M-values below which a site is constant


class SiteSelector(SiteTransformer):
    """Keep the best ``k`` sites of every task, and of them all the union.

    Fit it on training samples only: chosen on all samples, the sites already know the test labels.

    Parameters
    ----------
    method : {"ttest", "variance", "none"}, default "ttest"
        Smallest p-value of Welch's t-test between cases and controls on M-values, largest
        variance of M-values among the samples of the task, or every site.
    k : int, default 1000
        Sites per task.
    clip : float, default 0.001
        Limit of beta values to [clip, 1 - clip] before they become M-values.

    Attributes
    ----------
    scores_ : DataFrame
        Sites x tasks: p-value or variance; NaN where it cannot be computed. Without columns for
        "none".
    selected_ : dict of str to Index
        Sites chosen for each task, best first.
    sites_ : Index
        Union over tasks, in the order of the columns of ``X``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.uniform(0.4, 0.6, (20, 3)), columns=["cg1", "cg2", "cg3"])
    >>> Y = pd.DataFrame({"RA": [0.0, 1.0] * 10})
    >>> X.loc[Y["RA"] == 1, "cg2"] += 0.3
    >>> SiteSelector(k=1).fit(X, Y).sites_.tolist()
    ['cg2']
    """

    _parameter_constraints: ClassVar = {
        "method": [StrOptions({"ttest", "variance", "none"})],
        "k": [AT_LEAST_ONE],
        "clip": [CLIP],
    }

    def __init__(self, method: str = "ttest", k: int = 1000, clip: float = 0.001) -> None:
        self.method = method
        self.k = k
        self.clip = clip

    def fit(self, X: Any, Y: Any = None) -> Self:
        """Score every site for every task and choose.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            Beta values, NaN for missing.
        Y : DataFrame of shape (n_samples, n_tasks), or vector of shape (n_samples,)
            1 case, 0 control, NaN not labelled for the task; a vector may hold any two classes.
            Needed by "ttest"; without it
            "variance" uses all samples.

        Returns
        -------
        SiteSelector

        Raises
        ------
        MiracleError
            If a task has fewer than two cases or controls, a value lies outside [0, 1], or a
            parameter is unknown.
        """
        X = self._learn(X)
        self.selected_ = {}
        if self.method == "none":
            self.scores_ = pd.DataFrame(index=X.columns)
            self.sites_ = X.columns
            return self
        tasks = self._labels(X, Y)
        scores = np.empty((X.shape[1], tasks.shape[1]))
        order = np.empty_like(scores)
        for part, beta in blocks(X, np.arange(X.shape[1])):
            m = beta_to_m(beta, self.clip)
            for column, labels in enumerate(tasks.to_numpy().T):
                scores[part, column], order[part, column] = self._score(m, labels)
        chosen = np.zeros(X.shape[1], bool)
        for column, task in enumerate(tasks.columns):
            usable = np.flatnonzero(~np.isnan(scores[:, column]))
            ranked = usable[np.argsort(order[usable, column], kind="stable")][: self.k]
            self.selected_[str(task)] = X.columns[ranked]
            chosen[ranked] = True
        if not chosen.any():
            raise MiracleError(
                f"No site of X can be scored: every one is missing or constant in {len(X)} samples."
            )
        self.scores_ = pd.DataFrame(scores, X.columns, tasks.columns)
        self.sites_ = X.columns[chosen]
        return self

    def transform(self, X: Any) -> pd.DataFrame:
        """Return ``X`` restricted to the chosen sites."""
        check_is_fitted(self, "sites_")
        X = self._known(X)
        return X.iloc[:, site_positions(X, self.sites_)]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the chosen sites."""
        check_is_fitted(self, "sites_")
        return self.sites_.to_numpy(dtype=object)

    def _labels(self, X: pd.DataFrame, Y: Any) -> pd.DataFrame:
        """Return the task table aligned with ``X``; each task has enough cases and controls."""
        if Y is None:
            if self.method == "ttest":
                raise MiracleError("method 'ttest' needs Y, the table of labels per task.")
            return pd.DataFrame({"all": np.zeros(len(X))})
        if isinstance(Y, pd.DataFrame | pd.Series):
            Y = align(Y, X.index, "Y")
        if not isinstance(Y, pd.DataFrame):
            Y = pd.DataFrame({"task": two_classes(Y)[0]})
        if len(Y) != len(X):
            raise MiracleError(f"Y has {len(Y)} rows but X has {len(X)}.")
        table = pd.DataFrame({task: label_numbers(column) for task, column in Y.items()})
        for task, labels in table.items():
            cases, controls = (labels == 1).sum(), (labels == 0).sum()
            if self.method == "ttest" and min(cases, controls) < 2:
                raise MiracleError(
                    f"Task {task!r} has {cases} cases and {controls} controls among {len(X)} "
                    "samples; a t-test needs at least 2 of each."
                )
        return table

    def _score(self, m: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each site's score and a key that sorts the best first."""
        if self.method == "variance":
            variance = moments(m[~np.isnan(labels)])[2]
            return variance, -variance
        return _welch(moments(m[labels == 1]), moments(m[labels == 0]))


def select_in_each(
    blocks: Iterable[tuple[slice, np.ndarray]],
    sites: pd.Index,
    labels: pd.DataFrame,
    trainings: Sequence[np.ndarray],
    selector: SiteSelector,
) -> list[pd.Index]:
    """Choose sites on several sets of training samples while the values are read once.

    Counts, sums and squares per site, class and set of samples say all that the choice needs.

    Parameters
    ----------
    blocks : iterable of (slice, ndarray)
        Which sites, and the beta values of all samples at them; see `site_blocks`.
    sites : Index
        Names of all sites.
    labels : DataFrame of shape (n_samples, n_tasks)
        1 case, 0 control, NaN not labelled.
    trainings : sequence of arrays of int
        Positions of the samples of each set.
    selector : SiteSelector
        Method "ttest" or "variance".

    Returns
    -------
    list of Index
        Per set, the sites that the selector fitted on these samples chooses, up to rounding.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.uniform(0.4, 0.6, (40, 30)))
    >>> Y = pd.DataFrame({"RA": [0.0, 1.0] * 20})
    >>> folds = [np.arange(30), np.arange(10, 40)]
    >>> whole = [(slice(0, 30), X.to_numpy())]
    >>> found = select_in_each(whole, X.columns, Y, folds, SiteSelector(k=3))
    >>> [f.equals(SiteSelector(k=3).fit(X.iloc[r], Y.iloc[r]).sites_) for f, r in zip(found, folds)]
    [True, True]
    """
    inside = np.zeros((len(trainings), len(labels)))
    for number, rows in enumerate(trainings):
        inside[number, rows] = 1
    best = {task: [_Best(selector.k) for _ in trainings] for task in labels}
    for part, beta in blocks:
        m = beta_to_m(np.asarray(beta, np.float32), selector.clip).astype(np.float64)
        places = np.arange(part.start, part.stop)
        for task, tops in best.items():
            label = labels[task].to_numpy()
            known = ~np.isnan(label)
            keys = _keys(m[known], inside[:, known], label[known], selector.method)
            for top, key in zip(tops, keys, strict=True):
                top.offer(key, places)
    found = []
    for number in range(len(trainings)):
        chosen = np.zeros(len(sites), bool)
        for tops in best.values():
            chosen[tops[number].places] = True
        found.append(sites[chosen])
    return found


class _Best:
    """The ``k`` smallest keys offered so far, and where they were; of equal ones the first."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.keys, self.places = np.empty(0), np.empty(0, int)

    def offer(self, keys: np.ndarray, places: np.ndarray) -> None:
        """Take what is smaller than the worst of them; NaN never is."""
        worst = self.keys[-1] if len(self.keys) == self.k else np.inf
        taken = keys < worst
        if taken.any():
            keys = np.concatenate([self.keys, keys[taken]])
            order = np.argsort(keys, kind="stable")[: self.k]
            self.keys = keys[order]
            self.places = np.concatenate([self.places, places[taken]])[order]


def _keys(m: np.ndarray, inside: np.ndarray, label: np.ndarray, method: str) -> np.ndarray:
    """Per set of samples and site, a key that sorts the best site first."""
    present = ~np.isnan(m)
    centre = np.where(present, m, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    # About the mean of all samples squares are small, so that little is lost to rounding.
    centred = np.where(present, m - centre, 0)
    powers = (present.astype(float), centred, centred**2)
    if method == "variance":
        return -_group_moments(inside, *powers)[2]
    classes = (inside * (label == value) for value in (1, 0))
    return _welch(*(_group_moments(rows, *powers) for rows in classes))[1]


def _group_moments(
    inside: np.ndarray, present: np.ndarray, centred: np.ndarray, squared: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and variance of each site in each set of samples; as `moments` of its rows."""
    count, total, squares = inside @ present, inside @ centred, inside @ squared
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.round(total / count, 12)
        variance = (squares - total * mean) / np.where(count > 1, count - 1, np.nan)
    # What rounding leaves of a constant site is no variance.
    return count, mean, np.where(variance < _ROUNDING, 0, variance)


def _welch(
    cases: tuple[np.ndarray, ...], controls: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return two-sided p-values of Welch's t-test, and a sort key without ties at 0.

    Cases and controls are given by their count, mean and variance.
    """
    n1, mean1, variance1 = cases
    n0, mean0, variance0 = controls
    with np.errstate(invalid="ignore", divide="ignore"):
        part1, part0 = variance1 / n1, variance0 / n0
        error = part1 + part0
        t = np.abs(mean1 - mean0) / np.sqrt(error)
        freedom = error**2 / (part1**2 / (n1 - 1) + part0**2 / (n0 - 1))
    p = 2 * special.stdtr(freedom, -t)
    return p, np.where(p > 0, p, -t)
