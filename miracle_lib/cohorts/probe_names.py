"""Names of probes, and other names that stand beside them in tables of users."""

from collections.abc import Iterable
from pathlib import Path

from miracle_lib.cohorts.site_table import PROBE
from miracle_lib.errors import MiracleError
from miracle_lib.spreadsheet import read_date

# Columns of annotation that people keep beside the values of their samples, in small letters.
_ABOUT_SITES = {"chr", "chrom", "chromosome", "chromosome_36", "cpg_chrm", "seqnames", "mapinfo"}
_ABOUT_SITES |= {"pos", "position", "start", "end", "cpg_beg", "cpg_end", "strand", "width"}
_ABOUT_SITES |= {"coordinate_36", "genome_build", "gene", "genes", "gene_symbol", "genename"}
_ABOUT_SITES |= {"ucsc_refgene_name", "ucsc_refgene_group", "ucsc_refgene_accession"}
_ABOUT_SITES |= {"relation_to_island", "relation_to_ucsc_cpg_island", "ucsc_cpg_islands_name"}
_ABOUT_SITES |= {"islands_name", "infinium_design_type", "probe_type", "type", "next_base"}
_ABOUT_SITES |= {"color_channel", "color", "addressa_id", "addressb_id", "index", "targetid"}
_ABOUT_SITES |= {"ilmnid", "id_ref", "probeid", "probe_id", "cpg", "name", "row.names"}


def are_probes(names: Iterable[str]) -> bool:
    """Whether at least half of some names are names of probes."""
    names = list(names)
    return bool(names) and sum(bool(PROBE.fullmatch(str(n))) for n in names) * 2 >= len(names)


def foreign(names: Iterable[str], *, sites: bool) -> set[str]:
    """Names that cannot be those of sites, or of samples; empty names are judged elsewhere.

    Parameters
    ----------
    names : iterable of str
    sites : bool
        True: everything that is no probe; False: what is known to describe sites, such as CHR.

    Returns
    -------
    set of str

    Examples
    --------
    >>> foreign(["cg00000029", "status"], sites=True), foreign(["anna", "CHR"], sites=False)
    ({'status'}, {'CHR'})
    """
    if sites:
        return {name for name in names if name and not PROBE.fullmatch(name)}
    return {name for name in names if name.lower() in _ABOUT_SITES}


def refuse_foreign(
    names: set[str], what: str, expected: str, drop_other: bool, source: str
) -> None:
    """Stop at names that are none of what is expected, unless they are to be dropped."""
    if names and not drop_other:
        first = sorted(names)
        raise MiracleError(
            f"{source}: {what} {first[0]!r} is no {expected} ({len(names)} such {what}s: "
            f"{', '.join(first[:5])}{', ...' if len(first) > 5 else ''}); take them out, or ask "
            "for other names to be dropped (--drop-other, or drop_other in a cohort file)."
        )


def refuse_no_probes(rows: list[str], columns: list[str], path: Path) -> MiracleError:
    """Say what the rows and columns are called instead of probes."""
    dates = [name for name in [*rows, *columns] if read_date(name)]
    if dates:
        return MiracleError(
            f"{path.name}: {dates[0]!r} is a gene name that Excel turned into a date; expected "
            "probe names such as cg00000029."
        )
    return MiracleError(
        f"{path.name}: neither the rows ({', '.join(rows[:3])}, ...) nor the columns "
        f"({', '.join(columns[:3])}, ...) are probe names such as cg00000029."
    )
