"""Content of a file, whether plain, gzipped or zipped."""

import gzip
import io
import zipfile
import zlib
from pathlib import Path

from miracle_lib.errors import MiracleError
from miracle_lib.spreadsheet import refuse_utf16


def read_bytes(path: str | Path) -> bytes:
    """Return a file's content; gzip and zip are recognised by content, not by name.

    Parameters
    ----------
    path : str or Path
        Of a zip archive, the largest member is read.

    Returns
    -------
    bytes

    Raises
    ------
    MiracleError
        If there is no such file, it is cut off, or text in UTF-16.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt.gz"
    >>> _ = path.write_bytes(gzip.compress(b"text"))
    >>> read_bytes(path)
    b'text'
    """
    path = Path(path)
    if not path.is_file():
        raise MiracleError(f"there is no file {path}")
    data = path.read_bytes()
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        elif data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read(max(archive.infolist(), key=lambda item: item.file_size))
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise MiracleError(f"{path.name} is damaged or cut off ({error})") from None
    refuse_utf16(data, path.name)
    return data


def read_text(path: str | Path) -> str:
    """Return a file's content as UTF-8 text.

    Parameters
    ----------
    path : str or Path
        As in `read_bytes`.

    Returns
    -------
    str

    Raises
    ------
    MiracleError
        As in `read_bytes`; also if the content is not UTF-8.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_text("text")
    >>> read_text(path)
    'text'
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MiracleError(f"{Path(path).name} is not UTF-8 text (at byte {error.start})") from None


def one_line(error: Exception) -> str:
    """What a parser complains of, short and on one line."""
    return " ".join(str(error).split())[:120]
