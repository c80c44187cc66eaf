"""From a manifest to an AnnData object."""

import errno
import logging
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

import miracle_lib
from miracle_lib.cohorts.fetch import fetch_file, file_hash
from miracle_lib.cohorts.joining import join_columns
from miracle_lib.cohorts.manifest import CohortManifest, DataFile, load_manifest
from miracle_lib.cohorts.phenotypes import check_numbers, count, covariate_names, read_phenotypes
from miracle_lib.cohorts.sample_tables import read_samples
from miracle_lib.cohorts.series_matrix import read_series_matrix
from miracle_lib.cohorts.site_table import (
    SiteTable,
    average_replicates,
    check_names,
    drop_empty,
    stack,
    to_beta,
)
from miracle_lib.cohorts.supplementary import read_supplementary
from miracle_lib.cohorts.tables import read_table
from miracle_lib.errors import MiracleError
from miracle_lib.files import atomic_path, sha256

_log = logging.getLogger(__name__)
_PLATFORMS = {
    "GPL8490": "27K",
    "GPL13534": "450K",
    "GPL16304": "450K",
    "GPL21145": "EPIC",
    "GPL23976": "EPIC",
    "GPL33022": "EPICv2",
}


def load_cohort(
    name_or_yaml: str | Path,
    mirror: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    allow_subset: bool = False,
) -> anndata.AnnData:
    """Fetch, read and check one cohort.

    Parameters
    ----------
    name_or_yaml : str or Path
        Name of a manifest that comes with the project (``"GSE42861"``), or a YAML file.
    mirror, cache : str or Path, optional
        As in `fetch_file`.
    allow_subset : bool, default False
        False: the numbers of cases and controls must be those of the manifest. True: a subset of
        the series is accepted; the numbers found and expected are kept in the provenance.

    Returns
    -------
    AnnData, n_samples x n_sites
        ``X`` float32 beta values, NaN = missing; ``obs`` as `read_phenotypes` returns it plus
        ``platform``; ``uns["covariates"]`` names the columns that are covariates,
        ``uns["provenance"]`` says where everything came from.

    Raises
    ------
    MiracleError
        A file is missing or damaged, or its content is not what the manifest says.

    Examples
    --------
    >>> adata = load_cohort("GSE42861", mirror="mirror")  # doctest: +SKIP
    """
    manifest = load_manifest(name_or_yaml)
    paths = {
        file: fetch_file(manifest.locate(file), mirror, cache=cache, checksum=file.sha256)
        for file in manifest.files
    }
    samples = describe_samples(manifest, paths)
    obs = read_phenotypes(samples, manifest, allow_subset)
    obs["platform"] = _platforms(samples.loc[obs.index], manifest)
    table = _read_values(manifest, paths, samples, obs.index)
    obs = obs.loc[table.samples]
    check_numbers(obs, manifest, allow_subset)
    adata = anndata.AnnData(table.values, obs=obs, var=pd.DataFrame(index=table.sites))
    adata.uns["covariates"] = covariate_names(obs)
    adata.uns["provenance"] = _provenance(manifest, paths, obs)
    return adata


def write_cohort(adata: anndata.AnnData, path: str | Path) -> None:
    """Write a cohort as ``.h5ad``; the file appears under its name only when it is complete.

    Parameters
    ----------
    adata : AnnData
    path : str or Path

    Raises
    ------
    MiracleError
        The disk is full or the folder cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> adata = anndata.AnnData(np.zeros((1, 2), np.float32))
    >>> path = Path(tempfile.mkdtemp()) / "cohort.h5ad"
    >>> write_cohort(adata, path)
    >>> anndata.read_h5ad(path).shape
    (1, 2)
    """
    path = Path(path)
    try:
        with atomic_path(path) as temporary:
            adata.write_h5ad(temporary, compression="gzip", compression_opts=1)
    except OSError as error:
        full = error.errno == errno.ENOSPC or "No space left" in str(error)
        reason = "the disk is full" if full else str(error)
        raise MiracleError(f"{path.name} cannot be written to {path.parent}: {reason}.") from error


def annotate_sites(adata: anndata.AnnData, *tables: pd.DataFrame) -> None:
    """Add columns such as position, genes and masks to ``var``, in place.

    Parameters
    ----------
    adata : AnnData
    *tables : DataFrame
        Indexed by site. Sites that a table lacks get False, "" or NaN by the type of the column.

    Examples
    --------
    >>> adata = anndata.AnnData(np.zeros((1, 2)), var=pd.DataFrame(index=["cg1", "cg2"]))
    >>> annotate_sites(adata, pd.DataFrame({"genes": ["AHRR"]}, index=["cg2"]))
    >>> adata.var["genes"].tolist()
    ['', 'AHRR']
    """
    for table in tables:
        known = table[~table.index.duplicated()].reindex(adata.var_names)
        for name, column in known.items():
            if table[name].dtype == bool:
                column = column.astype("boolean").fillna(False).astype(bool)
            elif table[name].dtype == object:
                column = column.fillna("")
            adata.var[name] = column


def describe_samples(manifest: CohortManifest, paths: dict[DataFile, Path]) -> pd.DataFrame:
    """The sample descriptions of all files that have some."""
    parts = []
    for file, path in paths.items():
        if file.layout == "series_matrix":
            parts.append(read_series_matrix(path, samples=[]).samples)
        elif file.layout == "samples":
            parts.append(read_samples(path))
    if not parts:
        raise MiracleError(
            f"{manifest.path.name}: no file describes the samples; expected one with layout "
            "series_matrix or samples."
        )
    samples = pd.concat(parts)
    if not samples.index.is_unique:
        repeated = samples.index[samples.index.duplicated()][0]
        raise MiracleError(f"{manifest.name}: sample {repeated!r} is in more than one file.")
    return samples


def _read_values(
    manifest: CohortManifest, paths: dict[DataFile, Path], samples: pd.DataFrame, wanted: pd.Index
) -> SiteTable:
    """Read, check and join the values of the samples that are used.

    A sample is read from the first file that has values for it.
    """
    tables, empty, lacking = [], [], wanted
    for file, path in paths.items():
        if file.layout == "samples" or not len(lacking):
            continue
        table = _read_file(file, path, samples.loc[lacking], manifest.detection_p)
        if not len(table.samples) or not len(table.sites):
            _log.info("%s: no values for the samples that are used", path.name)
            empty.append(path.name)
            continue
        check_names(table, path.name)
        to_beta(table, file.scale or manifest.scale, path.name)
        tables.append(drop_empty(average_replicates(table), path.name))
        lacking = lacking.difference(table.samples, sort=False)
    if not tables:
        raise MiracleError(
            f"{manifest.path.name}: no values in {', '.join(empty) or 'any file'}; a series that "
            "keeps them in a supplementary file needs it named here."
        )
    if len(lacking) > manifest.absent:
        raise MiracleError(
            f"{manifest.name}: no values for sample {lacking[0]!r} ({len(lacking)} such samples, "
            f"expected at most {manifest.absent})."
        )
    if len(lacking):
        _log.warning(
            "%s: %d samples without values left out: %s",
            manifest.name,
            len(lacking),
            ", ".join(lacking),
        )
    table = stack(tables, manifest.name)
    present = wanted.drop(lacking)
    if not table.samples.equals(present):
        table.values = table.values[table.samples.get_indexer(present)]
        table.samples = present
    return table


def _read_file(file: DataFile, path: Path, samples: pd.DataFrame, detection_p: float) -> SiteTable:
    """Read one file of values, only the samples that are used."""
    wanted = samples.index
    if file.layout == "series_matrix":
        there = read_series_matrix(path, samples=[]).samples.index
        return read_series_matrix(path, samples=wanted[wanted.isin(there)]).table
    if file.layout == "supplementary":
        return read_supplementary(path, samples, detection_p)
    table = read_table(path, drop_other=file.drop_other, detection_p=detection_p)
    check_names(table, path.name)
    return choose_samples(table, samples, path.name)


def choose_samples(table: SiteTable, samples: pd.DataFrame, source: str) -> SiteTable:
    """The rows of a user's table that belong to some samples, under the names of these.

    A row is called as the sample is, or, where no row is, by another field of the samples.
    """
    called = pd.Series(samples.index, index=samples.index)
    called = called[called.isin(table.samples)]
    if called.empty:
        called = join_columns(table.samples, samples, source)
    rows = table.samples.get_indexer(called)
    unknown = len(table.samples) - len(rows)
    if unknown:
        _log.info("%s: %d of its samples are not used", source, unknown)
    if np.array_equal(rows, np.arange(len(table.samples))):
        return SiteTable(table.values, called.index, table.sites)
    return SiteTable(table.values[rows], called.index, table.sites)


def _platforms(samples: pd.DataFrame, manifest: CohortManifest) -> pd.Series:
    """Platform of every sample; stop if the manifest names another one."""
    named = manifest.platform.split("+")
    if "platform_id" not in samples:
        return pd.Series(manifest.platform, index=samples.index)
    platform = samples["platform_id"].map(_PLATFORMS)
    other = samples["platform_id"][~platform.isin(named)]
    if len(other):
        raise MiracleError(
            f"{manifest.name}: sample {other.index[0]!r} is from platform {other.iloc[0]}, but "
            f"the manifest says {manifest.platform}."
        )
    return platform


def _provenance(
    manifest: CohortManifest, paths: dict[DataFile, Path], obs: pd.DataFrame
) -> dict[str, str]:
    """Where the data come from, as plain text."""
    found, stated = count(obs), manifest.expected.stated
    record = {
        "cohort": manifest.name,
        "manifest": manifest.path.name,
        "manifest_sha256": sha256(manifest.path),
        "citation": manifest.citation,
        "terms": manifest.terms,
        "note": manifest.note,
        "scale_of_source": manifest.scale,
        "miracle_lib": miracle_lib.__version__,
    }
    for file, path in paths.items():
        record[f"file {file.name}"] = f"{file.url} sha256:{file_hash(path)}"
    for name, number in found.items():
        record[name] = str(number)
        record[f"expected_{name}"] = str(stated.get(name, "not stated"))
    for name, confidence in manifest.confidence.items():
        record[f"confidence_{name}"] = confidence
    record["complete"] = str(all(found[name] == number for name, number in stated.items()))
    return record
