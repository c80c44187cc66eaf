import gzip

import numpy as np
import pandas as pd
import pytest

from miracle_lib.cohorts import read_supplementary, read_table
from miracle_lib.errors import MiracleError

NAMES = pd.DataFrame({"title": ["blood A", "blood B"]}, index=["GSM1", "GSM2"])


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="processed.txt.gz"):
        path = tmp_path / name
        text = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return path

    return write


def test_columns_are_joined_by_name_not_by_position(write):
    path = write("ID\tblood B\tblood X\tBlood  a", "cg01\t0.2\t0.9\t0.1", "cg02\tNA\t0.9\t0.3")
    table = read_supplementary(path, NAMES)
    assert list(table.samples) == ["GSM1", "GSM2"]
    np.testing.assert_array_equal(table.values, np.float32([[0.1, 0.3], [0.2, np.nan]]))
    assert list(table.sites) == ["cg01", "cg02"]


@pytest.mark.parametrize(
    "header",
    [
        "ID\tblood A\tDetection Pval\tblood B\tDetection Pval",
        "ID\tblood A.AVG_Beta\tblood A.Detection Pval\tblood B.AVG_Beta\tblood B.Detection Pval",
        "ID\tblood A_beta\tblood A_DetectionPval\tblood B_beta\tblood B_DetectionPval",
        "ID\tblood A\tblood A Detection P-value\tblood B\tblood B Detection P-value",
        '"ID"\t"blood A.beta"\t"blood A.pval"\t"blood B.beta"\t"blood B.pval"',
        "blood A\tDetection Pval\tblood B\tDetection Pval",  # R: no title for the row names
        "ID\tblood A\tDetection Pval\tblood B\tDetection Pval.1",  # R and pandas number them
        "ID\tblood A\tDetection Pval...3\tblood B\tDetection Pval...5",  # as readr does
    ],
)
def test_values_that_were_not_detected_become_missing(write, header):
    path = write(header, "cg01\t0.1\t0.001\t0.2\t0.011", "cg02\t0.3\t0.01\t0.4\t0.0")
    table = read_supplementary(path, NAMES)
    np.testing.assert_array_equal(table.values, np.float32([[0.1, 0.3], [np.nan, 0.4]]))
    strict = read_supplementary(path, NAMES, detection_p=0.0005)
    np.testing.assert_array_equal(strict.values, np.float32([[np.nan, np.nan], [np.nan, 0.4]]))


@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
def test_titles_may_hold_the_delimiter(write, delimiter):
    samples = NAMES.assign(title=["blood, A, visit 1; left", "blood, B, visit 2; left"])
    header = delimiter.join(["ID", *(f'"{title}"' for title in samples["title"])])
    path = write(header, delimiter.join(["cg01", "0.1", "0.2"]), name="a.csv")
    np.testing.assert_array_equal(
        read_supplementary(path, samples).values, np.float32([[0.1], [0.2]])
    )
    assert read_table(path).samples.tolist() == samples["title"].tolist()


def test_a_matrix_of_write_table_is_separated_by_spaces(write):
    path = write('"blood A" "blood B"', '"cg01" 0.1 0.2')
    assert read_supplementary(path, NAMES).values.tolist() == [[np.float32(0.1)], [np.float32(0.2)]]
    path = write("blood_A blood_B", "cg01 0.1 0.2")
    assert read_supplementary(path, NAMES).values.tolist() == [[np.float32(0.1)], [np.float32(0.2)]]


def test_text_columns_of_no_sample_are_left_out(write):
    path = write("ID,CHR,blood A,blood B,Gene", "cg01,X,0.1,0.2,AHRR;F2RL3", name="a.csv")
    table = read_supplementary(path, NAMES)
    np.testing.assert_array_equal(table.values, np.float32([[0.1], [0.2]]))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["ID\tone\tother", "cg01\t1\t1"], r"named by no field of the samples \(GSM1 'blood A'"),
        (
            ["ID\tblood A\tblood B\tblood B", "cg01\t1\t1\t1"],
            "one to one; title names column 'blood B' twice",
        ),
        (["ID\tblood A\tblood B", "cg01\t1"], "line 1 has 3 fields, line 2 has 2"),
        (["ID\tblood A\tblood B", "cg01\t1\t1", "cg02\t1"], r"line 3 \('cg02'\): 1 values"),
        (["ID\tblood A\tblood B", '"cg01\t1\t1', '"cg02"\t1\t1'], "line 2: not a table"),
        (["ID\tblood A\tblood B", "cg01\t1\tabc"], r"line 2 .*sample 'GSM2': 'abc' is no number"),
    ],
)
def test_bad_files(write, lines, message):
    with pytest.raises(MiracleError, match=f"^processed.txt.gz.*{message}"):
        read_supplementary(write(*lines), NAMES)


def test_rows_that_begin_with_a_running_number(write):
    path = write(
        "ID_REF\tsample2\tsample2_DetectionPval\tsample1\tsample1_DetectionPval",
        "1\tcg01\t0.2\t0\t0.1\t0.5",
        "2\tcg02\t1e-3\t0\tNA\t0",
    )
    names = pd.DataFrame({"title": ["genomic DNA from sample1", "genomic DNA from sample2"]})
    table = read_supplementary(path, names.set_axis(["GSM1", "GSM2"]))
    assert list(table.sites) == ["cg01", "cg02"]
    np.testing.assert_array_equal(table.values, np.float32([[np.nan, np.nan], [0.2, 0.001]]))
    path = write("ID_REF\tblood A\tblood B", "1\tcg01\t0.2\t0.1", "2\tcg02\t0.2")
    with pytest.raises(MiracleError, match=r"line 3 \('cg02'\): 1 values, expected 2"):
        read_supplementary(path, NAMES)


def test_truncated_gzip(write):
    path = write("ID\tblood A\tblood B", *(f"cg{i}\t0.{i}\t0.5" for i in range(1000)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MiracleError, match=r"processed.txt.gz .*cut short"):
        read_supplementary(path, NAMES)
