"""Public sources of annotation: named in a manifest, fetched once, read as what they are."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pandas as pd
from pydantic import Field

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy.array_files import read_illumina_manifest, read_probe_masks
from miracle_lib.hierarchy.gene_sets import read_gene_sets
from miracle_lib.hierarchy.ontology import read_go, read_reactome
from miracle_lib.hierarchy.symbols import read_hgnc
from miracle_lib.hierarchy.text import one_line, read_bytes, read_text
from miracle_lib.manifest import Strict, read_manifest
from miracle_lib.resources import MANIFEST

ANNOTATION = MANIFEST / "annotation.yaml"


class SourceFile(Strict):
    """One file of a source.

    Attributes
    ----------
    name : str
        Name under which a mirror keeps it.
    url : str, optional
        Where it is downloaded from; without one it must be in the mirror.
    sha256 : str, optional
        Checksum that it must have.
    """

    name: str = Field(pattern=r"^[^/\\]+$")
    url: str | None = Field(default=None, pattern="^https?://")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class AnnotationSource(Strict):
    """A public source of annotation.

    Attributes
    ----------
    kind : {"array", "probe_masks", "gene_sets", "go", "reactome", "symbols", "table", "series"}
        What the files hold; decides how they are read (see `load_annotation_source`).
    title, version, citation, terms : str
        What a report says of it.
    files : list of SourceFile
        One file; two for "go" (ontology, annotations) and "reactome" (GMT, relations).
    note : str, optional
        How to come by a file without a url.
    """

    kind: Literal[
        "array", "probe_masks", "gene_sets", "go", "reactome", "symbols", "table", "series"
    ]
    title: str
    version: str
    files: list[SourceFile] = Field(min_length=1, max_length=2)
    citation: str
    terms: str
    note: str | None = None


def list_annotation_sources(manifest: str | Path | None = None) -> pd.DataFrame:
    """Tell which public sources can be loaded by name.

    Parameters
    ----------
    manifest : str or Path, optional
        Default: ``data_manifest/annotation.yaml``.

    Returns
    -------
    DataFrame
        Indexed by name: kind, title, version, terms, citation.

    Examples
    --------
    >>> list_annotation_sources().loc["reactome", "terms"]
    'CC0 1.0'
    """
    sources = _read_sources(manifest)
    columns = ["kind", "title", "version", "terms", "citation"]
    rows = [[getattr(source, column) for column in columns] for source in sources.values()]
    return pd.DataFrame(rows, index=pd.Index(sources, name="name"), columns=columns)


def annotation_files(
    name: str | Path,
    mirror: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    manifest: str | Path | None = None,
) -> list[Path]:
    """Fetch the files of a source.

    Parameters
    ----------
    name : str or Path
        Name in the manifest, or the path of a file, which is returned as it is.
    mirror : str or Path, optional
        Folder or address that holds every file under its name, in place of the network; default
        ``MIRACLE_MIRROR``.
    cache : str or Path, optional
        Folder for downloads; default as in `miracle_lib.cohorts.fetch_file`.
    manifest : str or Path, optional
        Default: ``data_manifest/annotation.yaml``.

    Returns
    -------
    list of Path

    Raises
    ------
    MiracleError
        An unknown name, a file that the mirror does not have, or a failed download.

    Examples
    --------
    >>> import tempfile
    >>> mirror = Path(tempfile.mkdtemp())
    >>> _ = (mirror / "KEGG_2016.gmt").write_text("Set\\t\\tTP53\\n")
    >>> [path.name for path in annotation_files("kegg", mirror)]
    ['KEGG_2016.gmt']
    """
    sources = _read_sources(manifest)
    if name in sources:
        return [
            _fetch(str(name), sources[name], file, mirror, cache) for file in sources[name].files
        ]
    if Path(name).is_file():
        return [Path(name)]
    raise MiracleError(
        f"there is no annotation source or file {str(name)!r}; there are {', '.join(sources)}"
    )


def annotation_content(
    name: str | Path, manifest: str | Path | None = None, mirror: str | Path | None = None
) -> dict[str, Any]:
    """Return all that a source depends on: its entry, and the checksum of each of its files.

    Parameters
    ----------
    name, manifest, mirror
        As in `load_annotation_source`.

    Returns
    -------
    dict
        Whatever JSON holds; another entry or another file gives another dict.
    """
    from miracle_lib.cohorts.fetch import file_hash  # loads much, only needed here

    files = annotation_files(name, manifest=manifest, mirror=mirror)
    entry = _read_sources(manifest).get(str(name))
    return {
        "entry": None if entry is None else entry.model_dump(),
        "files": [[str(path), file_hash(path)] for path in files],
    }


def load_annotation_source(
    name: str | Path,
    mirror: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    manifest: str | Path | None = None,
) -> Any:
    """Fetch a source and read it as what it is.

    Parameters
    ----------
    name : str or Path
        Name in the manifest, or the path of a GMT, an Illumina manifest or a table of probe masks.
    mirror, cache, manifest
        As in `annotation_files`; parsed arrays are kept in ``cache`` too.

    Returns
    -------
    ArrayAnnotation, dict of gene sets, PathwayTree, SymbolTable, DataFrame or dict of series
        By kind: "array", "gene_sets", "go" and "reactome", "symbols", "probe_masks" and "table",
        "series".

    Raises
    ------
    MiracleError
        As in `annotation_files` and in the readers.

    Examples
    --------
    >>> import tempfile
    >>> mirror = Path(tempfile.mkdtemp())
    >>> _ = (mirror / "KEGG_2016.gmt").write_text("Set\\t\\tTP53\\n")
    >>> load_annotation_source("kegg", mirror)
    {'Set': ['TP53']}
    """
    paths = annotation_files(name, mirror, cache=cache, manifest=manifest)
    source = _read_sources(manifest).get(str(name))
    kind = source.kind if source else _kind_of(paths[0])
    if kind == "array":
        return read_illumina_manifest(paths[0], cache=cache)
    if kind == "probe_masks":
        return read_probe_masks(paths[0], cache=cache)
    if kind == "series":
        from miracle_lib.cohorts.geo_index import read_series_index  # only needed here

        return read_series_index(paths[0])
    readers: dict[str, Callable[..., Any]] = {
        "gene_sets": read_gene_sets,
        "go": read_go,
        "reactome": read_reactome,
        "symbols": read_hgnc,
        "table": _read_table,
    }
    return readers[kind](*paths)


def _fetch(
    name: str,
    source: AnnotationSource,
    file: SourceFile,
    mirror: str | Path | None,
    cache: str | Path | None,
) -> Path:
    """Path of one file, from the mirror or the network."""
    from miracle_lib.cohorts.fetch import cache_folder, fetch_file  # loads much, only needed here

    mirror = mirror or os.environ.get("MIRACLE_MIRROR")
    folder = Path(cache or cache_folder()) / "annotation" / name  # Enrichr's urls share a name
    if mirror and urlsplit(str(mirror)).scheme in ("http", "https"):
        address = f"{str(mirror).rstrip('/')}/{file.name}"
        return fetch_file(address, mirror, cache=folder, checksum=file.sha256)
    if mirror:
        if not (Path(mirror) / file.name).is_file():
            raise MiracleError(f"{file.name} ({name}) is not in the mirror {mirror}")
        return fetch_file(str(Path(mirror) / file.name), checksum=file.sha256)
    if file.url is None:
        raise MiracleError(
            f"{name} has no public address: put {file.name} into the folder that MIRACLE_MIRROR "
            f"names. {source.note or ''}".strip()
        )
    return fetch_file(file.url, cache=folder, checksum=file.sha256)


def _read_table(path: Path) -> pd.DataFrame:
    """A CSV whose first column names the rows."""
    try:
        return pd.read_csv(io.StringIO(read_text(path)), index_col=0)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise MiracleError(f"{path.name} is not a regular table: {one_line(error)}") from None


def _kind_of(path: Path) -> str:
    """What a user's own file holds, by its name and its first lines."""
    if ".gmt" in path.name.lower():
        return "gene_sets"
    head = read_bytes(path)[: 1 << 16]
    return "array" if b"UCSC_RefGene_Name" in head else "probe_masks"


def _read_sources(manifest: str | Path | None) -> dict[str, AnnotationSource]:
    """Sources by name."""
    return read_manifest(manifest or ANNOTATION, dict[str, AnnotationSource])
