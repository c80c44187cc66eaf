"""Beta tables and sample tables that users bring: CSV, TSV, parquet, h5ad."""

import logging
from collections.abc import Iterable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from miracle_lib.cohorts.delimited import MISSING, is_number, open_text
from miracle_lib.cohorts.site_table import (
    PROBE,
    SiteTable,
    average_replicates,
    check_names,
    to_beta,
)
from miracle_lib.cohorts.supplementary import read_supplementary, split
from miracle_lib.errors import MiracleError
from miracle_lib.spreadsheet import read_date

_log = logging.getLogger(__name__)


def read_table(path: str | Path) -> SiteTable:
    """Read a beta table, sites x samples or samples x sites, as its probe names tell.

    Parameters
    ----------
    path : str or Path
        ``.csv``, ``.tsv`` or ``.txt`` (also ``.gz``; first column and first row are names),
        ``.parquet`` (names in the index, or in the first column of text), ``.h5ad``.

    Returns
    -------
    SiteTable
        As in the file; range and missing values are not judged here.

    Raises
    ------
    MiracleError
        Neither rows nor columns are named by probes, or the file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "beta.csv"
    >>> _ = file.write_text("id,cg01,cg02\\nanna,0.25,0.5\\n")
    >>> table = read_table(file)
    >>> table.samples.tolist(), table.sites.tolist()
    (['anna'], ['cg01', 'cg02'])
    """
    path = Path(path)
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    if kind in ("csv", "tsv", "txt"):
        table = _read_text(path)
    elif kind == "parquet":
        table = _read_parquet(path)
    elif kind == "h5ad":
        adata = _read_h5ad(path)
        table = _oriented(_matrix(adata, path), adata.obs_names, adata.var_names, path)
    else:
        raise MiracleError(f"{path.name}: a table is .csv, .tsv, .txt, .parquet or .h5ad.")
    return table


def read_beta_values(path: str | Path) -> SiteTable:
    """Read a beta table as models take it: checked, and EPICv2 replicates averaged.

    Parameters
    ----------
    path : str or Path
        As in `read_table`.

    Returns
    -------
    SiteTable

    Raises
    ------
    MiracleError
        As in `read_table`; also names that are missing or occur twice, and values outside 0 to 1.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "beta.csv"
    >>> _ = file.write_text("id,cg01_TC11,cg01_TC12\\nanna,0.25,0.75\\n")
    >>> table = read_beta_values(file)
    >>> table.sites.tolist(), table.values.tolist()
    (['cg01'], [[0.5]])
    """
    path = Path(path)
    table = read_table(path)
    check_names(table, path.name)
    to_beta(table, "beta", path.name)
    return average_replicates(table)


def read_samples(path: str | Path) -> pd.DataFrame:
    """Read a table of samples: one row each, the first column (or the h5ad's names) its id.

    Parameters
    ----------
    path : str or Path
        ``.csv``, ``.tsv``, ``.txt`` (also ``.gz``), ``.parquet`` or ``.h5ad`` (its ``obs``).

    Returns
    -------
    DataFrame of str, n_samples x columns
        Names of columns in lower case, missing = NaN.

    Raises
    ------
    MiracleError
        The file is damaged, or a sample or a column has no name of its own.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "samples.csv"
    >>> _ = file.write_text("id,Status\\nanna,ill\\n")
    >>> read_samples(file).loc["anna", "status"]
    'ill'
    """
    path = Path(path)
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    if kind == "h5ad":
        samples = _read_h5ad(path).obs
    elif kind == "parquet":
        samples = _indexed(_parquet_frame(path))
    else:
        with open_text(path) as stream:
            line = stream.peek(1 << 16).split(b"\n", 1)[0].decode("utf-8", "replace")
            delimiter = max("\t,;", key=line.count)
            try:
                samples = pd.read_csv(stream, sep=delimiter, dtype=str, index_col=0)
            except (ValueError, pd.errors.ParserError) as error:
                raise MiracleError(
                    f"{path.name}: not a table of samples ({_flat(error)})."
                ) from error
    samples = samples.astype(object).where(samples.notna(), np.nan)
    samples = samples.map(
        lambda value: value if isinstance(value, float) and np.isnan(value) else str(value).strip()
    )
    if samples.index.isna().any():
        row = np.flatnonzero(samples.index.isna())[0] + 1
        raise MiracleError(f"{path.name}: sample {row} has no name.")
    samples.index = pd.Index(samples.index.astype(str).str.strip(), name="sample")
    samples.columns = [str(column).strip().lower() for column in samples.columns]
    for what, names in (("sample", samples.index), ("column", samples.columns)):
        if not names.is_unique:
            repeated = names[names.duplicated()][0]
            raise MiracleError(f"{path.name}: {what} {repeated!r} occurs more than once.")
    return samples


def are_probes(names: Iterable[str]) -> bool:
    """Whether at least half of some names are names of probes."""
    names = list(names)
    return bool(names) and sum(bool(PROBE.fullmatch(str(n))) for n in names) * 2 >= len(names)


def _read_text(path: Path) -> SiteTable:
    """Delimited text: look at the names before deciding how to read the numbers."""
    with open_text(path) as stream:
        line = stream.readline().decode("utf-8-sig", "replace").rstrip("\r\n")
        delimiter = max("\t,;", key=line.count)
        header = split(line, delimiter)
        start = stream.peek(1 << 16)
        rows = [row.split(delimiter.encode(), 1)[0] for row in start.split(b"\n")[:50]]
        first = [row.decode("utf-8", "replace").strip().strip('"') for row in rows if row.strip()]
        if are_probes(header[1:50]) and not are_probes(first):
            _log.info("%s: samples x sites", path.name)
            return _read_samples_by_sites(stream, header, delimiter, path)
    if not are_probes(first):
        raise _no_probes(first, header[1:], path)
    _log.info("%s: sites x samples", path.name)
    names = header[1:]
    if not pd.Index(names).is_unique:
        repeated = pd.Index(names)[pd.Index(names).duplicated()][0]
        raise MiracleError(f"{path.name}: sample {repeated!r} occurs more than once.")
    return read_supplementary(path, pd.DataFrame(index=names))


def _read_samples_by_sites(stream, header: list[str], delimiter: str, path: Path) -> SiteTable:
    """One row per sample: its many numbers are parsed as one column."""
    names, rows, comma = [], [], delimiter.encode()
    for number, line in enumerate(stream, start=2):
        line = line.strip(b"\r\n")
        if not line.strip():
            continue
        name, _, rest = line.partition(comma)
        names.append(name.decode("utf-8", "replace").strip().strip('"'))
        row = _parse_row(rest.replace(comma, b"\n"), names[-1], number, header, path)
        if len(row) != len(header) - 1:
            raise MiracleError(
                f"{path.name}, line {number} ({names[-1]!r}): {len(row)} values, expected "
                f"{len(header) - 1}."
            )
        rows.append(row)
    if not rows:
        raise MiracleError(f"{path.name}: no row below the header.")
    return SiteTable(np.array(rows), pd.Index(names), pd.Index(header[1:], dtype=object))


def _parse_row(text: bytes, name: str, number: int, header: list[str], path: Path) -> np.ndarray:
    """The numbers of one sample, one a line."""
    try:
        column = arrow_csv.read_csv(
            pa.BufferReader(text + b"\n"),
            read_options=arrow_csv.ReadOptions(column_names=["value"], use_threads=False),
            parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types={"value": pa.float64()},
                null_values=MISSING,
                quoted_strings_can_be_null=True,
            ),
        )["value"]
    except pa.ArrowInvalid as error:
        cells = [cell.strip('"') for cell in text.decode("utf-8", "replace").split("\n")]
        for site, cell in zip(header[1:], cells, strict=False):
            if cell not in MISSING and not is_number(cell):
                raise MiracleError(
                    f"{path.name}, line {number} ({name!r}), site {site!r}: {cell[:40]!r} is no "
                    "number."
                ) from error
        raise MiracleError(f"{path.name}, line {number}: not a row of numbers.") from error
    return column.to_numpy().astype(np.float32)


def _read_parquet(path: Path) -> SiteTable:
    frame = _indexed(_parquet_frame(path))
    try:
        values = frame.to_numpy(dtype=np.float32)
    except (ValueError, TypeError) as error:
        text = frame.select_dtypes(exclude="number").columns[0]
        raise MiracleError(f"{path.name}: column {text!r} holds no numbers.") from error
    return _oriented(values, frame.index, frame.columns, path)


def _parquet_frame(path: Path) -> pd.DataFrame:
    try:
        return parquet.read_table(path).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise MiracleError(f"{path.name}: damaged or no parquet file ({_flat(error)}).") from error


def _indexed(frame: pd.DataFrame) -> pd.DataFrame:
    """Names from the index, or from the first column of text where the index only counts."""
    text = [name for name in frame.columns if frame[name].dtype == object]
    if isinstance(frame.index, pd.RangeIndex) and text:
        return frame.set_index(text[0])
    return frame


def _read_h5ad(path: Path) -> anndata.AnnData:
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise many kinds
        raise MiracleError(f"{path.name}: damaged or no h5ad file ({_flat(error)}).") from error


def _matrix(adata: anndata.AnnData, path: Path) -> np.ndarray:
    """The numbers of an h5ad file."""
    if adata.X is None:
        raise MiracleError(f"{path.name}: X is absent; expected a matrix of beta values.")
    values = adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X
    try:
        return np.asarray(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise MiracleError(f"{path.name}: X holds no numbers.") from error


def _oriented(values: np.ndarray, rows: pd.Index, columns: pd.Index, path: Path) -> SiteTable:
    """Samples x sites, as the probe names tell."""
    rows, columns = rows.astype(str), columns.astype(str)
    if are_probes(columns[:50]):
        _log.info("%s: samples x sites", path.name)
        return SiteTable(np.ascontiguousarray(values, dtype=np.float32), rows, columns)
    if are_probes(rows[:50]):
        _log.info("%s: sites x samples", path.name)
        return SiteTable(np.ascontiguousarray(values.T, dtype=np.float32), columns, rows)
    raise _no_probes(list(rows[:50]), list(columns[:50]), path)


def _flat(error: Exception) -> str:
    """The message of another library on one line."""
    return " ".join(str(error).split())


def _no_probes(rows: list[str], columns: list[str], path: Path) -> MiracleError:
    """Say what the rows and columns are called instead of probes."""
    dates = [name for name in [*rows, *columns] if read_date(name)]
    if dates:
        return MiracleError(
            f"{path.name}: {dates[0]!r} is a gene name that Excel turned into a date; expected "
            "probe names such as cg00000029."
        )
    return MiracleError(
        f"{path.name}: neither the rows ({', '.join(rows[:3])}, ...) nor the columns "
        f"({', '.join(columns[:3])}, ...) are probe names such as cg00000029."
    )
