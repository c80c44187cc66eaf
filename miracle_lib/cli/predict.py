"""``miracle predict``."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from miracle_lib.cli.common import DropOther, Mirror, one_sentence
from miracle_lib.errors import MiracleError
from miracle_lib.limits import Limits

SOME_REFUSED = 3  # exit status


@one_sentence
def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="Beta or M-values: CSV, TSV, xlsx, parquet, h5ad, a folder of IDATs; or an "
            "accession of GEO, or a cohort file."
        ),
    ],
    run_dir: Annotated[
        str | None, typer.Option(help="Folder of a run, whose model is used.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Folder of a saved model.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="CSV to write; default: SOURCE.predictions.csv here."),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(help="Table of samples: covariates of the model, and sex to compare."),
    ] = None,
    prevalence: Annotated[
        list[str] | None,
        typer.Option(help="TASK=SHARE of cases where the answer is used; may be repeated."),
    ] = None,
    sites: Annotated[
        float, typer.Option(help="Least share of the model's sites that a sample must have.")
    ] = Limits.sites,
    weight: Annotated[
        float, typer.Option(help="Least share of the model's weight on measured sites.")
    ] = Limits.weight,
    safe_weight: Annotated[
        float, typer.Option(help="Share of that weight below which a sample is uncertain.")
    ] = Limits.safe_weight,
    quantile: Annotated[
        float, typer.Option(help="Quantile of held-out distances beyond which it is uncertain.")
    ] = Limits.quantile,
    factor: Annotated[
        float, typer.Option(help="Multiple of that distance beyond which it is refused.")
    ] = Limits.factor,
    coverage: Annotated[
        float, typer.Option(help="Share of samples whose class must be among those named.")
    ] = Limits.coverage,
    report: Annotated[
        str | None,
        typer.Option(help="Folder for HTML pages: one for all samples, and one for each."),
    ] = None,
    pages: Annotated[
        int,
        typer.Option(
            min=0, help="Most samples with a page of their own; those with warnings come first."
        ),
    ] = 100,
    cells: Annotated[
        str | None,
        typer.Option(
            help="For the report: mean beta values of sorted blood cells, a CSV or a name of "
            "annotation.yaml such as blood_reference_450k."
        ),
    ] = None,
    mirror: Mirror = None,
    drop_other: DropOther = False,
) -> None:
    """Predict every task for new samples, and say which predictions can be believed.

    Exit status 3: the table was written, and some samples in it are not to be used for any task.
    """
    from pathlib import Path

    from miracle_lib.estimator import predict_table
    from miracle_lib.estimator.reliability import REFUSED

    limits = Limits(sites, weight, safe_weight, quantile, factor, coverage)
    folder = _model_folder(run_dir, model)
    written = report and _report_writer(
        report, run_dir, cells, mirror, limits=limits, max_pages=pages, title=Path(source).name
    )
    result = predict_table(
        folder,
        source,
        output := output or f"{Path(source).name.split('.')[0]}.predictions.csv",
        limits,
        prevalence=_shares(prevalence or []),
        samples=samples,
        mirror=mirror,
        drop_other=drop_other,
        then=written or None,
    )
    refused = (result.filter(like="verdict[") == REFUSED).all(axis=1)
    for sample, warning in result["warning"][result["warning"] != ""].items():
        typer.echo(f"{sample}: {warning}", err=True)
    typer.echo(f"{output}: {len(result)} samples, {refused.sum()} of them not to be used")
    if report:
        typer.echo(f"{report}/index.html")
    if refused.any():
        raise typer.Exit(SOME_REFUSED)


def _model_folder(run_dir: str | None, model: str | None) -> str:
    """Folder of the model that is meant."""
    if (run_dir is None) == (model is None):
        raise MiracleError("expected --run-dir FOLDER or --model FOLDER, one of the two.")
    return model or f"{run_dir}/model"


def _report_writer(
    folder: str, run_dir: str | None, cells: str | None, mirror: str | None, **options: Any
) -> Callable[..., object]:
    """Return what writes a report on predictions; what it needs is read before they are made."""
    from miracle_lib.pipeline.inputs import cell_reference
    from miracle_lib.reports import Evidence, refuse_others, write_report

    refuse_others(folder)
    return partial(
        write_report,
        folder,
        evidence=Evidence.of_run(run_dir) if run_dir else None,
        cell_reference=cell_reference(cells, mirror),
        **options,
    )


def _shares(texts: list[str]) -> dict[str, float]:
    """Read TASK=SHARE."""
    shares = {}
    for text in texts:
        task, _, share = text.rpartition("=")
        try:
            shares[task] = float(share)
        except ValueError:
            raise MiracleError(f"prevalence is {text!r}; expected TASK=SHARE.") from None
    return shares
