import logging

import pandas as pd
import pytest

from miracle_lib.cohorts.joining import join_columns
from miracle_lib.errors import MiracleError

IDS = ["GSM1", "GSM2", "GSM3"]


def samples(**fields):
    return pd.DataFrame(fields, index=IDS)


@pytest.mark.parametrize(
    ("fields", "columns", "how"),
    [
        ({}, ["GSM3", "GSM2", "GSM1"], "accession"),
        ({"title": ["a 1", "a 2", "b"]}, ["B", "a_2", "a.1"], "title"),
        ({"title": ["1 [Whole blood]", "1-01 [Whole blood]", "2 [Whole blood]"]},
         ["2", "1-01", "1"],
         "title without its ending"),
        ({"title": ["DNA from s1", "DNA from s2", "DNA from s30"]}, ["s30", "s2", "s1"],
         "title without its beginning"),
        ({"title": ["same"] * 3, "source_name": ["u", "v", "w"]}, ["w", "v", "u"], "source_name"),
        ({"title": ["same"] * 3, "description": ["u", "v", "w"]}, ["w", "v", "u"], "description"),
        ({"sentrix": [f"7800246024_R0{i}C01" for i in (1, 2, 3)]},
         [f"X7800246024_R0{i}C01" for i in (3, 2, 1)], "sentrix"),
        ({"patient": ["P9", "P8", "P7"]}, ["P7", "P8", "P9"], "patient"),
    ],
)  # fmt: skip
def test_columns_are_joined_by_the_field_that_names_them(fields, columns, how, caplog):
    with caplog.at_level(logging.INFO):
        joined = join_columns(columns, samples(**fields), "values.txt")
    assert joined.to_dict() == dict(zip(IDS, reversed(columns), strict=True))
    assert f"values.txt: 3 of 3 samples joined by {how}" in caplog.text


def test_accessions_join_in_any_order():
    joined = join_columns(["GSM3", "GSM1", "other"], samples(), "values.txt")
    assert joined.to_dict() == {"GSM1": "GSM1", "GSM3": "GSM3"}


def test_the_column_of_another_sample_is_not_taken_for_that_of_an_absent_one():
    # "P1-2" has no column: cutting off its own number must not give it the column "P1".
    titles = ["P1-2 [blood]", "P2 [blood]", "P3 [blood]"]
    joined = join_columns(["P1", "P2", "P3"], samples(title=titles), "values.txt")
    assert joined.to_dict() == {"GSM2": "P2", "GSM3": "P3"}


@pytest.mark.parametrize(
    ("titles", "columns", "message"),
    [
        (["x", "y", "z"], ["a", "b"], r"columns \(a, b.*\(2\)\) are named by no field"),
        (["a", "A", "b"], ["a", "b"], "title names column 'a' twice"),
        (["a", "b", "c"], ["a", "b", "b"], "title names column 'b' twice"),
    ],
)
def test_a_field_that_is_not_one_to_one_is_refused(titles, columns, message):
    with pytest.raises(MiracleError, match=message):
        join_columns(columns, samples(title=titles), "values.txt")
