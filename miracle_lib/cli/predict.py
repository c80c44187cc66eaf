"""``miracle predict``."""

from typing import Annotated

import typer

from miracle_lib.cli.common import DropOther, one_sentence
from miracle_lib.limits import Limits

SOME_REFUSED = 3  # exit status


@one_sentence
def predict(
    model: Annotated[str, typer.Argument(help="Folder of a saved model.")],
    table: Annotated[
        str, typer.Argument(help="Beta values: CSV, TSV, xlsx, parquet, h5ad or IDATs in a folder.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="CSV to write.")],
    sites: Annotated[
        float, typer.Option(help="Least share of the model's sites that a sample must have.")
    ] = Limits.sites,
    weight: Annotated[
        float, typer.Option(help="Least share of the model's weight on measured sites.")
    ] = Limits.weight,
    quantile: Annotated[
        float, typer.Option(help="Quantile of held-out distances beyond which it is uncertain.")
    ] = Limits.quantile,
    factor: Annotated[
        float, typer.Option(help="Multiple of that distance beyond which it is refused.")
    ] = Limits.factor,
    drop_other: DropOther = False,
) -> None:
    """Predict every task for the samples of a table, and say which predictions can be believed.

    Exit status 3: the table was written, and some samples in it are not to be used for any task.
    """
    from miracle_lib.estimator import predict_table
    from miracle_lib.estimator.reliability import REFUSED

    result = predict_table(
        model,
        table,
        output,
        Limits(sites=sites, weight=weight, quantile=quantile, factor=factor),
        drop_other=drop_other,
    )
    verdicts = result.filter(like="verdict[")
    refused = (verdicts == REFUSED).all(axis=1)
    for sample, warning in result["warning"][result["warning"] != ""].items():
        typer.echo(f"{sample}: {warning}", err=True)
    typer.echo(f"{output}: {len(result)} samples, {refused.sum()} of them not to be used")
    if refused.any():
        raise typer.Exit(SOME_REFUSED)
