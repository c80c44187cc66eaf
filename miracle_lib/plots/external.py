"""Another hospital: scores within and without, what takes them apart, and small cohorts."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from miracle_lib.plots.evaluation import NAMES
from miracle_lib.plots.style import (
    BAND,
    COLOURS,
    MARKERS,
    OTHER,
    OWN,
    empty_figure,
    new_figure,
    styled,
)

PLACES = {"within": ("within the training cohort", OTHER), "without": ("in the other", OWN)}


@styled
def within_and_without(scores: pd.DataFrame, view: str = "as it is") -> Figure:
    """Draw each method's AUROC within its cohort and in another one, a panel per pair.

    Parameters
    ----------
    scores : DataFrame
        Result of :func:`miracle_lib.studies.another_hospital.hospital_scores`.
    view : str, default "as it is"

    Returns
    -------
    Figure
        Says so where there is no pair.
    """
    table = scores[(scores["metric"] == "auroc") & (scores["view"] == view)]
    if table.empty:
        return empty_figure("no disease of this run has a second cohort")
    pairs = _by_test(table)
    methods = list(dict.fromkeys(table["method"]))
    figure, grid = _panels(len(pairs), 0.9 + 0.3 * len(methods))
    for axes, (test, part) in zip(grid, pairs.items(), strict=True):
        for shift, (where, (label, colour)) in zip((-0.15, 0.15), PLACES.items(), strict=True):
            here = part[part["where"] == where].set_index("method").loc[methods]
            _intervals(axes, here, shift, colour, label)
        _panel(axes, methods, test)
        axes.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    grid[0].legend(loc="lower left", bbox_to_anchor=(0, 1.12), ncols=2)
    figure.supxlabel("AUROC (95 % interval over patients; dotted: chance)")
    return figure


@styled
def causes(
    scores: pd.DataFrame,
    metrics: tuple[str, ...] = ("auroc", "brier"),
    methods: tuple[str, ...] = ("MIRACLE", "L2 logistic regression"),
) -> Figure:
    """Draw the scores in the other cohort with one difference taken away at a time.

    Parameters
    ----------
    scores : DataFrame
        Result of :func:`miracle_lib.studies.another_hospital.hospital_scores`.
    metrics : tuple of str, default ("auroc", "brier")
        One column of panels each.
    methods : tuple of str

    Returns
    -------
    Figure
        Bands: the score of the first method within its cohort, as it is.
    """
    if scores.empty:
        return empty_figure("no disease of this run has a second cohort")
    pairs = _by_test(scores)
    figure = new_figure(0.5 + 2.1 * len(pairs))
    grid = figure.subplots(len(pairs), len(metrics), sharex="col", squeeze=False)
    for row, (test, part) in zip(grid, pairs.items(), strict=True):
        views = list(dict.fromkeys(part["view"]))
        for axes, metric in zip(row, metrics, strict=True):
            known = part[part["metric"] == metric].set_index("view")
            home = known[(known["where"] == "within") & (known["method"] == methods[0])]
            axes.axvspan(*home.loc[views[0], ["low", "high"]], color=BAND, zorder=0)
            for i, method in enumerate(methods):
                here = known[(known["where"] == "without") & (known["method"] == method)]
                _intervals(axes, here.loc[views], 0.3 * (i - 0.5), COLOURS[i], method, MARKERS[i])
            _panel(axes, views if axes is row[0] else [""] * len(views), test)
    for axes, metric in zip(grid[-1], metrics, strict=True):
        axes.set_xlabel(f"{NAMES[metric]} in the other cohort (95 % interval)")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(methods))
    return figure


@styled
def rounds(scores: pd.DataFrame, method: str = "MIRACLE") -> Figure:
    """Draw each cohort's AUROC by models of every other one and of the others together.

    Parameters
    ----------
    scores : DataFrame
        Result of :func:`miracle_lib.studies.another_hospital.leave_one_cohort_out`.
    method : str, default "MIRACLE"

    Returns
    -------
    Figure
    """
    table = scores[(scores["metric"] == "auroc") & (scores["method"] == method)]
    if table.empty:
        return empty_figure("no disease of this run has a second cohort")
    tests = _by_test(table)
    most = max(part["train"].nunique() for part in tests.values())
    figure, grid = _panels(len(tests), 1.0 + 0.35 * most, columns=1)
    for axes, (test, part) in zip(grid, tests.items(), strict=True):
        trains = list(dict.fromkeys(part["train"]))
        views = list(dict.fromkeys(part["view"]))
        for i, view in enumerate(views):
            here = part[part["view"] == view].set_index("train").loc[trains]
            _intervals(axes, here, 0.3 * (i - 0.5), COLOURS[i], view, MARKERS[i])
        _panel(axes, trains, f"tested in {test}")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    figure.supxlabel(f"AUROC of {method} (95 % interval over patients)")
    return figure


@styled
def learning(curve: pd.DataFrame) -> Figure:
    """Draw AUROC against the number of samples of a task that a model has seen.

    Parameters
    ----------
    curve : DataFrame
        Result of :func:`miracle_lib.studies.small_cohorts.learning_curve`.

    Returns
    -------
    Figure
        One panel per task; faint dots are draws, lines join their means.

    Examples
    --------
    >>> rows = [("RA", n, 0, "MIRACLE, alone", 0.6 + n / 400) for n in (20, 40, 80)]
    >>> curve = pd.DataFrame(rows, columns=["task", "n", "draw", "method", "auroc"])
    >>> len(learning(curve).axes)
    1
    """
    if curve.empty:
        return empty_figure("no task of this run is large enough, or there is one disease only")
    tasks = list(curve.groupby("task", sort=False))
    figure = new_figure(3.4, width=1.0 + 3.5 * len(tasks))
    grid = figure.subplots(1, len(tasks), sharey=True, squeeze=False).ravel()
    for axes, (task, part) in zip(grid, tasks, strict=True):
        for i, (method, of_method) in enumerate(part.groupby("method", sort=False)):
            colour = next(islice(cycle(COLOURS), i, None))
            mean = of_method.groupby("n")["auroc"].mean()
            axes.plot(of_method["n"], of_method["auroc"], ".", color=colour, alpha=0.4)
            axes.plot(mean.index, mean, color=colour, marker=MARKERS[i], label=method)
        sizes = sorted(part["n"].unique())
        axes.set(xscale="log", title=task, xlabel="samples of the task seen in training")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    grid[0].set_ylabel("AUROC on the samples not seen")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _by_test(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of each task and test by name: the test's, with the task where it tests several."""
    parts = dict(list(table.groupby(["task", "test"], sort=False)))
    tests = [test for _, test in parts]
    return {
        test if tests.count(test) == 1 else f"{test}, {task}": part
        for (task, test), part in parts.items()
    }


def _panels(n: int, height: float, columns: int = 2) -> tuple[Figure, list[Axes]]:
    """Panels one below and beside the other, all with one axis of scores."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure = new_figure(0.4 + rows * height)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axes in grid[n:]:
        axes.remove()
    for number, axes in enumerate(grid[:n]):
        axes.tick_params(labelleft=number % columns == 0)
    return figure, list(grid[:n])


def _panel(axes: Axes, names: list[str], title: str) -> None:
    """Name the rows of a panel, from the top down."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_title(title)
    axes.grid(axis="x", color=BAND, linewidth=0.5)


def _intervals(
    axes: Axes, table: pd.DataFrame, shift: float, colour: str, label: str, marker: str = "o"
) -> None:
    """Draw the rows of a table as points with horizontal intervals."""
    estimate = table["estimate"]
    error = np.stack([estimate - table["low"], table["high"] - estimate])
    y = [place + shift for place in range(len(table))]
    axes.errorbar(
        estimate.to_numpy(),
        y,
        xerr=error,
        fmt=marker,
        color=colour,
        markersize=5,
        linewidth=1.8,
        label=label,
    )
