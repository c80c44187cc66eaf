"""GEO series matrix files (``GSE*_series_matrix.txt.gz``)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from miracle_lib.cohorts.delimited import Column, Layout, open_text, read_rows, whole_lines
from miracle_lib.cohorts.site_table import SiteTable
from miracle_lib.errors import MiracleError

_BEGIN, _END = b"!series_matrix_table_begin", b"!series_matrix_table_end"
_NOTHING = np.empty((0, 0), dtype=np.float32)
_MOST_SITES = 10_000_000  # more than any array has: a header that states more is not believed
# Kept beside characteristics.
_FIELDS = {"title", "source_name_ch1", "description", "platform_id", "data_row_count"}
SENTRIX = re.compile(r"(?<!\d)\d{8,12}_R\d\dC\d\d(?!\d)")  # slide and position of an array


@dataclass
class SeriesMatrix:
    """One series matrix file.

    Attributes
    ----------
    series : dict of str to str
        Fields of the series (``title``, ``geo_accession``, ...), repeated fields joined by "; ".
    samples : DataFrame, n_samples x characteristics
        Indexed by accession (GSM...). Columns: ``title``, ``source_name``, ``description``,
        ``platform_id``, ``data_row_count`` (sites that the file states), ``sentrix`` (slide and
        position of the array, such as "7800246024_R01C01", from the names of IDAT files or the
        title) and the keys of the sample characteristics in lower case. Missing = NaN.
    table : SiteTable
        Values; no sites where the series keeps them in a supplementary file.
    """

    series: dict[str, str]
    samples: pd.DataFrame
    table: SiteTable


def read_series_matrix(path: str | Path, samples: Iterable[str] | None = None) -> SeriesMatrix:
    """Read a GEO series matrix file, plain or gzipped.

    The file is streamed: beyond the float32 matrix that is returned, memory is bounded.
    Empty cells, ``NA`` and ``null``, quoted or not, are missing values.

    Parameters
    ----------
    path : str or Path
    samples : iterable of str, optional
        Accessions to read, in this order; default: all. None of them: only the header is read.

    Returns
    -------
    SeriesMatrix

    Raises
    ------
    MiracleError
        The file is cut short, a web page, has no table, a cell is no number, a row has another
        number of values than there are samples, or a sample is not there.

    References
    ----------
    Format: https://www.ncbi.nlm.nih.gov/geo/info/soft.html

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "GSE1_series_matrix.txt"
    >>> _ = file.write_text(
    ...     '!Sample_geo_accession\\t"GSM1"\\t"GSM2"\\n'
    ...     '!Sample_characteristics_ch1\\t"age: 40"\\t"age: 61"\\n'
    ...     "!series_matrix_table_begin\\n"
    ...     '"ID_REF"\\t"GSM1"\\t"GSM2"\\n'
    ...     '"cg01"\\t0.25\\tnull\\n'
    ...     "!series_matrix_table_end\\n"
    ... )
    >>> matrix = read_series_matrix(file)
    >>> matrix.samples["age"].tolist(), matrix.table.values.tolist()
    (['40', '61'], [[0.25], [nan]])
    """
    path = Path(path)
    with open_text(path) as stream:
        series, fields, line = _read_header(stream, path)
        described = _sample_table(fields, path)
        names = described.index if samples is None else pd.Index(list(samples))
        if len(names) and len(absent := names.difference(described.index)):
            raise MiracleError(f"{path.name}: no sample {absent[0]!r} in the header.")
        if not len(names):
            return SeriesMatrix(series, described, SiteTable(_NOTHING, names, pd.Index([])))
        header = [
            _unquote(cell) for cell in stream.readline().decode("utf-8", "replace").split("\t")
        ]
        if sorted(header[1:]) != sorted(described.index):
            raise MiracleError(
                f"{path.name}, line {line + 1}: the table has the columns {_some(header[1:])}, but "
                f"the header describes {_some(list(described.index))}."
            )
        columns = [Column(name, header.index(name, 1)) for name in names]
        rows = fields.get("data_row_count", [["0"]])[0][0]
        table = read_rows(
            whole_lines(stream),
            Layout(path, columns, len(header)),
            first_line=line + 2,
            end=_END,
            n_sites=int(rows) if rows.isdigit() and int(rows) <= _MOST_SITES else None,
        )
    return SeriesMatrix(series, described.loc[names], table)


def _read_header(
    stream: BinaryIO, path: Path
) -> tuple[dict[str, str], dict[str, list[list[str]]], int]:
    """Read the lines before the table: fields of the series, fields of the samples, lines read."""
    series: dict[str, list[str]] = {}
    fields: dict[str, list[list[str]]] = {}
    for number, raw in enumerate(stream, start=1):
        if raw.startswith(_BEGIN):
            return {key: "; ".join(values) for key, values in series.items()}, fields, number
        name, *cells = raw.decode("utf-8", "replace").rstrip("\r\n").split("\t")
        cells = [_unquote(cell) for cell in cells]
        if name.startswith("!Series_"):
            series.setdefault(name.removeprefix("!Series_"), []).append(" ".join(cells))
        elif name.startswith("!Sample_"):
            fields.setdefault(name.removeprefix("!Sample_"), []).append(cells)
        elif name and not name.startswith("!"):
            break
    raise MiracleError(
        f"{path.name}: no line {_BEGIN.decode()!r}, so it is no series matrix file of GEO, or cut "
        "short."
    )


def _sample_table(fields: dict[str, list[list[str]]], path: Path) -> pd.DataFrame:
    """One row per sample: its fields and its characteristics."""
    if "geo_accession" not in fields:
        raise MiracleError(f"{path.name}: no line '!Sample_geo_accession' in the header.")
    accessions = pd.Index(fields["geo_accession"][0], name="sample")
    if not accessions.is_unique:
        repeated = accessions[accessions.duplicated()][0]
        raise MiracleError(f"{path.name}: sample {repeated!r} occurs more than once.")
    records: list[dict[str, str]] = [{} for _ in accessions]
    for name, lines in fields.items():
        for cells in lines:
            if len(cells) != len(accessions):
                raise MiracleError(
                    f"{path.name}: '!Sample_{name}' has {len(cells)} values for "
                    f"{len(accessions)} samples."
                )
            for record, cell in zip(records, cells, strict=True):
                _add(record, name, cell)
                if name.startswith(("supplementary_file", "title", "description")) and (
                    found := SENTRIX.search(cell)
                ):
                    record.setdefault("sentrix", found[0])
    return pd.DataFrame(records, index=accessions, dtype=object)


def _add(record: dict[str, str], name: str, cell: str) -> None:
    """Add one cell to a sample: a characteristic "key: value", or a field of its own name."""
    if name.startswith("characteristics"):
        # Keys are read per cell: GEO closes up the gap where a sample lacks a characteristic.
        key, _, value = cell.partition(":")
        key, value = key.strip().lower(), value.strip()
    elif name in _FIELDS:
        key, value = name.removesuffix("_ch1"), cell
    else:
        return
    if value:
        record[key] = f"{record[key]}; {value}" if key in record else value


def _unquote(cell: str) -> str:
    return cell.strip().removeprefix('"').removesuffix('"').strip()


def _some(names: list[str], n: int = 3) -> str:
    """The first few names, and how many there are."""
    return f"{', '.join(names[:n])}{', ...' if len(names) > n else ''} ({len(names)})"
