"""Parsed annotation kept as parquet, under the hash of the file it was read from."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from miracle_lib.errors import MiracleError
from miracle_lib.files import atomic_path, sha256


def cached_tables(
    path: Path,
    kind: str,
    names: tuple[str, ...],
    parse: Callable[[], tuple[pd.DataFrame, ...]],
    cache: str | Path | None,
) -> tuple[pd.DataFrame, ...]:
    """Return the tables parsed from ``path``, from the cache if its content was parsed before.

    Parameters
    ----------
    path : Path
        File the tables come from; its content, not its name or date, is the key.
    kind : str
        Name and version of the parser and its options; part of the key.
    names : tuple of str
        Names of the tables.
    parse : callable
        Makes the tables.
    cache : str or Path, optional
        Folder; default ``MIRACLE_CACHE``. Without either nothing is kept.

    Returns
    -------
    tuple of DataFrame

    Raises
    ------
    MiracleError
        If there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.csv").write_text("x")
    >>> table = pd.DataFrame({"x": [1]})
    >>> _ = cached_tables(folder / "a.csv", "demo", ("t",), lambda: (table,), folder)
    >>> cached_tables(folder / "a.csv", "demo", ("t",), lambda: 1 / 0, folder)[0]["x"].tolist()
    [1]
    """
    if not path.is_file():
        raise MiracleError(f"there is no file {path}")
    folder = cache or os.environ.get("MIRACLE_CACHE")
    if not folder:
        return parse()
    stem = f"{kind}-{sha256(path)[:32]}"
    files = [Path(folder) / "annotation" / f"{stem}-{name}.parquet" for name in names]
    if all(file.is_file() for file in files):
        return tuple(pd.read_parquet(file) for file in files)
    tables = parse()
    for file, table in zip(files, tables, strict=True):
        with atomic_path(file) as temporary:
            table.to_parquet(temporary)
    return tables
