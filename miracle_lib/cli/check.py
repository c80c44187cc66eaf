"""``miracle check``."""

import os
from typing import Annotated

import typer

from miracle_lib.cli.common import Mirror, one_sentence


@one_sentence
def check(
    profile: Annotated[str, typer.Argument(help="blood, geo, hospitals, or a YAML file.")],
    mirror: Mirror = None,
) -> None:
    """Say in one page what a profile will give, from headers only; exit status 1 if it stops."""
    from miracle_lib.pipeline.check import check_profile

    page = check_profile(profile, mirror or os.environ.get("MIRACLE_MIRROR"))
    typer.echo("\n".join(page.lines))
    if page.stops:
        typer.echo(f"{len(page.stops)} in the way; see STOPS above.")
        raise typer.Exit(1)
    typer.echo("nothing is in the way.")
