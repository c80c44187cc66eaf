import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miracle_lib.cohorts import read_samples
from miracle_lib.errors import MiracleError


def test_samples_of_every_format(tmp_path):
    frame = pd.DataFrame({"Status": ["ill", "well"], "Age": [61.5, np.nan]}, index=["a", "b"])
    frame.to_csv(tmp_path / "s.csv")
    frame.to_csv(tmp_path / "s.tsv", sep="\t")
    frame.to_csv(tmp_path / "s.txt", sep=";", decimal=",")
    frame.to_excel(tmp_path / "s.xlsx")
    frame.to_parquet(tmp_path / "s.parquet")
    anndata.AnnData(np.zeros((2, 1), np.float32), obs=frame).write_h5ad(tmp_path / "s.h5ad")
    for kind in ("csv", "tsv", "txt", "xlsx", "parquet", "h5ad"):
        samples = read_samples(tmp_path / f"s.{kind}")
        assert samples.index.tolist() == ["a", "b"]
        assert samples["status"].tolist() == ["ill", "well"]
        assert samples["age"].tolist()[0].replace(",", ".") == "61.5"
        assert np.isnan(samples["age"].tolist()[1])


def test_what_looks_like_a_number_or_a_gap_stays_the_text_it_is(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("id,group,age\n001,None,NA\n1e5,-,061\n")
    samples = read_samples(path)
    assert samples.index.tolist() == ["001", "1e5"]
    assert samples["group"].tolist() == ["None", "-"]
    assert samples["age"].tolist() == ["NA", "061"]


def test_whole_numbers_of_typed_files_have_no_decimals(tmp_path):
    pd.DataFrame({"id": [1, 2], "ill": [1.0, np.nan]}).to_excel(tmp_path / "s.xlsx", index=False)
    samples = read_samples(tmp_path / "s.xlsx")
    assert samples.index.tolist() == ["1", "2"]
    assert samples["ill"].tolist()[0] == "1"


def test_a_header_of_r_without_a_corner_cell(tmp_path):
    (tmp_path / "s.txt").write_text('"status" "age"\n"a" "ill" 61\n"b" "well" 42\n')
    samples = read_samples(tmp_path / "s.txt")
    assert samples.to_dict("index") == {
        "a": {"status": "ill", "age": "61"},
        "b": {"status": "well", "age": "42"},
    }


@pytest.mark.parametrize("kind", ["csv", "xlsx", "txt"])
def test_a_running_number_without_a_name_names_no_sample(tmp_path, kind):
    frame = pd.DataFrame({"id": [2, 3, 1], "status": ["ill", "well", "ill"]}, index=[1, 2, 3])
    if kind == "txt":  # R, without a corner cell
        (tmp_path / "s.txt").write_text('"id" "status"\n"1" 2 "ill"\n"2" 3 "well"\n"3" 1 "ill"\n')
    else:
        (frame.to_excel if kind == "xlsx" else frame.to_csv)(tmp_path / f"s.{kind}")
    assert read_samples(tmp_path / f"s.{kind}")["status"].to_dict() == {
        "2": "ill",
        "3": "well",
        "1": "ill",
    }


@pytest.mark.parametrize("text", [",sex,age\n0,F,61\n1,M,42\n", ",age\n0,61.5\n1,42\n2,39\n"])
def test_a_running_number_names_the_samples_where_nothing_else_does(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    assert read_samples(tmp_path / "s.csv").index.tolist()[:2] == ["0", "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,status\n", "no row below the header"),
        ("\n\n", "no row below the header"),
        ("id,status\na,ill\na,well\n", "sample 'a' occurs more than once; the first column names"),
        ("id,Status,status\na,ill,1\nb,well,2\n", "column 'status' occurs more than once"),
        ("id,status\na,ill\n,well\n", "sample 2 has no name"),
        ("id,status,age\na,ill\nb,well,3\n", "row 2 ('a'): 2 cells, expected 3"),
        ("", "is empty"),
    ],
)
def test_samples_and_columns_need_names_of_their_own(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(MiracleError) as caught:
        read_samples(tmp_path / "s.csv")
    assert str(caught.value).startswith("s.csv")
    assert message in str(caught.value)


@pytest.mark.parametrize("cell", ["x\ny", "x\u2028y", "x\x0by", "x\x85y"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_cells_may_hold_what_ends_lines_elsewhere(tmp_path, cell, end):
    text = f'id,note\na,"{cell}"\nb,z\n'.replace("\n", end)
    (tmp_path / "s.csv").write_bytes(text.encode())
    assert read_samples(tmp_path / "s.csv")["note"].to_dict() == {"a": cell, "b": "z"}


WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(WORDS, min_size=1, max_size=6, unique=True),
    data=st.data(),
    sep=st.sampled_from([",", "\t", ";"]),
)
def test_texts_are_read_as_pandas_reads_them_as_texts(tmp_path, names, data, sep):
    cells = {
        column: data.draw(st.lists(st.one_of(st.just(""), WORDS), min_size=len(names)))
        for column in ("status", "age")
    }
    frame = pd.DataFrame({key: column[: len(names)] for key, column in cells.items()}, names)
    path = tmp_path / "s.csv"
    frame.to_csv(path, sep=sep, index_label="id", quoting=1)
    oracle = pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False).set_index("id")
    samples = read_samples(path)
    assert samples.index.tolist() == oracle.index.tolist()
    assert samples.fillna("").to_numpy().tolist() == oracle.to_numpy().tolist()
