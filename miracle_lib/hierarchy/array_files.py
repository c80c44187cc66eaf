"""Files about an array: the manifest of its maker, and lists of unreliable probes."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from miracle_lib.cohorts.site_table import without_suffix
from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy.array import ORDER, ArrayAnnotation, bare_chromosome
from miracle_lib.hierarchy.build import NO_GENE
from miracle_lib.hierarchy.cache import cached_tables
from miracle_lib.hierarchy.symbols import SymbolTable
from miracle_lib.hierarchy.text import one_line, read_bytes
from miracle_lib.spreadsheet import refuse_dates

_READER = "illumina-1"


def read_illumina_manifest(
    path: str | Path,
    *,
    site: str = "Name",
    gene: str = "UCSC_RefGene_Name",
    group: str = "UCSC_RefGene_Group",
    symbols: SymbolTable | None = None,
    cache: str | Path | None = None,
) -> ArrayAnnotation:
    """Read site-gene pairs and positions from an Illumina manifest.

    Knows the layouts of the 450K, EPIC and EPICv2 manifests. Names and groups hold one entry per
    transcript, separated by ';'. Where every probe with several genes has as many names as groups
    they are taken in parallel; where not (names made unique), each gene of a probe gets all the
    groups of that probe.

    Parameters
    ----------
    path : str or Path
        CSV, plain, gzipped or zipped; lines before the header and the control section are skipped.
    site : str, default "Name"
        Column of the site's name. In EPICv2, "Name" joins the replicates of a site (cg00000029)
        and "IlmnID" tells them apart (cg00000029_TC21); in older arrays both are the same.
    gene, group : str
        Columns of gene names and groups; the EPICv2 manifest also has ``GencodeV41_Name`` and
        ``GencodeV41_Group``.
    symbols : SymbolTable, optional
        Brings the genes up to date; repairs, where that is certain, what Excel turned into dates.
    cache : str or Path, optional
        Folder where the parsed tables are kept, under the hash of the file; default
        ``MIRACLE_CACHE``. Without either the file is parsed each time.

    Returns
    -------
    ArrayAnnotation
        Pairs in the order of the file. EPICv2's group names are written as those of older arrays.

    Raises
    ------
    MiracleError
        If the file or a column is missing, no header is found, or Excel turned a gene name into a
        date.

    References
    ----------
    Bibikova et al. 2011, doi:10.1016/j.ygeno.2011.07.007 (groups of the 450K array).

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "array.csv"
    >>> _ = path.write_text(
    ...     "IlmnID,Name,CHR,MAPINFO,UCSC_RefGene_Name,UCSC_RefGene_Group\\n"
    ...     "cg1,cg1,1,100,A;A;B,TSS200;Body;Body\\ncg2,cg2,X,200,,\\n"
    ... )
    >>> annotation = read_illumina_manifest(path)
    >>> annotation.site_gene.values.tolist()
    [['cg1', 'A', 'TSS200;Body'], ['cg1', 'B', 'Body']]
    >>> annotation.sites.loc["cg2", "reason"]
    'no gene in the annotation'
    """
    path = Path(path)

    def parse() -> tuple[pd.DataFrame, pd.DataFrame]:
        return _parse(_read_columns(path, [site, "CHR", "MAPINFO", gene, group]))

    kind = "-".join([_READER, site, gene, group])
    array = ArrayAnnotation(*cached_tables(path, kind, ("site_gene", "sites"), parse, cache))
    if symbols is not None:
        array = array.update_symbols(symbols)
    refuse_dates(array.site_gene["gene"].unique(), f"{path.name}, column {gene!r}")
    return array


def read_probe_masks(path: str | Path, *, cache: str | Path | None = None) -> pd.DataFrame:
    """Read lists of unreliable probes.

    Parameters
    ----------
    path : str or Path
        CSV or TSV, plain, gzipped or zipped. The first column named IlmnID, Name, Probe_ID,
        probeID or site is the site, which EPICv2's suffixes are taken off; every column of
        true/false values is one list, on which a site is where it says true of any of its probes.
    cache : str or Path, optional
        As in `read_illumina_manifest`.

    Returns
    -------
    DataFrame of bool
        Indexed by site, one column per list.

    Raises
    ------
    MiracleError
        If there is no column of sites or of true/false values.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "masks.csv"
    >>> _ = path.write_text("IlmnID,snp\\ncg1,True\\ncg2,False\\n")
    >>> read_probe_masks(path)["snp"].tolist()
    [True, False]
    """
    path = Path(path)
    return cached_tables(path, "masks-1", ("masks",), lambda: (_parse_masks(path),), cache)[0]


def _parse_masks(path: Path) -> pd.DataFrame:
    """Table of masks from the file's text."""
    data = read_bytes(path)
    first = data[: data.find(b"\n")]
    parse = csv.ParseOptions(delimiter="\t" if b"\t" in first else ",")
    try:
        table = csv.read_csv(pa.BufferReader(data), parse_options=parse)
    except pa.ArrowInvalid as error:
        raise MiracleError(f"{path.name} is not a regular table: {one_line(error)}") from None
    names = ("IlmnID", "Name", "Probe_ID", "probeID", "site")
    site = next((column for column in names if column in table.column_names), None)
    if site is None:
        raise MiracleError(
            f"{path.name} has no column of sites ({', '.join(names)}); its columns are "
            f"{', '.join(table.column_names[:12])}"
        )
    lists = [field.name for field in table.schema if pa.types.is_boolean(field.type)]
    index = without_suffix(pd.Index(table[site].to_pandas().astype(str), name="site"))
    masks = pd.DataFrame({name: table[name].fill_null(False) for name in lists}, index)
    if masks.empty:
        raise MiracleError(f"{path.name} has no column of true/false values")
    return masks.groupby(level=0, sort=False).any() if masks.index.has_duplicates else masks


def _read_columns(path: Path, columns: list[str]) -> list[pa.Array]:
    """Columns of a manifest's assay section, as text."""
    data = read_bytes(path)
    header = re.search(rb"(?m)^(?:\xef\xbb\xbf)?\"?IlmnID\"?,.*$", data[: 1 << 16])
    if header is None:
        raise MiracleError(
            f"{path.name} has no header line that starts with 'IlmnID'; expected an Illumina "
            "manifest in CSV format"
        )
    line = header.group().decode("utf-8-sig").replace('"', "").strip()
    present = line.split(",")
    absent = [column for column in columns if column not in present]
    if absent:
        raise MiracleError(
            f"{path.name} has no column {absent[0]!r}; its columns are {', '.join(present)}"
        )
    end = data.find(b"\n[Controls]", header.end())
    body = memoryview(data)[header.start() : None if end < 0 else end + 1]
    try:
        table = csv.read_csv(
            pa.BufferReader(pa.py_buffer(body)),
            convert_options=csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise MiracleError(f"{path.name} is not a regular table: {one_line(error)}") from None
    return [table[column].combine_chunks() for column in columns]


def _parse(columns: list[pa.Array]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs and sites from the columns site, chromosome, position, gene names, groups."""
    site_code, sites = pd.factorize(columns[0].to_numpy(zero_copy_only=False))
    table = pd.DataFrame(
        {
            "chromosome": bare_chromosome(columns[1].to_pandas()),
            "position": pd.to_numeric(columns[2].to_pandas(), errors="coerce").astype(float),
            "site": site_code,
        }
    ).drop_duplicates("site")
    row, gene = _split(columns[3])
    gene_code, genes = pd.factorize(gene)
    bits, labels = _edge_bits(row, gene_code, *_split(columns[4]), len(site_code))
    named = (genes != "")[gene_code]
    keys, edge = np.unique(
        site_code[row[named]].astype(np.int64) * len(genes) + gene_code[named], return_inverse=True
    )
    joined = np.zeros(len(keys), dtype=np.int64)
    np.bitwise_or.at(joined, edge, bits[named])
    distinct, which = np.unique(joined, return_inverse=True)
    texts = [";".join(g for i, g in enumerate(labels) if bit >> i & 1) for bit in distinct]
    pairs = pd.DataFrame(
        {
            "site": sites[keys // len(genes)],
            "gene": genes[keys % len(genes)],
            "group": np.array(texts, dtype=object)[which],
        }
    )
    has_gene = np.zeros(len(sites), dtype=bool)
    has_gene[keys // len(genes)] = True
    table = table.drop(columns="site").set_axis(pd.Index(sites, name="site"))
    unmapped = table["chromosome"].isin(["", "0"])
    table.loc[unmapped, "position"] = np.nan
    return pairs, table.assign(reason=np.where(has_gene, "", NO_GENE))


def _edge_bits(
    row: np.ndarray, gene: np.ndarray, group_row: np.ndarray, group: np.ndarray, n_rows: int
) -> tuple[np.ndarray, list[str]]:
    """Groups of every (row, gene) entry, one bit per label."""
    code, raw = pd.factorize(group)
    names = [_canonical(name) for name in raw]
    extra = sorted(set(names) - set(ORDER) - {""})
    labels = [*ORDER, *extra]
    if len(labels) > 62:
        raise MiracleError(f"the group column holds {len(labels)} different groups; expected few")
    bit = np.array([1 << labels.index(name) if name else 0 for name in names], dtype=np.int64)[code]
    of_row = np.zeros(n_rows, dtype=np.int64)
    np.bitwise_or.at(of_row, group_row, bit)
    bits = of_row[row]
    distinct = np.unique(row.astype(np.int64) * (gene.max(initial=0) + 1) + gene)
    several = np.bincount(distinct // (gene.max(initial=0) + 1), minlength=n_rows) > 1
    same = np.bincount(row, minlength=n_rows) == np.bincount(group_row, minlength=n_rows)
    if same[several].all():  # one group per transcript; else they cannot be told apart
        bits[several[row]] = bit[several[group_row]]
    return bits, labels


def _canonical(group: str) -> str:
    """EPICv2 writes exon_1, exon_7, 5UTR, 3UTR for 1stExon, Body, 5'UTR, 3'UTR."""
    if group.startswith("exon_"):
        return "1stExon" if group == "exon_1" else "Body"
    return {"5UTR": "5'UTR", "3UTR": "3'UTR"}.get(group, group)


def _split(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Row and text of every ';'-separated entry; an empty cell has none."""
    rows = np.flatnonzero(pc.not_equal(column, "").to_numpy(zero_copy_only=False))
    parts = pc.split_pattern(column.take(pa.array(rows)), ";")
    entries = pc.list_flatten(parts).dictionary_encode()
    texts = entries.dictionary.to_numpy(zero_copy_only=False)
    row = rows[pc.list_parent_indices(parts).to_numpy()]
    return row, texts[entries.indices.to_numpy()]
