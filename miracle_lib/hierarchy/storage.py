"""One compressed file for names, masks and tables: NumPy arrays, nothing pickled."""

import json
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

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
    arrays: dict[str, Any] = {}
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
        later = version > VERSION
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise MiracleError(
            f"{path.name} is not a hierarchy written by Hierarchy.save, or is damaged"
        ) from None
    if name != FORMAT or later:
        raise MiracleError(
            f"{path.name} is {name!r} version {version}; this program reads {FORMAT!r} up to "
            f"version {VERSION}"
        )
    return values


def graph(values: dict[str, Any], name: str) -> tuple[list[pd.Index], list[csr_matrix]]:
    """Return layers and masks of what `read` gave, checked: compiled code trusts its indices.

    Parameters
    ----------
    values : dict
    name : str
        Of the file, for the error.

    Returns
    -------
    layers : list of Index
    masks : list of csr_matrix of bool

    Raises
    ------
    MiracleError
        If names are not unique texts, or an edge leads to what has no name.

    Examples
    --------
    >>> mask = {"indptr0": np.array([0, 1]), "indices0": np.array([0])}
    >>> graph({"layers": [["cg1"], ["A"]]} | mask, "a.npz")[1][0].toarray().tolist()
    [[True]]
    >>> graph({"layers": [["cg1"], []]} | mask, "a.npz")
    Traceback (most recent call last):
    miracle_lib.errors.MiracleError: a.npz is damaged: mask 0 leads to entry 0 of a layer of 0 names
    """
    try:
        layers = [_names(layer) for layer in values["layers"]]
        masks = [
            _mask(values[f"indptr{i}"], values[f"indices{i}"], (len(lower), len(upper)), i)
            for i, (lower, upper) in enumerate(pairwise(layers))
        ]
    except KeyError as error:
        raise MiracleError(f"{name} is damaged: {error.args[0]} is absent") from None
    except (ValueError, TypeError) as error:
        raise MiracleError(f"{name} is damaged: {error}") from None
    if not masks:
        raise MiracleError(f"{name} is damaged: it has {len(layers)} layers; expected at least 2")
    return layers, masks


def _names(layer: list[str]) -> pd.Index:
    """Refuse names that are not unique texts."""
    index = pd.Index(layer, dtype=object)
    if not all(isinstance(each, str) for each in index) or not index.is_unique:
        raise ValueError("the names of a layer are not unique texts")
    return index


def _mask(indptr: np.ndarray, indices: np.ndarray, shape: tuple[int, int], i: int) -> csr_matrix:
    """Refuse edges that lie outside the mask."""
    if indptr.shape != (shape[0] + 1,) or indices.ndim != 1:
        raise ValueError(f"mask {i} does not fit its layer of {shape[0]} names")
    if indptr.dtype.kind != "i" or indices.dtype.kind != "i":
        raise ValueError(f"the indices of mask {i} are no whole numbers")
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise ValueError(f"the rows of mask {i} overlap")
    outside = (indices < 0) | (indices >= shape[1])
    if outside.any():
        entry = indices[outside][0]
        raise ValueError(f"mask {i} leads to entry {entry} of a layer of {shape[1]} names")
    mask = csr_matrix((np.ones(len(indices), dtype=bool), indices, indptr), shape=shape)
    if not mask.has_sorted_indices or not mask.has_canonical_format:
        raise ValueError(f"an edge of mask {i} is out of order or there twice")
    return mask
