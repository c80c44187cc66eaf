"""Prediction from a file of a user, with a saved model."""

from pathlib import Path

import pandas as pd

from miracle_lib.cohorts.tables import read_beta_values
from miracle_lib.estimator.classifier import MiracleClassifier
from miracle_lib.files import atomic_path


def predict_table(
    model_path: str | Path, table_path: str | Path, output_path: str | Path
) -> pd.DataFrame:
    """Predict every task for the samples of a file and write a CSV.

    Parameters
    ----------
    model_path : str or Path
        Folder of a saved model.
    table_path : str or Path
        Beta values, sites x samples or the other way round: CSV, TSV, parquet or h5ad.
    output_path : str or Path
        CSV with a column ``sample`` and one probability per task.

    Returns
    -------
    DataFrame
        What was written, indexed by sample.

    Raises
    ------
    MiracleError
        If a file cannot be read, or too few of the model's sites are in the table.
    """
    model = MiracleClassifier.load(model_path)
    table = read_beta_values(table_path)
    X = pd.DataFrame(table.values, table.samples, table.sites)
    proba = model.predict_proba(X).rename_axis("sample")
    with atomic_path(output_path) as temporary:
        proba.to_csv(temporary)
    return proba
