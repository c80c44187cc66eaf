import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miracle_lib.cohorts import read_series_matrix
from miracle_lib.errors import MiracleError

VALUES = [[0.25, 0.5, float("nan")], [1.0, 0.0, 0.125]]


@pytest.mark.parametrize("quote", [True, False])
@pytest.mark.parametrize("missing", ["", "null", "NA", '"NA"', '""', '"null"', "NaN"])
def test_values_and_missing_values_in_every_spelling(write_series, quote, missing):
    matrix = read_series_matrix(write_series(VALUES, quote=quote, missing=missing))
    assert matrix.table.values.dtype == np.float32
    np.testing.assert_array_equal(matrix.table.values, np.array(VALUES, np.float32).T)
    assert list(matrix.table.sites) == ["cg00000000", "cg00000001"]
    assert list(matrix.table.samples) == ["GSM0", "GSM1", "GSM2"]


def test_plain_text_and_windows_line_ends(write_series, tmp_path):
    path = write_series(VALUES, name="GSE1_series_matrix.txt")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    np.testing.assert_array_equal(
        read_series_matrix(path).table.values, np.array(VALUES, np.float32).T
    )


def test_characteristics_are_read_by_key_not_by_line(write_series):
    rows = [["sex: F", "age: 7", "sex: M"], ["age: 5", "Note: a: b", "age: 6"]]
    samples = read_series_matrix(write_series(VALUES, characteristics=rows)).samples
    assert samples["age"].tolist() == ["5", "7", "6"]
    assert samples["sex"].fillna("").tolist() == ["F", "", "M"]
    assert samples.loc["GSM1", "note"] == "a: b"
    assert samples["title"].tolist() == ["title GSM0", "title GSM1", "title GSM2"]


def test_some_samples_in_the_order_asked_for(write_series):
    matrix = read_series_matrix(write_series(VALUES), samples=["GSM2", "GSM0"])
    assert list(matrix.samples.index) == ["GSM2", "GSM0"]
    np.testing.assert_array_equal(
        matrix.table.values, np.array([[np.nan, 0.125], [0.25, 1.0]], np.float32)
    )
    with pytest.raises(MiracleError, match="no sample 'GSM9'"):
        read_series_matrix(write_series(VALUES), samples=["GSM9"])


def test_many_blocks_keep_every_row_in_order(write_series):
    rng = np.random.default_rng(0)
    values = rng.random((40_000, 6)).round(6)
    matrix = read_series_matrix(write_series(values.tolist()))
    np.testing.assert_array_equal(matrix.table.values, values.astype(np.float32).T)
    assert list(matrix.table.sites) == [f"cg{i:08d}" for i in range(40_000)]
    assert matrix.table.values.flags.c_contiguous


def test_rows_of_every_notation_side_by_side(write_series):
    values = [["0.5", "1e-3", "NA"], ["0.25", '"0.75"', "0.125"], ["1", "0", "+0.5"]]
    matrix = read_series_matrix(write_series(values))
    expected = np.array([[0.5, 1e-3, np.nan], [0.25, 0.75, 0.125], [1, 0, 0.5]], np.float32)
    np.testing.assert_array_equal(matrix.table.values, expected.T)
    assert list(matrix.table.sites) == ["cg00000000", "cg00000001", "cg00000002"]


def test_more_rows_than_the_header_states(write_series, tmp_path):
    path = write_series(VALUES, name="GSE1_series_matrix.txt")
    path.write_text(path.read_text().replace('row_count\t"2"', 'row_count\t"1"'))
    assert read_series_matrix(path).table.values.shape == (3, 2)


def test_a_table_without_rows(write_series):
    path = write_series(VALUES, name="GSE1_series_matrix.txt")
    lines = [line for line in path.read_text().splitlines() if not line.startswith('"cg')]
    path.write_text("\n".join(lines) + "\n")
    assert read_series_matrix(path).table.values.shape == (3, 0)


def damaged(path, old: str, new: str):
    text = gzip.decompress(path.read_bytes()).decode()
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new).encode()))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\t0.5\t", "\t0,5\t", r"line 8 \('cg00000000'\), sample 'GSM1': '0,5' is no number"),
        ("\t1.0\t", "\t", r"line 9 \('cg00000001'\): 2 values, expected 3"),
        ("\t1.0\t", "\t1.0\t1.0\t", r"line 9 \('cg00000001'\): 4 values, expected 3"),
        ("!series_matrix_table_end", "", "ends without '!series_matrix_table_end'"),
        ("!series_matrix_table_begin", "", "no line '!series_matrix_table_begin'"),
        ("!Sample_geo_accession", "!Sample_other", "no line '!Sample_geo_accession'"),
        ('ID_REF"\t"GSM0"', 'ID_REF"\t"GSM7"', "the table has the columns GSM7"),
        ('"GSM0"\t"GSM1"', '"GSM0"\t"GSM0"', "sample 'GSM0' occurs more than once"),
        ('"title GSM0"\t', "", "'!Sample_title' has 2 values for 3 samples"),
    ],
)
def test_damage_is_named_with_file_and_place(write_series, old, new, message):
    with pytest.raises(MiracleError, match=rf"^GSE1_series_matrix.txt.gz.*{message}"):
        read_series_matrix(damaged(write_series(VALUES), old, new))


def test_truncated_gzip(write_series):
    path = write_series(np.random.default_rng(0).random((3000, 5)).tolist())
    whole = path.read_bytes()
    for size in (30, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:size])
        with pytest.raises(MiracleError, match=r"GSE1_series_matrix.txt.gz.* cut short"):
            read_series_matrix(path)


def test_flipped_bytes_in_gzip(write_series):
    path = write_series(np.random.default_rng(0).random((3000, 5)).tolist())
    whole = bytearray(path.read_bytes())
    for position in (len(whole) // 3, len(whole) // 2, len(whole) - 6):
        damaged_bytes = whole.copy()
        damaged_bytes[position] ^= 0xFF
        path.write_bytes(damaged_bytes)
        with pytest.raises(MiracleError, match=r"GSE1_series_matrix.txt.gz"):
            read_series_matrix(path)


@pytest.mark.parametrize("packed", [True, False])
def test_web_page_saved_as_data(tmp_path, packed):
    page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    path = tmp_path / "GSE1_series_matrix.txt.gz"
    path.write_bytes(gzip.compress(page) if packed else page)
    with pytest.raises(MiracleError, match=r"GSE1_series_matrix.txt.gz is a web page"):
        read_series_matrix(path)


def test_empty_file_and_text_named_gz(tmp_path):
    path = tmp_path / "GSE1_series_matrix.txt.gz"
    path.write_bytes(b"")
    with pytest.raises(MiracleError, match=r"GSE1_series_matrix.txt.gz is empty"):
        read_series_matrix(path)
    path.write_bytes(b"plain text")
    with pytest.raises(MiracleError, match=r"GSE1_series_matrix.txt.gz is not gzip"):
        read_series_matrix(path)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.data(),
    n_sites=st.integers(1, 12),
    n_samples=st.integers(1, 6),
    quote=st.booleans(),
    missing=st.sampled_from(["", "NA", "null", '"NA"']),
)
def test_random_files_are_read_back_exactly(write_series, data, n_sites, n_samples, quote, missing):
    value = st.one_of(st.floats(0, 1, width=32), st.just(float("nan")))
    rows = data.draw(
        st.lists(
            st.lists(value, min_size=n_samples, max_size=n_samples),
            min_size=n_sites,
            max_size=n_sites,
        )
    )
    table = read_series_matrix(write_series(rows, quote=quote, missing=missing)).table
    np.testing.assert_array_equal(table.values, np.array(rows, np.float32).T)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.data(),
    packed=st.booleans(),
)
def test_mutated_files_raise_nothing_but_our_error(write_series, data, packed):
    path = write_series(VALUES, characteristics=[["age: 1", "age: 2", "age: 3"]])
    content = path.read_bytes()
    if not packed:
        content = gzip.decompress(content)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 40)))
        content = content[:start] + data.draw(st.binary(max_size=8)) + content[stop:]
    path.write_bytes(content if packed else gzip.compress(content))
    try:
        table = read_series_matrix(path).table
    except MiracleError:
        return
    assert table.values.shape == (len(table.samples), len(table.sites))


def test_slide_and_position_come_from_the_names_of_idat_files_or_the_title(write_series):
    titles = ["blood", "7800246024_R02C01", "patient 12345_R01"]
    path = write_series([[0.1, 0.2, 0.3]], titles=titles, name="GSE1_series_matrix.txt")
    place = "ftp://ftp.ncbi.nlm.nih.gov/geo/samples/GSM0nnn/GSM0/suppl/"
    idat = "\t".join(["!Sample_supplementary_file", f'"{place}GSM0_5765205058_R06C02_Grn.idat.gz"'])
    path.write_text(f'{idat}\t"NONE"\t"NONE"\n{path.read_text()}')
    found = read_series_matrix(path).samples["sentrix"]
    assert found.iloc[:2].tolist() == ["5765205058_R06C02", "7800246024_R02C01"]
    assert found.isna().tolist() == [False, False, True]


def test_a_header_that_states_too_many_rows_takes_no_memory_for_them(tmp_path):
    path = tmp_path / "GSE1_series_matrix.txt"
    path.write_text(
        '!Sample_geo_accession\t"GSM1"\t"GSM2"\n'
        '!Sample_data_row_count\t"1000000000000"\t"1000000000000"\n'
        "!series_matrix_table_begin\n"
        '"ID_REF"\t"GSM1"\t"GSM2"\n'
        '"cg01"\t0.25\t0.5\n'
        "!series_matrix_table_end\n"
    )
    assert read_series_matrix(path).table.values.tolist() == [[0.25], [0.5]]
