"""Tables of values that users bring: CSV, TSV, xlsx, parquet, h5ad, in either orientation."""

import logging
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
from python_calamine import CalamineError, CalamineWorkbook

from miracle_lib.cohorts.delimited import MISSING, is_number
from miracle_lib.cohorts.probe_names import are_probes, foreign, refuse_foreign, refuse_no_probes
from miracle_lib.cohorts.site_table import (
    PROBE,
    SiteTable,
    average_replicates,
    check_names,
    to_beta,
)
from miracle_lib.cohorts.supplementary import value_fields
from miracle_lib.cohorts.text_tables import only_counts, read_text
from miracle_lib.errors import MiracleError

_log = logging.getLogger(__name__)


def read_table(
    path: str | Path, *, drop_other: bool = False, detection_p: float = 0.01
) -> SiteTable:
    """Read a table of values, sites x samples or samples x sites, as its probe names tell.

    Parameters
    ----------
    path : str or Path
        ``.csv``, ``.tsv`` or ``.txt`` (also ``.gz``; separated by tabs, semicolons, commas or
        spaces, with decimal points or commas; the header may lack the cell above the row names,
        as R writes it), ``.xlsx`` (first sheet), ``.parquet`` (names in the index, or in the
        first column of text), ``.h5ad``; or a folder of IDAT pairs, see `read_idats`. Detection
        p-values beside the values of samples are recognised as in `read_supplementary`.
    drop_other : bool, default False
        What to do with names that are no probes (a column ``status``) or, among the samples, that
        describe sites (``CHR``): False refuses them by name, True leaves them out.
    detection_p : float, default 0.01
        Values with a detection p-value above it are missing.

    Returns
    -------
    SiteTable
        As in the file; range and missing values are not judged here.

    Raises
    ------
    MiracleError
        Neither rows nor columns are named by probes, some are not, or the file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "beta.csv"
    >>> _ = file.write_text("id;cg01;cg02\\nanna;0,25;0,5\\n")
    >>> table = read_table(file)
    >>> table.samples.tolist(), table.sites.tolist(), table.values.tolist()
    (['anna'], ['cg01', 'cg02'], [[0.25, 0.5]])
    """
    path = Path(path)
    if path.is_dir():
        from miracle_lib.cohorts.idats import idat_table  # which joins tables of samples

        return idat_table(path, detection_p)
    kind = kind_of(path)
    if kind in ("csv", "tsv", "txt"):
        return read_text(path, drop_other, detection_p)
    if kind == "xlsx":
        return _from_frame(_indexed(read_sheet(path)), path, drop_other, detection_p)
    if kind == "parquet":
        return _from_frame(_indexed(read_parquet(path)), path, drop_other, detection_p)
    if kind == "h5ad":
        adata = read_h5ad(path)
        frame = pd.DataFrame(_matrix(adata, path), adata.obs_names, adata.var_names)
        return _from_frame(frame, path, drop_other, detection_p)
    raise MiracleError(f"{path.name}: a table is .csv, .tsv, .txt, .xlsx, .parquet or .h5ad.")


def read_beta_values(path: str | Path, *, drop_other: bool = False) -> SiteTable:
    """Read a table as models take it: checked, M-values converted, EPICv2 replicates averaged.

    Parameters
    ----------
    path : str or Path
    drop_other : bool, default False
        Both as in `read_table`.

    Returns
    -------
    SiteTable
        Beta values.

    Raises
    ------
    MiracleError
        As in `read_table`; also names that are missing or occur twice, and values that are
        neither beta values nor M-values.

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
    table = read_table(path, drop_other=drop_other)
    check_names(table, path.name)
    recognise_scale(table, path.name)
    to_beta(table, "beta", path.name)
    return average_replicates(table)


def recognise_scale(table: SiteTable, source: str) -> None:
    """Turn M-values into beta values, and say so; other values are left as they are."""
    if scale_of(table) == "m":
        _log.warning("%s: M-values, converted to beta values", source)
        to_beta(table, "m", source)


def scale_of(table: SiteTable) -> str:
    """Tell M-values ("m") from beta values ("beta"): many of them are negative.

    Examples
    --------
    >>> names = pd.Index(["anna"]), pd.Index(["cg01", "cg02"])
    >>> scale_of(SiteTable(np.float32([[-1.5, 0.5]]), *names))
    'm'
    """
    negative = sum(int(np.count_nonzero(row < 0)) for row in table.values)
    return "m" if negative > 0.05 * table.values.size else "beta"


def kind_of(path: Path) -> str:
    """Ending of a file in small letters, without ``.gz``."""
    return path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]


def read_sheet(path: Path) -> pd.DataFrame:
    """First sheet of an Excel file, its first row as names; cells keep their types."""
    try:
        book = CalamineWorkbook.from_path(path)
        rows = book.get_sheet_by_index(0).to_python(skip_empty_area=True)
    except (CalamineError, OSError, IndexError) as error:
        raise MiracleError(f"{path.name}: damaged or no Excel file ({_flat(error)}).") from error
    if len(rows) < 2:
        raise MiracleError(f"{path.name}: no row below the header of its first sheet.")
    if len(book.sheet_names) > 1:
        _log.info("%s: sheet %r of %d", path.name, book.sheet_names[0], len(book.sheet_names))
    header = [cell_text(cell) for cell in rows[0]]
    return pd.DataFrame(rows[1:], columns=header, dtype=object)


def read_parquet(path: Path) -> pd.DataFrame:
    """A parquet file as a frame."""
    try:
        return parquet.read_table(path).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise MiracleError(f"{path.name}: damaged or no parquet file ({_flat(error)}).") from error


def read_h5ad(path: Path) -> anndata.AnnData:
    """An h5ad file."""
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise many kinds
        raise MiracleError(f"{path.name}: damaged or no h5ad file ({_flat(error)}).") from error


def cell_text(cell: object) -> str:
    """Text of a cell that a program may have taken for a number: 1.0 is "1"."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell).strip()


def _indexed(frame: pd.DataFrame) -> pd.DataFrame:
    """Names from the index, or where it only counts from a column.

    That is the first one of text; where none is, as of samples that are numbers, the first that
    is no site and does more than count.
    """
    if not isinstance(frame.index, pd.RangeIndex):
        return frame
    columns = range(frame.shape[1])
    named = [i for i in columns if _holds_text(frame.iloc[:, i])] or [
        i for i in columns if not PROBE.fullmatch(str(frame.columns[i])) and not _counts(frame, i)
    ]
    if not named:
        return frame
    names = pd.Index([cell_text(cell) for cell in frame.iloc[:, named[0]]])
    return frame.iloc[:, [i for i in columns if i != named[0]]].set_axis(names)


def _counts(frame: pd.DataFrame, column: int) -> bool:
    """Whether a column only numbers the rows."""
    cells = [cell_text(cell) for cell in frame.iloc[:, column]]
    return only_counts(str(frame.columns[column]), cells)


def _holds_text(column: pd.Series) -> bool:
    """Whether most cells of a column are words, not numbers."""
    if pd.api.types.is_numeric_dtype(column):
        return False
    cells = [cell_text(cell) for cell in column.iloc[:50]]
    known = [cell for cell in cells if cell not in MISSING]
    words = sum(not is_number(cell.replace(",", ".")) for cell in known)
    return bool(known) and 2 * words >= len(known)


def _from_frame(frame: pd.DataFrame, path: Path, drop_other: bool, detection_p: float) -> SiteTable:
    """Samples x sites, as the probe names tell."""
    rows, columns = frame.index.astype(str), frame.columns.astype(str)
    by_sample = are_probes(columns[:50])
    if not by_sample and not are_probes(rows[:50]):
        raise refuse_no_probes(list(rows[:50]), list(columns[:50]), path)
    _log.info("%s: %s", path.name, "samples x sites" if by_sample else "sites x samples")
    probe = "probe such as cg00000029"
    if by_sample:
        other, other_rows = foreign(columns, sites=True), set()
    else:
        other, other_rows = foreign(columns, sites=False), foreign(rows, sites=True)
        texts = [i for i, _ in enumerate(columns) if _holds_text(frame.iloc[:, i])]
        other |= set(columns[texts])
    refuse_foreign(other, "column", probe if by_sample else "sample", drop_other, path.name)
    refuse_foreign(other_rows, "row", probe, drop_other, path.name)
    if other or other_rows:
        kept_rows, kept = ~rows.isin(list(other_rows)), ~columns.isin(list(other))
        frame, rows, columns = frame.loc[kept_rows, kept], rows[kept_rows], columns[kept]
    values = _numbers(frame, path)
    if by_sample:
        return SiteTable(np.ascontiguousarray(values), rows, columns)
    return SiteTable(*_detected(values, columns, detection_p), rows)


def _detected(
    values: np.ndarray, columns: pd.Index, detection_p: float
) -> tuple[np.ndarray, pd.Index]:
    """Values of the samples, samples x sites, and their names; missing where not detected."""
    called, detections = value_fields(list(columns), first=0)
    detected = np.take(values.T, np.fromiter(called, int), axis=0)
    for row, sample in zip(detected, called.values(), strict=True):
        if sample in detections:
            row[values[:, detections[sample]] > detection_p] = np.nan
    return detected, pd.Index(called.values(), dtype=object)


def _numbers(frame: pd.DataFrame, path: Path) -> np.ndarray:
    """Float32 values of a frame; texts such as "0,5" are numbers of another country."""
    try:
        return frame.to_numpy(dtype=np.float32)
    except (ValueError, TypeError):
        pass
    values = np.empty(frame.shape, dtype=np.float32)
    for i, name in enumerate(frame.columns):
        for j, cell in enumerate(frame.iloc[:, i]):
            text = cell_text(cell).replace(",", ".")
            if text in MISSING or text == "<NA>":
                values[j, i] = np.nan
            elif is_number(text):
                values[j, i] = float(text)
            else:
                raise MiracleError(
                    f"{path.name}: {text[:40]!r} in column {name!r}, row {frame.index[j]!r}, is "
                    "no number."
                )
    return values


def _matrix(adata: anndata.AnnData, path: Path) -> np.ndarray:
    """The numbers of an h5ad file."""
    if adata.X is None:
        raise MiracleError(f"{path.name}: X is absent; expected a matrix of beta values.")
    values = adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X
    try:
        return np.asarray(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise MiracleError(f"{path.name}: X holds no numbers.") from error


def _flat(error: Exception) -> str:
    """The message of another library on one line."""
    return " ".join(str(error).split())
