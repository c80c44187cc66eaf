"""``miracle run``."""

import os
from typing import Annotated

import typer

from miracle_lib.cli.common import Mirror, one_sentence


@one_sentence
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
