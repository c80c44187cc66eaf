"""GEO series matrix files (``GSE*_series_matrix.txt.gz``)."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from miracle_lib.cohorts.delimited import SiteTable, open_text, read_numeric
from miracle_lib.errors import MiracleError

_BEGIN, _END = b"!series_matrix_table_begin", b"!series_matrix_table_end"
_FIELDS = {"title", "source_name_ch1", "description", "platform_id"}  # kept beside characteristics


@dataclass
class SeriesMatrix:
    """One series matrix file.

    Attributes
    ----------
    series : dict of str to str
        Fields of the series (``title``, ``geo_accession``, ...), repeated fields joined by "; ".
    samples : DataFrame, n_samples x characteristics
        Indexed by accession (GSM...). Columns: ``title``, ``source_name``, ``description``,
        ``platform_id`` and the keys of the sample characteristics in lower case. Missing = NaN.
    table : SiteTable
        Values; no sites where the series keeps them in a supplementary file.
    """

    series: dict[str, str]
    samples: pd.DataFrame
    table: SiteTable


def read_series_matrix(path: str | Path) -> SeriesMatrix:
    """Read a GEO series matrix file, plain or gzipped.

    The file is streamed: beyond the float32 matrix that is returned, memory is bounded.
    Empty cells, ``NA`` and ``null``, quoted or not, are missing values.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    SeriesMatrix

    Raises
    ------
    MiracleError
        The file is cut short, a web page, has no table, a cell is no number, or a row has
        another number of values than there are samples.

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
        samples = _sample_table(fields, path)
        header = [_unquote(cell) for cell in stream.readline().decode().rstrip("\r\n").split("\t")]
        accessions = header[1:]
        if sorted(accessions) != sorted(samples.index):
            raise MiracleError(
                f"{path.name}, line {line + 1}: the table has columns {_some(accessions)}, but the "
                f"header describes {_some(list(samples.index))}."
            )
        rows = fields.get("data_row_count", [["0"]])[0][0]
        values, sites = read_numeric(
            stream,
            accessions,
            path,
            first_line=line + 2,
            end=_END,
            n_sites=int(rows) if rows.isdigit() else None,
        )
    return SeriesMatrix(
        series, samples.loc[accessions], SiteTable(values, pd.Index(accessions), sites)
    )


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
        f"{path.name}: no line {_BEGIN.decode()!r}, so this is no series matrix file of GEO "
        "or it is cut short."
    )


def _sample_table(fields: dict[str, list[list[str]]], path: Path) -> pd.DataFrame:
    """One row per sample: its fields and its characteristics."""
    if "geo_accession" not in fields:
        raise MiracleError(f"{path.name}: no line '!Sample_geo_accession' in the header.")
    accessions = fields["geo_accession"][0]
    repeated = pd.Index(accessions)[pd.Index(accessions).duplicated()]
    if len(repeated):
        raise MiracleError(f"{path.name}: sample {repeated[0]!r} occurs more than once.")
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
    return pd.DataFrame(records, index=pd.Index(accessions, name="sample"), dtype=object)


def _add(record: dict[str, str], name: str, cell: str) -> None:
    """Add one cell to a sample: a characteristic "key: value", or a field of its own name."""
    if name.startswith("characteristics"):
        # Keys are read per cell: GEO closes up the gap where a sample lacks a characteristic.
        key, colon, value = cell.partition(":")
        if not colon:
            return
        key, value = key.strip().lower(), value.strip()
    elif name in _FIELDS:
        key, value = name.removesuffix("_ch1"), cell.strip()
    else:
        return
    if not value:
        return
    record[key] = f"{record[key]}; {value}" if key in record else value


def _unquote(cell: str) -> str:
    return cell.strip().removeprefix('"').removesuffix('"')


def _some(names: list[str], n: int = 3) -> str:
    """The first few names, and how many there are."""
    return f"{', '.join(names[:n])}{', ...' if len(names) > n else ''} ({len(names)})"
