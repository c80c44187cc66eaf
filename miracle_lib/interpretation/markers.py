"""Published markers: where does each one rank, and why may it be missing?"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from scipy.stats import mannwhitneyu

from miracle_lib.errors import MiracleError
from miracle_lib.manifest import Strict, read_manifest
from miracle_lib.spreadsheet import read_date


class Source(Strict):
    """Where a marker was published: a DOI, a PubMed number or a journal reference."""

    doi: str | None = None
    pmid: int | None = None
    reference: str | None = None
    note: str

    def __str__(self) -> str:
        if self.doi:
            return f"doi:{self.doi}"
        return f"PMID {self.pmid}" if self.pmid else str(self.reference)

    @model_validator(mode="after")
    def _named(self) -> "Source":
        if not (self.doi or self.pmid or self.reference):
            raise ValueError("a source needs a doi, a pmid or a reference")
        return self


class Marker(Strict):
    """One published site, or one gene where the source names no site."""

    site: Annotated[str, Field(pattern=r"^cg\d{8}$")] | None = None
    gene: str | None = None
    aliases: tuple[str, ...] = ()
    direction: Literal["hypo", "hyper", "variable", "unknown"]
    effect: float | None = None
    source: str
    confidence: Literal["high", "moderate", "low"]

    @model_validator(mode="after")
    def _named(self) -> "Marker":
        if not (self.site or self.gene):
            raise ValueError("a marker needs a site or a gene")
        if dated := [name for name in (self.gene, *self.aliases) if name and read_date(name)]:
            raise ValueError(f"{dated[0]!r} is a gene name that Excel turned into a date")
        return self


class Panel(Strict):
    """Markers that belong together: of a disease (its names), or of something to control for."""

    name: str
    tasks: tuple[str, ...]
    kind: Literal["disease", "control", "other tissue"]
    tissue: str
    note: str = ""
    markers: tuple[Marker, ...]

    @property
    def sites(self) -> list[str]:
        """Sites of the panel, in its order."""
        return list(dict.fromkeys(m.site for m in self.markers if m.site))


class MarkerPanels(Strict):
    """All panels and their sources."""

    sources: dict[str, Source]
    panels: tuple[Panel, ...]

    @model_validator(mode="after")
    def _sources_exist(self) -> "MarkerPanels":
        used = {m.source for panel in self.panels for m in panel.markers}
        if unknown := used - set(self.sources):
            raise ValueError(f"sources that are not listed: {', '.join(sorted(unknown))}")
        return self

    def __getitem__(self, name: str) -> Panel:
        for panel in self.panels:
            if panel.name == name:
                return panel
        names = ", ".join(panel.name for panel in self.panels)
        raise MiracleError(f"There is no marker panel {name!r}; there are: {names}.")


def load_markers(path: str | Path) -> MarkerPanels:
    """Read and check marker panels.

    Parameters
    ----------
    path : str or Path
        YAML file with ``sources`` and ``panels``, such as ``data_manifest/markers.yaml``.

    Returns
    -------
    MarkerPanels

    Raises
    ------
    MiracleError
        If the file is absent or does not follow the layout; names the place.

    Examples
    --------
    >>> load_markers("data_manifest/markers.yaml")["Smoking"].sites[0]
    'cg05575921'
    """
    return read_manifest(path, MarkerPanels)


def composition_panel(reference: pd.DataFrame, n_sites: int = 50) -> Panel:
    """Sites whose methylation differs most between cell types: the cell-composition control.

    Parameters
    ----------
    reference : DataFrame, sites x cell types
        Mean beta value of each site in each sorted cell type.
    n_sites : int, default 50
        Sites with the largest range over cell types.

    Returns
    -------
    Panel
        Kind "control"; direction unknown, because it depends on which cells change.
    """
    spread = (reference.max(axis=1) - reference.min(axis=1)).nlargest(n_sites)
    markers = tuple(
        Marker(site=site, direction="unknown", source="reference", confidence="high")
        for site in spread.index
    )
    return Panel(
        name="Cell composition", tasks=(), kind="control", tissue="whole blood", markers=markers
    )


def marker_audit(
    ranking: pd.Series,
    markers: MarkerPanels | Sequence[Panel],
    *,
    task: str | None = None,
    site_gene: pd.DataFrame | None = None,
    masks: pd.DataFrame | None = None,
    measured: Collection[str] | None = None,
    direction: pd.Series | None = None,
) -> pd.DataFrame:
    """Look every published marker up in a ranking of sites.

    A marker that is a gene takes the best-ranked site of the gene; its percentile is corrected
    for the number of sites it may choose from, so that large genes do not look good by size.

    Parameters
    ----------
    ranking : Series indexed by site
        Importance of every ranked site; larger is more important (absolute values are taken).
    markers : MarkerPanels or sequence of Panel
        What to look for.
    task : str, optional
        Keep the panels of this task, and those of no task (controls and shared signatures).
    site_gene : DataFrame, optional
        Columns ``site`` and ``gene``; needed for markers that are genes.
    masks : DataFrame of bool, optional
        Probes x masks; True where the mask removes the probe.
    measured : collection of str, optional
        Sites present before any filter. Default: the ranked sites.
    direction : Series indexed by site, optional
        Case minus control; its sign is compared with the published direction.

    Returns
    -------
    DataFrame
        One row per marker: panel, task, kind, tissue, gene, site, published (direction), observed,
        agrees, confidence, source, status ("ranked", "filtered out", "not measured", "no site of
        this gene"), rank (1 = top), n_ranked, percentile (100 = top), masks (that hold the probe;
        for a gene, the number of its probes that each mask holds).

    Raises
    ------
    MiracleError
        If the ranking is empty, has NaN, or names a site twice.

    Examples
    --------
    >>> ranking = pd.Series([0.9, 0.1], index=["cg05575921", "cg00000029"])
    >>> marker = Marker(site="cg05575921", direction="hypo", source="s", confidence="high")
    >>> panel = Panel(name="Smoking", tasks=(), kind="control", tissue="blood", markers=[marker])
    >>> marker_audit(ranking, [panel])[["site", "status", "rank"]].values.tolist()
    [['cg05575921', 'ranked', 1.0]]
    """
    if ranking.empty or ranking.isna().any() or ranking.index.has_duplicates:
        raise MiracleError("The ranking needs one number per site; found none, NaN or repeats.")
    panels = markers.panels if isinstance(markers, MarkerPanels) else markers
    sources = markers.sources if isinstance(markers, MarkerPanels) else {}
    place = ranking.abs().rank(ascending=False, method="average")
    measured = set(ranking.index if measured is None else measured) | set(ranking.index)
    gene_sites = {} if site_gene is None else site_gene.groupby("gene")["site"].agg(set).to_dict()
    rows = []
    for panel in panels:
        if task is not None and panel.tasks and task not in panel.tasks:
            continue
        for marker in panel.markers:
            options = _sites_of(marker, gene_sites)
            row = _look_up(options, place, measured)
            row |= {"masks": _masks_of(options, masks, marker)}
            row |= _compare_direction(marker, row["site"], direction)
            rows.append(
                {
                    "panel": panel.name,
                    "task": ", ".join(panel.tasks[:1]),
                    "kind": panel.kind,
                    "tissue": panel.tissue,
                    "gene": marker.gene,
                    "published": marker.direction,
                    "confidence": marker.confidence,
                    "source": str(sources.get(marker.source, marker.source)),
                    **row,
                }
            )
    first = ["panel", "task", "kind", "gene", "site", "status", "rank", "n_ranked", "percentile"]
    order = [*first, "published", "observed", "agrees", "confidence", "source", "tissue", "masks"]
    return pd.DataFrame(rows, columns=order)


def panel_test(audit: pd.DataFrame, ranking: pd.Series) -> pd.DataFrame:
    """Test whether the ranked sites of each panel rank higher than the others.

    Parameters
    ----------
    audit : DataFrame
        From :func:`marker_audit`.
    ranking : Series indexed by site
        The ranking audited.

    Returns
    -------
    DataFrame
        Indexed by panel: kind, n_markers, n_ranked, best_rank, median_percentile, auc (chance
        that a panel site outranks another site), p_value (one-sided Mann-Whitney; NaN without a
        ranked site), n_agree and n_compared (directions). A marker that is a gene stands at its
        corrected percentile: its best site would outrank others by choice alone.
    """
    percentile = 100 * (1 - (ranking.abs().rank(ascending=False) - 0.5) / len(ranking))
    rows = {}
    for panel, table in audit.groupby("panel", sort=False):
        ranked = table[table["status"] == "ranked"].drop_duplicates("site")
        others = percentile.drop(ranked["site"])
        auc = p = np.nan
        if len(ranked) and len(others):
            u, p = mannwhitneyu(
                ranked["percentile"], others, alternative="greater", method="asymptotic"
            )
            auc = u / len(ranked) / len(others)
        rows[panel] = {
            "kind": table["kind"].iloc[0],
            "n_markers": len(table),
            "n_ranked": (table["status"] == "ranked").sum(),
            "best_rank": table["rank"].min(),
            "median_percentile": table["percentile"].median(),
            "auc": auc,
            "p_value": p,
            "n_agree": int((table["agrees"] == True).sum()),  # noqa: E712 (None is neither)
            "n_compared": int(table["agrees"].notna().sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("panel")


def _sites_of(marker: Marker, gene_sites: dict[str, set[str]]) -> list[str]:
    """Sites that can stand for a marker."""
    if marker.site:
        return [marker.site]
    names = [name for name in (marker.gene, *marker.aliases) if name]
    return sorted({site for name in names for site in gene_sites.get(name, ())})


def _look_up(options: list[str], place: pd.Series, measured: set[str]) -> dict[str, Any]:
    """Best-ranked option, or the reason why none is ranked."""
    ranks = place.reindex(options).dropna()
    n = len(place)
    if len(ranks):
        best = ranks.idxmin()
        # Chance that none of as many random sites ranks at least as well.
        above = 1 - (ranks[best] - 0.5) / n
        percentile = 100 * above ** len(ranks)
        found = {"status": "ranked", "site": best, "rank": ranks[best], "percentile": percentile}
    else:
        kept = [site for site in options if site in measured]
        status = "filtered out" if kept else "not measured" if options else "no site of this gene"
        site = options[0] if len(options) == 1 else None
        found = {"status": status, "site": site, "rank": np.nan, "percentile": np.nan}
    return found | {"n_ranked": n}


def _masks_of(options: list[str], masks: pd.DataFrame | None, marker: Marker) -> str:
    """Masks that hold the probe; for a gene, how many of its probes."""
    if masks is None:
        return ""
    held = masks.reindex([site for site in options if site in masks.index]).astype(bool)
    counts = held.sum()
    counts = counts[counts > 0]
    if marker.site:
        return ", ".join(counts.index)
    return ", ".join(f"{name} {count}/{len(held)}" for name, count in counts.items())


def _compare_direction(
    marker: Marker, site: str | None, direction: pd.Series | None
) -> dict[str, Any]:
    """Observed direction, and whether it is the published one (None: cannot be said)."""
    if direction is None or site not in direction.index or not direction[site]:
        return {"observed": None, "agrees": None}
    observed = "hyper" if direction[site] > 0 else "hypo"
    comparable = marker.direction in ("hypo", "hyper")
    return {"observed": observed, "agrees": observed == marker.direction if comparable else None}
