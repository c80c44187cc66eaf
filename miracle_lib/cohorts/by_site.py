"""Samples on disk, their values stored by site: some sites are read without all the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.progress import progress

BLOCK = 1024  # sites stored and read together: 2,300 samples of them take 9 MB


@contextmanager
def new_file(path: str | Path, about: AnnData) -> Iterator[h5py.Dataset]:
    """Begin an ``.h5ad`` file whose values are stored in blocks of sites.

    Parameters
    ----------
    path : str or Path
    about : AnnData
        All but the values.

    Yields
    ------
    h5py.Dataset, n_samples x n_sites
        Float32, NaN until values are assigned to it.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "samples.h5ad"
    >>> about = AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["cg1", "cg2"]))
    >>> with new_file(path, about) as values:
    ...     values[0, 1:] = 0.5
    >>> import anndata
    >>> read_part(anndata.read_h5ad(path, backed="r"), sites=["cg2"]).X.tolist()
    [[0.5]]
    """
    about.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        chunks = (about.n_obs, min(BLOCK, about.n_vars))
        values = file.create_dataset("X", about.shape, "f4", chunks=chunks, fillvalue=np.nan)
        values.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        yield values


def site_blocks(adata: AnnData) -> Iterator[tuple[slice, np.ndarray]]:
    """Values of all samples, some sites at a time.

    Parameters
    ----------
    adata : AnnData
        May be backed by its file.

    Yields
    ------
    part : slice
        Which sites.
    values : ndarray of shape (n_samples, n_sites of the part)
    """
    for part in progress(_parts(adata), "blocks of sites"):
        yield part, np.asarray(adata.X[:, part])


def read_part(
    adata: AnnData, *, samples: pd.Index | None = None, sites: pd.Index | list[str] | None = None
) -> AnnData:
    """Bring some samples, some sites or both into memory, in the order of the file.

    Parameters
    ----------
    adata : AnnData
        May be backed by its file.
    samples, sites : Index or list of str, optional
        Names; those that it lacks are passed over. Default: all.

    Returns
    -------
    AnnData
        With all that is known of the samples.
    """
    rows, columns = (
        np.ones(len(names), bool) if wanted is None else names.isin(wanted)
        for names, wanted in ((adata.obs_names, samples), (adata.var_names, sites))
    )
    filled = np.concatenate([[0], np.cumsum(columns)])
    values = np.empty((rows.sum(), filled[-1]), np.float32)
    for part in _parts(adata):
        if columns[part].any():
            block = np.asarray(adata.X[:, part])
            values[:, filled[part.start] : filled[part.stop]] = block[rows][:, columns[part]]
    obsm = {name: table[rows] for name, table in adata.obsm.items()}
    return AnnData(values, adata.obs[rows].copy(), adata.var[columns].copy(), obsm=obsm)


def _parts(adata: AnnData) -> list[slice]:
    """Blocks of sites, as they are stored."""
    starts = range(0, adata.n_vars, BLOCK)
    return [slice(start, min(start + BLOCK, adata.n_vars)) for start in starts]
