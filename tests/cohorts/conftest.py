"""Small GEO files and manifests, written for one test each."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import yaml


def series_text(
    values,
    sites=None,
    samples=None,
    characteristics=(),
    titles=None,
    quote=True,
    missing="null",
    platform="GPL13534",
    end=True,
) -> str:
    """A series matrix file with the given values, sites x samples."""
    values = np.asarray(values, dtype=object)
    n_sites, n_samples = values.shape
    sites = sites or [f"cg{i:08d}" for i in range(n_sites)]
    samples = samples or [f"GSM{i}" for i in range(n_samples)]
    titles = titles or [f"title {s}" for s in samples]
    q = '"' if quote else ""

    def row(name, cells):
        return "\t".join([name, *(f"{q}{cell}{q}" for cell in cells)])

    def number(value):
        if isinstance(value, float) and np.isnan(value):
            return missing
        return value if isinstance(value, str) else repr(value)

    lines = [
        '!Series_title\t"A series"',
        row("!Sample_title", titles),
        row("!Sample_geo_accession", samples),
        *(row("!Sample_characteristics_ch1", cells) for cells in characteristics),
        row("!Sample_platform_id", [platform] * n_samples),
        row("!Sample_data_row_count", [n_sites] * n_samples),
        "!series_matrix_table_begin",
        row(f"{q}ID_REF{q}", samples),
        *(
            "\t".join([f"{q}{site}{q}", *(number(value) for value in line)])
            for site, line in zip(sites, values, strict=True)
        ),
    ]
    return "\n".join([*lines, *(["!series_matrix_table_end"] if end else [])]) + "\n"


@pytest.fixture(scope="session")
def as_series():
    """The function `series_text`."""
    return series_text


@pytest.fixture
def write_series(tmp_path):
    """Function that writes a series matrix file, gzipped, and returns its path."""

    def write(values, name="GSE1_series_matrix.txt.gz", **options) -> Path:
        path = tmp_path / name
        text = series_text(values, **options).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return path

    return write


@pytest.fixture
def write_manifest(tmp_path):
    """Function that writes a manifest for files in the same folder and returns its path."""

    def write(name="cohort.yaml", **changes) -> Path:
        content = {
            "name": "GSE1",
            "task": "Disease",
            "platform": "450K",
            "tissue": "blood",
            "files": [{"url": "GSE1_series_matrix.txt.gz", "layout": "series_matrix"}],
            "phenotypes": {"label": {"key": "status", "case": "ill", "control": "well"}},
            "citation": "Nobody 2020",
            "terms": "none",
        } | changes
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write
