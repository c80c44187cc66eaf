"""One place that decides what a result depends on, where it lies, and whether it is whole.

A result is a folder that a function has filled. Its name is the key: a hash of all that it depends
on, so that a result whose inputs are unchanged is found, and others lie beside it. A function
works in ``KEY.part``, which a killed run finds again; when it is done, a receipt with the checksum
of every file and the environment is written and the folder is renamed to ``KEY``.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from miracle_lib.code import digest
from miracle_lib.errors import MiracleError
from miracle_lib.files import alone, sha256, write_json

log = logging.getLogger(__name__)

RECEIPT = "receipt.json"
# Packages whose version can change a number.
COMPUTE = (
    "anndata",
    "captum",
    "gseapy",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "torch",
)


@cache
def environment() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in COMPUTE:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions


@dataclass(frozen=True)
class Store:
    """A folder of results.

    Parameters
    ----------
    folder : Path
        Made when the first result is.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> def fill(folder): _ = (folder / "a.txt").write_text("done")
    >>> (store.make("letters", digest("first"), fill) / "a.txt").read_text()
    'done'
    """

    folder: Path

    def place(self, name: str, key: str) -> Path:
        """Where a result lies, or would lie."""
        return self.folder / name / key

    def holds(self, name: str) -> bool:
        """Whether there is any result of a name, whole or not, whatever it depends on."""
        return (self.folder / name).is_dir()

    def find(self, name: str, key: str) -> Path | None:
        """Return a finished result; None where there is none, or where it is damaged.

        Reads only: what is damaged stays as it is until it is made again, and is said in a warning.
        """
        place = self.place(name, key)
        if not place.is_dir():
            return None
        problems = _problems(place)
        if problems:
            file, problem = next(iter(problems.items()))
            log.warning("%s: %s %s; it is made again", name, file, problem)
            return None
        return place

    def make(self, name: str, key: str, fill: Callable[[Path], None]) -> Path:
        """Return a finished result, made now if it is not there.

        Parameters
        ----------
        name : str
            What it is, a name of this package.
        key : str
            From `digest`.
        fill : callable
            Fills the folder that it is given, which holds what an earlier call left unfinished.

        Returns
        -------
        Path
        """
        place = self.place(name, key)
        work = place.with_name(f"{key}.part")
        work.mkdir(parents=True, exist_ok=True)
        with alone(place, f"{name}: waiting for who makes it"):
            if (found := self.find(name, key)) is not None:  # made meanwhile
                shutil.rmtree(work, ignore_errors=True)
                return found
            if place.is_dir():
                _reopen(place, work)
            work.mkdir(exist_ok=True)
            fill(work)
            files = _sums(work)
            receipt = {"environment": environment(), "files": files, "sum": digest(files)}
            write_json(work / RECEIPT, receipt)
            work.replace(place)
        return place

    def receipt(self, name: str, key: str) -> dict[str, Any]:
        """What a finished result was made with: environment, and the checksum of each file."""
        return json.loads((self.place(name, key) / RECEIPT).read_text("utf-8"))

    def clean(self, needed: Iterable[tuple[str, str]]) -> list[Path]:
        """Remove every result, finished or not, that is not among those needed.

        Parameters
        ----------
        needed : iterable of (name, key)

        Returns
        -------
        list of Path
            What was removed.
        """
        kept = {self.place(name, key) for name, key in needed}
        removed = []
        for place in sorted(self.folder.glob("*/*")):
            finished = place.with_name(place.name.removesuffix(".part"))
            if place.is_dir() and finished not in kept:
                shutil.rmtree(place)
                removed.append(place)
        return removed


@contextmanager
def only_one(folder: Path, command: str = "run") -> Iterator[None]:
    """Keep a second command out of a folder; say so in one sentence.

    Parameters
    ----------
    folder : Path
    command : str
        For the message.

    Raises
    ------
    MiracleError
        Another process is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MiracleError(
            f"{folder} is in use by another {command}; wait until it is finished, or name "
            "another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _sums(folder: Path) -> dict[str, str]:
    """Checksum of every file below a folder."""
    files = sorted(
        path
        for path in folder.rglob("*")
        # What desktops leave is hidden, and no part of a result.
        if path.is_file() and path != folder / RECEIPT and not path.name.startswith(".")
    )
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _problems(place: Path) -> dict[str, str]:
    """What is wrong with the files of a finished result, by name; empty if it is whole."""
    try:
        receipt = json.loads((place / RECEIPT).read_text("utf-8"))
        files, whole = receipt["files"], receipt["sum"] == digest(receipt["files"])
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        return {RECEIPT: "is missing or damaged"}
    found = _sums(place)
    problems = {name: "is missing" for name in files if name not in found}
    problems |= {name: "is not part of it" for name in found if name not in files}
    changed = (name for name in found if name in files and found[name] != files[name])
    return problems | dict.fromkeys(changed, "is damaged")


def _reopen(place: Path, work: Path) -> None:
    """Turn a damaged result into unfinished work that holds what of it is sound."""
    problems = _problems(place)
    shutil.rmtree(work)
    if RECEIPT in problems:  # nothing says what is sound
        shutil.rmtree(place)
        return
    for name in problems:
        (place / name).unlink(missing_ok=True)
    place.replace(work)
    (work / RECEIPT).unlink()
