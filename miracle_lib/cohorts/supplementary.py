"""Processed matrices from GEO's supplementary files: rows = sites, columns = samples."""

import csv
import re
from contextlib import suppress
from pathlib import Path

import pandas as pd

from miracle_lib.cohorts.delimited import (
    Column,
    Layout,
    delimiter_of,
    open_text,
    read_rows,
    whole_lines,
)
from miracle_lib.cohorts.joining import fold, join_columns
from miracle_lib.cohorts.site_table import PROBE, SiteTable
from miracle_lib.errors import MiracleError

# R and pandas number columns of one name: Detection Pval, Detection Pval.1, ...
_DETECTION = re.compile(r"[\s._-]*(detection)?[\s._-]*p[\s._-]?val(ue)?s?(\.+\d+)?$", re.IGNORECASE)
_VALUE = re.compile(r"[\s._-]*(avg[\s._-]?)?beta([\s._-]?values?)?$", re.IGNORECASE)


def read_supplementary(
    path: str | Path, samples: pd.DataFrame, detection_p: float = 0.01
) -> SiteTable:
    """Read a processed matrix, plain or gzipped, separated by tabs, semicolons, commas or spaces.

    Columns are joined to samples by name (see `join_columns`), never by position. A name may end
    in ``AVG_Beta`` or ``beta``. Detection p-values stand in columns named like the sample
    (``S1.Detection Pval``) or to the right of its values (``Detection Pval``); values above
    ``detection_p`` become missing. Columns of no sample are left out. Rows begin with the name of
    the site, or with a running number before it that has no column in the header.

    Parameters
    ----------
    path : str or Path
    samples : DataFrame, n_samples x characteristics
        Indexed by sample, as `read_series_matrix` describes them.
    detection_p : float, default 0.01

    Returns
    -------
    SiteTable
        Only the samples that have a column, in the order of ``samples``; names, range and missing
        values are not judged here.

    Raises
    ------
    MiracleError
        No field of the samples names the columns one to one, or the file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "processed.txt"
    >>> _ = file.write_text("ID\\tblood 2\\tDetection Pval\\tblood 1\\tDetection Pval\\n"
    ...                     "cg01\\t0.25\\t0.0\\t0.5\\t0.2\\n")
    >>> samples = pd.DataFrame({"title": ["Blood 1", "Blood 2"]}, index=["GSM1", "GSM2"])
    >>> read_supplementary(file, samples).values.tolist()
    [[nan], [0.25]]
    """
    path = Path(path)
    with open_text(path) as stream:
        header, delimiter, site = _read_header(stream, path)
        columns = _find_columns(header, samples, path)
        layout = Layout(path, columns, len(header), delimiter, detection_p, site)
        return read_rows(whole_lines(stream), layout, first_line=2)


def _read_header(stream, path: Path) -> tuple[list[str], str, int]:
    """Names of the fields of a row, the delimiter, and which field names the site."""
    line = stream.readline().decode("utf-8-sig", "replace").rstrip("\r\n")
    first_row = stream.peek(1 << 16).split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")
    delimiter = delimiter_of(line, first_row)
    header = split(line, delimiter)
    row = split(first_row, delimiter)
    if len(row) == len(header) + 1:  # R leaves out the title of the row names
        header = ["", *header]
    if len(row) != len(header) or len(row) < 2:
        raise MiracleError(
            f"{path.name}: line 1 has {len(header)} fields, line 2 has {len(row)}; expected a "
            "table with one column per sample."
        )
    return header, delimiter, int(row[0].isdigit() and bool(PROBE.fullmatch(row[1])))


def split(line: str, delimiter: str) -> list[str]:
    """Fields of a line without quotes and surrounding space; in quotes a delimiter is none."""
    fields = line.split(delimiter)
    if '"' in line and line.count('"') % 2 == 0:
        with suppress(csv.Error):  # of ends of lines within
            fields = next(csv.reader([line], delimiter=delimiter))
    return [field.strip().strip('"').strip() for field in fields]


def value_fields(header: list[str], first: int = 1) -> tuple[dict[int, str], dict[str, int]]:
    """Which fields hold values, and which detection p-values, by the name of their sample.

    Parameters
    ----------
    header : list of str
    first : int, default 1
        Fields before it name the rows.

    Returns
    -------
    values : dict of int to str
        Field to name, as it stands but for an ending such as ``AVG_Beta``.
    detections : dict of str to int
        Name to field.
    """
    values: dict[int, str] = {}
    detections: dict[str, int] = {}
    for field, name in enumerate(header[first:], start=first):
        if _DETECTION.search(name):
            detections[_DETECTION.sub("", name) or _VALUE.sub("", header[field - 1])] = field
        else:
            values[field] = _VALUE.sub("", name) or name
    return values, detections


def _find_columns(header: list[str], samples: pd.DataFrame, path: Path) -> list[Column]:
    """Where the values and the detection p-values of every sample that has a column are."""
    values, detections = value_fields(header)
    field_of = {name: field for field, name in values.items()}
    folded = {fold(name): field for name, field in detections.items()}
    return [
        Column(sample, field_of[name], folded.get(fold(name)))
        for sample, name in join_columns(values.values(), samples, path.name).items()
    ]
