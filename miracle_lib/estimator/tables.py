"""Prediction from what a user has, a file or a series of GEO, with a saved model."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from miracle_lib.cohorts.fetch import fetch_file
from miracle_lib.cohorts.geo_index import series_matrix_address
from miracle_lib.cohorts.load import load_cohort
from miracle_lib.cohorts.manifest import list_cohorts
from miracle_lib.cohorts.sample_tables import read_samples
from miracle_lib.cohorts.series_matrix import read_series_matrix
from miracle_lib.cohorts.site_table import SiteTable, average_replicates, check_names
from miracle_lib.cohorts.tables import read_table
from miracle_lib.errors import MiracleError
from miracle_lib.estimator.classifier import MiracleClassifier
from miracle_lib.estimator.reliability import predict
from miracle_lib.files import atomic_path
from miracle_lib.limits import Limits
from miracle_lib.preprocessing.scale import m_to_beta

M_SHARE = 0.05  # of a sample's values below 0, beyond which they are M-values


@dataclass
class NewSamples:
    """Samples to predict.

    Attributes
    ----------
    values : DataFrame, shape (n_samples, n_sites)
        Beta values; what is none is left for `predict` to refuse, sample by sample.
    covariates : DataFrame or None
        What is known of them.
    remarks : Series of str
        What was done to read a sample; empty where nothing had to be.
    """

    values: pd.DataFrame
    covariates: pd.DataFrame | None
    remarks: pd.Series


def read_new_samples(
    source: str | Path,
    *,
    samples: str | Path | None = None,
    mirror: str | Path | None = None,
    drop_other: bool = False,
) -> NewSamples:
    """Read samples to predict, of any array; one that is unusual does not stop the others.

    Parameters
    ----------
    source : str or Path
        Beta or M-values, sites x samples or the other way round: CSV, TSV, xlsx, parquet, h5ad, or
        a folder of IDAT pairs. Or an accession of GEO, or a cohort file: of a series that comes
        described, its labelled samples.
    samples : str or Path, optional
        Table of samples: age, sex and other covariates of the model, under the names of the
        training.
    mirror : str or Path, optional
        As in `miracle_lib.cohorts.fetch_file`.
    drop_other : bool, default False
        Names in the table that are no probes: False refuses them, True leaves them out.

    Returns
    -------
    NewSamples

    Raises
    ------
    MiracleError
        The source cannot be read, or names a site twice; the table of samples names none of them.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "new.csv"
    >>> _ = file.write_text("id,cg01_TC11,cg01_TC12,cg02\\nanna,0.25,0.75,0.5\\nanna,-1,1,2\\n")
    >>> new = read_new_samples(file)
    >>> new.values.astype(float).round(2).to_numpy().tolist()
    [[0.5, 0.5], [0.5, 0.8]]
    >>> new.remarks["anna (2)"]
    "named 'anna' as a sample before it; M-values, converted to beta values"
    """
    name = str(source)
    if name.endswith((".yaml", ".yml")) or re.fullmatch(r"GSE\d+", name):
        table, known = _read_series(name, mirror)
    else:
        table = read_table(source, drop_other=drop_other)
        known = read_samples(source) if name.lower().endswith(".h5ad") else None
    if samples is not None:
        known = read_samples(samples)
        if not known.index.isin(table.samples).any():
            raise MiracleError(
                f"{Path(samples).name}: none of its {len(known)} rows names a sample of "
                f"{Path(name).name}, such as {table.samples[0]!r}."
            )
    if known is not None and "sex" not in known and "gender" in known:
        known = known.rename(columns={"gender": "sex"})
    table.samples, repeated = _own_names(table.samples)
    check_names(table, Path(name).name)
    converted = _convert_m_values(table)
    table = average_replicates(table)
    values = pd.DataFrame(table.values, table.samples, table.sites)
    remarks = ["; ".join(filter(None, both)) for both in zip(repeated, converted, strict=True)]
    return NewSamples(values, known, pd.Series(remarks, values.index))


def predict_table(
    model_path: str | Path,
    source: str | Path,
    output_path: str | Path,
    limits: Limits | None = None,
    *,
    prevalence: Mapping[str, float] | None = None,
    samples: str | Path | None = None,
    mirror: str | Path | None = None,
    drop_other: bool = False,
    then: Callable[[MiracleClassifier, pd.DataFrame, pd.DataFrame], object] | None = None,
) -> pd.DataFrame:
    """Predict every task for the samples of a file or a series, and write a CSV.

    Parameters
    ----------
    model_path : str or Path
        Folder of a saved model.
    source, samples, mirror, drop_other
        As in `read_new_samples`.
    output_path : str or Path
        CSV with a row per sample; columns as `miracle_lib.predict` gives them.
    limits, prevalence
        As in `miracle_lib.predict`.
    then : callable, optional
        Called at the end with the model, the beta values and the result, as to write a report.

    Returns
    -------
    DataFrame
        What was written, indexed by sample.

    Raises
    ------
    MiracleError
        If a file cannot be read, or the output is the input.
    """
    if Path(output_path).resolve() == Path(source).resolve():
        raise MiracleError(f"{output_path} is the table itself; name another file to write.")
    model = MiracleClassifier.load(model_path)
    new = read_new_samples(source, samples=samples, mirror=mirror, drop_other=drop_other)
    result = predict(model, new.values, limits, prevalence=prevalence, covariates=new.covariates)
    both = result["warning"].ne("") & new.remarks.ne("")
    result["warning"] = new.remarks + np.where(both, "; ", "") + result["warning"]
    with atomic_path(output_path) as temporary:
        result.to_csv(temporary)
    if then is not None:
        then(model, new.values, result)
    return result


def _read_series(name: str, mirror: str | Path | None) -> tuple[SiteTable, pd.DataFrame]:
    """Values and descriptions of the samples of a cohort file, or of a series by its accession."""
    if not name.startswith("GSE") or name in set(list_cohorts()["name"]):
        adata = load_cohort(name, mirror, allow_subset=True)
        return SiteTable(adata.X, adata.obs_names, adata.var_names), adata.obs
    matrix = read_series_matrix(fetch_file(series_matrix_address(name), mirror))
    if not len(matrix.table.sites):
        raise MiracleError(
            f"{name}: its series matrix holds no values; 'miracle describe {name}' drafts a cohort "
            "file that can name where they are."
        )
    return matrix.table, matrix.samples


def _own_names(names: pd.Index) -> tuple[pd.Index, list[str]]:
    """Number the samples that have the name of another, and say of which."""
    count = pd.Series(names).groupby(names.to_numpy()).cumcount() + 1
    own = [f"{name} ({n})" if n > 1 else name for name, n in zip(names, count, strict=True)]
    said = [
        f"named {name!r} as a sample before it" if n > 1 else ""
        for name, n in zip(names, count, strict=True)
    ]
    return pd.Index(own), said


def _convert_m_values(table: SiteTable) -> list[str]:
    """Turn the M-values of each sample that has them into beta values, and say of which."""
    said = []
    for row in table.values:
        converted = np.count_nonzero(row < 0) > M_SHARE * row.size
        if converted:
            row[:] = m_to_beta(row)
        said.append("M-values, converted to beta values" if converted else "")
    return said
