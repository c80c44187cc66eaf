"""What an association study of single sites shows: volcano, Manhattan and quantile plots."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from miracle_lib.errors import MiracleError
from miracle_lib.interpretation.association import inflation
from miracle_lib.plots.style import (
    BAND,
    COLOURS,
    HYPER,
    HYPO,
    INK,
    PLAIN,
    empty_figure,
    new_figure,
    styled,
)

_LEAST = 1e-300  # p-values that underflow are drawn here
_GAP = 1e7  # bases between two chromosomes


@styled
def volcano(tables: Mapping[str, pd.DataFrame], q_value: float = 0.05, top: int = 5) -> Figure:
    """Draw effect against evidence, one panel per table; the best sites are named.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By title, tables of ``ewas``.
    q_value : float, default 0.05
        False discovery rate up to which a site is coloured.
    top : int, default 5
        Sites named in each panel, as far as they are coloured and their names do not collide.

    Returns
    -------
    Figure
    """
    _refuse_none(tables)
    figure = new_figure(3.8, width=4.4 * len(tables))
    panels = figure.subplots(1, len(tables), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        table = table.dropna(subset=["p_value"])
        height = evidence(table["p_value"])
        named = table["q_value"] <= q_value
        more, less = named & (table["effect"] > 0), named & (table["effect"] <= 0)
        for chosen, colour in ((~named, PLAIN), (more, HYPER), (less, HYPO)):
            axes.scatter(
                table["effect"][chosen], height[chosen], s=7, color=colour, lw=0, rasterized=True
            )
        _name_best(axes, table[named], height, top)
        axes.axvline(0, color=BAND, lw=1, zorder=0)
        axes.set_title(f"{title}\n{more.sum():,} sites more, {less.sum():,} less methylated")
        axes.set_xlabel("effect (M-value, cases - controls)")
    panels[0].set_ylabel(r"$-\log_{10}$ p")
    return figure


@styled
def manhattan(table: pd.DataFrame, positions: pd.DataFrame, q_value: float = 0.05) -> Figure:
    """Draw the evidence of every site along the genome.

    Parameters
    ----------
    table : DataFrame
        From ``ewas``.
    positions : DataFrame
        Indexed by site: ``chromosome`` (with or without "chr") and ``position``. Sites without
        are not drawn; the title counts them.
    q_value : float, default 0.05
        The line: the largest p-value at this false discovery rate.

    Returns
    -------
    Figure
    """
    places, ticks = along_the_genome(positions.reindex(table.index))
    if places.empty:
        return empty_figure("no site has a known position")
    figure = new_figure(3.2)
    axes = figure.subplots()
    height = evidence(table["p_value"].reindex(places.index))
    for number, name in enumerate(ticks):
        here = (places["chromosome"] == name).to_numpy()
        colour = (INK, COLOURS[5])[number % 2]
        axes.scatter(places["place"][here], height[here], s=6, color=colour, lw=0)
    found = table["p_value"][table["q_value"] <= q_value]
    if len(found):
        axes.axhline(-np.log10(max(found.max(), _LEAST)), color=HYPER, lw=0.9, ls="--")
    axes.set_xticks(list(ticks.values()), list(ticks))
    axes.tick_params(axis="x", labelrotation=60 if len(ticks) > 12 else 0)
    axes.set(xlabel="chromosome", ylabel=r"$-\log_{10}$ p")
    axes.margins(x=0.01)
    drawn = int(height.notna().sum())
    away = int(table["p_value"].notna().sum()) - drawn
    rest = f"; {away:,} without a position" if away else ""
    axes.set_title(f"{drawn:,} sites, {len(found):,} at q ≤ {q_value:g}{rest}")
    return figure


@styled
def quantiles(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the p-values found against those expected by chance.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By title, tables of ``ewas``.

    Returns
    -------
    Figure
    """
    _refuse_none(tables)
    figure = new_figure(3.8, width=5.2)
    axes = figure.subplots()
    for colour, (title, table) in zip(cycle(COLOURS), tables.items(), strict=False):
        p = np.sort(table["p_value"].dropna().to_numpy())
        expected = -np.log10((np.arange(len(p)) + 0.5) / len(p))
        label = f"{title}: λ = {inflation(p):.2f}"
        axes.plot(expected, evidence(p), "o", ms=3, color=colour, mew=0, label=label)
        axes.plot(expected[[0, -1]], expected[[0, -1]], color=INK, lw=0.8, zorder=0)
    axes.set(xlabel=r"$-\log_{10}$ p expected by chance", ylabel=r"$-\log_{10}$ p found")
    axes.legend(loc="upper left")
    return figure


def _name_best(axes: Axes, named: pd.DataFrame, height: pd.Series, top: int) -> None:
    """Write the names of the best sites, towards the middle of the picture."""
    room = 0.05 * height.max()
    taken: list[float] = []
    for site in named["p_value"].nsmallest(top).index:
        if all(abs(height[site] - other) > room for other in taken):
            taken.append(height[site])
            right = named["effect"][site] > 0
            axes.annotate(
                site, (named["effect"][site], height[site]), (-4 if right else 4, 0),
                textcoords="offset points", ha="right" if right else "left", va="center",
            )  # fmt: skip


def along_the_genome(positions: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """Lay the chromosomes side by side.

    Parameters
    ----------
    positions : DataFrame
        Indexed by site: ``chromosome`` (with or without "chr") and ``position``.

    Returns
    -------
    (DataFrame, dict of str to float)
        Of each site with a position: ``chromosome`` and ``place`` along the genome; the middle of
        each chromosome, in order.

    Examples
    --------
    >>> table = pd.DataFrame({"chromosome": ["chr2", "1"], "position": [5, 10]}, ["cg1", "cg2"])
    >>> along_the_genome(table)[0]["place"].to_dict()
    {'cg1': 10000015.0, 'cg2': 10.0}
    """
    known = positions[["chromosome", "position"]].dropna()
    chromosome = known["chromosome"].astype(str).str.removeprefix("chr")
    order = sorted(
        chromosome.unique(), key=lambda c: (not c.isdigit(), int(c) if c.isdigit() else 0, c)
    )
    length = known["position"].astype(float).groupby(chromosome).max().reindex(order)
    start = (length + _GAP).cumsum() - length - _GAP
    place = known["position"].astype(float) + chromosome.map(start)
    places = pd.DataFrame({"chromosome": chromosome, "place": place})
    return places, (place.groupby(chromosome).agg(["min", "max"]).mean(axis=1)[order]).to_dict()


def evidence(p: pd.Series) -> pd.Series:
    """Return -log10 of p-values."""
    return -np.log10(np.clip(p, _LEAST, 1))


def _refuse_none(tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse to draw nothing."""
    if not tables:
        raise MiracleError("There is no table to draw; expected tables of ewas by title.")
