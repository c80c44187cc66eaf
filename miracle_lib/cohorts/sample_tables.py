"""Tables of samples that users bring: who was measured, with which label and covariates."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd

from miracle_lib.cohorts.delimited import is_number, open_text, utf8
from miracle_lib.cohorts.tables import cell_text, kind_of, read_h5ad, read_parquet, read_sheet
from miracle_lib.cohorts.text_tables import dialect_of, only_counts
from miracle_lib.errors import MiracleError


def read_samples(path: str | Path) -> pd.DataFrame:
    """Read a table of samples: one row each, the first column (or the h5ad's names) its id.

    A first column without a name that only numbers the rows, as R and pandas write it, is left out
    where the second one has a name of its own for each sample.

    Parameters
    ----------
    path : str or Path
        ``.csv``, ``.tsv``, ``.txt`` (also ``.gz``), ``.xlsx`` (first sheet), ``.parquet`` or
        ``.h5ad`` (its ``obs``). The header of a text may lack the cell above the ids, as R writes
        it.

    Returns
    -------
    DataFrame of str, n_samples x columns
        Names of columns in lower case; everything is text as it stands (``001``, ``1e5``, ``NA``),
        empty cells are NaN.

    Raises
    ------
    MiracleError
        The file is damaged, or a sample or a column has no name of its own.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "samples.csv"
    >>> _ = file.write_text("id,Status\\n001,ill\\n")
    >>> read_samples(file).loc["001", "status"]
    'ill'
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "h5ad":
        samples = read_h5ad(path).obs
    elif kind == "parquet":
        samples = read_parquet(path)
        if isinstance(samples.index, pd.RangeIndex):
            samples = _named(samples)
    elif kind == "xlsx":
        samples = _named(read_sheet(path))
    elif kind in ("csv", "tsv", "txt"):
        samples = _read_text(path)
    else:
        raise MiracleError(f"{path.name}: a table is .csv, .tsv, .txt, .xlsx, .parquet or .h5ad.")
    columns = {
        str(name).strip().lower(): [_text(cell) for cell in samples.iloc[:, i]]
        for i, name in enumerate(samples.columns)
    }
    names = pd.Index([_text(cell) for cell in samples.index], dtype=object)
    _check(names, [str(name).strip().lower() for name in samples.columns], path.name)
    return pd.DataFrame(columns, index=names.rename("sample"), dtype=object)


def _read_text(path: Path) -> pd.DataFrame:
    """Delimited text, every cell as it stands."""
    with open_text(path) as stream:
        text = io.StringIO(utf8(stream.read(), path), newline=None)
    lines = [line for line in text if line.strip()]
    if len(lines) < 2:
        raise MiracleError(f"{path.name}: no row below the header.")
    dialect = dialect_of(lines[0], lines[1:])
    try:
        rows = list(csv.reader(lines, delimiter=dialect.delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise MiracleError(f"{path.name}: not a table of samples ({error}).") from error
    header, rows = rows[0], rows[1:]
    if rows and all(len(row) == len(header) + 1 for row in rows):
        header = ["", *header]  # R leaves out the cell above the row names
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise MiracleError(
                f"{path.name}, row {number} ({row[0]!r}): {len(row)} cells, expected {len(header)}."
            )
    return _named(pd.DataFrame(rows, columns=header, dtype=object))


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Samples called by the first column, or by the second where the first only counts them."""
    first = [cell_text(cell) for cell in table.iloc[:, 0]]
    counted = table.shape[1] > 1 and only_counts(str(table.columns[0]), first)
    column = int(counted and _are_names([cell_text(cell) for cell in table.iloc[:, 1]]))
    return table.iloc[:, column + 1 :].set_axis(table.iloc[:, column])


def _are_names(cells: list[str]) -> bool:
    """Whether cells tell three samples or more apart, and are no measured numbers."""
    whole = all(cell and (cell.isdigit() or not is_number(cell)) for cell in cells)
    return whole and len(set(cells)) == len(cells) > 2


def _text(cell: object) -> str | float:
    """Text of a cell, NaN where it is empty."""
    missing = cell is None or cell is pd.NA or cell is pd.NaT or cell != cell
    return np.nan if missing else cell_text(cell) or np.nan


def _check(samples: pd.Index, columns: list[str], source: str) -> None:
    """Every sample and every column has a name of its own."""
    if samples.isna().any():
        row = np.flatnonzero(samples.isna())[0] + 1
        raise MiracleError(f"{source}: sample {row} has no name.")
    for what, names in (("sample", samples), ("column", pd.Index(columns))):
        if not names.is_unique:
            repeated = names[names.duplicated()][0]
            hint = "; the first column names each sample once" if what == "sample" else ""
            raise MiracleError(f"{source}: {what} {repeated!r} occurs more than once{hint}.")
