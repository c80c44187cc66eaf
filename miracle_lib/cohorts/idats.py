"""Raw arrays, a folder of IDAT pairs, to beta values: mepylome reads and normalises them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.cohorts.load import choose_samples, write_cohort
from miracle_lib.cohorts.sample_tables import read_samples
from miracle_lib.cohorts.series_matrix import SENTRIX
from miracle_lib.cohorts.site_table import SiteTable
from miracle_lib.errors import MiracleError
from miracle_lib.extras import needs
from miracle_lib.files import put_back

if TYPE_CHECKING:
    from mepylome import Manifest, MethylData

_log = logging.getLogger(__name__)
COLOURS = ("Grn", "Red")
# Arrays of human blood, as mepylome calls them and as cohort files do.
ARRAYS = {"27k": "27K", "450k": "450K", "epic": "EPIC", "epicv2": "EPICv2", "msa48": "MSA"}


def read_idats(
    folder: str | Path, detection_p: float = 0.01, manifest: Manifest | None = None
) -> AnnData:
    """Read every pair ``*_Grn.idat`` and ``*_Red.idat`` (also ``.gz``) of a folder.

    Each array is normalised by itself (noob with the dye bias of the single sample), so that its
    values are the same alone and in a batch.

    Parameters
    ----------
    folder : str or Path
        Folders in it are read, too.
    detection_p : float, default 0.01
        Values whose detection p-value, against the negative controls, is larger are NaN.
    manifest : mepylome.Manifest, optional
        Default: that of the array, by its number of probes; mepylome downloads it once.

    Returns
    -------
    AnnData, n_samples x n_sites
        Named by the files. ``X`` beta values; ``layers["detection_p"]``; ``obs["sentrix"]`` slide
        and position of the array, where the file's name has it; ``obs["call_rate"]`` the share of
        sites with a value; ``uns["platform"]``. Replicates of a site (EPICv2) are averaged.

    Raises
    ------
    MiracleError
        No pair, half a pair, a damaged file, or an array that is not known or not that of the
        others; the file is named. mepylome or its manifest is not there.

    References
    ----------
    Triche et al. 2013, doi:10.1093/nar/gkt090 (noob); Aryee et al. 2014,
    doi:10.1093/bioinformatics/btu049 (detection p-values as in minfi).

    Examples
    --------
    >>> adata = read_idats("arrays")  # doctest: +SKIP
    """
    pairs = _pairs(Path(folder))
    with needs("idat", "Reading IDAT files (with Python 3.12 or newer)"):
        import mepylome
    first = next(iter(pairs.values()))
    array = _array(first[0])
    if manifest is None:
        manifest = _manifest(array, first[0])
    values, p_values = [], []
    for name, pair in pairs.items():
        if (other := _array(pair[0])) != array:
            raise MiracleError(
                f"{pair[0].name} is of the array {other}; {first[0].name} of {array}."
            )
        arrays = _read(mepylome, pair, manifest)
        p = arrays.detection_p()
        found = arrays.betas.where(p <= detection_p)
        values.append(_by_site(found, "mean").rename(name))
        p_values.append(_by_site(p, "min").rename(name))
        _log.info("%s: %.1f%% of its sites detected", name, 100 * values[-1].notna().mean())
    X, p = pd.concat(values, axis=1).T, pd.concat(p_values, axis=1).T
    sentrix = [match[0] if (match := SENTRIX.search(name)) else np.nan for name in pairs]
    return AnnData(
        X.astype(np.float32),
        obs=pd.DataFrame({"sentrix": sentrix, "call_rate": X.notna().mean(axis=1)}, X.index),
        layers={"detection_p": p.astype(np.float32)},
        uns={"platform": ARRAYS.get(array, array)},
    )


def idat_table(folder: str | Path, detection_p: float = 0.01) -> SiteTable:
    """Beta values of a folder of IDAT pairs as other tables have them; see `read_idats`."""
    adata = read_idats(folder, detection_p)
    return SiteTable(np.ascontiguousarray(adata.X), adata.obs_names, adata.var_names)


@contextmanager
def written_idats(
    folder: str | Path, samples: str | Path | None, overwrite: bool = False
) -> Iterator[Path]:
    """Read a folder of IDAT pairs once, and put them beside it with what is known of the samples.

    Where what is done with the file fails, it does not stay, and one that was there does.

    Parameters
    ----------
    folder : str or Path
        As in `read_idats`.
    samples : str or Path, optional
        Who was measured, as `read_samples` takes it. Rows are joined by the names of the files or
        by slide and position: ``sentrix``, or ``sentrix_id`` and ``sentrix_position``.
    overwrite : bool, default False
        Whether a file that is there is replaced.

    Yields
    ------
    Path
        ``FOLDER.h5ad``: values, detection p-values, and in ``obs`` the table with ``sentrix``.

    Raises
    ------
    MiracleError
        As `read_idats` and `read_samples`; the file is there already, or no row is an array's.
    """
    folder = Path(folder).resolve()
    path = folder.with_name(f"{folder.name}.h5ad")
    if path.exists() and not overwrite:
        raise MiracleError(f"{path.name} is there already; --force replaces it.")
    if samples is None:
        raise MiracleError(f"{folder.name}: a folder of IDATs needs a table of its samples.")
    people = read_samples(samples)
    if {"sentrix_id", "sentrix_position"} <= set(people) and "sentrix" not in people:
        people["sentrix"] = people["sentrix_id"] + "_" + people["sentrix_position"]
    adata = read_idats(folder)
    table = SiteTable(np.arange(len(adata))[:, None], adata.obs_names, pd.Index(["row"]))
    joined = choose_samples(table, people, folder.name)
    adata = adata[joined.values[:, 0]].copy()
    adata.obs = (
        people.loc[joined.samples]
        .dropna(axis=1, how="all")
        .assign(**{name: adata.obs[name].astype(str).to_numpy() for name in adata.obs})
    )
    with put_back(path):
        write_cohort(adata, path)
        yield path


def array_of(folder: str | Path) -> str:
    """Name the array of a folder of IDAT pairs, by the first of them; see `read_idats`."""
    first = next(iter(_pairs(Path(folder)).values()))[0]
    with needs("idat", "Reading IDAT files (with Python 3.12 or newer)"):
        array = _array(first)
    return ARRAYS.get(array, array)


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The two files of every array, by the name that they share."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*.idat*")):
        name, _, colour = path.name.removesuffix(".gz").removesuffix(".idat").rpartition("_")
        if colour in COLOURS and path.name.endswith((".idat", ".idat.gz")):
            files = found.setdefault(name, {})
            if colour in files:
                raise MiracleError(f"{path} and {files[colour]} are the same half of an array.")
            files[colour] = path
    if not found:
        raise MiracleError(f"{folder}: no file is called *_Grn.idat or *_Red.idat (or .idat.gz).")
    for files in found.values():
        for has, lacks in (COLOURS, COLOURS[::-1]):
            if lacks not in files:
                raise MiracleError(
                    f"{files[has].name} is half of a pair: there is no "
                    f"{files[has].name.replace(f'_{has}.idat', f'_{lacks}.idat')}."
                )
    return {name: (files["Grn"], files["Red"]) for name, files in found.items()}


def _array(path: Path) -> str:
    """Array of a file by its number of probes, as mepylome calls it."""
    from mepylome import ArrayType

    try:
        return str(ArrayType.from_idat(path))
    except Exception as error:  # the parser raises many kinds
        raise _damaged(path, error) from error


def _manifest(array: str, path: Path) -> Manifest:
    """The manifest of an array."""
    from mepylome import Manifest

    if array not in ARRAYS:
        raise MiracleError(
            f"{path.name} is of an array that is not known ({array}); expected one of "
            f"{', '.join(ARRAYS.values())}."
        )
    try:
        return Manifest(array)
    except (OSError, RuntimeError) as error:
        raise MiracleError(
            f"the manifest of the array {ARRAYS[array]} could not be downloaded, which mepylome "
            f"does once ({' '.join(str(error).split())})."
        ) from error


def _read(mepylome: Any, pair: tuple[Path, Path], manifest: Manifest) -> MethylData:
    """One array, normalised."""
    for path in pair:
        try:
            mepylome.IdatParser(path, mode="intensity")
        except Exception as error:  # the parser raises many kinds
            raise _damaged(path, error) from error
    try:
        raw = mepylome.RawData(list(pair), manifest=manifest)
    except ValueError as error:
        raise MiracleError(f"{pair[0].name} and {pair[1].name} are of two arrays.") from error
    # Sums of two bright probes do not fit into the 16 bits of a file.
    raw.green, raw.red = raw.green.astype(float), raw.red.astype(float)
    return mepylome.MethylData(data=raw, prep="noob")


def _by_site(values: pd.DataFrame, how: str) -> pd.Series:
    """One value per site, in the order of their names."""
    return values.iloc[:, 0].groupby(level=0).agg(how)


def _damaged(path: Path, error: Exception) -> MiracleError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return MiracleError(f"{path.name}: damaged or no IDAT file ({reason}).")
