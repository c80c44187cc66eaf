import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.spreadsheet import read_date, refuse_dates


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("1-Mar", (1, "mar")),
        ("01-MAR", (1, "mar")),
        ("Mar-01", (1, "mar")),
        ("2-Sep-2023", (2, "sep")),
        ("2023-09-02", (2, "sep")),
        ("2023-03-01 00:00:00", (1, "mar")),
        ("1/Dec", (1, "dec")),
        ("MARCHF1", None),
        ("SEPTIN2", None),
        ("HLA-A", None),
        ("trx-2", None),
        ("NKX2-1", None),
        ("2-Marx", None),
        ("2023-13-01", None),
        ("12-Jan", None),  # no gene name begins with JAN and a number
    ],
)
def test_a_date_is_told_from_a_symbol(name, date):
    assert read_date(name) == date


def test_the_first_date_is_named_with_its_place():
    refuse_dates(["TP53", "MARCHF1"], "genes.csv, column gene")
    with pytest.raises(MiracleError, match=r"^genes.csv, column gene: '1-Mar' is a gene name that"):
        refuse_dates(["TP53", "1-Mar", "2-Sep"], "genes.csv, column gene")
