"""``miracle book``."""

from typing import Annotated

import typer

from miracle_lib.cli.common import one_sentence


@one_sentence
def book(
    run_dir: Annotated[str, typer.Option(help="Folder of a finished run.")] = "runs/demo",
    pdf: Annotated[bool, typer.Option("--pdf", help="Print it with Chromium, too.")] = False,
) -> None:
    """Build the book from a run and print the path of its first page, and of its PDF."""
    from miracle_lib.pipeline import build_book, print_book

    index = build_book(run_dir)
    typer.echo(index)
    if pdf:
        typer.echo(print_book(index))
