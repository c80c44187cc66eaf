"""``miracle info``."""

from typing import Annotated

import typer

from miracle_lib.cli.common import one_sentence


@one_sentence
def info(model: Annotated[str, typer.Argument(help="Folder of a saved model.")]) -> None:
    """Say what a saved model was trained on, how well it predicts, and what it is not for."""
    from miracle_lib.estimator import describe_model

    typer.echo(describe_model(model))
