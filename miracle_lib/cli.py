"""The ``miracle`` command: fetch, run, book, predict, info."""

import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

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


def _one_sentence(command: Callable[..., None]) -> Callable[..., None]:
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


@app.command()
@_one_sentence
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
        fetch_cohorts(names, mirror=mirror)
    else:
        raise MiracleError("no cohort was named; expected names, or --list to see them.")


@app.command()
@_one_sentence
def run(
    profile: Annotated[str, typer.Option(help="demo, geo, or a YAML file.")] = "demo",
    run_dir: Annotated[str, typer.Option(help="Folder of the run.")] = "runs/demo",
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="key=value; may be repeated.")
    ] = None,
    mirror: Mirror = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler for the ablation grid.")
    ] = None,
) -> None:
    """Execute the notebooks in order; finished work is found and not done twice."""
    from miracle_lib.config import parse_parameters
    from miracle_lib.pipeline import execute_run
    from miracle_lib.pipeline.notebooks import open_profile_run

    given = parse_parameters(parameter or [])
    if mirror:
        os.environ["MIRACLE_MIRROR"] = os.path.abspath(mirror) if os.path.isdir(mirror) else mirror
    if scheduler:
        os.environ["MIRACLE_SCHEDULER"] = scheduler
    execute_run(open_profile_run(profile, os.path.abspath(run_dir), given))
    typer.echo(f"run finished: {run_dir}")


@app.command()
@_one_sentence
def book(
    run_dir: Annotated[str, typer.Option(help="Folder of a finished run.")] = "runs/demo",
) -> None:
    """Build the book from a run and print the path of its first page."""
    from miracle_lib.pipeline import build_book

    typer.echo(build_book(run_dir))


@app.command()
@_one_sentence
def predict(
    model: Annotated[str, typer.Argument(help="Folder of a saved model.")],
    table: Annotated[str, typer.Argument(help="Beta values: CSV, TSV, parquet or h5ad.")],
    output: Annotated[str, typer.Option("--output", "-o", help="CSV to write.")],
) -> None:
    """Predict every task for the samples of a table."""
    from miracle_lib.estimator import predict_table

    predict_table(model, table, output)


@app.command()
@_one_sentence
def info(model: Annotated[str, typer.Argument(help="Folder of a saved model.")]) -> None:
    """Say what a saved model holds."""
    from miracle_lib.estimator import describe_model

    typer.echo(describe_model(model))


if __name__ == "__main__":
    app()
