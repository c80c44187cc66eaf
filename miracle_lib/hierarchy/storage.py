"""One compressed file for names, masks and tables: NumPy arrays, nothing pickled."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from miracle_lib.errors import MiracleError
from miracle_lib.files import atomic_path

FORMAT, VERSION = "miracle hierarchy", 1


def write(path: str | Path, values: dict[str, Any]) -> None:
    """Write arrays as they are and everything else as JSON text.

    Parameters
    ----------
    path : str or Path
    values : dict
        Arrays of numbers, or what JSON can hold.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npz"
    >>> write(path, {"names": ["x"], "edges": np.arange(2)})
    >>> read(path)["names"]
    ['x']
    """
    arrays = {}
    for key, value in {"format": [FORMAT, VERSION], **values}.items():
        if isinstance(value, np.ndarray):
            arrays[f"array.{key}"] = value
        else:
            arrays[f"json.{key}"] = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def read(path: str | Path) -> dict[str, Any]:
    """Read what `write` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        The values by their keys.

    Raises
    ------
    MiracleError
        If the file is absent, is something else, is damaged, or is of a later version.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npz"
    >>> write(path, {"edges": np.arange(2)})
    >>> read(path)["edges"].tolist()
    [0, 1]
    """
    path = Path(path)
    if not path.is_file():
        raise MiracleError(f"there is no file {path}")
    try:
        values = {}
        with np.load(path, allow_pickle=False) as archive:
            for name, array in archive.items():
                kind, key = name.split(".", 1)
                values[key] = array if kind == "array" else json.loads(array.tobytes())
        name, version = values.pop("format")
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise MiracleError(
            f"{path.name} is not a hierarchy written by Hierarchy.save, or is damaged"
        ) from None
    if name != FORMAT or version > VERSION:
        raise MiracleError(
            f"{path.name} is {name!r} version {version}; this program reads {FORMAT!r} up to "
            f"version {VERSION}"
        )
    return values
