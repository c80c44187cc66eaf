"""``miracle fetch``."""

from typing import Annotated

import typer

from miracle_lib.cli.common import Mirror, one_sentence
from miracle_lib.errors import MiracleError

_SHOWN = 25  # series of a search
_WIDTH = 90  # characters of a title


@one_sentence
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Cohort names or YAML files.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the known cohorts.")] = False,
    search: Annotated[
        str | None,
        typer.Option(help="Words, such as 'lupus blood': find methylation series of GEO."),
    ] = None,
    mirror: Mirror = None,
) -> None:
    """Download the files of cohorts, list the known cohorts, or search GEO's methylation series."""
    from miracle_lib.cohorts import fetch_cohorts, list_cohorts

    if list_:
        table = list_cohorts().drop(columns=["citation", "terms"], errors="ignore")
        typer.echo(table.to_string(index=False))
    elif search is not None:
        _search(search, mirror)
    elif names:
        files = fetch_cohorts(names, mirror=mirror)
        for file in files.itertuples():
            typer.echo(f"{file.cohort}: {file.path} ({file.bytes:,} bytes)")
        typer.echo(f"{_number(len(files), 'file')} of {_number(len(names), 'cohort')}: all there.")
    else:
        raise MiracleError("no cohort was named; expected names, --list or --search WORDS.")


def _search(words: str, mirror: str | None) -> None:
    from miracle_lib.cohorts.geo_index import read_geo_index, search_series

    found = search_series(read_geo_index(mirror), words)
    for series in found.head(_SHOWN).itertuples():
        title = series.title if len(series.title) <= _WIDTH else f"{series.title[: _WIDTH - 3]}..."
        typer.echo(f"{series.Index:<10} {series.samples:>5}  {series.platform:<11} {title}")
    if len(found) > _SHOWN:
        typer.echo(f"... and {len(found) - _SHOWN} more; another word narrows it.")
    typer.echo(f"{len(found)} series; miracle describe GSE... says more of one.")


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
