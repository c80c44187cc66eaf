"""``miracle init``."""

import os
import shlex
from contextlib import nullcontext
from typing import Annotated

import typer

from miracle_lib.cli.common import DropOther, one_sentence


@one_sentence
def init(
    values: Annotated[
        str,
        typer.Argument(
            help="Beta or M-values: CSV, TSV, xlsx, parquet or h5ad; or a folder of IDAT pairs, "
            "which is read into an h5ad file beside it."
        ),
    ],
    samples: Annotated[
        str | None,
        typer.Argument(help="Table of samples; may be left out where VALUES is an h5ad file."),
    ] = None,
    *,
    label: Annotated[str, typer.Option(help="Column that tells cases from controls.")],
    case: Annotated[
        list[str], typer.Option(help="Value of the cases; may be repeated, each is a task.")
    ],
    control: Annotated[
        list[str] | None,
        typer.Option(help="Value of the controls; may be repeated. Without it: all the rest."),
    ] = None,
    covariates: Annotated[
        str | None, typer.Option(help="Columns to keep, separated by commas: age,sex,bmi,batch.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="Column that says who was measured, if some were twice.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the cohort.")] = None,
    platform: Annotated[str | None, typer.Option(help="27K, 450K, EPIC or EPICv2.")] = None,
    tissue: Annotated[str, typer.Option(help="Tissue of the samples.")] = "not stated",
    drop_other: DropOther = False,
    force: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
) -> None:
    """Write a cohort file and a profile beside your own data, and say what comes next."""
    from miracle_lib.cohorts.idats import array_of, written_idats
    from miracle_lib.cohorts.own import check_platform, describe_own, write_own

    raw = os.path.isdir(values)
    if raw:
        check_platform(platform := platform or array_of(values))  # before all arrays are read
    with written_idats(values, samples, force) if raw else nullcontext(values) as table:
        own = describe_own(
            table,
            None if raw else samples,
            label=label,
            case=case,
            control=control or [],
            covariates=[text for text in (covariates or "").split(",") if text.strip()],
            subject=subject,
            name=name,
            platform=platform,
            tissue=tissue,
            drop_other=drop_other,
        )
        write_own(own, overwrite=force)
    if raw:
        typer.echo(f"wrote {os.path.relpath(table)}")
    for line in own.lines:
        typer.echo(line)
    for path in own.files:
        typer.echo(f"wrote {os.path.relpath(path)}")
    profile = os.path.relpath(own.profile)
    folder = os.path.join("runs", own.profile.name.removesuffix(".profile.yaml"))
    command = ["miracle", "run", "--profile", profile, "--run-dir", folder]
    typer.echo(f"next: {shlex.join(command)}")
