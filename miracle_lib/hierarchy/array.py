"""Array annotation: which genes each methylation site belongs to, and what is left out why."""

from collections.abc import Iterable
from typing import NamedTuple, Self

import pandas as pd

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy.build import NO_GENE
from miracle_lib.hierarchy.symbols import SymbolTable
from miracle_lib.spreadsheet import refuse_dates

GROUPS = {
    "promoter": ("TSS1500", "TSS200", "5'UTR", "1stExon"),
    "body": ("Body", "ExonBnd", "3'UTR"),
}
NEAREST = "nearest"  # group of an edge made by `ArrayAnnotation.add_nearest_genes`
ORDER = [*GROUPS["promoter"], *GROUPS["body"]]


class ArrayAnnotation(NamedTuple):
    """Site-gene pairs of an array, and every site with its position.

    Each method returns a new annotation; a site that loses its last gene stays in ``sites``, with
    the reason, so that a `Hierarchy` can list it.

    Attributes
    ----------
    site_gene : DataFrame
        One row per site-gene pair: ``site``, ``gene``, ``group`` (RefGene groups joined by ';').
    sites : DataFrame
        Indexed by site: ``chromosome`` (without "chr"), ``position`` (base pairs; NaN unknown)
        and ``reason`` (why the site has no gene; empty when it has one).

    Examples
    --------
    >>> pairs = pd.DataFrame({"site": ["cg1"], "gene": ["A"], "group": ["TSS200;Body"]})
    >>> sites = pd.DataFrame({"chromosome": "1", "position": 5, "reason": ""}, index=["cg1"])
    >>> ArrayAnnotation(pairs, sites).keep_groups("body").site_gene["group"].tolist()
    ['Body']
    """

    site_gene: pd.DataFrame
    sites: pd.DataFrame

    def keep_groups(self, groups: str | Iterable[str]) -> Self:
        """Keep the edges of some RefGene groups.

        A site is often in one group of one transcript and in another group of the next. The
        groups are filtered before pairs are made unique, so that a pair stays as long as any of
        its transcripts is in a kept group.

        Parameters
        ----------
        groups : str or iterable of str
            "promoter" (TSS1500, TSS200, 5'UTR, 1stExon), "body" (Body, ExonBnd, 3'UTR), or group
            names.

        Returns
        -------
        ArrayAnnotation

        Raises
        ------
        MiracleError
            If a group does not occur in the annotation.

        References
        ----------
        The promoter definition is that of methylGSA (Ren & Kuan 2019,
        doi:10.1093/bioinformatics/bty892), option promoter2.
        """
        listed = self.site_gene["group"]
        present = {name for text in listed.unique() for name in text.split(";")} - {""}
        names = [groups] if isinstance(groups, str) else list(groups)
        wanted = {group for name in names for group in GROUPS.get(name, (name,))}
        strange = [name for name in names if name not in GROUPS and name not in present]
        if strange:
            raise MiracleError(
                f"no site is in the gene group {strange[0]!r}; the annotation has "
                f"{', '.join(sorted(present)) or 'no groups'}, and 'promoter' and 'body' stand for "
                "several"
            )
        kept = {t: ";".join(g for g in t.split(";") if g in wanted) for t in listed.unique()}
        pairs = self.site_gene.assign(group=listed.map(kept))
        return self._with_pairs(pairs[pairs["group"] != ""], "only in gene groups left out")

    def drop_masked(self, masks: pd.DataFrame, which: str | Iterable[str] | None = None) -> Self:
        """Take unreliable probes out of the graph.

        The sites keep their place in ``sites``, with the names of the lists as reason. To keep
        them out of a model's residual block too, drop them from the data.

        Parameters
        ----------
        masks : DataFrame of bool
            Indexed by site, one column per published list (see `read_probe_masks`).
        which : str or iterable of str, optional
            Columns to apply. Default: all.

        Returns
        -------
        ArrayAnnotation

        Raises
        ------
        MiracleError
            If a list does not exist, or the masks hold none of the annotation's sites.
        """
        if which is None:
            which = masks.columns
        which = [which] if isinstance(which, str) else list(which)
        strange = [name for name in which if name not in masks]
        if strange:
            raise MiracleError(
                f"there is no probe mask {strange[0]!r}; there are {', '.join(masks.columns)}"
            )
        known = masks.index.isin(self.sites.index)
        if not known.any():
            raise MiracleError(
                f"none of the {len(masks)} sites of the probe masks "
                f"({', '.join(map(str, masks.index[:3]))}, ...) is in the annotation "
                f"({', '.join(self.sites.index[:3])}, ...)"
            )
        masks = masks.loc[known, which]
        masks = masks[masks.any(axis=1)]
        lists = masks.dot(pd.Index([f"{name}, " for name in which])).str.rstrip(", ")
        pairs = self.site_gene[~self.site_gene["site"].isin(masks.index)]
        return self._with_pairs(pairs, "masked: " + lists)

    def add_nearest_genes(self, window: int, tss: pd.DataFrame | None = None) -> Self:
        """Give sites without a gene the gene nearest to them.

        Parameters
        ----------
        window : int
            Largest distance in base pairs; 5,000 or 10,000 are usual.
        tss : DataFrame, optional
            Columns ``gene``, ``chromosome``, ``position`` of transcription start sites, in the
            genome build of the array. Default: the array's own sites that have a gene.

        Returns
        -------
        ArrayAnnotation
            The new edges have the group "nearest". Genes at the same nearest place are all taken;
            of two places equally far the one at the lower position is.

        Raises
        ------
        MiracleError
            If the window is not positive, a column of ``tss`` is missing, or Excel turned one of
            its genes into a date.
        """
        if window <= 0:
            raise MiracleError(f"the window is {window} base pairs; expected a positive number")
        if tss is None:
            tss = self.site_gene[["site", "gene"]].join(self.sites, on="site")
        absent = {"gene", "chromosome", "position"} - set(tss)
        if absent:
            raise MiracleError(f"the table of start sites has no column {sorted(absent)[0]!r}")
        refuse_dates(tss["gene"].dropna().unique(), "the table of start sites, column gene")
        known = tss[["gene", "chromosome", "position"]].dropna().drop_duplicates()
        known = known.assign(
            chromosome=bare_chromosome(known["chromosome"]),
            position=known["position"].astype("int64"),
        ).sort_values("position", kind="stable")
        lonely = self.sites[(self.sites["reason"] == NO_GENE) & self.sites["position"].notna()]
        lonely = lonely.assign(position=lonely["position"].astype("int64"))
        lonely = lonely.rename_axis("site").reset_index().sort_values("position", kind="stable")
        places = known[["chromosome", "position"]].drop_duplicates().assign(at=lambda t: t.position)
        nearest = pd.merge_asof(
            lonely, places, on="position", by="chromosome", direction="nearest", tolerance=window
        ).dropna(subset="at")
        found = nearest.merge(
            known, left_on=["chromosome", "at"], right_on=["chromosome", "position"]
        )
        new = found[["site", "gene"]].assign(group=NEAREST).sort_values(["site", "gene"])
        pairs = pd.concat([self.site_gene, new], ignore_index=True)
        reason = self.sites["reason"].mask(self.sites.index.isin(new["site"]), "")
        return type(self)(pairs, self.sites.assign(reason=reason))

    def update_symbols(self, symbols: SymbolTable) -> Self:
        """Bring the gene symbols up to date.

        Parameters
        ----------
        symbols : SymbolTable

        Returns
        -------
        ArrayAnnotation
            Pairs that become equal are joined, with the groups of both.
        """
        pairs = self.site_gene.assign(gene=symbols.update(self.site_gene["gene"]))
        repeated = pairs.duplicated(["site", "gene"], keep=False)
        joined = (
            pairs[repeated].groupby(["site", "gene"], sort=False)["group"].agg(_join_groups)
        ).reset_index()
        return type(self)(pd.concat([pairs[~repeated], joined], ignore_index=True), self.sites)

    def _with_pairs(self, pairs: pd.DataFrame, why: str | pd.Series) -> Self:
        """New annotation of these pairs; ``why`` goes to the sites that have just lost all."""
        reason = self.sites["reason"]
        lost = (reason == "") & ~self.sites.index.isin(pairs["site"])
        new = why if isinstance(why, str) else why.reindex(self.sites.index)
        return type(self)(
            pairs.reset_index(drop=True), self.sites.assign(reason=reason.mask(lost, new))
        )


def bare_chromosome(names: pd.Series) -> pd.Series:
    """Chromosome names as text without "chr"."""
    return names.astype(str).str.removeprefix("chr")


def _join_groups(texts: pd.Series) -> str:
    """Groups of several edges as one text, in the usual order."""
    groups = {group for text in texts for group in text.split(";") if group}
    return ";".join([g for g in ORDER if g in groups] + sorted(groups - set(ORDER)))
