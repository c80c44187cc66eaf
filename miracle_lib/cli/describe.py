"""``miracle describe``."""

from typing import Annotated

import typer

from miracle_lib.cli.common import Mirror, one_sentence


@one_sentence
def describe(
    series: Annotated[str, typer.Argument(help="Accession in GEO, such as GSE96879.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Write the draft of a cohort file here.")
    ] = None,
    mirror: Mirror = None,
) -> None:
    """Say what a methylation series of GEO is, and draft a cohort file for it."""
    from pathlib import Path

    from miracle_lib.cohorts.geo_index import describe_series, draft_cohort, read_geo_index
    from miracle_lib.cohorts.manifest import list_cohorts
    from miracle_lib.errors import MiracleError
    from miracle_lib.files import atomic_path

    index = read_geo_index(mirror)
    typer.echo(describe_series(index, series))
    if series.strip().upper() in set(list_cohorts()["name"]):
        typer.echo(f"\nA cohort file comes with the project: miracle fetch {series.upper()}")
    draft = draft_cohort(index, series)
    if output is None:
        typer.echo(f"\nDraft of a cohort file (--output writes it):\n\n{draft}", nl=False)
        return
    if Path(output).exists():
        raise MiracleError(f"{output} is there already; name another file.")
    with atomic_path(output) as temporary:
        temporary.write_text(draft, encoding="utf-8")
    typer.echo(f"\nwrote {output}; replace every '?' in it, then: miracle fetch {output}")
