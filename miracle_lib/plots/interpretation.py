"""What a model relies on, beside its controls."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.cluster.hierarchy import leaves_list, linkage

from miracle_lib.errors import MiracleError
from miracle_lib.plots.style import (
    BAND,
    COLOURS,
    HYPER,
    HYPO,
    INK,
    LABELS,
    PLAIN,
    new_figure,
    shorten,
    styled,
)
from miracle_lib.samples import Samples

_KIND = {"disease": COLOURS[0], "control": COLOURS[1], "other tissue": PLAIN}
_DIVERGING = "RdBu_r"


@styled
def pathway_ranking(
    explanation: pd.DataFrame, task: str = "", top: int = 15, q_value: float = 0.05
) -> Figure:
    """Draw the top pathways beside their controls, and rank against degree.

    Left: evidence of the top pathways; the band holds 95% of shuffled labels. Right: attribution
    of every pathway by its number of genes, those named at the given q-value filled.

    Parameters
    ----------
    explanation : DataFrame
        From ``explain``, with labels.
    task : str
        Title.
    top : int, default 15
        Pathways shown on the left.
    q_value : float, default 0.05
        Limit to be named.

    Returns
    -------
    Figure
    """
    shown = explanation.sort_values("rank").head(top).iloc[::-1]
    figure = new_figure(1.6 + 0.3 * len(shown))
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    y = np.arange(len(shown))
    left.axvspan(-1.96, 1.96, color=BAND, zorder=0)
    for place, (_, row) in zip(y, shown.iterrows(), strict=True):
        colour = HYPER if row["direction"] == "hyper" else HYPO
        named = row["q_value"] <= q_value
        left.plot([0, row["z"]], [place, place], color=colour, lw=1.2)
        face = colour if named else "white"
        left.plot(row["z"], place, "o", color=colour, mfc=face, ms=7)
    left.set_yticks(y, [shorten(name, 40) for name in shown.index])
    left.set(xlabel="evidence (SDs of shuffled labels)", ylim=(-0.7, len(shown) - 0.3))
    left.set_title(f"{task}: top pathways".lstrip(": "))
    handles = [
        Line2D([], [], color=HYPER, marker="o", ls="", label="more methylation in cases"),
        Line2D([], [], color=HYPO, marker="o", ls="", label="less methylation in cases"),
        Line2D([], [], color="k", marker="o", mfc="w", ls="", label=f"open: q > {q_value:g}"),
        Line2D([], [], color=BAND, lw=7, label="95% of shuffled labels"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2)
    named = explanation["q_value"] <= q_value
    for chosen, face, colour, label in (
        (~named, "white", PLAIN, "not named"),
        (named, INK, INK, f"named (q ≤ {q_value:g})"),
    ):
        part = explanation[chosen]
        right.scatter(
            part["degree"], part["attribution"], s=22, facecolor=face, edgecolor=colour,
            label=f"{label}: {len(part)}",
        )  # fmt: skip
    rho = explanation["attribution"].corr(explanation["degree"], method="spearman")
    right.axhline(0, color=BAND, lw=1, zorder=0)
    right.set(xscale="log", xlabel="genes in the pathway")
    right.set_ylabel("attribution (logit, cases - controls)")
    title = f"all {len(explanation)} pathways\nattribution ~ genes: ρ = {rho:.2f}"
    right.set_title(title, loc="right")  # beside long names it is wider than its panel
    right.legend()
    right.set_xticks(*_degree_ticks(explanation["degree"]))
    right.minorticks_off()
    return figure


@styled
def pathway_tree(
    paths: pd.DataFrame, pathway: str, top_genes: int = 8, top_sites: int = 4
) -> Figure:
    """Draw one pathway down to its genes and sites; line width is the contribution.

    Parameters
    ----------
    paths : DataFrame
        From ``explain_paths``.
    pathway : str
        Title.
    top_genes, top_sites : int
        Genes, and sites per gene, with the largest absolute contributions; the rest is counted.

    Returns
    -------
    Figure
    """
    if paths.empty:
        raise MiracleError(f"Pathway {pathway!r} has no path to draw.")
    genes = paths.groupby("gene")["contribution"].sum()
    genes = genes.reindex(genes.abs().sort_values(ascending=False).index)
    kept = genes.head(top_genes)
    sites = [
        paths[paths["gene"] == gene].sort_values("contribution", key=abs, ascending=False)
        for gene in kept.index
    ]
    n_rows = sum(min(len(table), top_sites) for table in sites)
    figure = new_figure(1.2 + 0.24 * n_rows)
    axes = figure.subplots()
    largest = max(genes.abs().max(), 1e-12)
    row, centres = 0.0, []
    for gene, table in zip(kept.index, sites, strict=True):
        shown = table.head(top_sites)
        rows = row - np.arange(len(shown))
        centre = rows.mean()
        centres.append(centre)
        for place, (_, site) in zip(rows, shown.iterrows(), strict=True):
            _edge(axes, 1, centre, 2, place, site["contribution"] / largest)
            note = "" if pd.isna(site["difference"]) else f"  {site['difference']:+.2f} SD"
            axes.text(2.03, place, f"{site['site']}{note}", va="center")
        more = len(table) - len(shown)
        label = f"{gene} (+{more} sites)" if more else gene
        axes.text(
            1, centre + 0.3, label, ha="center", va="bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )  # fmt: skip
        row = rows[-1] - 1.4
    root = float(np.mean(centres))
    for centre, value in zip(centres, kept, strict=True):
        _edge(axes, 0, root, 1, centre, value / largest)
        axes.plot(1, centre, "o", color=INK, ms=5, zorder=3)
    axes.plot(0, root, "s", color=INK, ms=8, zorder=3)
    left = len(genes) - len(kept)
    tail = f"; {left} more genes" if left else ""
    axes.set_title(f"{shorten(pathway, 70)}{tail}")
    axes.set(xlim=(-0.15, 2.7), ylim=(row + 0.4, 1.2))
    axes.set_xticks([0, 1, 2], ["pathway", "genes", "sites (cases - controls)"])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.legend(
        handles=[
            Line2D([], [], color=HYPER, lw=3, label="raises the logit of cases"),
            Line2D([], [], color=HYPO, lw=3, label="lowers it"),
        ],
        loc="lower left",
    )
    return figure


@styled
def shared_map(
    explanations: Mapping[str, pd.DataFrame], top: int = 25, q_value: float = 0.05
) -> Figure:
    """Draw the evidence of pathways in every task as a clustered heat map.

    Colour: direction times evidence; a dot marks what the task names. The bars count the tasks.

    Parameters
    ----------
    explanations : mapping of str to DataFrame
        Per task, the table of ``explain``.
    top : int, default 25
        Pathways with the largest evidence summed over tasks.
    q_value : float, default 0.05
        Limit to be named.

    Returns
    -------
    Figure
    """
    z = pd.DataFrame({t: e["z"] for t, e in explanations.items()})
    sign = pd.DataFrame({t: np.sign(e["directed"]) for t, e in explanations.items()}).loc[z.index]
    named = pd.DataFrame({t: e["q_value"] <= q_value for t, e in explanations.items()}).loc[z.index]
    kept = z.clip(lower=0).sum(axis=1).nlargest(top).index
    signed = (z.clip(lower=0) * sign).loc[kept]
    if len(signed) > 2:
        signed = signed.iloc[leaves_list(linkage(signed, "average"))]
    if signed.shape[1] > 2:
        signed = signed.iloc[:, leaves_list(linkage(signed.T, "average"))]
    named = named.loc[signed.index, signed.columns]
    height = 1.4 + 0.22 * len(signed)
    figure = new_figure(height, width=5.6 + 0.45 * signed.shape[1])
    axes, bars = figure.subplots(1, 2, width_ratios=(4, 1))
    limit = max(signed.abs().to_numpy().max(), 1e-9)
    image = axes.imshow(signed, cmap=_DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    rows, columns = np.nonzero(named.to_numpy())
    axes.plot(columns, rows, "o", color="k", ms=4, ls="")
    axes.set_xticks(range(signed.shape[1]), signed.columns, rotation=45, ha="right")
    axes.set_yticks(range(len(signed)), [shorten(n, 44) for n in signed.index])
    axes.set_title(f"● named at q ≤ {q_value:g}")
    figure.colorbar(
        image, ax=axes, label="evidence × direction\n(red: more methylation)", shrink=0.8
    )
    bars.barh(range(len(signed)), named.sum(axis=1), color=INK)
    bars.set(ylim=(len(signed) - 0.5, -0.5), xlim=(0, signed.shape[1]), xlabel="tasks naming it")
    bars.set_yticks([])
    bars.spines[["top", "right"]].set_visible(False)
    return figure


@styled
def enrichment_dots(
    tables: Mapping[str, pd.DataFrame], top: int = 10, q_value: float = 0.05
) -> Figure:
    """Draw over-representation: the share of each set's genes hit, size by genes, colour by q.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Per library (or method), the table of ``overrepresentation``.
    top : int, default 10
        Most significant sets of each.
    q_value : float, default 0.05
        Limit up to which the title counts sets.

    Returns
    -------
    Figure
    """
    shown = {name: table.head(top).iloc[::-1] for name, table in tables.items()}
    heights = [len(table) for table in shown.values()]
    figure = new_figure(0.9 * len(shown) + 0.25 * sum(heights))
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    for axes, (name, table) in zip(panels, shown.items(), strict=True):
        share = table["n_significant"] / table["n_genes"]
        image = axes.scatter(
            100 * share, range(len(table)), s=12 + 6 * np.sqrt(table["n_genes"]) ** 1.3,
            c=-np.log10(table["q_value"].clip(lower=1e-10)), cmap="viridis_r", vmin=0,
            vmax=max(2.0, -np.log10(max(min(t["q_value"].min() for t in tables.values()), 1e-10))),
            edgecolor="k", linewidth=0.4,
        )  # fmt: skip
        labels = [
            f"{shorten(n, 48)} ({g})" for n, g in zip(table.index, table["n_genes"], strict=True)
        ]
        axes.set_yticks(range(len(table)), labels)
        axes.set_ylim(-0.6, len(table) - 0.4)
        named = int((tables[name]["q_value"] <= q_value).sum())
        axes.set_title(f"{name}: {named} of {len(tables[name])} sets at q ≤ {q_value:g}")
        axes.grid(axis="x", color=BAND, lw=0.6)
    panels[-1].set_xlabel("genes of the set that are hit (%); in brackets and by size: its genes")
    figure.colorbar(image, ax=list(panels), label="-log10 q", shrink=0.6)
    return figure


@styled
def audit_plot(audit: pd.DataFrame) -> Figure:
    """Draw where each published marker ranks, panel by panel, and which cannot be ranked.

    Parameters
    ----------
    audit : DataFrame
        From ``marker_audit``.

    Returns
    -------
    Figure
    """
    if audit.empty:
        raise MiracleError("The audit is empty; expected the result of marker_audit.")
    panels = list(dict.fromkeys(audit["panel"]))
    figure = new_figure(1.3 + 0.5 * len(panels))
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    axes.axvspan(0, 95, color="#F4F4F4", zorder=0)
    for place, panel in enumerate(panels):
        table = audit[audit["panel"] == panel]
        ranked = table[table["status"] == "ranked"]
        colour = _KIND[table["kind"].iloc[0]]
        jitter = place + rng.uniform(-0.18, 0.18, len(ranked))
        wrong = (ranked["agrees"] == False).to_numpy()  # noqa: E712 (None is neither)
        axes.scatter(ranked["percentile"][~wrong], jitter[~wrong], s=28, color=colour, alpha=0.8)
        axes.scatter(ranked["percentile"][wrong], jitter[wrong], s=28, marker="x", color=colour)
        counts = table["status"].value_counts()
        parts = [f"{counts[s]} {s}" for s in counts.index if s != "ranked"]
        axes.text(101.5, place, ", ".join(parts), va="center", color="#555555")
    axes.set_yticks(range(len(panels)), [f"{p} ({(audit['panel'] == p).sum()})" for p in panels])
    axes.set(ylim=(len(panels) - 0.5, -0.5), xlim=(0, 135))
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("percentile of the marker in the ranking (100 = top; shaded: below the top 5%)")
    axes.axvline(50, color="k", lw=0.7, ls=":")
    handles = [
        Line2D([], [], color=c, marker="o", ls="", label=f"{kind} panel")
        for kind, c in _KIND.items()
        if (audit["kind"] == kind).any()
    ]
    handles.append(Line2D([], [], color="k", marker="x", ls="", label="direction differs"))
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@styled
def activity_plot(
    activity: Mapping[str, pd.Series], samples: Samples, pathway: str, test: pd.DataFrame
) -> Figure:
    """Draw a pathway's activity in cases and controls of every cohort.

    Parameters
    ----------
    activity : mapping of str to Series
        By task, oriented activity per sample (SD).
    samples : Samples
        With the cohort of each.
    pathway : str
        Title.
    test : DataFrame
        From ``activity_test``: one place for each of its rows of this pathway.

    Returns
    -------
    Figure
    """
    rows = test[test["pathway"] == pathway]
    # Diseases that share their controls are one cohort, with a place for each.
    several = rows["cohort"].duplicated(keep=False)
    names = rows["cohort"].mask(several, rows["task"] + ", " + rows["cohort"])
    figure = new_figure(3.9, width=max(4.2, 1.6 + 1.15 * len(rows)))
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for place, row in enumerate(rows.itertuples()):
        for offset, value, colour in ((-0.2, 0, LABELS[0][1]), (0.2, 1, LABELS[1][1])):
            members = (samples.labels[row.task] == value) & (samples.cohort == row.cohort)
            points = activity[row.task].loc[members.index[members]]
            x = place + offset + rng.uniform(-0.1, 0.1, len(points))
            axes.scatter(x, points, s=7, color=colour, alpha=0.55, linewidth=0)
            axes.plot(
                [place + offset - 0.14, place + offset + 0.14], [points.mean()] * 2, color="k"
            )
        text = f"{row.difference:+.2f} SD\np = {row.p_value:.2g}"
        axes.text(place, 1.01, text, transform=axes.get_xaxis_transform(), ha="center")
    axes.set_xticks(range(len(rows)), [shorten(name, 18) for name in names], rotation=20)
    axes.set_ylabel("activity (SD; up = more methylation)")
    axes.axhline(0, color=BAND, lw=1, zorder=0)
    handles = [
        Line2D([], [], color=LABELS[0][1], marker="o", ls="", label="control"),
        Line2D([], [], color=LABELS[1][1], marker="o", ls="", label="case"),
        Line2D([], [], color="k", label="mean"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.suptitle(fill(shorten(pathway, 90), 24 + 12 * len(rows)))
    return figure


@styled
def rank_controls(comparison: pd.DataFrame, top: int = 12) -> Figure:
    """Draw the ranks of the top pathways beside their mean ranks in the control trainings.

    Parameters
    ----------
    comparison : DataFrame
        From ``against_controls``.
    top : int, default 12
        Pathways shown.

    Returns
    -------
    Figure
    """
    shown = comparison.sort_values("rank").head(top).iloc[::-1]
    styles = {
        "permuted mask": ("s", COLOURS[1]),
        "shuffled labels": ("^", COLOURS[2]),
        "every site predictive": ("D", COLOURS[4]),
    }
    figure = new_figure(1.3 + 0.26 * len(shown))
    axes = figure.subplots()
    y = np.arange(len(shown))
    spread = shown["rank_sd"].fillna(0) if "rank_sd" in shown else 0
    axes.errorbar(shown["rank"], y, xerr=spread, fmt="o", color=INK, ms=7, label="real (± SD)")
    for name, (marker, colour) in styles.items():
        if name in shown:
            axes.plot(shown[name], y, marker, color=colour, mfc="none", label=name)
    axes.axvline((len(comparison) + 1) / 2, color="k", lw=0.7, ls=":", label="chance")
    axes.set_yticks(y, [shorten(name, 46) for name in shown.index])
    axes.set_xlabel(f"rank by attribution, of {len(comparison)} (mean over seeds)")
    figure.legend(loc="outside upper right", ncols=3)
    axes.grid(axis="x", color=BAND, lw=0.6)
    return figure


def _edge(axes: Axes, x0: float, y0: float, x1: float, y1: float, value: float) -> None:
    """Curve between two nodes, as wide as the value."""
    t = np.linspace(0, 1, 30)
    bend = t * t * (3 - 2 * t)
    axes.plot(
        x0 + (x1 - x0) * t, y0 + (y1 - y0) * bend,
        color=HYPER if value > 0 else HYPO, lw=0.4 + 5 * min(abs(value), 1), alpha=0.75,
        solid_capstyle="butt",
    )  # fmt: skip


def _degree_ticks(degree: pd.Series) -> tuple[list[float], list[str]]:
    """Round tick positions within the range of degrees."""
    ticks = [d for d in (5, 10, 20, 50, 100, 200, 500) if degree.min() <= d <= degree.max()]
    return [float(tick) for tick in ticks], [str(tick) for tick in ticks]
