"""``miracle book``."""

from typing import Annotated

import typer

from miracle_lib.cli.common import one_sentence


@one_sentence
def book(
    run_dir: Annotated[str, typer.Option(help="Folder of a finished run.")] = "runs/demo",
) -> None:
    """Build the book from a run and print the path of its first page."""
    from miracle_lib.pipeline import build_book

    typer.echo(build_book(run_dir))
