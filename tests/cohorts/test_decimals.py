from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miracle_lib.cohorts.decimals import DecimalRows

MISSING = ["", "NA", "N/A", "null", "None", "."]


def read(text, fields, n_fields, delimiter="\t"):
    """Values as float32, names as text, numbers of the odd rows."""
    lines = text.encode()
    values, letters, offsets, odd = DecimalRows(delimiter, fields, n_fields, MISSING)(
        lines, text.count("\n")
    )
    names = [letters[start:stop].tobytes().decode() for start, stop in pairwise(offsets)]
    for _, start, end in odd:
        assert lines[start - 1 : start] in (b"", b"\n")
        assert lines[end - 1 : end] == b"\n"
        assert lines.count(b"\n", start, end) == 1
    return values, names, odd[:, 0].tolist()


def test_rows_by_hand():
    text = 'cg01\t0.5\tNA\t-1.25\n"cg02"\t1\t\t0\n\ncg03\t.\tnull\t0.0625\n'
    values, names, odd = read(text, [3, 1, 2], 4)
    expected = [[-1.25, 0, 0.0625], [0.5, 1, np.nan], [np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(values, np.array(expected, np.float32))
    assert names == ["cg01", "cg02", "cg03"]
    assert odd == []


def test_other_fields_than_those_asked_for_are_not_kept():
    values, _, _ = read("cg01,0.5,0.25,0.75\n", [2], 4, delimiter=",")
    assert values.tolist() == [[0.25]]


@pytest.mark.parametrize("n_digits", range(20))
@pytest.mark.parametrize("start", ["0.", "-0.", "7."])
def test_any_number_of_digits(n_digits, start):
    cell = start + "98765432109876543210"[:n_digits]
    values, _, odd = read(f"cg01\t0.5\t{cell}\ncg02\t{cell}\t0.5\n", [1, 2], 3)
    assert odd == []
    expected = np.float32(float(cell))
    np.testing.assert_array_equal(values, [[0.5, expected], [expected, 0.5]])


@pytest.mark.parametrize(
    "row",
    [
        "cg02\t0.5",  # too few fields
        "cg02\t0.5\t0.5\t0.5",  # too many
        "cg02\t1e-3\t0.5",
        'cg02\t"0.5"\t0.5',
        "cg02\t12.5\t0.5",
        "cg02\t-\t0.5",
        "cg02\t-NA\t0.5",
        "cg02\tNAN\t0.5",
        "cg02\t0.5 \t0.5",
        "cg02\t0.5\t0.5\r",
        "cg02\t0.5.5\t0.5",
        "cg02\t/\t0.5",
        "cg02\t:\t0.5",
        '"cg02\t0.5\t0.5',
        'cg02"\t0.5\t0.5',
        '"cg""02"\t0.5\t0.5',
        "cgµ\t0.5\t0.5",
        "cg02",
        " ",
    ],
)
def test_whatever_is_written_otherwise_is_reported_and_disturbs_no_other_row(row):
    values, names, odd = read(f"cg01\t0.25\t0.5\n{row}\ncg03\t0.75\t1\n", [1, 2], 3)
    assert odd == [1]
    np.testing.assert_array_equal(values[:, [0, 2]], [[0.25, 0.75], [0.5, 1]])
    assert (names[0], names[2]) == ("cg01", "cg03")


CELLS = st.one_of(
    st.sampled_from(MISSING),
    st.floats(0, 1, width=32).map(lambda value: f"{value:.6f}"),
    st.decimals(-9, 9, places=3).map(str),
    st.integers(0, 9).map(str),
    st.text("0123456789.-NAnul e", max_size=6),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8))
def test_every_cell_read_is_what_python_reads(rows):
    text = "".join("\t".join([f"cg{i}", *cells]) + "\n" for i, cells in enumerate(rows))
    values, _, odd = read(text, [1, 2, 3], 4)
    for i, cells in enumerate(rows):
        if i in odd:
            continue
        for cell, value in zip(cells, values[:, i], strict=True):
            expected = np.nan if cell in MISSING else np.float32(float(cell))
            np.testing.assert_array_equal(value, expected)
