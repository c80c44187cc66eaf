"""Scores beside their baselines, ablations and the open questions, each with its interval."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

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

NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "Matthews correlation",
    "brier": "Brier score",
    "calibration_intercept": "calibration intercept",
    "calibration_slope": "calibration slope",
}


@styled
def score_forest(
    summaries: dict[str, pd.DataFrame], metric: str = "auroc", own: str | None = None
) -> Figure:
    """Draw every method's score with its interval, one panel per task.

    Parameters
    ----------
    summaries : dict of str to DataFrame
        Results of :func:`miracle_lib.evaluation.summarise`, by method; drawn from the top down.
    metric : str, default "auroc"
        A dotted line marks chance where it is known (0.5 for AUROC and balanced accuracy, the
        prevalence for AUPRC, 0 for Matthews correlation).
    own : str, optional
        Method to set off by colour; default the first.

    Returns
    -------
    Figure

    Examples
    --------
    >>> row = {"task": "RA", "metric": "auroc", "estimate": 0.8, "low": 0.7, "high": 0.9}
    >>> len(score_forest({"model": pd.DataFrame([row])}).axes)
    1
    """
    own = next(iter(summaries)) if own is None else own
    tables = {name: table[table["metric"] == metric] for name, table in summaries.items()}
    tasks = list(dict.fromkeys(next(iter(tables.values()))["task"]))
    columns = min(len(tasks), 4)
    rows = -(-len(tasks) // columns)
    height = rows * (0.9 + 0.23 * len(tables))
    figure = new_figure(height, width=2.0 + 2.1 * columns)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, task in zip(grid, tasks, strict=False):
        for y, (name, table) in enumerate(tables.items()):
            row = table[table["task"] == task].iloc[0]
            _interval(axes, row, y, OWN if name == own else OTHER)
        _chance_line(axes, metric, row)
        axes.set_title("mean of tasks" if task == "all" else task)
        axes.grid(axis="x", color=BAND, linewidth=0.5)
    grid[0].set_yticks(range(len(tables)), list(tables))
    grid[0].set_ylim(len(tables) - 0.4, -0.6)
    for axes in grid[len(tasks) :]:
        axes.remove()
    figure.supxlabel(f"{NAMES.get(metric, metric)} (95 % interval)")
    return figure


def _interval(axes: Axes, row: pd.Series, y: float, colour: str) -> None:
    """Draw a point and its horizontal interval."""
    axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.8)
    axes.plot(row["estimate"], y, "o", color=colour, markersize=5)


def _chance_line(axes: Axes, metric: str, row: pd.Series) -> None:
    """Mark what guessing would reach."""
    chance = {"auroc": 0.5, "balanced_accuracy": 0.5, "mcc": 0.0, "calibration_slope": 1.0}
    chance["auprc"] = row.get("prevalence", np.nan)
    if np.isfinite(chance.get(metric, np.nan)):
        axes.axvline(chance[metric], color="black", linewidth=0.8, linestyle=":")


@styled
def ablation_effects(
    effects: pd.DataFrame, metric: str = "auroc", rope: float = 0.01, limit: float | None = None
) -> Figure:
    """Draw the effect of every ablation: mean over tasks with interval, and each task as a dot.

    Parameters
    ----------
    effects : DataFrame
        Result of :meth:`miracle_lib.studies.Ablations.effects`.
    metric : str, default "auroc"
        Named on the axis.
    rope : float, default 0.01
        The grey band: differences that do not matter.
    limit : float, optional
        Axis from -limit to limit; an interval that leaves it ends in an arrow. Default: all.

    Returns
    -------
    Figure
    """
    overall = effects[effects["task"] == "all"]
    labels, rows, y = [], [], 0.0
    for comparison, table in overall.groupby("comparison", sort=False):
        labels.append((y, f"{comparison} (against {table['reference'].iloc[0]})", True))
        for row in table.itertuples():
            y += 1
            labels.append((y, row.level, False))
            rows.append((y, row))
        y += 1.4
    figure = new_figure(0.8 + 0.23 * y)
    axes = figure.subplots()
    axes.axvspan(-rope, rope, color=BAND, zorder=0)
    axes.axvline(0, color="black", linewidth=0.8)
    for y_row, row in rows:
        here = (effects["comparison"] == row.comparison) & (effects["level"] == row.level)
        single = effects[here & (effects["task"] != "all")]["difference"]
        axes.plot(single, np.full(len(single), y_row), "|", color=OTHER, markersize=8)
        axes.plot([row.low, row.high], [y_row, y_row], color=OWN, linewidth=1.8)
        axes.plot(row.difference, y_row, "o", color=OWN, markersize=5)
        for end in (row.low, row.high):
            if limit is not None and abs(end) > limit:
                arrow = ">" if end > 0 else "<"
                axes.plot(np.sign(end) * limit, y_row, arrow, color=OWN, clip_on=False)
    axes.set_yticks([place for place, _, _ in labels], [text for _, text, _ in labels])
    for tick, (_, _, heading) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if heading else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 0.6, -0.8)
    if limit is not None:
        axes.set_xlim(-limit, limit)
    name = NAMES.get(metric, metric)
    axes.set_xlabel(
        f"difference in {name}, 95 % interval\n(short bars: single tasks; grey: ±{rope:g})"
    )
    return figure


@styled
def sharing_sweep(effects: pd.DataFrame) -> Figure:
    """Draw what learning together gains over learning apart, by share of common pathways.

    Parameters
    ----------
    effects : DataFrame
        Result of :func:`miracle_lib.studies.sharing_effects`.

    Returns
    -------
    Figure
    """
    figure = new_figure(3.8, width=6.0)
    axes = figure.subplots()
    axes.axhline(0, color="black", linewidth=0.8)
    sizes = sorted(effects["n"].unique())
    for i, n in enumerate(sizes):
        table = effects[effects["n"] == n].sort_values("share")
        x = table["share"] + 0.012 * (i - (len(sizes) - 1) / 2)
        _line(axes, x, table["mean"], table["low"], table["high"], i, f"{n} samples per task")
    axes.set(
        xlabel="share of the planted pathways that all tasks have",
        ylabel="AUROC, multi-task minus single-task\n(95 % interval over simulations)",
    )
    axes.legend(loc="upper left")
    return figure


def _line(
    axes: Axes, x: pd.Series, y: pd.Series, low: pd.Series, high: pd.Series, i: int, label: str
) -> None:
    """Draw points with vertical intervals, joined."""
    colour = next(islice(cycle(COLOURS), i, None))
    marker = next(islice(cycle(MARKERS), i, None))
    error = np.stack([y - low, high - y])
    axes.errorbar(
        x, y, error, color=colour, marker=marker, markersize=5, linewidth=1.2, label=label
    )


@styled
def site_curve(curve: pd.DataFrame) -> Figure:
    """Draw accuracy and stability of the pathway ranking against the number of selected sites.

    Parameters
    ----------
    curve : DataFrame
        Result of :func:`miracle_lib.studies.site_curve`; "all" is drawn at the right end.

    Returns
    -------
    Figure
        Says so where there were too few sites to choose among.
    """
    if curve.empty:
        return empty_figure("the data have no more sites than the smallest choice of the grid")
    curve = curve.sort_values("n_sites", na_position="last")
    last = curve["n_sites"].max()
    x = curve["n_sites"].fillna(last * 2.5)
    figure = new_figure(3.5)
    left, right = figure.subplots(1, 2)
    _line(left, x, curve["auroc"], curve["low"], curve["high"], 0, "")
    left.set_ylabel("AUROC, mean of tasks (95 % interval)")
    right.plot(x, curve["spearman"], "o-", color=COLOURS[0], label="rank correlation, all")
    right.plot(x, curve["top_overlap"], "s-", color=COLOURS[1], label="overlap of the top 10")
    right.plot(x, curve["expected_overlap"], ":", color="black", label="overlap by chance")
    right.set(ylabel="agreement of rankings between folds", ylim=(0, 1))
    right.legend()
    for axes in (left, right):
        axes.set(xscale="log", xlabel="sites selected per task")
        axes.xaxis.set_major_locator(FixedLocator(list(x)))
        axes.xaxis.set_minor_locator(NullLocator())
        names = ["all" if np.isnan(n) else f"{n:,.0f}" for n in curve["n_sites"]]
        axes.set_xticks(list(x), names)
    return figure


@styled
def calibration(curve: pd.DataFrame) -> Figure:
    """Draw the observed share of cases against the predicted probability, one panel per task.

    Parameters
    ----------
    curve : DataFrame
        Result of :func:`miracle_lib.evaluation.calibration_curve`.

    Returns
    -------
    Figure
    """
    tasks = list(dict.fromkeys(curve["task"]))
    columns = min(len(tasks), 3)
    rows = -(-len(tasks) // columns)
    figure = new_figure(2.4 * rows + 0.3, width=2.5 * columns + 0.4)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, task in zip(grid, tasks, strict=False):
        table = curve[curve["task"] == task]
        axes.plot([0, 1], [0, 1], ":", color="black", linewidth=0.8)
        low, high = table["low"], table["high"]
        _line(axes, table["predicted"], table["observed"], low, high, 0, "")
        axes.set_title(task)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    for axes in grid[len(tasks) :]:
        axes.remove()
    figure.supxlabel("predicted probability of being a case (mean of the bin)")
    figure.supylabel("observed share of cases (95 % interval)")
    return figure


@styled
def hidden_patterns(patterns: pd.DataFrame) -> Figure:
    """Draw what each model recovers of effects planted outside the pathways.

    Parameters
    ----------
    patterns : DataFrame
        Result of :func:`miracle_lib.studies.hidden_patterns`; a faint dot is one simulation.

    Returns
    -------
    Figure
    """
    panels = {
        "auroc": "AUROC on\nheld-out samples",
        "found_inside": "P(planted site in a pathway\nranks above another)",
        "found_outside": "P(planted site outside\nranks above another)",
    }
    figure = new_figure(3.4)
    grid = figure.subplots(1, 3)
    models = list(dict.fromkeys(patterns["model"]))
    for axes, (measure, label) in zip(grid, panels.items(), strict=True):
        for i, model in enumerate(models):
            table = patterns[(patterns["model"] == model) & patterns[measure].notna()]
            mean = table.groupby("outside")[measure].mean()
            axes.plot(table["outside"], table[measure], ".", color=COLOURS[i], alpha=0.35)
            axes.plot(mean.index, mean, color=COLOURS[i], marker=MARKERS[i], label=model)
        axes.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
        axes.set(xlim=(-0.05, 1.05))
        axes.set_title(label)
    figure.supxlabel("share of the effect planted outside the pathways")
    grid[0].legend()
    return figure


@styled
def policies(table: pd.DataFrame, reference: str = "pwinval", rope: float = 0.01) -> Figure:
    """Draw the task-weighting policies: accuracy against the reference, and epochs needed.

    Parameters
    ----------
    table : DataFrame
        Result of :func:`miracle_lib.studies.policy_table`.
    reference : str, default "pwinval"
    rope : float, default 0.01
        The grey band: differences that do not matter.

    Returns
    -------
    Figure
    """
    table = table.fillna({"difference": 0.0}).reset_index(drop=True)
    figure = new_figure(1.0 + 0.3 * len(table))
    left, right = figure.subplots(1, 2, sharey=True)
    left.axvspan(-rope, rope, color=BAND, zorder=0)
    left.axvline(0, color="black", linewidth=0.8)
    for y, row in table.iterrows():
        left.plot([row["low"], row["high"]], [y, y], color=OWN, linewidth=1.8)
        left.plot(row["difference"], y, "o", color=OWN, markersize=5)
    bars = right.barh(table.index, table["epochs_to_best"], color=OTHER, height=0.6)
    right.bar_label(bars, fmt="%.0f", padding=3)
    right.margins(x=0.12)  # room for the number after the longest bar
    left.locator_params(axis="x", nbins=5)
    left.set_yticks(table.index, table["level"])
    left.set_ylim(len(table) - 0.4, -0.6)
    left.set_xlabel(f"AUROC minus that of {reference} (95 % interval)")
    right.set_xlabel("epochs until the best validation loss")
    return figure
