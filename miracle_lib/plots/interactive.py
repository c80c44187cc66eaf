"""Pictures to look closer at: zoom, and numbers under the pointer.

A page loads the drawing script once, from the book's own files; the picture in print stands beside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from miracle_lib.plots.ewas import along_the_genome, evidence
from miracle_lib.plots.style import COLOURS, HYPER, HYPO, LABELS, PLAIN, shorten

HEIGHT = 460  # pixels
NAME = 30  # letters of a name beside a picture; the pointer shows all of it
POINTS = 1500  # sites in one picture; all of them are in the one for print
_FONT = {"family": "sans-serif", "size": 13}
_FIELD = (
    '<label>Find a {0}: <input type="search" class="search-rows" autocomplete="off"></label> '
    '<output aria-live="polite"></output>'
)
_BAR = {  # above the picture: beside it, it takes a third of a phone
    "title": {"text": "evidence × direction", "side": "top"},
    "orientation": "h",
    "thickness": 10,
    "y": 1,
    "yanchor": "bottom",
}
_HOVER = (
    "<b>%{y}</b><br>%{x}: z = %{customdata[0]}, q = %{customdata[1]}%{customdata[2]}<br>"
    "attribution %{customdata[3]}, %{customdata[4]} genes<extra></extra>"
)
_SITE_HOVER = "<b>%{text}</b><br>effect %{customdata[0]}, q = %{customdata[1]}<extra></extra>"


@dataclass(frozen=True)
class Interactive:
    """A picture that a notebook and the book show as HTML.

    Attributes
    ----------
    figure : plotly Figure
    name : str
        Of its place in the page: letters, digits, hyphens.
    search : str, default ""
        What the rows are, if a field above the picture finds them by name.
    """

    figure: go.Figure
    name: str
    search: str = ""

    def _repr_html_(self) -> str:
        html = self.figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=re.sub(r"[^a-z0-9-]+", "-", self.name.lower()),
            config={"responsive": True, "displaylogo": False},
        )
        field = _FIELD.format(self.search) if self.search else ""
        return f'<div class="interactive">{field}{html}</div>'

    def __repr__(self) -> str:
        return f"Interactive({self.name!r})"


def pathway_map(
    explanations: Mapping[str, pd.DataFrame],
    name: str,
    q_value: float = 0.05,
    shown: int = 40,
    most: int = 400,
) -> Interactive:
    """Show the evidence for pathways in every task, with the numbers under the pointer.

    Parameters
    ----------
    explanations : mapping of str to DataFrame
        Per task, the table of ``explain``.
    name : str
        Of the picture's place in the page.
    q_value : float, default 0.05
        Limit to be named.
    shown : int, default 40
        Pathways in sight, those with the largest evidence summed over tasks.
    most : int, default 400
        Pathways that the search finds.

    Returns
    -------
    Interactive
    """
    z = pd.DataFrame({task: table["z"] for task, table in explanations.items()})
    kept = z.clip(lower=0).sum(axis=1).nlargest(most).index[::-1]
    tables = [table.loc[kept] for table in explanations.values()]
    colour = np.stack([_signed(table) for table in tables], axis=1).round(2)
    numbers = np.stack([_numbers(table, q_value) for table in tables], axis=1)
    limit = max(np.abs(colour).max(), 1e-9)
    figure = go.Figure(
        go.Heatmap(
            x=list(explanations),
            y=[str(pathway) for pathway in kept],
            z=colour.tolist(),
            customdata=numbers.tolist(),
            hovertemplate=_HOVER,
            colorscale="RdBu_r",
            zmin=-limit,
            zmax=limit,
            colorbar=_BAR,
        )
    )
    rows = min(shown, len(kept))
    figure.update_yaxes(
        tickvals=[str(pathway) for pathway in kept],
        ticktext=[shorten(str(pathway), NAME) for pathway in kept],
        range=[len(kept) - rows - 0.5, len(kept) - 0.5],
    )
    return _finished(figure, name, 180 + 16 * rows, search="pathway")


def _signed(table: pd.DataFrame) -> np.ndarray:
    """Evidence, negative where cases are less methylated."""
    return np.maximum(table["z"], 0) * np.where(table["direction"] == "hyper", 1, -1)


def _numbers(table: pd.DataFrame, q_value: float) -> np.ndarray:
    """What stands under the pointer, in the order of `_HOVER`."""
    named = np.where(table["q_value"] <= q_value, " (named)", "")
    q = [f"{q:.2g}" for q in table["q_value"]]
    columns = [table["z"].round(2), q, named, table["attribution"].round(2), table["degree"]]
    return np.stack([np.asarray(column, dtype=object) for column in columns], axis=1)


def pathway_parts(paths: pd.DataFrame, pathway: str, name: str) -> Interactive:
    """Show one pathway as an area of genes and sites; a click on a gene opens it.

    Parameters
    ----------
    paths : DataFrame
        From ``explain_paths``.
    pathway : str
        Title.
    name : str
        Of the picture's place in the page.

    Returns
    -------
    Interactive
        Area: the absolute contribution. Colour: whether it raises or lowers the logit of cases.
    """
    ids, labels, parents, values, colours, notes = [pathway], [pathway], [""], [], [], []
    # Rounded before they are added: a part larger than its whole is not drawn at all.
    paths = paths.assign(contribution=paths["contribution"].round(4))
    total = paths["contribution"].abs().groupby(paths["gene"]).sum()
    values.append(_sum(total))
    colours.append(0.0)
    notes.append(f"{len(total)} genes, {paths['site'].nunique()} sites")
    for gene, table in paths.groupby("gene"):
        ids.append(str(gene))
        labels.append(str(gene))
        parents.append(pathway)
        values.append(_sum(table["contribution"].abs()))
        colours.append(float(table["contribution"].sum()))
        notes.append(f"contribution {table['contribution'].sum():+.3f}")
        for row in table.itertuples():
            ids.append(f"{gene}/{row.site}")
            labels.append(str(row.site))
            parents.append(str(gene))
            values.append(abs(float(row.contribution)))
            colours.append(float(row.contribution))
            notes.append(f"contribution {row.contribution:+.3f}")
    limit = max(np.abs(colours).max(), 1e-9)
    figure = go.Figure(
        go.Treemap(
            ids=ids,
            labels=labels,
            parents=parents,
            values=values,
            text=notes,
            branchvalues="total",
            hovertemplate="<b>%{label}</b><br>%{text}<extra></extra>",
            marker={
                "colors": np.round(colours, 4),
                "colorscale": "RdBu_r",
                "cmin": -limit,
                "cmax": limit,
            },
        )
    )
    return _finished(figure, name)


def sample_map(
    scores: np.ndarray, obs: pd.DataFrame, name: str, share: np.ndarray | None = None
) -> Interactive:
    """Show samples on two components; a menu colours them by cohort, label or covariate.

    Parameters
    ----------
    scores : ndarray, shape (n_samples, 2)
    obs : DataFrame
        Columns ``cohort`` and ``label`` (1 case, 0 control), and what else is known.
    name : str
        Of the picture's place in the page.
    share : ndarray, shape (2,), optional
        Share of the variance of each component.

    Returns
    -------
    Interactive
    """
    known = [c for c in ("cohort", "label", "sex", "smoking", "slide") if c in obs]
    groups = {column: _groups(obs[column]) for column in known if obs[column].notna().any()}
    figure = go.Figure()
    owner: list[str] = []
    for column, values in groups.items():
        for k, value in enumerate(dict.fromkeys(values)):
            here = (values == value).to_numpy()
            figure.add_scattergl(
                x=scores[here, 0].round(2),
                y=scores[here, 1].round(2),
                mode="markers",
                name=str(value),
                text=[str(sample) for sample in obs.index[here]],
                hovertemplate="%{text}<extra>%{fullData.name}</extra>",
                marker={"size": 6, "color": _colour(column, value, k)},
                visible=column == next(iter(groups)),
            )
            owner.append(column)
    menu = [
        {
            "label": column,
            "method": "update",
            "args": [{"visible": [of == column for of in owner]}],
        }
        for column in groups
    ]
    figure.update_layout(updatemenus=[{"buttons": menu, "x": 0, "xanchor": "left", "y": 1.12}])
    parts = ["", ""] if share is None else [f" ({part:.0%} of variance)" for part in share]
    figure.update_xaxes(title=f"component 1{parts[0]}")
    figure.update_yaxes(title=f"component 2{parts[1]}")
    return _finished(figure, name)


def volcano(table: pd.DataFrame, name: str, q_value: float = 0.05) -> Interactive:
    """Show effect against evidence of the best sites, with the site under the pointer.

    Parameters
    ----------
    table : DataFrame
        From ``ewas``.
    name : str
        Of the picture's place in the page.
    q_value : float, default 0.05
        False discovery rate up to which a site is coloured.

    Returns
    -------
    Interactive
    """
    best = table.dropna(subset="p_value").nsmallest(POINTS, "p_value")
    named = best["q_value"] <= q_value
    more = best["effect"] > 0
    groups = {
        "more methylated": named & more,
        "less methylated": named & ~more,
        "not named": ~named,
    }
    figure = go.Figure()
    for (title, chosen), colour in zip(groups.items(), (HYPER, HYPO, PLAIN), strict=True):
        _add_sites(figure, best[chosen], best["effect"][chosen].round(3), title, colour)
    figure.update_xaxes(title="effect (M-value, cases − controls)")
    return _sites_finished(figure, name, table)


def manhattan(
    table: pd.DataFrame, positions: pd.DataFrame, name: str, q_value: float = 0.05
) -> Interactive:
    """Show the evidence of the best sites along the genome, with the site under the pointer.

    Parameters
    ----------
    table : DataFrame
        From ``ewas``.
    positions : DataFrame
        Indexed by site: ``chromosome`` and ``position``.
    name : str
        Of the picture's place in the page.
    q_value : float, default 0.05
        False discovery rate up to which a site is coloured.

    Returns
    -------
    Interactive
    """
    places, ticks = along_the_genome(positions.reindex(table.index))
    best = table.loc[places.index].dropna(subset="p_value").nsmallest(POINTS, "p_value")
    named = best["q_value"] <= q_value
    figure = go.Figure()
    for title, chosen, colour in (("named", named, HYPER), ("not named", ~named, PLAIN)):
        here = best[chosen]
        _add_sites(figure, here, places.loc[here.index, "place"], title, colour)
    figure.update_xaxes(title="chromosome", tickvals=list(ticks.values()), ticktext=list(ticks))
    return _sites_finished(figure, name, table)


def _add_sites(
    figure: go.Figure, table: pd.DataFrame, x: pd.Series, title: str, colour: str
) -> None:
    """Add points that name their site, effect and q-value under the pointer."""
    figure.add_scattergl(
        x=x.tolist(),
        y=evidence(table["p_value"]).round(2).tolist(),
        mode="markers",
        name=title,
        text=[str(site) for site in table.index],
        customdata=[
            [f"{e:+.2f}", f"{q:.1e}"]
            for e, q in zip(table["effect"], table["q_value"], strict=True)
        ],
        hovertemplate=_SITE_HOVER,
        marker={"size": 6, "color": colour},
    )


def _sites_finished(figure: go.Figure, name: str, table: pd.DataFrame) -> Interactive:
    """Say how many of all sites are points."""
    tested = int(table["p_value"].notna().sum())
    drawn = sum(len(trace.x) for trace in figure.data)
    figure.update_yaxes(title="−log<sub>10</sub> p")
    if drawn < tested:
        said = f"{drawn:,} of {tested:,} sites, those with the smallest p"
        figure.update_layout(title={"text": said, "font": {"size": 13}})
    return _finished(figure, name)


def _sum(values: pd.Series) -> float:
    """A sum without the rounding errors of its parts."""
    return round(float(values.sum()), 4)


def _groups(values: pd.Series) -> pd.Series:
    """Values as text, labels as case and control."""
    if values.name == "label":
        values = values.map({key: text for key, (text, _) in LABELS.items()})
    return values.astype(object).where(values.notna(), "not known").astype(str)


def _colour(column: str, value: str, k: int) -> str:
    """Colour of a group."""
    if value == "not known":
        return PLAIN
    if column == "label":
        return dict(LABELS.values())[value]
    return COLOURS[k % len(COLOURS)]


def _finished(figure: go.Figure, name: str, height: int = HEIGHT, search: str = "") -> Interactive:
    """Give a picture its font, margins and height."""
    figure.update_layout(
        template="plotly_white",
        font=_FONT,
        height=height,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": -0.15},
    )
    return Interactive(figure, name, search)
