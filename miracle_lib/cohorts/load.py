"""From a manifest to an AnnData object."""

import logging
from pathlib import Path

import anndata
import pandas as pd

from miracle_lib.cohorts.fetch import fetch_file
from miracle_lib.cohorts.manifest import load_manifest
from miracle_lib.cohorts.phenotypes import read_phenotypes
from miracle_lib.cohorts.series_matrix import read_series_matrix
from miracle_lib.files import atomic_path, sha256

_log = logging.getLogger(__name__)


def load_cohort(
    name_or_yaml: str | Path, mirror: str | Path | None = None, *, allow_subset: bool = False
) -> anndata.AnnData:
    """Fetch and read one cohort.

    Parameters
    ----------
    name_or_yaml : str or Path
        Name of a manifest that comes with the project (``"GSE42861"``), or a YAML file.
    mirror : str or Path, optional
        Folder or address where every file is looked up by its base name instead of the network;
        default: the environment variable ``MIRACLE_MIRROR``.
    allow_subset : bool, default False
        False: the numbers of cases and controls must be those of the manifest. True: a subset of
        the series is accepted; the numbers found and expected are kept in the provenance.

    Returns
    -------
    AnnData, n_samples x n_sites
        ``X`` float32 beta values, NaN = missing; ``obs`` as `read_phenotypes` returns it;
        ``uns["provenance"]`` says where everything came from.

    Raises
    ------
    MiracleError
        A file is missing or damaged, or its content is not what the manifest says.
    """
    manifest = load_manifest(name_or_yaml)
    paths = [fetch_file(file.url, mirror) for file in manifest.files]
    matrix = read_series_matrix(paths[0])
    obs = read_phenotypes(matrix.samples, manifest, allow_subset)
    rows = matrix.table.samples.get_indexer(obs.index)
    adata = anndata.AnnData(
        matrix.table.values[rows], obs=obs, var=pd.DataFrame(index=matrix.table.sites)
    )
    adata.uns["provenance"] = {
        f.name: sha256(p) for f, p in zip(manifest.files, paths, strict=True)
    }
    return adata


def write_cohort(adata: anndata.AnnData, path: str | Path) -> None:
    """Write a cohort as ``.h5ad``; the file appears under its name only when it is complete."""
    with atomic_path(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip")
