"""Cohorts before and after preprocessing."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.ndimage import gaussian_filter1d

from miracle_lib.errors import MiracleError
from miracle_lib.plots.style import COLOURS, LABELS, LINES, new_figure, styled
from miracle_lib.preprocessing.survey import BETA_EDGES, SD_EDGES, Survey


@styled
def beta_densities(seen: Survey) -> Figure:
    """Draw how values are distributed in each cohort, before and after standardisation.

    Parameters
    ----------
    seen : Survey

    Returns
    -------
    Figure

    Examples
    --------
    >>> from miracle_lib.preprocessing import survey_values
    >>> values = np.random.default_rng(0).uniform(0, 1, (8, 50))
    >>> seen = survey_values([(slice(0, 50), values)], pd.Series(["RA"] * 4 + ["MS"] * 4))
    >>> len(beta_densities(seen).axes)
    2
    """
    figure = new_figure(3.6, width=10.4)
    axes = figure.subplots(1, 2)
    _densities(axes[0], seen.beta, seen.cohort, BETA_EDGES)
    _densities(axes[1], seen.standardized, seen.cohort, SD_EDGES)
    axes[0].set(
        title="before: beta values",
        xlabel="beta value (share methylated)",
        ylabel="density",
        xlim=(0, 1),
    )
    axes[1].set(
        title="after: standardised within cohorts",
        xlabel="distance from the cohort's mean (SD)",
        ylabel="density",
        xlim=(-4, 4),
    )
    for axis in axes:
        axis.set_ylim(bottom=0)
    _cohort_legend(figure, seen.cohort)
    return figure


@styled
def cohort_pca(seen: Survey, obs: pd.DataFrame) -> Figure:
    """Draw the samples on their first two principal components, before and after.

    Parameters
    ----------
    seen : Survey
    obs : DataFrame
        Columns cohort and label (1 case, 0 control, NaN neither).

    Returns
    -------
    Figure
        Upper row coloured by cohort, lower row by case and control.

    Examples
    --------
    >>> from miracle_lib.preprocessing import survey_values
    >>> obs = pd.DataFrame({"cohort": ["RA"] * 4 + ["MS"] * 4, "label": [0, 1] * 4})
    >>> values = np.random.default_rng(0).uniform(0, 1, (8, 50))
    >>> len(cohort_pca(survey_values([(slice(0, 50), values)], obs["cohort"]), obs).axes)
    4
    """
    figure = new_figure(6.2)
    axes = figure.subplots(2, 2)
    styles = _cohort_styles(obs["cohort"])
    panels = {
        "before: M-values": (seen.before, seen.shares[0]),
        "after: standardised within cohorts": (seen.after, seen.shares[1]),
    }
    for column, (title, (scores, share)) in enumerate(panels.items()):
        rng = np.random.default_rng(0)
        order = rng.permutation(len(obs))  # no group is painted over another
        cohort_colour = obs["cohort"].map(lambda name: styles[name][0]).to_numpy()
        label_colour = obs["label"].map(lambda v: LABELS[int(v)][1], na_action="ignore")
        label_colour = label_colour.fillna("#D9D9D9").to_numpy()
        for axis, colour in zip(axes[:, column], (cohort_colour, label_colour), strict=True):
            axis.scatter(*scores[order].T, c=colour[order], s=12, alpha=0.75, linewidths=0)
            axis.set(
                xlabel=f"component 1 ({share[0]:.0%} of variance)",
                ylabel=f"component 2 ({share[1]:.0%} of variance)",
            )
        axes[0, column].set_title(title)
    axes[0, 1].legend(
        handles=[_dot(name, colour) for name, (colour, _) in styles.items()],
        title="cohort",
        loc="upper left",
        bbox_to_anchor=(1.02, 1),
        frameon=False,
    )
    axes[1, 1].legend(
        handles=[_dot(name, colour) for name, colour in LABELS.values()],
        title="label",
        loc="upper left",
        bbox_to_anchor=(1.02, 1),
        frameon=False,
    )
    return figure


@styled
def missingness(seen: Survey) -> Figure:
    """Draw how much is missing, per sample and per site of each cohort.

    Sites that a cohort lacks altogether, as another array's, are not counted as missing in it.

    Parameters
    ----------
    seen : Survey

    Returns
    -------
    Figure

    Examples
    --------
    >>> from miracle_lib.preprocessing import survey_values
    >>> values = np.array([[0.1, 0.2], [0.3, np.nan]])
    >>> len(missingness(survey_values([(slice(0, 2), values)], pd.Series(["RA", "RA"]))).axes)
    2
    """
    figure = new_figure(3.6)
    samples, sites = figure.subplots(1, 2)
    styles = _cohort_styles(seen.cohort)
    rng = np.random.default_rng(0)
    ticks = []
    for row, (name, (colour, line)) in enumerate(styles.items()):
        per_site = seen.absent[row]
        measured = per_site < 1
        ticks.append(f"{name}\n{measured.sum():,} sites")
        share = seen.missing[seen.cohort == name]
        jitter = row + rng.uniform(-0.3, 0.3, len(share))
        samples.scatter(share, jitter, color=colour, s=8, alpha=0.7, linewidths=0)
        ranked = np.sort(per_site[measured])[::-1]
        rank = np.arange(1, len(ranked) + 1) / len(ranked)
        sites.plot(rank, ranked, color=colour, linestyle=line, drawstyle="steps-post")
    samples.set(xlabel="sites missing in a sample", yticks=range(len(styles)), yticklabels=ticks)
    samples.invert_yaxis()
    sites.set(xlabel="sites, most often missing first", ylabel="samples in which it is missing")
    for axis in (samples.xaxis, sites.xaxis, sites.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=None))
    samples.set_xlim(0, max(samples.get_xlim()[1], 0.01))
    sites.set_ylim(0, max(sites.get_ylim()[1], 0.01))
    _cohort_legend(figure, seen.cohort)
    return figure


@styled
def ages_and_sexes(obs: pd.DataFrame) -> Figure:
    """Draw age and share of women among cases and controls of each cohort.

    Parameters
    ----------
    obs : DataFrame
        Columns cohort, label, and age (years) or sex ("F", "M") or both.

    Returns
    -------
    Figure
        One panel for each of age and sex that is known. Below the cohort, the numbers of controls
        and cases.

    Raises
    ------
    MiracleError
        If neither age nor sex is known.

    Examples
    --------
    >>> from miracle_lib.cohorts import simulate_cohorts
    >>> len(ages_and_sexes(simulate_cohorts({"RA": 20}).cohorts["RA"].obs).axes)
    2
    """
    known = [name for name in ("age", "sex") if name in obs and obs[name].notna().any()]
    if not known:
        raise MiracleError("Neither age nor sex is known for any sample.")
    labelled = obs[obs["label"].notna()]
    counts = labelled.groupby("cohort", observed=True)["label"].agg(
        controls=lambda v: (v == 0).sum(), cases=lambda v: (v == 1).sum()
    )
    counts = counts.loc[pd.unique(labelled["cohort"])]
    figure = new_figure(0.8 + 2.4 * len(known), width=1.5 + 1.05 * len(counts))
    axes = figure.subplots(len(known), 1, squeeze=False)[:, 0]
    ticks = [f"{n}\n{c.controls:.0f} / {c.cases:.0f}" for n, c in counts.iterrows()]
    for axis, what in zip(axes, known, strict=True):
        draw = _age_boxes if what == "age" else _sex_bars
        draw(axis, labelled, counts.index)
        axis.set_xticks(range(len(counts)), [_wrap(tick) for tick in ticks])
    axes[-1].set_xlabel("cohort (controls / cases)")
    handles = [Patch(color=colour, label=name) for name, colour in LABELS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


@styled
def cell_fractions(obs: pd.DataFrame) -> Figure:
    """Draw blood cell fractions of cases and controls of each cohort.

    Parameters
    ----------
    obs : DataFrame
        Columns cohort, label, and one column "cell_<type>" per cell type.

    Returns
    -------
    Figure
        One panel per cell type; cohorts without fractions are left out.

    Raises
    ------
    MiracleError
        If no column holds cell fractions.

    Examples
    --------
    >>> from miracle_lib.cohorts import simulate_cohorts
    >>> len(cell_fractions(simulate_cohorts({"RA": 20}).cohorts["RA"].obs).axes)
    6
    """
    cells = [name for name in obs if name.startswith("cell_") and obs[name].notna().any()]
    if not cells:
        raise MiracleError("No column cell_<type> holds the fractions of a cell type.")
    labelled = obs[obs["label"].notna() & obs[cells].notna().any(axis=1)]
    cohorts = pd.unique(labelled["cohort"])
    columns = min(3, len(cells))
    rows = -(-len(cells) // columns)
    height = 0.9 + (0.7 + 0.3 * len(cohorts)) * rows
    figure = new_figure(height, width=3.4 * columns)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis, cell in zip(axes.flat, cells, strict=False):
        _grouped_boxes(axis, labelled, cell, cohorts, "horizontal")
        axis.set_title(cell.removeprefix("cell_"))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    for axis in axes.flat[len(cells) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(cohorts)), cohorts)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("share of cells")
    handles = [Patch(color=colour, label=name) for name, colour in LABELS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


@styled
def quality_counts(report: pd.DataFrame) -> Figure:
    """Draw how many values, samples and sites each check of quality control found.

    Parameters
    ----------
    report : DataFrame
        Of `quality_control`, of one cohort or several stacked.

    Returns
    -------
    Figure
        Checks x cohorts: the number found, on a colour that shows its share of those looked at.

    Examples
    --------
    >>> from miracle_lib.cohorts import simulate_cohorts
    >>> from miracle_lib.preprocessing import quality_control
    >>> clean, report = quality_control(simulate_cohorts({"RA": 20}).cohorts["RA"])
    >>> len(quality_counts(report).axes)
    2
    """
    named = report.assign(row=_row_names(report), share=report["n"] / report["n_before"])
    rows, cohorts = pd.unique(named["row"]), pd.unique(named["cohort"])

    def grid(column: str) -> pd.DataFrame:
        return named.pivot(index="row", columns="cohort", values=column).loc[rows, cohorts]

    names = 1.8 + 0.065 * max(map(len, rows))  # and the scale of colours
    figure = new_figure(1.3 + 0.32 * len(rows), width=names + 0.95 * len(cohorts))
    axis = figure.subplots()
    share = grid("share").to_numpy()
    top = max(0.01, float(np.nanmax(share)))
    image = axis.pcolormesh(share, cmap="Blues", norm=PowerNorm(0.5, 0, top), edgecolors="white")
    for (row, column), n in np.ndenumerate(grid("n").to_numpy()):
        if not np.isnan(n):
            dark = share[row, column] > 0.35 * top
            colour = "white" if dark else "black"
            place = (column + 0.5, row + 0.5)
            axis.annotate(f"{n:,.0f}", place, ha="center", va="center", color=colour)
    axis.set_xticks(np.arange(len(cohorts)) + 0.5, [str(n).replace(" ", "\n") for n in cohorts])
    axis.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axis.tick_params(length=0)
    axis.invert_yaxis()
    for side in axis.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(image, ax=axis, label="share of those looked at", pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    return figure


def _row_names(report: pd.DataFrame) -> pd.Series:
    """Name each check by its action, what it acts on, and its threshold."""
    names = report["action"] + " " + report["level"] + "s: " + report["check"]
    limit = report["threshold"].map(" ({:g})".format, na_action="ignore").fillna("")
    return names + limit


def _cohort_styles(cohort: pd.Series) -> dict[str, tuple[str, Any]]:
    """Give every cohort a colour and a line style."""
    pairs = ((colour, line) for line in cycle(LINES) for colour in COLOURS)
    names = pd.unique(cohort.astype(object))
    return dict(zip(names, islice(pairs, len(names)), strict=True))


def _cohort_legend(figure: Figure, cohort: pd.Series) -> None:
    """Put a legend of cohorts above the panels."""
    handles = [
        Line2D([], [], color=colour, linestyle=line, label=name)
        for name, (colour, line) in _cohort_styles(cohort).items()
    ]
    columns = min(len(handles), 3)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def _dot(name: str, colour: str) -> Line2D:
    """Make a legend entry for points."""
    return Line2D([], [], marker="o", linestyle="", markersize=5, color=colour, label=name)


def _densities(axis: Axes, counts: np.ndarray, cohort: pd.Series, edges: np.ndarray) -> None:
    """Draw one smoothed histogram per cohort."""
    middle, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
    for found, (colour, line) in zip(counts, _cohort_styles(cohort).values(), strict=True):
        density = found / (found.sum() * width)
        axis.plot(middle, gaussian_filter1d(density, 1), color=colour, linestyle=line)


def _age_boxes(axis: Axes, obs: pd.DataFrame, cohorts: pd.Index) -> None:
    """Draw boxes of age."""
    _grouped_boxes(axis, obs, "age", cohorts, "vertical")
    axis.set_ylabel("age (years)")


def _grouped_boxes(
    axis: Axes,
    obs: pd.DataFrame,
    column: str,
    cohorts: pd.Index,
    orientation: Literal["vertical", "horizontal"],
) -> None:
    """Draw a box of one column for controls and cases of each cohort."""
    for label, (_, colour) in LABELS.items():
        for place, name in enumerate(cohorts):
            chosen = (obs["cohort"] == name) & (obs["label"] == label)
            values = obs.loc[chosen, column].dropna()
            if len(values):
                axis.boxplot(
                    [values],
                    positions=[place + (-0.2, 0.2)[label]],
                    widths=0.32,
                    orientation=orientation,
                    patch_artist=True,
                    manage_ticks=False,
                    boxprops={"facecolor": colour, "alpha": 0.75, "linewidth": 0.6},
                    medianprops={"color": "black", "linewidth": 1.2},
                    whiskerprops={"linewidth": 0.6},
                    capprops={"linewidth": 0.6},
                    flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
                )


def _sex_bars(axis: Axes, obs: pd.DataFrame, cohorts: pd.Index) -> None:
    """Draw the share of women."""
    for label, (_, colour) in LABELS.items():
        for place, name in enumerate(cohorts):
            sex = obs.loc[(obs["cohort"] == name) & (obs["label"] == label), "sex"].dropna()
            if len(sex):
                height = (sex == "F").mean()
                axis.bar(place + (-0.2, 0.2)[label], height, 0.36, color=colour, alpha=0.85)
    axis.set(ylabel="women", ylim=(0, 1))
    axis.yaxis.set_major_formatter(PercentFormatter(1))


def _wrap(text: str) -> str:
    """Break a tick label at its spaces, the numbers in the last line kept together."""
    name, _, numbers = text.rpartition("\n")
    return name.replace(" ", "\n") + "\n" + numbers
