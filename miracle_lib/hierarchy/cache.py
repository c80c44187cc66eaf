"""Parsed annotation kept as parquet, under a hash of the file and of the code that parsed it."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from miracle_lib.code import code_of, digest
from miracle_lib.errors import MiracleError
from miracle_lib.files import sha256
from miracle_lib.store import Store, environment


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
    key = digest([kind, sha256(path), code_of(parse), environment()])

    def fill(work: Path) -> None:
        for name, table in zip(names, parse(), strict=True):
            table.to_parquet(work / f"{name}.parquet")

    made = Store(Path(folder) / "annotation").make("parsed", key, fill)
    return tuple(pd.read_parquet(made / f"{name}.parquet") for name in names)
