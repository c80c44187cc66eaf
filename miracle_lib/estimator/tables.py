"""Prediction from a file of a user, with a saved model."""

from pathlib import Path

import pandas as pd

from miracle_lib.cohorts.site_table import average_replicates, check_names
from miracle_lib.cohorts.tables import read_table, recognise_scale
from miracle_lib.errors import MiracleError
from miracle_lib.estimator.classifier import MiracleClassifier
from miracle_lib.estimator.reliability import predict
from miracle_lib.files import atomic_path
from miracle_lib.limits import Limits


def predict_table(
    model_path: str | Path,
    table_path: str | Path,
    output_path: str | Path,
    limits: Limits | None = None,
    *,
    drop_other: bool = False,
) -> pd.DataFrame:
    """Predict every task for the samples of a file and write a CSV.

    Parameters
    ----------
    model_path : str or Path
        Folder of a saved model.
    table_path : str or Path
        Beta or M-values, sites x samples or the other way round: CSV, TSV, xlsx, parquet or h5ad.
    output_path : str or Path
        CSV with a row per sample; columns as `miracle_lib.predict` gives them.
    limits : Limits, optional
        When a sample is uncertain or refused.
    drop_other : bool, default False
        Names in the table that are no probes: False refuses them, True leaves them out.

    Returns
    -------
    DataFrame
        What was written, indexed by sample.

    Raises
    ------
    MiracleError
        If a file cannot be read, or the output is the input.
    """
    if Path(output_path).resolve() == Path(table_path).resolve():
        raise MiracleError(f"{output_path} is the table itself; name another file to write.")
    model = MiracleClassifier.load(model_path)
    table = read_table(table_path, drop_other=drop_other)
    check_names(table, Path(table_path).name)
    recognise_scale(table, Path(table_path).name)
    table = average_replicates(table)
    result = predict(model, pd.DataFrame(table.values, table.samples, table.sites), limits)
    with atomic_path(output_path) as temporary:
        result.to_csv(temporary)
    return result
