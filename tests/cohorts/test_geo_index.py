import pytest
import yaml
from typer.testing import CliRunner

from miracle_lib.cli import app
from miracle_lib.cohorts import load_manifest
from miracle_lib.cohorts.geo_index import (
    describe_series,
    draft_cohort,
    read_geo_index,
    search_series,
)
from miracle_lib.errors import MiracleError

FTP = "https://ftp.ncbi.nlm.nih.gov/geo/series/GSE1nnn/GSE1234"


def series(accession, title, summary="", samples=4, files=(), keys=(), formats=("Illumina450k",)):
    return {
        "id": accession,
        "title": title,
        "organism": "Homo sapiens",
        "summary": summary,
        "query": f"https://www.ncbi.nlm.nih.gov/geo/query/acc.cgi?acc={accession}",
        "samples": samples,
        "platforms": [{"name": f"GPL{i}", "format": name} for i, name in enumerate(formats)],
        "matrix_files": [],
        "supplementary_files": [{"name": n, "size": "", "url": u} for n, u in files],
        "parser": {"metadata_keys_parse": dict.fromkeys(keys, "string")},
    }


ITEMS = [
    series(
        "GSE1234",
        "Lupus: DNA methylation",
        "Whole blood of women.",
        samples=90,
        files=[
            ("GSE1234_RAW.tar2.3 Gb", "/geo/download/?acc=GSE1234&format=file"),
            ("GSE1234_beta_values.txt.gz1.5 Gb", f"{FTP}/suppl/GSE1234%5Fbeta%5Fvalues%2Etxt%2Egz"),
            ("GSE1234_signal.txt.gz2 Gb", f"{FTP}/suppl/GSE1234%5Fsignal%2Etxt%2Egz"),
        ],
        keys=["disease state", "agent", "age (yr)", "Sex", "smoking status", "patient id"],
    ),
    series("GSE2", "Blood lupus 2", samples=10, formats=("Illumina450k", "IlluminaEPIC")),
    series("GSE3", "Breast cancer", "no blood"),
]


@pytest.fixture
def folder(tmp_path):
    text = yaml.safe_dump({"items": ITEMS}, sort_keys=False)
    (tmp_path / "geo_autoscan_library.yaml").write_text(text)
    return tmp_path


def test_all_words_are_found_and_those_of_the_title_count_most(folder):
    index = read_geo_index(folder)
    found = search_series(index, "lupus BLOOD")
    assert found.index.tolist() == ["GSE2", "GSE1234"]
    assert found.loc["GSE2", "platform"] == "450K+EPIC"
    assert search_series(index, "lup women").index.tolist() == ["GSE1234"]
    assert search_series(index, "pus").empty
    with pytest.raises(MiracleError, match="no word to search for"):
        search_series(index, " ")


def test_files_are_told_with_their_sizes(folder):
    page = describe_series(read_geo_index(folder), "gse1234")
    assert "90 samples, 450K, Homo sapiens" in page
    assert "GSE1234_beta_values.txt.gz  (1.5 Gb)" in page
    assert "GSE1234_RAW.tar  (2.3 Gb)" in page
    assert "disease state, agent, age (yr), Sex" in page
    assert "GSE2-GPL1_series_matrix.txt.gz" in describe_series(read_geo_index(folder), "GSE2")


def test_a_draft_is_a_cohort_file_that_marks_what_is_not_known(folder, tmp_path):
    path = tmp_path / "draft.yaml"
    path.write_text(draft_cohort(read_geo_index(folder), "GSE1234"))
    manifest = load_manifest(path)
    assert [file.url for file in manifest.files] == [
        f"{FTP}/matrix/GSE1234_series_matrix.txt.gz",
        f"{FTP}/suppl/GSE1234%5Fbeta%5Fvalues%2Etxt%2Egz",
    ]
    rules = manifest.phenotypes
    assert (rules.label.key, rules.label.case, rules.label.control) == (
        ["disease state"],
        ["?"],
        ["?"],
    )
    assert (rules.age.key, rules.sex.key) == (["age (yr)"], ["Sex"])
    assert (rules.smoking.key, rules.subject.key) == (["smoking status"], ["patient id"])
    assert manifest.task == "?"
    assert path.read_text().count("guessed from its name") == 6


def test_every_series_of_the_index_can_be_drafted(folder, tmp_path):
    index = read_geo_index(folder)
    for accession in index:
        (tmp_path / "d.yaml").write_text(draft_cohort(index, accession))
        assert load_manifest(tmp_path / "d.yaml").name == accession
    with pytest.raises(MiracleError, match="no 'GSE9'"):
        draft_cohort(index, "GSE9")


@pytest.mark.mirror
def test_the_real_index(mirror):
    index = read_geo_index(mirror)
    assert len(index) == 2165
    assert "GSE96879" in search_series(index, "lupus blood").index


def test_the_commands(folder, tmp_path):
    def call(*words):
        return CliRunner().invoke(app, [*words, "--mirror", str(folder)])

    answer = call("fetch", "--search", "lupus")
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.splitlines()[0].split()[:3] == ["GSE1234", "90", "450K"]
    answer = call("describe", "GSE1234", "-o", str(tmp_path / "new.yaml"))
    assert answer.exit_code == 0, answer.stderr
    assert load_manifest(tmp_path / "new.yaml").name == "GSE1234"
    again = call("describe", "GSE1234", "-o", str(tmp_path / "new.yaml"))
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_a_damaged_index_is_one_sentence(tmp_path):
    (tmp_path / "geo_autoscan_library.yaml").write_text("items: [1, 2")
    with pytest.raises(MiracleError, match="damaged or no index of series"):
        read_geo_index(tmp_path)
