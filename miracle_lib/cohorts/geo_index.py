"""An index of GEO's methylation series: what there is, and a first draft of a cohort file."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import yaml

from miracle_lib.cohorts.fetch import fetch_file
from miracle_lib.cohorts.manifest import base_name
from miracle_lib.errors import MiracleError
from miracle_lib.manifest import read_manifest
from miracle_lib.resources import MANIFEST

UNKNOWN = "?"  # stands in a draft for what the index does not know
_PLATFORMS = {
    "Illumina27k": "27K",
    "Illumina450k": "450K",
    "IlluminaEPIC": "EPIC",
    "IlluminaEPICv2": "EPICv2",
}
_SIZE = re.compile(r"([0-9.]+) ?([KMGT]?b)$", re.IGNORECASE)  # runs on from the name of a file
_HOLDS_VALUES = re.compile(r"beta|process|normali[sz]ed|avg|m_?val|matrix", re.IGNORECASE)
_HOLDS_NONE = re.compile(r"signal|unmeth|raw|intensit|\.tar|\.xlsx?|\.pdf|\.docx?", re.IGNORECASE)
_GUESSES = {
    "label": r"(disease|diagnos|case|phenotype|group|condition|status(?!.*smok))",
    "subject": r"(subject|patient|donor|individual|person)",
    "age": r"age(?![a-z])",
    "sex": r"(sex|gender)",
    "smoking": r"smok.*",
}


def read_geo_index(
    mirror: str | Path | None = None, *, cache: str | Path | None = None
) -> dict[str, dict[str, Any]]:
    """Read the index, downloaded once.

    Parameters
    ----------
    mirror, cache : str or Path, optional
        As in `fetch_file`.

    Returns
    -------
    dict of str to dict
        What the index says of each series, by accession.

    Raises
    ------
    MiracleError
        The index cannot be fetched or read.

    Examples
    --------
    >>> read_geo_index(mirror="mirror")["GSE42861"]["samples"]  # doctest: +SKIP
    689
    """
    sources = read_manifest(MANIFEST / "annotation.yaml", dict[str, Any])
    file = sources["geo_methylation_index"]["files"][0]
    mirror = mirror or os.environ.get("MIRACLE_MIRROR")
    return read_series_index(fetch_file(file["url"], mirror, cache=cache))


def read_series_index(path: Path) -> dict[str, dict[str, Any]]:
    """What a file of the index says of each series, by accession."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        items = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)["items"]
        return {item["id"]: item for item in items}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise MiracleError(f"{path.name}: damaged or no index of series; delete it.") from error


def search_series(index: dict, words: str | Sequence[str]) -> pd.DataFrame:
    """Series whose title, summary or keys hold all words, as beginnings of words.

    Parameters
    ----------
    index : dict
        From `read_geo_index`.
    words : str or sequence of str

    Returns
    -------
    DataFrame
        Indexed by accession: samples, platform, title; words of the title count most.

    Raises
    ------
    MiracleError
        No word was given.

    Examples
    --------
    >>> index = {"GSE1": {"title": "Lupus in blood", "summary": "", "samples": 4, "platforms": [],
    ...                   "parser": {}}}
    >>> search_series(index, "blood lup").index.tolist()
    ['GSE1']
    """
    wanted = [word.lower() for word in (words.split() if isinstance(words, str) else words)]
    if not wanted:
        raise MiracleError("no word to search for; expected some, such as 'lupus blood'.")
    found = []
    for accession, item in index.items():
        title = f"{accession} {item['title']}".lower()
        other = " ".join([item["summary"], *_keys(item)]).lower()
        starts = [re.compile(rf"\b{re.escape(word)}") for word in wanted]
        if all(start.search(title) or start.search(other) for start in starts):
            in_title = sum(bool(start.search(title)) for start in starts)
            found.append((accession, item["samples"], _platform(item), item["title"], in_title))
    columns = ["accession", "samples", "platform", "title", "in_title"]
    table = pd.DataFrame(found, columns=columns).set_index("accession")
    order = ["in_title", "samples"]
    return table.sort_values(order, ascending=False, kind="stable").drop(columns="in_title")


def describe_series(index: dict, accession: str) -> str:
    """What the index says of a series, as a page of text.

    Parameters
    ----------
    index : dict
        From `read_geo_index`.
    accession : str
        Such as "GSE96879".

    Returns
    -------
    str

    Raises
    ------
    MiracleError
        The index has no such series.
    """
    item = _item(index, accession)
    files = [f"  {name}{f'  ({size})' if size else ''}" for name, size, _ in _files(item)]
    keys = _keys(item)
    return "\n".join(
        [
            f"{item['id']}: {item['title']}",
            f"{item['samples']} samples, {_platform(item)}, {item['organism'] or 'no organism'}",
            item["query"],
            "",
            " ".join(item["summary"].split()),
            "",
            "Files:",
            *files,
            f"Keys of the samples: {', '.join(keys) if keys else 'not in the index'}",
        ]
    )


def draft_cohort(index: dict, accession: str) -> str:
    """Draft a cohort file: what is known, and "?" where somebody has to look.

    Parameters
    ----------
    index : dict
        From `read_geo_index`.
    accession : str

    Returns
    -------
    str
        YAML that `load_manifest` reads.

    Raises
    ------
    MiracleError
        The index has no such series.
    """
    item = _item(index, accession)
    platform = _platform(item)
    known = platform != UNKNOWN
    lines = [
        f"# {' '.join(item['title'].split())}",
        "# Drafted from an index of GEO. '?' is not known; what is guessed says so.",
        f"name: {item['id']}",
        'task: "?"                     # the disease that is told apart',
        f"platform: {platform if known else '450K'}{'' if known else '   # guessed'}",
        'tissue: "?"',
        "files:",
        *(line for name, _, url in _files(item) for line in _file_lines(name, url)),
        "phenotypes:",
        *_phenotype_lines(_keys(item)),
        "confidence: {files: unverified, label: unverified, covariates: unverified}",
        f'citation: "? (see {item["query"]})"',
        "terms: Public in GEO without a licence of its own; cite the paper and the accession.",
    ]
    return "\n".join(lines) + "\n"


def series_matrix_address(accession: str, name: str | None = None) -> str:
    """Address of a series matrix; by default that of a series of one platform.

    Examples
    --------
    >>> series_matrix_address("GSE42861").rpartition("/geo/")[2]
    'series/GSE42nnn/GSE42861/matrix/GSE42861_series_matrix.txt.gz'
    """
    folder = f"https://ftp.ncbi.nlm.nih.gov/geo/series/{accession[:-3]}nnn/{accession}"
    return f"{folder}/matrix/{name or f'{accession}_series_matrix.txt.gz'}"


def _item(index: dict, accession: str) -> dict[str, Any]:
    try:
        return index[accession.strip().upper()]
    except KeyError:
        raise MiracleError(
            f"the index of GEO's methylation series has no {accession!r} ({len(index):,} series); "
            "miracle fetch --search WORDS finds what it has."
        ) from None


def _platform(item: dict[str, Any]) -> str:
    names = [_PLATFORMS.get(platform["format"]) for platform in item["platforms"]]
    return "+".join(dict.fromkeys(name for name in names if name)) or UNKNOWN


def _keys(item: dict[str, Any]) -> list[str]:
    return list(item["parser"].get("metadata_keys_parse") or {})


def _files(item: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, size and address of each file; series matrices first, one per platform."""
    accession = item["id"]
    platforms = [platform["name"] for platform in item["platforms"]]
    parts = [""] if len(platforms) < 2 else [f"-{platform}" for platform in platforms]
    names = [f"{accession}{part}_series_matrix.txt.gz" for part in parts]
    files = [(name, "", series_matrix_address(accession, name)) for name in names]
    for file in item["supplementary_files"]:
        size = _SIZE.search(file["name"])
        name = _SIZE.sub("", file["name"])
        address = file["url"]
        if address.startswith("http"):
            name = base_name(address)
            text = file["name"].removeprefix(unquote(name))
            size = _SIZE.fullmatch(text) or size
        files.append((name, f"{size[1]} {size[2]}" if size else "", address))
    return files


def _file_lines(name: str, url: str) -> list[str]:
    """A file as an entry of a cohort file, if it may hold values or samples."""
    if name.endswith("_series_matrix.txt.gz"):
        return [f"  - url: {url}", "    layout: series_matrix"]
    if not url.startswith("http") or _HOLDS_NONE.search(name) or not _HOLDS_VALUES.search(name):
        return []
    return [
        f"  - url: {url}   # guessed from its name",
        "    layout: supplementary",
    ]


def _phenotype_lines(keys: list[str]) -> list[str]:
    """Rules for what keys seem to hold."""
    found = {
        name: next((key for key in keys if re.match(pattern, key, re.IGNORECASE)), None)
        for name, pattern in _GUESSES.items()
    }
    label = found.pop("label")
    lines = [
        "  label:",
        f"    key: {_quoted(label or UNKNOWN)}" + ("   # guessed from its name" if label else ""),
        '    case: "?"',
        '    control: "?"',
    ]
    return lines + [
        f"  {name}: {{key: {_quoted(key)}}}   # guessed from its name"
        for name, key in found.items()
        if key
    ]


def _quoted(text: str) -> str:
    """A text as YAML writes it in double quotes."""
    return yaml.safe_dump(text, default_style='"', width=10**6).strip()
