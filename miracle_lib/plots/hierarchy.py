"""The mask: what it covers, how uneven it is, and what one pathway is made of."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.hierarchy.array import GROUPS
from miracle_lib.plots.style import COLOURS, PLAIN, new_figure, shorten, styled

_MASKS = [(COLOURS[6], "-"), (COLOURS[0], "--"), (COLOURS[1], "-."), (COLOURS[2], ":")]
_PARTS = {
    "promoter": COLOURS[0],
    "body": COLOURS[1],
    "both": COLOURS[2],
    "unknown": PLAIN,
}
_KEPT, _LOST = COLOURS[0], "#BBBBBB"


@styled
def coverage(hierarchy: Hierarchy) -> Figure:
    """Draw how many of the given sites reach a pathway, and why the others do not.

    Parameters
    ----------
    hierarchy : Hierarchy

    Returns
    -------
    Figure

    Examples
    --------
    >>> from miracle_lib.cohorts import simulate_cohorts
    >>> simulation = simulate_cohorts({"RA": 20})
    >>> mask = Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    >>> len(coverage(mask).axes)
    1
    """
    listed = hierarchy.unannotated
    reasons = listed.loc[listed["layer"] == "site", "reason"]
    reasons = reasons.mask(reasons.str.startswith("masked"), "masked probe").value_counts()
    counts = pd.concat([pd.Series({"reach a pathway": len(hierarchy.sites)}), reasons])
    figure = new_figure(0.9 + 0.5 * len(counts))
    axes = figure.subplots()
    labels = [fill(reason, 34) for reason in counts.index]
    bars = axes.barh(labels, counts, color=[_KEPT] + [_LOST] * len(reasons), height=0.7)
    axes.bar_label(bars, [f"{n:,} ({n / counts.sum():.1%})" for n in counts], padding=4)
    axes.invert_yaxis()
    axes.set(xlabel="sites", xlim=(0, 1.35 * counts.max()))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@styled
def degree_distributions(
    hierarchy: Hierarchy, others: Mapping[str, Hierarchy] | None = None
) -> Figure:
    """Draw how many edges the nodes of each layer have.

    Parameters
    ----------
    hierarchy : Hierarchy
    others : mapping of str to Hierarchy, optional
        Up to three masks to compare, by name; a permuted one must lie on top of the original.

    Returns
    -------
    Figure
        One panel per layer and direction; both axes logarithmic.

    Raises
    ------
    MiracleError
        If there are more than three others, or they have other levels.

    Examples
    --------
    >>> from miracle_lib.cohorts import simulate_cohorts
    >>> simulation = simulate_cohorts({"RA": 20})
    >>> mask = Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    >>> len(degree_distributions(mask, {"permuted": mask.permuted(0)}).axes)
    4
    """
    masks = {"annotation": hierarchy, **(others or {})}
    same = all(mask.level_names == hierarchy.level_names for mask in masks.values())
    if len(masks) > len(_MASKS) or not same:
        raise MiracleError("at most three other hierarchies with the same levels can be compared")
    degrees = {label: mask.degrees() for label, mask in masks.items()}
    own = degrees["annotation"]
    rows = len(own) // 2
    figure = new_figure(2.8 * rows)
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, what in zip(panels, own, strict=True):
        for label, (colour, style) in zip(masks, _MASKS, strict=False):
            _at_least(axes, degrees[label][what], colour, style, label)
        node = what.split(" per ")[1]
        axes.set(xscale="log", yscale="log", xlabel=what)
        axes.set_ylabel(f"share of {node}s\nwith at least as many")
        axes.set_title(f"median {own[what].median():.0f}, most {own[what].max():,}")
    if len(masks) > 1:
        panels[0].legend()
    return figure


@styled
def pathway_tree(
    hierarchy: Hierarchy, pathway: str, max_genes: int = 25, max_sites: int = 40
) -> Figure:
    """Draw the genes of a pathway and the sites of each gene.

    Parameters
    ----------
    hierarchy : Hierarchy
    pathway : str
    max_genes : int, default 25
        Genes drawn, those with most sites first; the others are counted below.
    max_sites : int, default 40
        Sites drawn per gene; the others are counted at the end of the row.

    Returns
    -------
    Figure

    Raises
    ------
    MiracleError
        If there is no such pathway.

    Examples
    --------
    >>> from miracle_lib.cohorts import simulate_cohorts
    >>> simulation = simulate_cohorts({"RA": 20})
    >>> mask = Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    >>> len(pathway_tree(mask, mask.pathways[0]).axes)
    1
    """
    members = hierarchy.members(pathway)
    members = members.assign(part=members["group"].map(_part))
    sizes = members.groupby("gene").size()
    order = sizes.sort_values(ascending=False, kind="stable").index
    shown = order[:max_genes]
    height = 0.24 * len(shown) + 1.4
    figure = new_figure(height)
    axes = figure.subplots()
    middle = (len(shown) - 1) / 2
    for row, gene in enumerate(shown):
        sites = members[members["gene"] == gene].sort_values("part", key=_part_rank)
        drawn = sites["part"][:max_sites]
        axes.plot([-14, -8], [middle, row], color="#CCCCCC", lw=0.8, zorder=0)
        axes.plot([0, len(drawn) - 1], [row, row], color="#CCCCCC", lw=0.8, zorder=0)
        axes.text(-7.7, row, gene, ha="left", va="center")
        axes.scatter(np.arange(len(drawn)), [row] * len(drawn), s=14, c=drawn.map(_PARTS))
        if len(sites) > len(drawn):
            rest = f"+{len(sites) - len(drawn)}"
            axes.text(len(drawn), row, rest, ha="left", va="center")
    axes.plot([-14], [middle], "s", color="#000000", ms=7)
    left_out = f"; the {len(shown)} with most sites are drawn" if len(order) > len(shown) else ""
    axes.set_title(
        f"{shorten(pathway, 100)}\n"
        f"{len(order)} genes, {members['site'].nunique():,} sites{left_out}",
        loc="left",
    )
    parts = [part for part in _PARTS if part in set(members["part"])]
    handles = [Line2D([], [], marker="o", ls="", color=_PARTS[part], label=part) for part in parts]
    figure.legend(
        handles=handles, title="place of the site in its gene", ncols=4, loc="outside lower left"
    ).set(frame_on=False, alignment="left")
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlim=(-15, max(12, min(max_sites, sizes.max())) + 3))
    axes.axis("off")
    return figure


def _at_least(axes: Axes, degree: pd.Series, colour: str, style: str, label: str) -> None:
    """Share of nodes with at least so many edges, as a step line."""
    values, counts = np.unique(degree, return_counts=True)
    share = counts[::-1].cumsum()[::-1] / len(degree)
    axes.plot(values, share, color=colour, ls=style, label=label, marker="." * (len(values) < 4))
    axes.spines[["top", "right"]].set_visible(False)


def _part(group: str) -> str:
    """Where in its gene an edge's site lies."""
    found = set(group.split(";"))
    promoter, body = (bool(found & set(GROUPS[part])) for part in ("promoter", "body"))
    if promoter and body:
        return "both"
    return "promoter" if promoter else "body" if body else "unknown"


def _part_rank(parts: pd.Series) -> pd.Series:
    """Sort key: promoter first."""
    return parts.map(["promoter", "both", "body", "unknown"].index)
