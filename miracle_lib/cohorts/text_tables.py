"""Delimited text of a user: sites x samples or samples x sites, as spreadsheets and R write it."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv

from miracle_lib.cohorts.delimited import (
    MISSING,
    Column,
    Layout,
    delimiter_of,
    is_number,
    open_text,
    read_rows,
    utf8,
    whole_lines,
)
from miracle_lib.cohorts.probe_names import are_probes, foreign, refuse_foreign, refuse_no_probes
from miracle_lib.cohorts.site_table import PROBE, SiteTable, close_up
from miracle_lib.cohorts.supplementary import split, value_fields
from miracle_lib.errors import MiracleError

_log = logging.getLogger(__name__)
_COMMA = re.compile(r"-?\d*,\d+([eE][-+]?\d+)?")
_POINT = re.compile(r"-?\d*\.\d+([eE][-+]?\d+)?")
_LOOKED_AT = 50  # names, in order to tell what rows and columns are
_NAMELESS = {
    "",
    "X",
    "Unnamed: 0",
}  # a column without a name, as written, or as R or pandas call it


@dataclass(frozen=True)
class Dialect:
    """How a text separates fields and writes decimals.

    Attributes
    ----------
    delimiter : {"\\t", ";", ",", " "}
    decimal : {".", ","}
    """

    delimiter: str
    decimal: str


def dialect_of(header: str, rows: Sequence[str]) -> Dialect:
    """Tell delimiter and decimal mark from the first lines of a table.

    Parameters
    ----------
    header : str
        First line.
    rows : sequence of str
        Lines below it.

    Returns
    -------
    Dialect

    Examples
    --------
    >>> dialect_of("id;cg01;cg02", ["anna;0,25;1"])
    Dialect(delimiter=';', decimal=',')
    """
    delimiter = delimiter_of(header, rows[0] if rows else "")
    cells = [cell for row in rows for cell in split(row, delimiter)[1:]]
    comma = delimiter != "," and any(_COMMA.fullmatch(cell) for cell in cells)
    point = any(_POINT.fullmatch(cell) for cell in cells)
    return Dialect(delimiter, "," if comma and not point else ".")


def read_text(path: Path, drop_other: bool = False, detection_p: float = 0.01) -> SiteTable:
    """Read a delimited table; see `miracle_lib.cohorts.read_table`.

    The names of rows and columns tell which are sites. A header may lack the cell above the row
    names, and rows may begin with a running number.
    """
    with open_text(path) as stream:
        line = utf8(stream.readline(), path).rstrip("\r\n")
        first = stream.readline()
        below = [first, *stream.peek(1 << 16).split(b"\n")[:-1][:_LOOKED_AT]]
        rows = [row.decode("utf-8", "replace").rstrip("\r\n") for row in below if row.strip()]
        dialect = dialect_of(line, rows)
        header = split(line, dialect.delimiter)
        if rows and len(split(rows[0], dialect.delimiter)) == len(header) + 1:
            header = ["", *header]  # R leaves out the cell above the row names
        cells = [split(row, dialect.delimiter) for row in rows]
        name = _name_field(header, cells)
        names = [row[name] for row in cells if len(row) > name and row[name]]
        if are_probes(header[name + 1 : name + _LOOKED_AT]) and not are_probes(names):
            _log.info("%s: samples x sites", path.name)
            return _read_samples(chain([first], stream), header, name, dialect, drop_other, path)
        if not are_probes(names):
            raise refuse_no_probes(names, header[name + 1 :], path)
        _log.info("%s: sites x samples", path.name)
        columns = _sample_columns(header, name, cells, drop_other, path)
        layout = Layout(path, columns, len(header), dialect.delimiter, detection_p, name)
        comma = dialect.decimal == ","
        blocks = chain([first], whole_lines(stream))
        numbers = (block.replace(b",", b".") if comma else block for block in blocks)
        table = read_rows(numbers, layout, first_line=2)
    other = foreign(table.sites, sites=True)
    refuse_foreign(other, "row", "probe such as cg00000029", drop_other, path.name)
    if other:
        kept = np.flatnonzero(~table.sites.isin(list(other)))
        return SiteTable(close_up(table.values, kept), table.samples, table.sites[kept])
    return table


def _name_field(header: list[str], rows: list[list[str]]) -> int:
    """Which field names the rows: the second where the first one only counts them."""
    if len(header) < 3 or not only_counts(header[0], [row[0] for row in rows if row[0]]):
        return 0
    second = [row[1] for row in rows if len(row) > 1]
    tells_apart = len(set(second)) == len(second)  # which an age or a sex does not
    return int(are_probes(second) or (tells_apart and not PROBE.fullmatch(header[1])))


def only_counts(header: str, cells: Sequence[str]) -> bool:
    """Whether a column has no name, and numbers the rows from 0 or 1."""
    count = [str(i) for i in range(len(cells) + 1)]
    return header in _NAMELESS and bool(cells) and list(cells) in (count[:-1], count[1:])


def _sample_columns(
    header: list[str], name: int, rows: list[list[str]], drop_other: bool, path: Path
) -> list[Column]:
    """The columns that are samples, with their detection p-values."""
    values, detections = value_fields(header, name + 1)
    texts = [
        field
        for field in values
        if rows and all(_is_text(row[field]) for row in rows if field < len(row))
    ]
    other = foreign(values.values(), sites=False) | {values[field] for field in texts}
    refuse_foreign(other, "column", "sample", drop_other, path.name)
    columns = [
        Column(sample, field, detections.get(sample))
        for field, sample in values.items()
        if sample not in other
    ]
    called = pd.Index([column.sample for column in columns])
    if not called.is_unique:
        repeated = called[called.duplicated()][0]
        raise MiracleError(f"{path.name}: sample {repeated!r} occurs more than once.")
    return columns


def _is_text(cell: str) -> bool:
    """Whether a cell holds words instead of a number or nothing."""
    return cell not in MISSING and not is_number(cell.replace(",", "."))


def _read_samples(
    lines: Iterable[bytes],
    header: list[str],
    name: int,
    dialect: Dialect,
    drop_other: bool,
    path: Path,
) -> SiteTable:
    """One row per sample: its many numbers are parsed as one column."""
    sites = header[name + 1 :]
    other = foreign(sites, sites=True)
    refuse_foreign(other, "column", "probe such as cg00000029", drop_other, path.name)
    kept = [site not in other for site in sites]
    sites = list(compress(sites, kept))
    names, rows, mark = [], [], dialect.delimiter.encode()
    for number, line in enumerate(lines, start=2):
        line = line.strip(b"\r\n")
        if not line.strip():
            continue
        *_, called, rest = [b"", *line.split(mark, name + 1)]
        names.append(utf8(called, path).strip().strip('"'))
        if dialect.decimal == ",":
            rest = rest.replace(b",", b".")
        n_values = rest.count(mark) + 1
        if n_values != len(kept):
            raise MiracleError(
                f"{path.name}, line {number} ({names[-1]!r}): {n_values} values, expected "
                f"{len(kept)}."
            )
        if other:
            rest = mark.join(compress(rest.split(mark), kept))
        rows.append(_parse_row(rest.replace(mark, b"\n"), names[-1], number, sites, path))
    if not rows:
        raise MiracleError(f"{path.name}: no row below the header.")
    return SiteTable(np.array(rows), pd.Index(names), pd.Index(sites, dtype=object))


def _parse_row(text: bytes, name: str, number: int, sites: list[str], path: Path) -> np.ndarray:
    """The numbers of one sample, one a line."""
    place = f"{path.name}, line {number} ({name!r})"
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
        for site, cell in zip(sites, cells, strict=False):
            if cell not in MISSING and not is_number(cell):
                raise MiracleError(
                    f"{place}, site {site!r}: {cell[:40]!r} is no number."
                ) from error
        raise MiracleError(f"{place}: not a row of numbers.") from error
    if len(column) != len(sites):
        raise MiracleError(f"{place}: {len(column)} values, expected {len(sites)}.")
    return column.to_numpy().astype(np.float32)
