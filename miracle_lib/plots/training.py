"""Training: losses by stage, task weights, and what the autoencoder reconstructs."""

from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from miracle_lib.errors import MiracleError
from miracle_lib.plots.style import COLOURS, LINES, OTHER, new_figure, styled

_STAGES = {
    "autoencoder": "1 autoencoder",
    "heads": "2 heads, encoder frozen",
    "finetune": "3 fine-tuning",
    "joint": "all at once",
}
_PARTS = {
    "reconstruction": "reconstruction, nats per value",
    "kl": "Kullback-Leibler term, nats per value",
    "task": "task loss, nats per sample",
}
_MAX_POINTS = 20_000  # values drawn in the scatter of a reconstruction


@styled
def loss_curves(history: pd.DataFrame) -> Figure:
    """Draw each part of the loss over the epochs of each stage.

    Parameters
    ----------
    history : DataFrame
        ``history_`` of a fitted `MiracleClassifier`. Members are drawn as separate lines.

    Returns
    -------
    Figure
        One column per stage, one row per part of the loss; training as a line, inner validation
        dashed. The task loss is the mean over the tasks.

    Raises
    ------
    MiracleError
        If the history has no epoch.

    Examples
    --------
    >>> history = pd.DataFrame(
    ...     {"member": 0, "stage": "autoencoder", "epoch": [1, 2], "reconstruction": [1.4, 1.2]}
    ... )
    >>> len(loss_curves(history).axes)
    1
    """
    stages = _stages_of(history)
    parts = [part for part in _PARTS if part in history and history[part].notna().any()]
    figure = new_figure(0.6 + 2.0 * len(parts), width=1.2 + 3.2 * len(stages))
    grid = figure.subplots(len(parts), len(stages), squeeze=False, sharex="col")
    n_tasks = sum(column.startswith("weight[") for column in history) or 1
    for row, part in zip(grid, parts, strict=True):
        for axes, stage in zip(row, stages, strict=True):
            rows = history[history["stage"] == stage]
            # The training loss is summed over the tasks, the validation loss is their mean.
            scale = n_tasks if part == "task" else 1
            drawn = _curve(axes, rows, part, COLOURS[0], "-", "training", scale)
            drawn += _curve(
                axes, rows, f"validation_{part}", COLOURS[3], "--", "inner validation", 1
            )
            if not drawn:
                axes.text(0.5, 0.5, "not trained here", ha="center", transform=axes.transAxes)
                axes.set_yticks([])
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        row[0].set_ylabel(_PARTS[part].replace(", ", "\n"))
    for axes, stage in zip(grid[0], stages, strict=True):
        axes.set_title(_STAGES.get(stage, stage))
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    handles = [line for axes in figure.axes for line in axes.get_lines()]
    named = {str(line.get_label()): line for line in handles}
    named = {label: line for label, line in named.items() if not label.startswith("_")}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2)
    return figure


def _curve(
    axes: Axes, history: pd.DataFrame, column: str, colour: str, line: str, label: str, scale: float
) -> int:
    """Draw a column over epochs, one line per member; return how many were drawn."""
    if column not in history or history[column].isna().all():
        return 0
    members = [part for _, part in history.groupby("member")]
    for index, part in enumerate(members):
        shown = f"_{label}" if index else label
        axes.plot(
            part["epoch"], part[column] / scale, line, color=colour, label=shown, marker=".", ms=4
        )
    return len(members)


def what_stages_did(history: pd.DataFrame, fine_tuned: Sequence[bool]) -> str:
    """Say in one sentence per stage what it changed.

    Parameters
    ----------
    history, fine_tuned
        ``history_`` and ``fine_tuned_`` of a fitted `MiracleClassifier`.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    MiracleError
        If the history has no epoch.

    Examples
    --------
    >>> history = pd.DataFrame(
    ...     {"member": 0, "stage": "autoencoder", "epoch": [1, 2], "validation": [1.5, 1.3],
    ...      "validation_start": 1.4, "validation_kept": [1.4, 1.3]}
    ... )
    >>> what_stages_did(history, [False])
    '**1 autoencoder**: it took the held-out loss from 1.400 to 1.300.'
    """
    said = []
    for stage in _stages_of(history):
        rows = history[history["stage"] == stage]
        stepped = "validation_start" in rows and rows["validation_start"].notna().all()
        text = _of_steps(rows) if stepped else _of_solution(rows)
        if stage == "finetune":
            kept, n = sum(fine_tuned), len(fine_tuned)
            verdict = "kept" if kept == n else "not kept" if not kept else f"kept in {kept} of {n}"
            text += f"; the result was {verdict}"
        said.append(f"**{_STAGES.get(stage, stage)}**: {text}.")
    return " ".join(said)


def _of_steps(rows: pd.DataFrame) -> str:
    """Say where gradient steps took the held-out loss, mean over the networks."""
    last = rows.groupby("member")[["validation_start", "validation_kept"]].last()
    start, kept = last.mean()
    if (last["validation_kept"] == last["validation_start"]).all():
        return f"no epoch had a held-out loss below that of its start, {start:.3f}, which was kept"
    return f"it took the held-out loss from {start:.3f} to {kept:.3f}"


def _of_solution(rows: pd.DataFrame) -> str:
    """Say what heads that are solved for reach, mean over the networks."""
    reached = rows.groupby("member")["validation"].last().mean()
    return f"solved for exactly, out-of-fold cross-entropy {reached:.3f}"


@styled
def task_weights(history: pd.DataFrame) -> Figure:
    """Draw the weight of each task over the epochs in which heads were trained.

    Parameters
    ----------
    history : DataFrame
        ``history_`` of a fitted `MiracleClassifier`; members are averaged.

    Returns
    -------
    Figure
        A weight of 1 is the mean over the tasks.

    Raises
    ------
    MiracleError
        If no epoch has task weights.

    Examples
    --------
    >>> history = pd.DataFrame(
    ...     {"member": 0, "stage": "heads", "epoch": [1, 2], "weight[MS]": 1.2, "weight[RA]": 0.8}
    ... )
    >>> [text.get_text() for text in task_weights(history).legends[0].get_texts()]
    ['MS', 'RA']
    """
    columns = [column for column in history if column.startswith("weight[")]
    if not columns or history[columns].isna().all(axis=None):
        raise MiracleError("the history has no column 'weight[TASK]'; no heads were trained")
    history = history[history[columns[0]].notna()]
    stages = _stages_of(history)
    figure = new_figure(3.2, width=1.6 + 3.2 * len(stages))
    grid = figure.subplots(1, len(stages), squeeze=False, sharey=True)[0]
    styles = [(colour, line) for line in LINES for colour in COLOURS]
    for axes, stage in zip(grid, stages, strict=True):
        mean = history[history["stage"] == stage].groupby("epoch")[columns].mean()
        for column, (colour, line) in zip(
            columns, islice(cycle(styles), len(columns)), strict=True
        ):
            name = column.removeprefix("weight[").removesuffix("]")
            axes.plot(mean.index, mean[column], line, color=colour, label=name, marker=".")
        axes.axhline(1, color=OTHER, lw=0.8, zorder=0)
        axes.set(title=_STAGES.get(stage, stage), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid[0].set_ylabel("weight of the task (mean 1)")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def reconstruction(X: pd.DataFrame, reconstructed: pd.DataFrame, mean: pd.DataFrame) -> Figure:
    """Compare the autoencoder with the mean of each site.

    Parameters
    ----------
    X : DataFrame, shape (n_samples, n_sites)
        Beta values of samples that were not trained on; NaN for missing.
    reconstructed : DataFrame
        What `MiracleClassifier.reconstruct` gives for them; its sites are compared.
    mean : DataFrame
        What predicting each site's training mean gives: same samples, at least these sites.

    Returns
    -------
    Figure
        Left: reconstructed against measured deviation of a site from its mean. Right: how many
        sites have which share of their variance explained beyond the mean.

    Examples
    --------
    >>> X = pd.DataFrame({"cg1": [0.2, 0.4], "cg2": [0.7, 0.9]})
    >>> mean = X * 0 + X.mean()
    >>> figure = reconstruction(X, (X + mean) / 2, mean)
    >>> figure.axes[1].get_title()
    'all sites together: 0.75'
    """
    sites = reconstructed.columns
    truth, mean = X.loc[reconstructed.index, sites], mean.loc[reconstructed.index, sites]
    measured, found = (truth - mean).to_numpy(), (reconstructed - mean).to_numpy()
    known = ~np.isnan(measured)
    around = np.where(known, measured, 0.0)
    left = np.where(known, measured - found, 0.0)
    explained = 1 - np.square(left).sum(0) / np.maximum(np.square(around).sum(0), 1e-12)
    total = 1 - np.square(left).sum() / np.square(around).sum()

    figure = new_figure(3.6)
    scatter, histogram = figure.subplots(1, 2)
    x, y = measured[known], found[known]
    shown = np.random.default_rng(0).permutation(len(x))[:_MAX_POINTS]
    scatter.scatter(
        x[shown], y[shown], s=2, alpha=0.2, color=COLOURS[0], linewidths=0, rasterized=True
    )
    limit = np.quantile(np.abs(x), 0.999)
    scatter.plot([-limit, limit], [-limit, limit], color=COLOURS[3], label="perfect")
    scatter.axhline(0, color=OTHER, ls="--", label="mean of the site")
    scatter.set(
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        xlabel="measured beta value minus the site's mean",
        ylabel="reconstructed minus the site's mean",
        title="samples not trained on",
    )
    scatter.legend(loc="upper left")
    low = min(max(explained.min(), -0.5), 0.0) - 0.05
    histogram.hist(explained.clip(low, 1), bins=np.linspace(low, 1, 41), color=COLOURS[0])
    histogram.axvline(0, color=OTHER, ls="--", label="mean of the site")
    histogram.axvline(total, color=COLOURS[3], label="all sites together")
    histogram.set(
        xlabel="share of the variance explained beyond the mean",
        ylabel="number of sites",
        title=f"all sites together: {total:.2f}",
    )
    histogram.legend()
    return figure


def _stages_of(history: pd.DataFrame) -> list[str]:
    """Return the stages of a history in order; refuse an empty one."""
    if len(history) == 0:
        raise MiracleError("the history has no epoch; there is nothing to draw")
    return list(dict.fromkeys(history["stage"]))
