"""Values that stay on disk: a store larger than memory, read some samples at a time."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike

from miracle_lib.errors import MiracleError
from miracle_lib.extras import needs

PART = 2**26  # values read at a time: a quarter of a gigabyte as float32


class StoredValues:
    """Table of samples x sites whose values stay on disk.

    It has the axes of a DataFrame, and rows can be chosen by position with ``iloc``, which reads
    nothing. `parts` streams the values through scDataset.

    Parameters
    ----------
    array : h5py.Dataset or zarr.Array, shape (n_stored, n_sites)
        Beta values, NaN where missing.
    index : Index
        Names of the samples.
    columns : Index
        Names of the sites.

    References
    ----------
    D'Ascenzo and Cultrera di Montesano 2025, scDataset, arXiv 2506.01883.

    Examples
    --------
    >>> stored = StoredValues(np.eye(3), pd.Index(["a", "b", "c"]), pd.Index(["x", "y", "z"]))
    >>> stored.iloc[[2, 0]].load()
         x    y    z
    c  0.0  0.0  1.0
    a  1.0  0.0  0.0
    """

    def __init__(self, array: Any, index: pd.Index, columns: pd.Index) -> None:
        self.array, self.index, self.columns = array, index, columns
        self._stored_shape = (len(index), len(columns))
        self._rows, self._sites = map(np.arange, self._stored_shape)  # which are wanted
        self._size = _expected_size(array)

    def __getstate__(self) -> dict[str, Any]:
        """Say where an HDF5 file lies: another process has to open it for itself."""
        if not hasattr(self.array, "file"):
            return vars(self)
        return vars(self) | {"array": (self.array.file.filename, self.array.name)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if isinstance(self.array, tuple):
            import h5py

            file, name = self.array
            self.array = h5py.File(file, "r")[name]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and of sites."""
        return len(self.index), len(self.columns)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def iloc(self) -> _Rows:
        """Choose samples by position, as that of a DataFrame."""
        return _Rows(self)

    def reindex(self, columns: pd.Index) -> StoredValues:
        """Return the same samples with other sites, NaN where one is not stored."""
        chosen, where = self._copy(), self.columns.get_indexer(columns)
        chosen.columns, chosen._sites = columns, np.where(where < 0, -1, self._sites[where])
        return chosen

    def _copy(self) -> StoredValues:
        """Return the same table, that can be restricted."""
        copied = object.__new__(StoredValues)
        copied.__dict__ |= self.__dict__
        return copied

    def parts(self, size: int | None = None) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        """Yield every sample once, some at a time, in the order in which they lie on disk.

        Parameters
        ----------
        size : int, optional
            Samples at a time. Default: as many as 2**26 values make.

        Yields
        ------
        places : ndarray of int
            Positions in this table.
        part : DataFrame of float32

        Raises
        ------
        MiracleError
            If scDataset is not installed, or the store cannot be read or has lost a part.
        """
        with needs("large", "Reading values that stay on disk"):
            from scdataset import Streaming, scDataset
        order = np.argsort(self._rows)
        stream = scDataset(
            self.array,
            Streaming(self._rows[order]),
            batch_size=size or max(1, PART // self._stored_shape[1]),
            fetch_factor=1,
            fetch_callback=self._read,
            batch_callback=lambda values, _: values,  # what is fetched at a time is one batch
            rank=0,
            world_size=1,  # every process of a training reads all that it asks for
        )
        start = 0
        for values in stream:
            places = order[start : start + len(values)]
            start += len(values)
            yield places, pd.DataFrame(values, self.index[places], self.columns, copy=False)

    def load(self) -> pd.DataFrame:
        """Read everything into memory."""
        tables = [part for _, part in self.parts()]
        return pd.concat(tables).loc[self.index]

    def _read(self, array: Any, rows: np.ndarray) -> np.ndarray:
        """Read some stored rows; refuse what a store that is being changed gives."""
        first, last = int(rows[0]), int(rows[-1])
        whole = last - first + 1 == len(rows)
        try:
            values = array[first : last + 1] if whole else _chosen(array, rows)
        except (OSError, KeyError, ValueError) as error:
            raise self._damaged(str(error)) from error
        expected, found = (len(rows), self._stored_shape[1]), values.shape
        if found != expected:
            raise self._damaged(f"{found[0]} samples x {found[1]} sites were read")
        size = _size_on_disk(array)
        if size < self._size:
            raise self._damaged(
                f"{self._size - size:,} of its {self._size:,} bytes or chunks are gone"
            )
        values = np.asarray(values, np.float32)
        if np.array_equal(self._sites, np.arange(self._stored_shape[1])):
            return values
        chosen = values[:, self._sites]
        chosen[:, self._sites < 0] = np.nan
        return chosen

    def _damaged(self, why: str) -> MiracleError:
        """Say that a store is not what it was when it was opened."""
        stored = getattr(getattr(self.array, "file", None), "filename", None) or getattr(
            self.array, "store", "the store"
        )
        n, width = self._stored_shape
        return MiracleError(
            f"{stored} cannot be read any more: {why}; expected {n:,} samples x {width:,} sites as "
            "when it was opened. Was it changed meanwhile?"
        )


class _Rows:
    """Choice of samples by position."""

    def __init__(self, table: StoredValues) -> None:
        self.table = table

    def __getitem__(self, rows: Any) -> StoredValues:
        chosen = self.table._copy()
        chosen.index, chosen._rows = self.table.index[rows], self.table._rows[rows]
        return chosen


def _chosen(array: Any, rows: np.ndarray) -> np.ndarray:
    """Read rows that do not lie side by side."""
    outer = getattr(array, "oindex", array)  # zarr's own way; h5py has one only
    return outer[rows]


# What is lost reads as zeros, in HDF5 as in zarr, without an error.
def _size_on_disk(array: Any) -> int:
    """Return the bytes of the file that are there, or the chunks; 0 of an array in memory."""
    if hasattr(array, "file"):
        return os.path.getsize(array.file.filename)
    return getattr(array, "nchunks_initialized", 0)


def _expected_size(array: Any) -> int:
    """Return the bytes or chunks that must be there."""
    if hasattr(array, "file"):
        return array.file.id.get_filesize()
    # Where nothing is stored for missing values, only later losses can be told.
    all_stored = not np.isnan(getattr(array, "fill_value", np.nan))
    return array.nchunks if all_stored else _size_on_disk(array)


def is_on_disk(values: Any) -> bool:
    """Tell whether an array of an AnnData is dense and not in memory."""
    return type(values).__module__.split(".")[0] in ("h5py", "zarr")


def read_store(path: str | Path) -> Any:
    """Open an h5ad file or a zarr folder as an AnnData whose values stay on disk.

    Parameters
    ----------
    path : str or Path
        Written by ``AnnData.write_h5ad`` or ``AnnData.write_zarr``, dense.

    Returns
    -------
    AnnData
        For `MiracleClassifier` and `Samples.from_anndata`.

    Raises
    ------
    MiracleError
        If there is no such store, or it is none of an AnnData.
    """
    from anndata import AnnData, read_h5ad
    from anndata.io import read_elem

    path = Path(path)
    if not path.exists():
        raise MiracleError(f"{path} is absent; expected an h5ad file or a zarr folder.")
    try:
        if path.is_file():
            return read_h5ad(path, backed="r")
        import zarr

        group = zarr.open_group(path, mode="r")
        parts = {name: read_elem(group[name]) for name in ("obs", "var", "obsm", "uns")}
        return AnnData(group["X"], **parts)
    except (OSError, KeyError, ValueError) as error:
        raise MiracleError(f"{path} is no store of an AnnData: {error}") from error


def scratch_array(shape: tuple[int, ...], what: str, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Return an array that lies in a temporary file without a name, which goes with the array.

    Parameters
    ----------
    shape : tuple of int
    what : str
        What it holds, for the message.
    dtype : dtype, optional

    Raises
    ------
    MiracleError
        If the disk is too small.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile() as file:
        try:
            _reserve(file, size)
        except OSError as error:
            raise MiracleError(
                f"{tempfile.gettempdir()} has no room for {what} ({size / 1e9:.1f} GB): "
                f"{error.strerror}; TMPDIR names another folder. Nothing was changed."
            ) from error
        return np.memmap(file, dtype, "r+", shape=shape)


def _reserve(file: IO[bytes], size: int) -> None:
    """Fill a file with zeros: a mapped one that met a full disk later would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, PART):  # macOS
        file.write(bytes(min(PART, size - start)))
    file.flush()
