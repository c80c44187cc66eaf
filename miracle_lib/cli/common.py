"""What all subcommands share: the application, common options, and how an error is said."""

import logging
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from miracle_lib import __version__
from miracle_lib.errors import MiracleError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Interpretable multi-task learning on DNA methylation arrays.",
)

Mirror = Annotated[
    str | None,
    typer.Option(help="Folder or URL that replaces the network; files are found by base name."),
]
DropOther = Annotated[
    bool,
    typer.Option("--drop-other", help="Leave out names that are no probes instead of refusing."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"miracle {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Interpretable multi-task learning on DNA methylation arrays."""


def one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Say what is wrong with the input in one sentence on stderr and exit with 1."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        logging.getLogger("miracle_lib").setLevel(logging.INFO)
        try:
            command(*args, **kwargs)
        except MiracleError as error:
            typer.echo(f"miracle: {error}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("miracle: interrupted; the same command continues.", err=True)
            raise typer.Exit(130) from None
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            typer.echo(f"miracle: {place}{error.strerror or error}", err=True)
            raise typer.Exit(1) from None

    return wrapped
