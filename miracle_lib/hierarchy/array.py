"""Array annotation: which gene each methylation site belongs to."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy.gene_sets import read_text


class ArrayAnnotation(NamedTuple):
    """Site-gene pairs of an array, and every site with its position.

    Attributes
    ----------
    site_gene : DataFrame
        One row per site-gene pair: ``site``, ``gene``, ``group`` (RefGene groups joined by ';').
    sites : DataFrame
        Indexed by site: ``chromosome`` (without "chr"), ``position`` (base pairs, NaN unknown)
        and ``reason`` (why the site has no gene; empty when it has one).
    """

    site_gene: pd.DataFrame
    sites: pd.DataFrame


def read_illumina_manifest(path: str | Path) -> ArrayAnnotation:
    """Read site-gene pairs and positions from an Illumina manifest (450K, EPIC or EPICv2 CSV)."""
    path = Path(path)
    text = read_text(path)
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines[:50]) if line.startswith("IlmnID,")), None)
    if start is None:
        raise MiracleError(f"{path.name}: no header line starting with 'IlmnID' was found")
    import io

    table = pd.read_csv(
        io.StringIO("\n".join(lines[start:])),
        usecols=["IlmnID", "CHR", "MAPINFO", "UCSC_RefGene_Name", "UCSC_RefGene_Group"],
        dtype=str,
        keep_default_na=False,
    )
    pairs = pd.DataFrame(
        {
            "site": table["IlmnID"],
            "gene": table["UCSC_RefGene_Name"].str.split(";"),
            "group": table["UCSC_RefGene_Group"],
        }
    )
    pairs = pairs[table["UCSC_RefGene_Name"] != ""].explode("gene", ignore_index=True)
    pairs = pairs.drop_duplicates(["site", "gene"], ignore_index=True)
    sites = pd.DataFrame(
        {
            "chromosome": table["CHR"].to_numpy(),
            "position": pd.to_numeric(table["MAPINFO"], errors="coerce").to_numpy(),
            "reason": np.where(table["UCSC_RefGene_Name"] == "", "no gene in the annotation", ""),
        },
        index=pd.Index(table["IlmnID"], name="site"),
    )
    return ArrayAnnotation(pairs, sites)
