import gzip

import pandas as pd
import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import (
    annotation_files,
    list_annotation_sources,
    load_annotation_source,
)
from miracle_lib.hierarchy.sources import ANNOTATION

ENTRY = """demo:
  kind: gene_sets
  title: Demo
  version: "1"
  files: [{name: demo.gmt}]
  citation: none
  terms: free
  note: Ask its owner.
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("MIRACLE_MIRROR", "MIRACLE_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def manifest(tmp_path):
    def write(text=ENTRY):
        path = tmp_path / "annotation.yaml"
        path.write_text(text)
        return path

    return write


def test_the_manifest_names_what_profiles_use():
    listed = list_annotation_sources()
    for name in ("illumina_450k", "go_bp", "reactome", "kegg", "hallmark", "probe_masks_450k"):
        assert name in listed.index
    assert "forbidden" in listed.loc["kegg", "terms"]
    assert listed["citation"].str.contains("doi:|https:").sum() == len(listed)


def test_files_are_found_in_a_mirror_by_name(tmp_path, monkeypatch):
    (tmp_path / "KEGG_2016.gmt").write_text("Set\t\tTP53\n")
    assert annotation_files("kegg", tmp_path) == [tmp_path / "KEGG_2016.gmt"]
    monkeypatch.setenv("MIRACLE_MIRROR", str(tmp_path))
    assert annotation_files("kegg") == [tmp_path / "KEGG_2016.gmt"]
    assert load_annotation_source("kegg") == {"Set": ["TP53"]}
    with pytest.raises(MiracleError, match=r"h\.all.*\(hallmark\) is not in the mirror"):
        annotation_files("hallmark")


def test_a_table_of_a_source_is_read_or_refused_in_one_sentence(tmp_path):
    path = tmp_path / "450K_reinius_12_reference.csv"
    path.write_text("cpg,nk_cell\ncg1,0.5\n")
    assert load_annotation_source("blood_reference_450k", tmp_path).loc["cg1", "nk_cell"] == 0.5
    path.write_bytes(gzip.compress(path.read_bytes())[:-9])
    with pytest.raises(MiracleError, match="450K_reinius_12_reference.csv is damaged or cut off"):
        load_annotation_source("blood_reference_450k", tmp_path)
    path.write_text("cpg,nk_cell\ncg1,0.5\ncg2,0.5,0.5,1\n")
    with pytest.raises(MiracleError, match="450K_reinius_12_reference.csv is not a regular table"):
        load_annotation_source("blood_reference_450k", tmp_path)


def test_a_users_own_file_is_read_as_what_it_is(tmp_path):
    (tmp_path / "own.gmt").write_text("Set\t\tTP53\n")
    (tmp_path / "masks.csv").write_text("IlmnID,snp\ncg1,True\n")
    (tmp_path / "array.csv").write_text(
        "IlmnID,Name,CHR,MAPINFO,UCSC_RefGene_Name,UCSC_RefGene_Group\ncg1,cg1,1,5,A,Body\n"
    )
    assert load_annotation_source(tmp_path / "own.gmt") == {"Set": ["TP53"]}
    assert load_annotation_source(str(tmp_path / "masks.csv"))["snp"].tolist() == [True]
    assert load_annotation_source(tmp_path / "array.csv").site_gene["gene"].tolist() == ["A"]


def test_unknown_names_list_the_known_ones():
    with pytest.raises(MiracleError, match="no annotation source or file 'keg'; .*kegg"):
        load_annotation_source("keg")


def test_a_source_without_address_says_how_to_come_by_it(manifest):
    with pytest.raises(MiracleError, match=r"demo has no public address: put demo\.gmt .* Ask its"):
        load_annotation_source("demo", manifest=manifest())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("kind: gene_sets", "kind: gmt"), r"line 2: demo\.kind is 'gmt', but"),
        (ENTRY + "  owner: x\n", r"unknown key 'demo\.owner'"),
        (ENTRY.replace("  terms: free\n", ""), r"the key 'demo\.terms' is missing"),
        (ENTRY.replace("demo.gmt", "../demo.gmt"), r"demo\.files\.0\.name is '\.\./demo\.gmt'"),
        (ENTRY + " x\n", r"annotation\.yaml, line 9: not valid YAML"),
    ],
)
def test_wrong_keys_and_values_are_one_sentence(manifest, text, message):
    with pytest.raises(MiracleError, match=message):
        list_annotation_sources(manifest(text))


def test_a_checksum_in_the_manifest_is_enforced(manifest, tmp_path):
    (tmp_path / "demo.gmt").write_text("Set\t\tTP53\n")
    text = ENTRY.replace("{name: demo.gmt}", f"{{name: demo.gmt, sha256: {'a' * 64}}}")
    with pytest.raises(MiracleError, match="SHA-256"):
        load_annotation_source("demo", tmp_path, manifest=manifest(text))


def test_two_file_sources_read_together(tmp_path):
    (tmp_path / "ReactomePathways.gmt.zip").write_text("A\tR-HSA-1\tx\ty\nB\tR-HSA-2\tx\n")
    (tmp_path / "ReactomePathwaysRelation.txt").write_text("R-HSA-1\tR-HSA-2\n")
    tree = load_annotation_source("reactome_tree", tmp_path)
    assert tree.parents.equals(pd.DataFrame({"child": ["B"], "parent": ["A"]}))


def test_every_address_is_a_plain_web_address():
    text = ANNOTATION.read_text()
    urls = [line.split("url: ")[1] for line in text.splitlines() if "url: " in line]
    assert len(urls) >= 9
    assert all(url.startswith("https://") for url in urls)
