"""Delimited text, rows = sites, streamed into a float32 matrix, samples x sites."""

import io
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import BadGzipFile
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
from isal.igzip import GzipFile  # the gzip format, inflated three times as fast
from isal.isal_zlib import error as _isal_error
from tqdm import tqdm

from miracle_lib.cohorts.site_table import SiteTable, close_up
from miracle_lib.errors import MiracleError
from miracle_lib.spreadsheet import refuse_utf16

MISSING = ["", "NA", "N/A", "NaN", "nan", "na", "null", "NULL", "Null", "None", "#N/A", "."]
_BLOCK = 1 << 20  # bytes
_WORKERS, _AHEAD = 2, 4  # threads that parse, blocks that they have ahead
_GZIP = b"\x1f\x8b"
_QUOTED = re.compile('"[^"]*"')
_InflateError = cast(type[Exception], _isal_error)
_WEB_PAGE = (b"<!doctype", b"<html", b"<?xml")


@dataclass(frozen=True)
class Column:
    """Where the values of one sample are in a row.

    Attributes
    ----------
    sample : str
    field : int
    detection : int, optional
        Field of the detection p-values.
    """

    sample: str
    field: int
    detection: int | None = None


@dataclass(frozen=True)
class Layout:
    """How the rows of a file are read.

    Attributes
    ----------
    path : Path
        For messages.
    columns : list of Column
    n_fields : int
        Fields per row, the name of the site included.
    delimiter : str
    detection_p : float
        Values with a detection p-value above it are set missing.
    site : int
        Field with the name of the site; those before it are passed over.
    """

    path: Path
    columns: list[Column]
    n_fields: int
    delimiter: str = "\t"
    detection_p: float = 0.01
    site: int = 0


@contextmanager
def open_text(path: Path) -> Iterator["io.BufferedReader[Any]"]:
    """Open a plain or gzipped file as bytes, progress on stderr; refuse what is no table."""
    size = path.stat().st_size
    if size == 0:
        raise MiracleError(f"{path.name} is empty.")
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=f"Reading {path.name}", disable=None)
    with bar, open(path, "rb") as raw:
        magic = raw.read(2)
        raw.seek(0)
        counted = io.BufferedReader(_Counted(raw, bar), _BLOCK)
        packed = magic == _GZIP
        stream: io.BufferedReader[Any] = counted
        if packed:
            stream = io.BufferedReader(GzipFile(fileobj=counted), _BLOCK)
        try:
            refuse_utf16(start := stream.peek(100), path.name)
            if start.lstrip().lower().startswith(_WEB_PAGE):
                raise MiracleError(
                    f"{path.name} is a web page, not data: the server answered with an error "
                    "page; delete it and download it again."
                )
            if path.suffix == ".gz" and not packed:
                raise MiracleError(f"{path.name} is not gzip; delete it and download it again.")
            yield stream
        except (EOFError, _InflateError, BadGzipFile) as error:
            raise MiracleError(
                f"{path.name} is damaged or cut short, at byte {raw.tell():,} of {size:,} "
                f"({error}); delete it and download it again."
            ) from error


def utf8(content: bytes, path: Path) -> str:
    """Decode names and labels of a user's table; Excel writes other encodings, too.

    Examples
    --------
    >>> utf8("id,Sjögren".encode("cp1252"), Path("samples.csv"))
    Traceback (most recent call last):
    miracle_lib.errors.MiracleError: samples.csv: the byte 0xf6 after 'id,Sj' is not UTF-8; ...
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[max(error.start - 20, 0) : error.start].decode("utf-8-sig", "ignore")
        raise MiracleError(
            f"{path.name}: the byte 0x{content[error.start]:02x} after {before!r} is not UTF-8; "
            'save the table as "CSV UTF-8", or a workbook as .xlsx.'
        ) from None


class _Counted(io.RawIOBase):
    """A raw file that moves a progress bar as it is read."""

    def __init__(self, raw: "io.BufferedReader[Any]", bar: tqdm) -> None:
        self._raw, self._bar = raw, bar

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self._raw.readinto(buffer)
        self._bar.update(n)
        return n


def delimiter_of(header: str, row: str) -> str:
    """Tell the mark between fields from the first two lines.

    Names may hold commas, and numbers decimal ones: a delimiter is in both lines. R's write.table
    puts a space unless told.

    Examples
    --------
    >>> delimiter_of("id;Smith, A;Smith, B", "cg01;0,25;1")
    ';'
    """
    header, row = (_QUOTED.sub("", line) for line in (header, row))
    in_header = [mark for mark in "\t;," if mark in header]
    if not in_header and row.count(" ") and row.count(" ") - header.count(" ") in (0, 1):
        return " "
    if not in_header:  # but one name
        return max("\t;,", key=row.count)
    return max(in_header, key=lambda mark: min(header.count(mark), (row or header).count(mark)))


def read_rows(
    lines: Iterable[bytes],
    layout: Layout,
    first_line: int,
    end: bytes | None = None,
    n_sites: int | None = None,
) -> SiteTable:
    """Read rows "site, number, number, ..." until ``end`` or the end of the file.

    Parameters
    ----------
    lines : iterable of bytes
        Blocks of whole lines, from the first row on.
    layout : Layout
    first_line : int
        Line number of the first row, for messages.
    end : bytes, optional
        Line that closes the table; its absence means that the file is cut short.
    n_sites : int, optional
        Number of rows where the file states it.

    Returns
    -------
    SiteTable
        Samples in the order of ``layout.columns``.
    """
    blocks = iter(lines)
    first = next(blocks, b"")
    builder = _Builder(len(layout.columns), n_sites or _estimate_rows(layout.path, first))
    parse = _Parser(layout)
    waiting: deque[tuple[bytes, Future]] = deque()
    line, closed = first_line, end is None

    def append_oldest() -> int:
        block, parsed = waiting.popleft()
        try:
            values, names, n_lines = parsed.result()
        except pa.ArrowInvalid as error:
            raise _explain(layout, block, line) from error
        builder.append(values, names)
        return n_lines

    # Inflating and parsing run side by side; a few blocks wait in between.
    with ThreadPoolExecutor(_WORKERS) as pool:
        for block in chain([first], blocks):
            if end is not None and (at := _line_start(block, end)) >= 0:
                block, closed = block[:at], True
            waiting.append((block, pool.submit(parse, block)))
            if len(waiting) > _AHEAD:
                line += append_oldest()
            if closed and end is not None:
                break
        while waiting:
            line += append_oldest()
    if not closed and end is not None:
        raise MiracleError(
            f"{layout.path.name}, line {line}: the file ends without {end.decode()!r}, so it is "
            "cut short; delete it and download it again."
        )
    values, sites = builder.finish()
    return SiteTable(values, pd.Index([column.sample for column in layout.columns]), sites)


def whole_lines(stream: "io.BufferedReader[Any]") -> Iterator[bytes]:
    """Cut the rest of a stream into blocks that end at the end of a line."""
    while block := stream.read(_BLOCK):
        yield block + stream.readline()


def _estimate_rows(path: Path, block: bytes) -> int:
    """About how many rows a file has, a little more rather than less, from its first block."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP
    length = len(zlib.compress(block)) if packed else len(block)
    return int(1.15 * size / max(length, 1) * block.count(b"\n")) + 1000


def _line_start(block: bytes, text: bytes) -> int:
    """Position of the line that starts with ``text``, or -1."""
    if text[:1] not in block:  # one character is found much faster than several
        return -1
    if block.startswith(text):
        return 0
    at = block.find(b"\n" + text)
    return at + 1 if at >= 0 else -1


class _Parser:
    """Parses whole lines into values, samples x sites, and the names of the sites."""

    def __init__(self, layout: Layout) -> None:
        self._detection_p = np.float32(layout.detection_p)
        self._masked = [i for i, c in enumerate(layout.columns) if c.detection is not None]
        detections = [layout.columns[i].detection for i in self._masked]
        fields = [column.field for column in layout.columns] + detections
        self._n_values = len(layout.columns)
        self._site, self._numbers = str(layout.site), [str(field) for field in fields]
        self._options = {
            "read_options": arrow_csv.ReadOptions(
                column_names=[str(field) for field in range(layout.n_fields)],
                block_size=1 << 30,  # a block is parsed in one piece
                use_threads=False,
            ),
            "parse_options": arrow_csv.ParseOptions(delimiter=layout.delimiter),
            "convert_options": arrow_csv.ConvertOptions(
                include_columns=[self._site, *self._numbers],
                column_types={self._site: pa.string()} | dict.fromkeys(self._numbers, pa.float32()),
                null_values=MISSING,
                quoted_strings_can_be_null=True,
            ),
        }

    def __call__(self, block: bytes) -> tuple[np.ndarray, pa.Array, int]:
        """Return values, names and the number of lines; raise ArrowInvalid for a bad one."""
        n_lines = block.count(b"\n")
        if not block or block.isspace():
            return np.empty((self._n_values, 0), np.float32), pa.array([], pa.string()), n_lines
        table = arrow_csv.read_csv(pa.BufferReader(block), **self._options)
        if len(table) < n_lines and len(table) < sum(1 for _ in _filled_lines(block)):
            raise pa.ArrowInvalid("a quote that is never closed joins two lines")
        (batch,) = table.select(self._numbers).combine_chunks().to_batches()
        numbers = batch.to_tensor(null_to_nan=True, row_major=False).to_numpy().T
        values = numbers[: self._n_values]
        if self._masked:
            failed = numbers[self._n_values :] > self._detection_p
            values[self._masked] = np.where(failed, np.nan, values[self._masked])
        return values, table[self._site].combine_chunks(), n_lines


def _filled_lines(block: bytes) -> Iterator[bytes]:
    """Lines that are not empty."""
    return (line for line in block.split(b"\n") if line.strip())


def _explain(layout: Layout, block: bytes, line: int) -> MiracleError:
    """Find the first row that is wrong and say where and how."""
    name, n_fields, site = layout.path.name, layout.n_fields, layout.site
    fields = {c.field: c.sample for c in layout.columns}
    fields |= {c.detection: c.sample for c in layout.columns if c.detection is not None}
    for number, row in enumerate(block.decode("utf-8", "replace").split("\n"), start=line):
        if not row.strip():
            continue
        cells = [cell.strip().strip('"') for cell in row.split(layout.delimiter)]
        called = "".join(cells[site : site + 1])[:40]
        if len(cells) != n_fields:
            return MiracleError(
                f"{name}, line {number} ({called!r}): {len(cells) - 1 - site} values, expected "
                f"{n_fields - 1 - site}."
            )
        for field, sample in fields.items():
            if cells[field] not in MISSING and not is_number(cells[field]):
                return MiracleError(
                    f"{name}, line {number} ({called!r}), sample {sample!r}: "
                    f"{cells[field][:40]!r} is no number."
                )
    return MiracleError(f"{name}, after line {line}: not a table of numbers.")


def is_number(text: str) -> bool:
    """Whether a cell can be read as a number."""
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
        self._names: list[pa.Array] = []
        self._filled = 0

    def append(self, values: np.ndarray, names: pa.Array) -> None:
        """Add the values of one block of sites, samples x sites."""
        stop = self._filled + len(names)
        if stop > self._values.shape[1]:
            self._grow(stop + stop // 4)
        self._values[:, self._filled : stop] = values
        self._names.append(names)
        self._filled = stop

    def _grow(self, n_sites: int) -> None:
        """Reserve more room (a file with more rows than it states or than estimated)."""
        larger = np.empty((len(self._values), n_sites), dtype=np.float32)
        larger[:, : self._filled] = self._values[:, : self._filled]
        self._values = larger

    def finish(self) -> tuple[np.ndarray, pd.Index]:
        """Close the rows up and give the unused memory back."""
        names = [name for block in self._names for name in block.to_pylist()]
        values, self._values = self._values, np.empty((0, 0), np.float32)
        return close_up(values, slice(self._filled)), pd.Index(names, dtype=object)
