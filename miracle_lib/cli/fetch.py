"""``miracle fetch``."""

from typing import Annotated

import typer

from miracle_lib.cli.common import Mirror, one_sentence
from miracle_lib.errors import MiracleError


@one_sentence
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Cohort names or YAML files.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the known cohorts.")] = False,
    mirror: Mirror = None,
) -> None:
    """Download the files of cohorts, or list the known cohorts."""
    from miracle_lib.cohorts import fetch_cohorts, list_cohorts

    if list_:
        table = list_cohorts().drop(columns=["citation", "terms"], errors="ignore")
        typer.echo(table.to_string(index=False))
    elif names:
        files = fetch_cohorts(names, mirror=mirror)
        for file in files.itertuples():
            typer.echo(f"{file.cohort}: {file.path} ({file.bytes:,} bytes)")
        typer.echo(f"{_number(len(files), 'file')} of {_number(len(names), 'cohort')}: all there.")
    else:
        raise MiracleError("no cohort was named; expected names, or --list to see them.")


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
