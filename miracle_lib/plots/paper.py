"""The paper's network and protocol beside ours, drawn."""

from __future__ import annotations

from textwrap import fill

import pandas as pd
from matplotlib.figure import Figure

from miracle_lib.plots.style import BAND, COLOURS, MARKERS, OTHER, OWN, new_figure, styled


@styled
def protocols(table: pd.DataFrame) -> Figure:
    """Draw the score of every method as the protocol goes from ours to the paper's.

    Parameters
    ----------
    table : DataFrame
        Result of :func:`miracle_lib.studies.by_protocol`.

    Returns
    -------
    Figure

    Examples
    --------
    >>> row = {"method": "ours", "protocol": "ours", "mean": 0.8, "sd": 0.1}
    >>> len(protocols(pd.DataFrame([row])).axes)
    1
    """
    figure = new_figure(4.0)
    axes = figure.subplots()
    names = list(dict.fromkeys(table["protocol"]))
    methods = table.groupby("method", sort=False)
    for number, (method, part) in enumerate(methods):
        x = [
            names.index(name) + 0.05 * (number - (methods.ngroups - 1) / 2)
            for name in part["protocol"]
        ]
        axes.errorbar(
            x,
            part["mean"],
            part["sd"].fillna(0),
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            linewidth=1.2,
            elinewidth=0.8,
            label=method,
        )
    labels = [names[0], *(f"+ {name}" for name in names[1:])]
    axes.set_xticks(range(len(names)), [fill(label, 20) for label in labels])
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    axes.set_ylabel("AUROC, mean of tasks (SD over splits)")
    axes.set_xlabel("protocol: ours, and what the paper's does differently, one after the other")
    axes.grid(axis="y", color=BAND, linewidth=0.5)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@styled
def changes(table: pd.DataFrame) -> Figure:
    """Draw what a change of the paper's network does, alone and one after the other.

    Parameters
    ----------
    table : DataFrame
        Result of :func:`miracle_lib.studies.by_change`.

    Returns
    -------
    Figure

    Examples
    --------
    >>> row = {"how": "alone", "change": "no ReLU", "mean": 0.8, "sd": 0.1}
    >>> len(changes(pd.DataFrame([row])).axes)
    1
    """
    parts = dict(list(table.groupby("how", sort=False)))
    figure = new_figure(1.0 + 0.24 * len(table))
    grid = figure.subplots(
        len(parts), sharex=True, squeeze=False, height_ratios=[len(part) for part in parts.values()]
    ).ravel()
    start = table["mean"].iloc[0]
    for axes, (how, part) in zip(grid, parts.items(), strict=True):
        y = range(len(part))
        colours = [OTHER if name.startswith("paper") else OWN for name in part["change"]]
        axes.errorbar(
            part["mean"], y, xerr=part["sd"].fillna(0), fmt="none", color=BAND, linewidth=2
        )
        axes.scatter(part["mean"], y, color=colours, zorder=3)
        axes.axvline(start, color=OTHER, linewidth=0.8, linestyle="--")
        axes.set_yticks(y, part["change"])
        axes.set_ylim(len(part) - 0.4, -0.6)
        axes.set_title(f"changed {how}", loc="left")
        axes.grid(axis="x", color=BAND, linewidth=0.5)
    figure.supxlabel(
        "AUROC, mean of tasks (SD over folds); dashed: the paper's network as described"
    )
    return figure
