"""Numeric text tables, rows = sites, streamed into a float32 matrix, samples x sites."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
from tqdm import tqdm

from miracle_lib.errors import MiracleError

MISSING = ["", "NA", "N/A", "NaN", "nan", "na", "null", "NULL", "Null", "None", "#N/A", "."]
LARGEST_ARRAY = 1_000_000  # sites: more than any methylation array has (EPICv2: 937,690)
BLOCK_BYTES = 1 << 22


@dataclass
class SiteTable:
    """Values of many samples at many sites, as read from one file.

    Attributes
    ----------
    values : ndarray of float32, shape (n_samples, n_sites)
        NaN = missing.
    samples, sites : Index
        Names as the file writes them.
    """

    values: np.ndarray
    samples: pd.Index
    sites: pd.Index


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """Open a plain or gzipped file as bytes, progress on stderr; refuse what is no table."""
    size = path.stat().st_size
    if size == 0:
        raise MiracleError(f"{path.name} is empty; expected a table.")
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=f"Reading {path.name}", disable=None)
    with bar, open(path, "rb") as raw:
        magic = raw.read(2)
        raw.seek(0)
        counted = _Counted(raw, bar)
        packed = magic == b"\x1f\x8b"
        if path.suffix == ".gz" and not packed:
            _refuse_not_gzip(path, raw.read(400))
        stream = gzip.GzipFile(fileobj=counted) if packed else counted
        buffered = io.BufferedReader(stream, BLOCK_BYTES)
        try:
            head = buffered.peek(400)[:400].lstrip().lower()
            if head.startswith((b"<!doctype", b"<html", b"<?xml")):
                raise MiracleError(
                    f"{path.name} is a web page, not a table: the server answered with an error "
                    "page; delete it and download it again."
                )
            yield buffered
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise MiracleError(
                f"{path.name} is damaged or cut short after {raw.tell():,} of {size:,} bytes "
                f"({error}); delete it and download it again."
            ) from error


class _Counted(io.RawIOBase):
    """A raw file that moves a progress bar as it is read."""

    def __init__(self, raw: BinaryIO, bar: tqdm) -> None:
        self._raw, self._bar = raw, bar

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        n = self._raw.readinto(buffer)
        self._bar.update(n)
        return n


def _refuse_not_gzip(path: Path, head: bytes) -> None:
    """Say what a file called .gz is, when it is not gzip."""
    kind = "a web page" if head.lstrip().lower().startswith((b"<!doctype", b"<html")) else "text"
    raise MiracleError(
        f"{path.name} is {kind}, not gzip: the server probably answered with an error page; "
        "delete it and download it again."
    )


def read_numeric(
    stream: BinaryIO,
    columns: list[str],
    path: Path,
    first_line: int,
    end: bytes | None = None,
    n_sites: int | None = None,
    delimiter: str = "\t",
) -> tuple[np.ndarray, pd.Index]:
    """Read rows "site, number, number, ..." from a stream until ``end`` or the end of the file.

    Parameters
    ----------
    stream : binary file
        Positioned at the first row.
    columns : list of str
        Names of the numeric columns, for messages.
    path : Path
        Name of the file, for messages.
    first_line : int
        Line number of the first row, for messages.
    end : bytes, optional
        Line that closes the table; its absence means that the file is cut short.
    n_sites : int, optional
        Number of rows where the file states it.
    delimiter : str, default tab

    Returns
    -------
    values : ndarray of float32, shape (len(columns), n_rows)
    sites : Index
    """
    builder = _Builder(len(columns), n_sites or LARGEST_ARRAY)
    line, closed = first_line, end is None
    for block in _whole_lines(stream):
        if end is not None and (at := _line_start(block, end)) >= 0:
            block, closed = block[:at], True
        if block.strip():
            builder.append(*_parse(block, columns, path, line, delimiter))
            line += block.count(b"\n")
        if closed and end is not None:
            break
    if not closed:
        raise MiracleError(
            f"{path.name}, line {line}: the file ends before {end.decode()!r}, so it is cut short; "
            "delete it and download it again."
        )
    return builder.finish()


def _whole_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Cut a stream into blocks that end at the end of a line."""
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
    if rest:
        yield rest + b"\n"


def _line_start(block: bytes, text: bytes) -> int:
    """Position of the line that starts with ``text``, or -1."""
    if block.startswith(text):
        return 0
    return block.find(b"\n" + text) + 1 or -1


def _parse(
    block: bytes, columns: list[str], path: Path, line: int, delimiter: str
) -> tuple[list[np.ndarray], pa.Array]:
    """Parse whole lines into one float array per column, and the names of the rows."""
    names = ["site", *map(str, range(len(columns)))]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(block),
            read_options=arrow_csv.ReadOptions(column_names=names, block_size=len(block) + 1),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter),
            convert_options=arrow_csv.ConvertOptions(
                column_types={"site": pa.string(), **dict.fromkeys(names[1:], pa.float64())},
                null_values=MISSING,
                strings_can_be_null=False,
                quoted_strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        raise _explain(block, columns, path, line, delimiter) from error
    return [column.to_numpy() for column in table.columns[1:]], table.column(0)


def _explain(
    block: bytes, columns: list[str], path: Path, line: int, delimiter: str
) -> MiracleError:
    """Find the first row that is wrong and say where and how."""
    for number, row in enumerate(block.decode("utf-8", "replace").splitlines(), start=line):
        cells = [cell.strip().strip('"') for cell in row.split(delimiter)]
        if row.strip() and len(cells) != len(columns) + 1:
            return MiracleError(
                f"{path.name}, line {number} ({cells[0]!r}): {len(cells) - 1} values for "
                f"{len(columns)} samples."
            )
        for name, cell in zip(columns, cells[1:], strict=False):
            if cell not in MISSING and not _is_number(cell):
                return MiracleError(
                    f"{path.name}, line {number}, column {name!r}: {cell!r} is no number."
                )
    return MiracleError(f"{path.name}: the rows from line {line} on are not a table of numbers.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Builder:
    """A matrix, samples x sites, that grows by blocks of sites without a second copy.

    Memory is reserved for ``capacity`` sites, but the system commits only what is written; at
    the end the rows are closed up in place.
    """

    def __init__(self, n_samples: int, capacity: int) -> None:
        self._values = np.empty((n_samples, capacity), dtype=np.float32)
        self._names: list[pa.ChunkedArray] = []
        self._filled = 0

    def append(self, columns: list[np.ndarray], names: pa.ChunkedArray) -> None:
        """Add the values of one block of sites, one array per sample."""
        stop = self._filled + len(names)
        if stop > self._values.shape[1]:
            self._grow(stop)
        for row, column in zip(self._values, columns, strict=True):
            row[self._filled : stop] = column
        self._names.append(names)
        self._filled = stop

    def _grow(self, n_sites: int) -> None:
        """Reserve room for twice the sites (a file with more rows than it states)."""
        larger = np.empty((len(self._values), 2 * n_sites), dtype=np.float32)
        larger[:, : self._filled] = self._values[:, : self._filled]
        self._values = larger

    def finish(self) -> tuple[np.ndarray, pd.Index]:
        """Close the rows up and give the unused memory back."""
        n_samples, capacity = self._values.shape
        n = self._filled
        values, self._values = self._values, np.empty((0, 0), np.float32)
        if n < capacity:
            flat = values.reshape(-1)
            for i in range(1, n_samples):
                flat[i * n : (i + 1) * n] = flat[i * capacity : i * capacity + n]
            del flat
            values.resize((n_samples, n), refcheck=False)
        names = [name for chunk in self._names for name in chunk.to_pylist()]
        return values, pd.Index(names, dtype=object)
