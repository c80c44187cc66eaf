"""Run many independent cells on one machine or a cluster, and never run one twice."""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from miracle_lib.code import code_of, digest
from miracle_lib.errors import MiracleError
from miracle_lib.files import atomic_path
from miracle_lib.parallel import spread
from miracle_lib.samples import Samples
from miracle_lib.store import environment

log = logging.getLogger(__name__)

Tables = dict[str, pd.DataFrame]


class Data(dict[str, Any]):
    """Inputs that many cells share, by argument name, with a hash of their content.

    Values are a Samples, tables, series, arrays, objects with an attribute ``hash`` (a hierarchy),
    None, or anything that JSON holds.
    """

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all values."""
        digest = hashlib.sha256()
        for name in sorted(self):
            digest.update(name.encode())
            for part in _content(self[name]):
                digest.update(part)
        return digest.hexdigest()


def _content(value: Any) -> Iterator[bytes]:
    """Bytes that tell two inputs apart."""
    if isinstance(value, pd.DataFrame):
        yield from (_content_of_index(value.columns), _content_of_index(value.index))
        for column in value.dtypes.unique():
            yield from _content(value.loc[:, value.dtypes == column].to_numpy())
    elif isinstance(value, pd.Series):
        yield _content_of_index(value.index)
        yield from _content(value.to_numpy())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, np.ndarray | pd.Index):
        yield json.dumps([str(item) for item in value.ravel()]).encode()
    elif isinstance(value, Samples):
        for part in (value.values, value.labels, value.cohort, value.subject, value.covariates):
            yield from _content(part)
    elif hasattr(value, "hash"):
        yield str(value.hash).encode()
    else:
        yield json.dumps(value, sort_keys=True).encode()


def _content_of_index(index: pd.Index) -> bytes:
    """Names along an axis."""
    return json.dumps([str(name) for name in index]).encode()


@dataclass(frozen=True)
class Cell:
    """One unit of work: ``function(**settings, **data)`` gives named tables.

    Parameters
    ----------
    function : callable
        Importable by name, so that another process can run it.
    settings : dict
        Whatever JSON holds.
    data : Data, optional
        Inputs shared with other cells.
    """

    function: Callable[..., Tables]
    settings: dict[str, Any]
    data: Data | None = None

    @property
    def key(self) -> str:
        """Hash of function, its code, settings, data and versions, which names the cell's file."""
        return digest(
            {
                "function": f"{self.function.__module__}.{self.function.__qualname__}",
                "code": code_of(self.function),
                "settings": self.settings,
                "data": self.data.hash if self.data else None,
                "environment": environment(),
            }
        )


def run_grid(
    cells: Sequence[Cell],
    store: str | Path,
    n_jobs: int = 1,
) -> list[Tables]:
    """Run the cells that are not stored yet and return the results of all.

    A finished cell is written at once to its own file, named by the hash of its content, so an
    interrupted run continues where it was and a repeated one does no work.

    Parameters
    ----------
    cells : sequence of Cell
    store : str or Path
        Folder of finished cells; made if absent.
    n_jobs : int, default 1
        Processes on this machine; -1 for all cores. In a block of `miracle_lib.parallel.cluster`
        the cells run on its workers.

    Returns
    -------
    list of dict of str to DataFrame
        In the order of ``cells``.

    Raises
    ------
    MiracleError
        If a cell fails; the others are finished and stored first.

    Examples
    --------
    >>> import tempfile
    >>> def square(x): return {"result": pd.DataFrame({"square": [x * x]})}
    >>> folder = tempfile.mkdtemp()
    >>> tables = run_grid([Cell(square, {"x": x}) for x in (2, 3)], folder)
    >>> [table["result"]["square"].item() for table in tables]
    [4, 9]
    """
    store = Path(store)
    store.mkdir(parents=True, exist_ok=True)
    keys = [cell.key for cell in cells]
    stored = {key: _read(_file(store, key)) for key in keys}
    found = {key: tables for key, tables in stored.items() if tables is not None}
    todo = {key: cell for key, cell in zip(keys, cells, strict=True) if key not in found}
    shared = list({id(cell.data): cell.data for cell in todo.values() if cell.data}.values())
    # Without its data a cell is small: these are sent once.
    jobs = [(key, replace(cell, data=None), cell.data) for key, cell in todo.items()]
    failed = {}
    with warnings.catch_warnings():
        # Loky replaces a worker that has grown by 300 MB and runs its cells all the same; a
        # worker that dies raises.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        for key, result in spread(_run, jobs, shared, n_jobs=n_jobs, ordered=False, title="cells"):
            if isinstance(result, Exception):
                failed[key] = result
            else:
                found[key] = _write(_file(store, key), todo[key], result)
    if failed:
        key, error = next(iter(failed.items()))
        raise MiracleError(
            f"{len(failed)} of {len(todo)} cells failed, the others are stored; "
            f"the first, {todo[key].settings}, with: {error}"
        ) from error
    return [found[key] for key in keys]


def _run(key: str, cell: Cell, data: Data | None) -> tuple[str, Tables | Exception]:
    """Run a cell where the scheduler put it; a failure must not stop the others."""
    shared: dict[str, Any] = data or {}
    try:
        return key, cell.function(**cell.settings, **shared)
    except Exception as error:
        return key, error


def _file(store: Path, key: str) -> Path:
    """Where a cell is stored."""
    return store / f"{key}.json"


def _write(path: Path, cell: Cell, tables: Tables) -> Tables:
    """Store one cell: what it was, its tables and their checksum; give them as they are read."""
    columns = {name: table.to_dict("list") for name, table in tables.items()}
    text = json.dumps(columns, default=_plain)
    content = {"settings": cell.settings, "sum": digest(text), "tables": text}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return _tables(text)


def _plain(value: Any) -> Any:
    """Numbers of numpy as numbers of Python."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a cell returned {type(value).__name__}, which JSON cannot hold")


def _read(path: Path) -> Tables | None:
    """Load one stored cell; None where there is none, or it is damaged, which is said."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["sum"] == digest(content["tables"]):
            return _tables(content["tables"])
    except (ValueError, KeyError, TypeError):
        pass
    log.warning("%s is damaged; the cell is run again", path.name)
    return None


def _tables(text: str) -> Tables:
    """Tables from their JSON."""
    return {name: pd.DataFrame(columns) for name, columns in json.loads(text).items()}
