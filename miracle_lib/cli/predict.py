"""``miracle predict``."""

from typing import Annotated

import typer

from miracle_lib.cli.common import one_sentence


@one_sentence
def predict(
    model: Annotated[str, typer.Argument(help="Folder of a saved model.")],
    table: Annotated[str, typer.Argument(help="Beta values: CSV, TSV, parquet or h5ad.")],
    output: Annotated[str, typer.Option("--output", "-o", help="CSV to write.")],
) -> None:
    """Predict every task for the samples of a table."""
    from miracle_lib.estimator import predict_table

    predict_table(model, table, output)
