"""Writing files so that nothing half-written is ever seen under its final name."""

import hashlib
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

_SETTLED = 2.0  # seconds after which another write gives a file another time of change


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


@contextmanager
def put_back(path: Path) -> Iterator[None]:
    """Put back what was at ``path``, a file or nothing, if the block that writes there raises.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with suppress(ValueError), put_back(path):
    ...     _ = path.write_text("of no use")
    ...     raise ValueError
    >>> path.exists()
    False
    """
    before = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    with suppress(FileNotFoundError):
        os.replace(path, before)
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            os.replace(before, path)
        raise
    before.unlink(missing_ok=True)


@contextmanager
def alone(path: str | Path, waiting: str) -> Iterator[None]:
    """Keep other processes that ask for the same from working on ``path`` meanwhile.

    Parameters
    ----------
    path : str or Path
        Its folder is made if absent.
    waiting : str
        What the log says where another process is at work.

    Examples
    --------
    >>> import tempfile
    >>> with alone(Path(tempfile.mkdtemp()) / "a.txt", "a.txt: waiting"):
    ...     pass
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    guard = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        guard.acquire(timeout=0)
    except Timeout:
        log.info(waiting)
        guard.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            os.unlink(guard.lock_file)  # while it is held: who waits for it sees that it is gone
        guard.release()


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


class RememberedHashes:
    """SHA-256 of files, each read once for its path, size and time of change.

    Parameters
    ----------
    memory : str or Path
        JSON file that keeps them for the next process; where it cannot be written, or is damaged,
        files are read again.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "abc").write_text("abc")
    >>> RememberedHashes(folder / "hashes.json")(folder / "abc")[:8]
    'ba7816bf'
    """

    def __init__(self, memory: str | Path) -> None:
        self.memory = Path(memory)

    def __call__(self, path: str | Path) -> str:
        """Hash of one file."""
        path = Path(path).resolve()
        stat = path.stat()
        known = self._read().get(str(path), [])
        if known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return known[2]
        found = sha256(path)
        # A file written this moment can change again without another time of change.
        if time.time() - stat.st_mtime > _SETTLED:
            entry = {str(path): [stat.st_size, stat.st_mtime_ns, found]}
            with suppress(OSError):
                write_json(self.memory, self._read() | entry)
        return found

    def _read(self) -> dict[str, list[Any]]:
        """What is remembered so far."""
        try:
            stored = json.loads(self.memory.read_text(encoding="utf-8"))
            return {path: entry for path, entry in stored.items() if len(entry) == 3}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
