"""Processed matrices from GEO's supplementary files: rows = sites, columns = samples."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from miracle_lib.cohorts.delimited import Column, Layout, open_text, read_rows
from miracle_lib.cohorts.site_table import SiteTable
from miracle_lib.errors import MiracleError

_log = logging.getLogger(__name__)
_DETECTION = re.compile(r"[\s._-]*(detection)?[\s._-]*p[\s._-]?val(ue)?s?$", re.IGNORECASE)
_VALUE = re.compile(r"[\s._-]*(avg[\s._-]?)?beta([\s._-]?values?)?$", re.IGNORECASE)


def read_supplementary(
    path: str | Path, samples: Mapping[str, str], detection_p: float = 0.01
) -> SiteTable:
    """Read a processed matrix, plain or gzipped, separated by tabs, commas or semicolons.

    Columns are joined by name, never by position. A name may end in ``AVG_Beta`` or ``beta``.
    Detection p-values stand in columns named like the sample (``S1.Detection Pval``) or to the
    right of its values (``Detection Pval``); values above ``detection_p`` become missing. Columns
    of no sample are left out.

    Parameters
    ----------
    path : str or Path
    samples : mapping of str to str
        Sample id -> what its column is called; the result has the order of this mapping.
    detection_p : float, default 0.01

    Returns
    -------
    SiteTable
        As in the file; names, range and missing values are not judged here.

    Raises
    ------
    MiracleError
        A sample has no column or more than one, or the file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "processed.txt"
    >>> _ = file.write_text("ID\\tblood 2\\tDetection Pval\\tblood 1\\tDetection Pval\\n"
    ...                     "cg01\\t0.25\\t0.0\\t0.5\\t0.2\\n")
    >>> read_supplementary(file, {"GSM1": "Blood 1", "GSM2": "Blood 2"}).values.tolist()
    [[nan], [0.25]]
    """
    path = Path(path)
    with open_text(path) as stream:
        header, delimiter, n_fields = _read_header(stream, path)
        columns = _find_columns(header, samples, path)
        layout = Layout(path, columns, n_fields, delimiter, detection_p)
        return read_rows(stream, layout, first_line=2)


def _read_header(stream, path: Path) -> tuple[list[str], str, int]:
    """Names of the fields of a row, the delimiter, and the number of fields."""
    line = stream.readline().decode("utf-8-sig", "replace").rstrip("\r\n")
    delimiter = max("\t,;", key=line.count)
    header = split(line, delimiter)
    first_row = stream.peek(1 << 16).split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")
    n_fields = len(split(first_row, delimiter))
    if n_fields == len(header) + 1:  # R leaves out the title of the row names
        header = ["", *header]
    if n_fields != len(header) or n_fields < 2:
        raise MiracleError(
            f"{path.name}: line 1 has {len(header)} fields, line 2 has {n_fields}; expected a "
            "table with one column per sample."
        )
    return header, delimiter, n_fields


def split(line: str, delimiter: str) -> list[str]:
    """Fields of a line without quotes and surrounding space."""
    return [field.strip().strip('"').strip() for field in line.split(delimiter)]


def _find_columns(header: list[str], samples: Mapping[str, str], path: Path) -> list[Column]:
    """Where the values and the detection p-values of every sample are."""
    values: dict[str, list[int]] = {}
    detections: dict[str, int] = {}
    for field, name in enumerate(header[1:], start=1):
        if _DETECTION.search(name):
            owner = _DETECTION.sub("", name) or _VALUE.sub("", header[field - 1])
            detections[_folded(owner)] = field
        else:
            values.setdefault(_folded(_VALUE.sub("", name) or name), []).append(field)
    columns = []
    for sample, called in samples.items():
        found = values.get(_folded(called), [])
        if len(found) != 1:
            raise MiracleError(
                f"{path.name}: sample {sample} is called {called!r}, and {len(found)} columns are; "
                f"the columns are {', '.join(header[1:6])}, ... ({len(header) - 1})."
            )
        columns.append(Column(sample, found[0], detections.get(_folded(called))))
    if len({column.field for column in columns}) < len(columns):
        raise MiracleError(f"{path.name}: several samples have the same title, so the join fails.")
    _log.info(
        "%s: %d samples joined by name, %d with detection p-values",
        path.name,
        len(columns),
        sum(column.detection is not None for column in columns),
    )
    return columns


def _folded(name: str) -> str:
    """A name for comparison: case and repeated space do not count."""
    return " ".join(name.split()).casefold()
