"""``miracle clean``."""

from typing import Annotated

import typer

from miracle_lib.cli.common import one_sentence


@one_sentence
def clean(
    run_dir: Annotated[str, typer.Option(help="Folder of a run.")] = "runs/demo",
) -> None:
    """Remove from a run directory every result that its parameters no longer need."""
    from miracle_lib.pipeline import reopen_run

    removed = reopen_run(run_dir).clean()
    typer.echo(f"{run_dir}: {len(removed)} results removed")
