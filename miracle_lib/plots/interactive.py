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

from miracle_lib.plots.style import COLOURS, LABELS, PLAIN, shorten

HEIGHT = 460  # pixels
_FONT = {"family": "sans-serif", "size": 13}


@dataclass(frozen=True)
class Interactive:
    """A picture that a notebook and the book show as HTML.

    Attributes
    ----------
    figure : plotly Figure
    name : str
        Of its place in the page: letters, digits, hyphens.
    """

    figure: go.Figure
    name: str

    def _repr_html_(self) -> str:
        html = self.figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=re.sub(r"[^a-z0-9-]+", "-", self.name.lower()),
            config={"responsive": True, "displaylogo": False},
        )
        return f'<div class="interactive">{html}</div>'

    def __repr__(self) -> str:
        return f"Interactive({self.name!r})"


def pathway_map(
    explanations: Mapping[str, pd.DataFrame], name: str, top: int = 40, q_value: float = 0.05
) -> Interactive:
    """Show the evidence for pathways in every task, with the numbers under the pointer.

    Parameters
    ----------
    explanations : mapping of str to DataFrame
        Per task, the table of ``explain``.
    name : str
        Of the picture's place in the page.
    top : int, default 40
        Pathways with the largest evidence summed over tasks.
    q_value : float, default 0.05
        Limit to be named.

    Returns
    -------
    Interactive
    """
    z = pd.DataFrame({task: table["z"] for task, table in explanations.items()})
    kept = z.clip(lower=0).sum(axis=1).nlargest(top).index[::-1]
    colour, text = [], []
    for pathway in kept:
        rows = {task: table.loc[pathway] for task, table in explanations.items()}
        signs = [1 if row["direction"] == "hyper" else -1 for row in rows.values()]
        colour.append(
            [round(max(row["z"], 0) * s, 2) for row, s in zip(rows.values(), signs, strict=True)]
        )
        text.append(
            [
                f"<b>{pathway}</b><br>{task}: z = {row['z']:.2f}, q = {row['q_value']:.2g}"
                f"{' (named)' if row['q_value'] <= q_value else ''}<br>"
                f"attribution {row['attribution']:.2f}, {row['degree']:.0f} genes"
                for task, row in rows.items()
            ]
        )
    limit = max(np.abs(colour).max(), 1e-9)
    figure = go.Figure(
        go.Heatmap(
            x=list(explanations),
            y=[shorten(str(pathway), 42) for pathway in kept],
            z=colour,
            text=text,
            hovertemplate="%{text}<extra></extra>",
            colorscale="RdBu_r",
            zmin=-limit,
            zmax=limit,
            colorbar={"title": "evidence<br>× direction"},
        )
    )
    return _finished(figure, name, 140 + 16 * len(kept))


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


def _finished(figure: go.Figure, name: str, height: int = HEIGHT) -> Interactive:
    """Give a picture its font, margins and height."""
    figure.update_layout(
        template="plotly_white",
        font=_FONT,
        height=height,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": -0.15},
    )
    return Interactive(figure, name)
