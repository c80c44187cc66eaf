import gzip

import numpy as np
import pandas as pd
import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import ArrayAnnotation, SymbolTable, array_files, read_illumina_manifest
from miracle_lib.hierarchy import read_probe_masks as read_masks

COLUMNS = "IlmnID,Name,CHR,MAPINFO,UCSC_RefGene_Name,UCSC_RefGene_Group"
PARALLEL = f"""Illumina, Inc.,,,,,
[Heading],,,,,
Loci Count ,4,,,,
[Assay],,,,,
{COLUMNS}
cg1,cg1,1,1000,A;A;B,TSS200;Body;Body
cg2,cg2,X,2000,B,3'UTR
cg3,cg3,1,1600,,
cg4,cg4,2,50,,
[Controls],,,,,
21630339,STAINING,-99,DNP(20K)
"""
# one probe with two genes has four groups: names were made unique
MERGED = PARALLEL.replace("A;A;B,TSS200;Body;Body", "A;B,TSS200;Body;Body;Body")
EPIC_V2 = f"""[Assay],,,,,
{COLUMNS}
cg1_TC11,cg1,chr1,1000,A;A,5UTR;exon_1
cg1_TC12,cg1,chr1,1000,A;B,exon_7;TSS1500
cg9_BC21,cg9,chr0,0,,
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(text, **options):
        path = tmp_path / "manifest.csv"
        path.write_text(text)
        return read_illumina_manifest(path, **options)

    return write_and_read


def pairs(annotation):
    return [tuple(row) for row in annotation.site_gene.to_numpy()]


def test_names_and_groups_in_parallel(read):
    annotation = read(PARALLEL)
    assert pairs(annotation) == [
        ("cg1", "A", "TSS200;Body"),
        ("cg1", "B", "Body"),
        ("cg2", "B", "3'UTR"),
    ]
    assert annotation.sites.index.tolist() == ["cg1", "cg2", "cg3", "cg4"]
    assert annotation.sites["chromosome"].tolist() == ["1", "X", "1", "2"]
    assert annotation.sites["position"].tolist() == [1000, 2000, 1600, 50]
    none = "no gene in the annotation"
    assert annotation.sites["reason"].tolist() == ["", "", none, none]


def test_where_groups_cannot_be_told_apart_each_gene_gets_all(read):
    assert pairs(read(MERGED)) == [
        ("cg1", "A", "TSS200;Body"),
        ("cg1", "B", "TSS200;Body"),
        ("cg2", "B", "3'UTR"),
    ]


def test_epic_v2_replicates_join_and_groups_get_their_usual_names(read):
    annotation = read(EPIC_V2)
    assert pairs(annotation) == [("cg1", "A", "5'UTR;1stExon;Body"), ("cg1", "B", "TSS1500")]
    assert annotation.sites.index.tolist() == ["cg1", "cg9"]
    assert annotation.sites["position"].isna().tolist() == [False, True]
    apart = read(EPIC_V2, site="IlmnID")
    assert apart.sites.index.tolist() == ["cg1_TC11", "cg1_TC12", "cg9_BC21"]
    assert pairs(apart)[0] == ("cg1_TC11", "A", "5'UTR;1stExon")


def test_gzip_and_quoted_headers(tmp_path):
    path = tmp_path / "manifest.csv.gz"
    quoted = PARALLEL.replace(COLUMNS, ",".join(f'"{name}"' for name in COLUMNS.split(",")))
    path.write_bytes(gzip.compress(quoted.encode()))
    assert len(read_illumina_manifest(path).site_gene) == 3


def test_a_parsed_manifest_comes_from_the_cache_until_its_content_changes(tmp_path, monkeypatch):
    path, cache = tmp_path / "manifest.csv", tmp_path / "cache"
    path.write_text(PARALLEL)
    first = read_illumina_manifest(path, cache=cache)
    kept = sorted(cache.rglob("*.parquet"))
    assert len(kept) == 2
    with monkeypatch.context() as patched:
        patched.setattr(array_files, "_parse", None)  # which the second reading does not need
        second = read_illumina_manifest(path, cache=cache)
    pd.testing.assert_frame_equal(first.site_gene, second.site_gene)
    pd.testing.assert_frame_equal(first.sites, second.sites)
    for file in kept:
        file.write_bytes(b"")
    again = read_illumina_manifest(path, cache=cache)
    pd.testing.assert_frame_equal(first.site_gene, again.site_gene)
    path.write_text(PARALLEL.replace("cg2,cg2", "cg7,cg7"))
    assert "cg7" in read_illumina_manifest(path, cache=cache).sites.index


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("site,gene\ncg1,A\n", "no header line that starts with 'IlmnID'"),
        ("IlmnID,Name,CHR\ncg1,cg1,1\n", "no column 'MAPINFO'; its columns are IlmnID, Name, CHR"),
        (
            PARALLEL.replace("cg2,cg2,X,2000,B,3'UTR", "cg2,cg2"),
            "manifest.csv is not a regular table",
        ),
        (
            PARALLEL.replace("A;A;B", "A;1-Mar;B"),
            "^manifest.csv, column 'UCSC_RefGene_Name': '1-Mar' is a gene name that Excel turned",
        ),
    ],
)
def test_other_files_are_refused(read, text, message):
    with pytest.raises(MiracleError, match=message):
        read(text)


def test_a_missing_manifest_is_refused_with_and_without_a_cache(tmp_path):
    for cache in (None, tmp_path):
        with pytest.raises(MiracleError, match="there is no file .*none.csv"):
            read_illumina_manifest(tmp_path / "none.csv", cache=cache)


def test_promoter_and_body_keep_a_pair_whose_other_transcript_differs(read):
    annotation = read(PARALLEL)
    promoter = annotation.keep_groups("promoter")
    assert pairs(promoter) == [("cg1", "A", "TSS200")]
    assert promoter.sites.loc["cg2", "reason"] == "only in gene groups left out"
    body = annotation.keep_groups("body")
    assert pairs(body) == [("cg1", "A", "Body"), ("cg1", "B", "Body"), ("cg2", "B", "3'UTR")]
    assert pairs(annotation.keep_groups(["TSS200", "3'UTR"])) == [
        ("cg1", "A", "TSS200"),
        ("cg2", "B", "3'UTR"),
    ]


def test_an_unknown_group_is_refused(read):
    with pytest.raises(MiracleError, match=r"gene group 'TSS2000'.*3'UTR, Body, TSS200"):
        read(PARALLEL).keep_groups(["Body", "TSS2000"])


def test_masked_probes_leave_the_graph_with_their_lists_as_reason(read):
    masks = pd.DataFrame(
        {"snp": [True, False], "cross": [True, True]}, index=pd.Index(["cg1", "cg2"])
    )
    annotation = read(PARALLEL)
    assert pairs(annotation.drop_masked(masks)) == []
    some = annotation.drop_masked(masks, ["snp"])
    assert pairs(some) == [("cg2", "B", "3'UTR")]
    assert some.sites.loc["cg1", "reason"] == "masked: snp"
    assert annotation.drop_masked(masks).sites.loc["cg1", "reason"] == "masked: snp, cross"
    with pytest.raises(MiracleError, match="no probe mask 'SNP'; there are snp, cross"):
        annotation.drop_masked(masks, "SNP")
    with pytest.raises(MiracleError, match=r"none of the 2 sites .*\(cg1_TC11, .* is in .*\(cg1, "):
        annotation.drop_masked(masks.set_axis(["cg1_TC11", "cg2_BC21"]))


def test_nearest_gene_within_the_window(read):
    annotation = read(PARALLEL)
    near = annotation.add_nearest_genes(600)  # cg3 is 600 from cg1 (genes A and B)
    assert pairs(near)[3:] == [("cg3", "A", "nearest"), ("cg3", "B", "nearest")]
    assert near.sites["reason"].tolist() == ["", "", "", "no gene in the annotation"]
    assert pairs(annotation.add_nearest_genes(599)) == pairs(annotation)


def test_nearest_gene_from_start_sites_of_the_same_chromosome(read):
    tss = pd.DataFrame(
        {"gene": ["C", "D", "E"], "chromosome": ["chr2", "chr2", "chr1"], "position": [300, 40, 49]}
    )
    near = read(PARALLEL).add_nearest_genes(100, tss)
    assert pairs(near)[3:] == [("cg4", "D", "nearest")]


def test_bad_windows_and_start_sites_are_refused(read):
    with pytest.raises(MiracleError, match="window is 0"):
        read(PARALLEL).add_nearest_genes(0)
    with pytest.raises(MiracleError, match="no column 'position'"):
        read(PARALLEL).add_nearest_genes(10, pd.DataFrame({"gene": [], "chromosome": []}))
    tss = pd.DataFrame({"gene": ["C", "Mar-01"], "chromosome": "1", "position": 1590})
    with pytest.raises(MiracleError, match="table of start sites, column gene: 'Mar-01' is a gene"):
        read(PARALLEL).add_nearest_genes(10, tss)


def test_symbols_repair_on_reading_what_excel_did_where_that_is_certain(read):
    damaged = PARALLEL.replace("A;A;B", "A;2-Sep;B")
    assert ("cg1", "SEPTIN2", "Body") in pairs(read(damaged, symbols=SymbolTable()))
    with pytest.raises(MiracleError, match="'1-Mar' is a gene name"):  # MARCHF1 or MTARC1
        read(damaged.replace("2-Sep", "1-Mar"), symbols=SymbolTable())


def test_symbols_that_become_one_gene_join_their_groups():
    table = pd.DataFrame(
        [("cg1", "TMEM49", "Body"), ("cg1", "VMP1", "TSS200"), ("cg2", "X", "Body")],
        columns=["site", "gene", "group"],
    )
    sites = pd.DataFrame({"reason": ""}, index=["cg1", "cg2"])
    symbols = SymbolTable(["VMP1"], {"TMEM49": ["VMP1"]})
    updated = ArrayAnnotation(table, sites).update_symbols(symbols)
    assert sorted(pairs(updated)) == [("cg1", "VMP1", "TSS200;Body"), ("cg2", "X", "Body")]


def test_probe_masks_of_either_layout(tmp_path):
    comma, tab = tmp_path / "a.csv", tmp_path / "b.tsv"
    comma.write_text("IlmnID,snp,cross,note\ncg1,True,False,x\ncg2,False,False,y\n")
    tab.write_text("CpG_chrm\tprobeID\tMASK_general\nchr1\tcg1\tTRUE\nchr2\tcg2\tFALSE\n")
    assert read_masks(comma).to_dict() == {
        "snp": {"cg1": True, "cg2": False},
        "cross": {"cg1": False, "cg2": False},
    }
    assert read_masks(tab)["MASK_general"].to_dict() == {"cg1": True, "cg2": False}
    tab.write_text("probeID\tMASK_general\tMASK_snp5\ncg1\tNA\tTRUE\ncg2\tTRUE\tFALSE\n")
    gaps = read_masks(tab)
    assert gaps["MASK_general"].to_dict() == {"cg1": False, "cg2": True}
    assert set(gaps.dtypes) == {np.dtype(bool)}
    comma.write_text("IlmnID,snp\ncg1_TC11,False\ncg1_TC12,True\ncg2_BC21,False\n")
    assert read_masks(comma)["snp"].to_dict() == {"cg1": True, "cg2": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpg,snp\ncg1,True\n", "no column of sites .*its columns are cpg, snp"),
        ("IlmnID,snp\ncg1,maybe\n", "no column of true/false values"),
        ("IlmnID,snp\ncg1,True,x\n", "a.csv is not a regular table: CSV parse error"),
    ],
)
def test_tables_that_are_no_masks_are_refused(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(MiracleError, match=message):
        read_masks(path)
