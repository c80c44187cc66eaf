import re

import pytest

from miracle_lib.cohorts import list_cohorts, load_manifest
from miracle_lib.cohorts.manifest import MANIFESTS
from miracle_lib.errors import MiracleError

PAPER = {
    "GSE42861": "Rheumatoid arthritis",
    "GSE59250": "Systemic lupus erythematosus",
    "GSE106648": "Multiple sclerosis",
    "GSE87648": "Inflammatory bowel disease",
    "GSE73894": "Psoriasis",
    "GSE142512": "Type 1 diabetes",
}
GOOD = """\
name: GSE1
task: Disease
platform: 450K
tissue: blood
files:
  - url: https://example.org/a.txt.gz
phenotypes:
  label:
    key: status
    case: ill
    control: [well, healthy]
expected: {cases: 3, controls: 4}
citation: Nobody 2020
terms: none
"""


def test_the_papers_six_cohorts_and_alternatives_are_there():
    table = list_cohorts().set_index("name")
    assert {name: table.loc[name, "task"] for name in PAPER} == PAPER
    assert len(table) >= 12
    assert table.loc["GSE106648", ["cases", "controls"]].tolist() == [140, 139]


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_manifest_is_complete(path):
    manifest = load_manifest(path.stem)
    assert manifest.name == path.stem
    assert manifest.citation
    assert manifest.terms
    assert set(manifest.confidence) == {"files", "label", "covariates", "expected", "citation"}
    accession = path.stem.split("-")[0]
    for file in manifest.files:
        # GEO groups series by thousands: GSE42861 is in GSE42nnn.
        assert f"/{accession[:-3]}nnn/{accession}/" in file.url
        assert file.name.startswith(accession)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("task:", "tasc:", "line 1: the key 'task' is missing"),
        ("    key: status\n", "", "line 8: the key 'phenotypes.label.key' is missing"),
        ("tissue: blood", "tissue: blood\ncolour: red", "line 5: unknown key 'colour'"),
        ("450K", "451K", "line 3: platform is '451K', but"),
        ("cases: 3", "cases: many", "line 12: expected.cases is 'many', but"),
        ("cases: 3", "cases: 0", "line 12: expected.cases is 0, but"),
        (
            "url: https://example.org/a.txt.gz",
            "url: https://example.org/a.txt.gz\n    layout: xls",
            "line 7: files.0.layout is 'xls'",
        ),
        ("case: ill", "case: yes", "line 10: phenotypes.label.case is True, but .*quotes"),
        ("case: ill", "case: []", "line 10: phenotypes.label.case is"),
        ("key: status", "key: status\n    pattern: '('", "no regular expression"),
        ("task: Disease", "task: Disease\ntask: Other", "line 3: the key 'task' is given twice"),
        ("tissue: blood", "tissue: [blood", "not valid YAML"),
        ("tissue: blood", "tissue: [blood]", "line 4: tissue is"),
        ("terms: none\n", "", "the file: files from the network need the key 'terms'"),
        ("phenotypes:", "phenotypes:\n  covariates: {age: {key: a, kind: number}}", "called 'age'"),
        ("phenotypes:", "phenotypes:\n  covariates: {a b: {key: a, kind: number}}", "plain word"),
        (
            "phenotypes:",
            "phenotypes:\n  covariates: {bmi: {key: a}}",
            "covariates.bmi.kind. is mis",
        ),
        (GOOD, "just text", "line 1: the file is 'just text'"),
        (GOOD, "", "line 1"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_file_and_line(tmp_path, old, new, message):
    assert old in GOOD
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(MiracleError, match=r"^mine.yaml, line \d+: ") as error:
        load_manifest(path)
    assert re.search(message, str(error.value))
    assert "\n" not in str(error.value)


def test_single_values_stand_for_lists_and_paths_are_relative_to_the_manifest(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("https://example.org/", ""))
    manifest = load_manifest(path)
    assert manifest.phenotypes.label.case == ["ill"]
    assert manifest.phenotypes.label.control == ["well", "healthy"]
    assert manifest.locate(manifest.files[0]) == str(tmp_path / "a.txt.gz")


def test_private_data_need_no_citation(tmp_path):
    path = tmp_path / "mine.yaml"
    text = GOOD.replace("https://example.org/", "").replace("citation: Nobody 2020\n", "")
    path.write_text(text.replace("terms: none\n", ""))
    assert load_manifest(path).citation == ""


def test_numbers_are_read_as_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("ill", "1").replace("[well, healthy]", "0"))
    label = load_manifest(path).phenotypes.label
    assert (label.case, label.control) == (["1"], ["0"])


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(MiracleError, match=r"'GSE0'.* or one of: .*GSE42861"):
        load_manifest("GSE0")
    with pytest.raises(MiracleError, match="no cohort manifest"):
        load_manifest(tmp_path / "absent.yaml")


def test_the_papers_cohorts_say_how_well_their_facts_are_known():
    assert load_manifest("GSE42861").confidence["label"] == "verified"
    assert load_manifest("GSE142512").confidence["label"] == "inferred"
