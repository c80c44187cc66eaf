"""Writing files so that nothing half-written is ever seen under its final name."""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` if the block succeeds.

    Parameters
    ----------
    path : str or Path
        Final name; its folder is made if absent.

    Yields
    ------
    Path
        The name to write to, with the suffixes of ``path``. Removed if the block raises.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("done")
    >>> (folder / "a.txt").read_text()
    'done'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def safe_name(name: str) -> str:
    """Return a file name that stands for any text, and for no other.

    Letters, digits, space, dot, hyphen and underscore stay; everything else, a leading dot and an
    empty text are written as ``%`` and two hexadecimal digits per byte, as in an address.

    Examples
    --------
    >>> safe_name("SLE/DLE"), safe_name("../../x"), safe_name("Crohn's disease")
    ('SLE%2FDLE', '%2E.%2F..%2Fx', 'Crohn%27s disease')
    """
    escaped = quote(name, safe=" ._-", encoding="utf-8")
    if not escaped.strip():
        return "%" + "%".join(f"{byte:02X}" for byte in name.encode()) if name else "%00"
    return re.sub(r"^\.", "%2E", escaped)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 hex digest of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
