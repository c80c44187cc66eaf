"""``miracle run``."""

import os
import shlex
from typing import Annotated

import typer

from miracle_lib.cli.common import Mirror, one_sentence


@one_sentence
def run(
    profile: Annotated[
        str, typer.Option(help="demo, blood, geo, hospitals, or a YAML file.")
    ] = "demo",
    run_dir: Annotated[str, typer.Option(help="Folder of the run.")] = "runs/demo",
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="key=value; may be repeated.")
    ] = None,
    mirror: Mirror = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler; it gets the independent work.")
    ] = None,
    chapters: Annotated[
        str | None, typer.Option(help="Chapters to execute, such as 1,3 or 1-3; default: all.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Workers of the grids; default: all cores.")
    ] = None,
) -> None:
    """Execute the notebooks in order; finished work is found and not done twice."""
    from miracle_lib.config import parse_parameters
    from miracle_lib.pipeline import execute_run
    from miracle_lib.pipeline.notebooks import open_profile_run, parse_chapters
    from miracle_lib.pipeline.outputs import publish

    given = parse_parameters(parameter or [])
    chosen = parse_chapters(chapters) if chapters else None
    if mirror:
        os.environ["MIRACLE_MIRROR"] = os.path.abspath(mirror) if os.path.isdir(mirror) else mirror
    if scheduler:
        os.environ["MIRACLE_SCHEDULER"] = scheduler
    if jobs:
        os.environ["MIRACLE_JOBS"] = str(jobs)
    opened = open_profile_run(profile, os.path.abspath(run_dir), given)
    execute_run(opened, chosen)
    for name, path in publish(opened).items():
        typer.echo(f"{name}: {os.path.relpath(path)}")
    typer.echo(f"run finished; the book: {shlex.join(['miracle', 'book', '--run-dir', run_dir])}")
