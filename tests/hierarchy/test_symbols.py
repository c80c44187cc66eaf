import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import SymbolTable, read_hgnc

HGNC = (
    "hgnc_id\tsymbol\tstatus\talias_symbol\tprev_symbol\n"
    "1\tVMP1\tApproved\tEPG3|shared\tTMEM49\n"
    '2\tAGO2\tApproved\tshared\t"EIF2C2"\n'
    "3\tTSBP1\tApproved\t\tC6orf10\n"
    "4\tSEPTIN2\tApproved\tDIFF6\tSEPT2|NEDD5\n"
    "5\tGONE\tEntry Withdrawn\t\tVMP1X\n"
    "6\tC10orf90\tApproved\t\t\n"
    "7\tMARCHF1\tApproved\t\tMARCH1\n"
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "hgnc_complete_set.txt"
    path.write_text(HGNC)
    return read_hgnc(path)


@pytest.mark.parametrize(
    ("symbol", "updated", "status", "candidates"),
    [
        ("VMP1", "VMP1", "approved", "VMP1"),
        ("TMEM49", "VMP1", "previous", "VMP1"),
        ("EPG3", "VMP1", "alias", "VMP1"),
        ("shared", "shared", "ambiguous", "AGO2;VMP1"),
        ("EIF2C2", "AGO2", "previous", "AGO2"),
        ("C10ORF90", "C10orf90", "case", "C10orf90"),
        ("VMP1X", "VMP1X", "unknown", ""),
        ("2-Sep", "SEPTIN2", "spreadsheet", "SEPTIN2"),
        ("Sep-02", "SEPTIN2", "spreadsheet", "SEPTIN2"),
        ("SEPT2", "SEPTIN2", "previous", "SEPTIN2"),
        ("1-Mar", "1-Mar", "ambiguous", "MARCHF1;MTARC1"),
        ("3-Mar", "MARCHF3", "spreadsheet", "MARCHF3"),
        ("1-Dec", "DELEC1", "spreadsheet", "DELEC1"),
        ("15-Sep", "SELENOF", "spreadsheet", "SELENOF"),
        ("31-Sep", "31-Sep", "unknown", ""),
        ("HLA-DRB1", "HLA-DRB1", "unknown", ""),
    ],
)
def test_each_symbol_is_updated_or_reported(table, symbol, updated, status, candidates):
    assert table.lookup([symbol]).loc[symbol].tolist() == [updated, status, candidates]


def test_update_keeps_order_and_repeats(table):
    assert table.update(["TMEM49", "x", "TMEM49"]) == ["VMP1", "x", "VMP1"]


def test_a_gene_that_comes_out_twice_counts_once(table):
    assert table.update_sets({"S": ["TMEM49", "AGO2", "VMP1"]}) == {"S": ["VMP1", "AGO2"]}


def test_without_a_table_only_dates_are_repaired():
    assert SymbolTable().update(["2-Sep", "TMEM49", "1-Mar"]) == ["SEPTIN2", "TMEM49", "1-Mar"]


def test_custom_downloads_have_other_column_names(tmp_path):
    path = tmp_path / "custom.txt"
    path.write_text("Approved symbol\tPrevious symbols\tAlias symbols\nVMP1\tTMEM49, X1\tEPG3\n")
    assert read_hgnc(path).update(["X1", "EPG3"]) == ["VMP1", "VMP1"]


def test_a_ragged_table_is_refused(tmp_path):
    path = tmp_path / "ragged.txt"
    path.write_text("symbol\tprev_symbol\nA\tB\nC\tD\tE\n")
    with pytest.raises(MiracleError, match=r"ragged\.txt is not a regular table.*line 3"):
        read_hgnc(path)


def test_a_table_that_excel_has_damaged_is_refused(tmp_path):
    path = tmp_path / "hgnc.txt"
    path.write_text(HGNC + "8\tMar-03\tApproved\t\t\n")
    with pytest.raises(MiracleError, match=r"^hgnc\.txt, column 'symbol': 'Mar-03' is a gene name"):
        read_hgnc(path)


def test_a_table_without_symbols_is_refused(tmp_path):
    path = tmp_path / "other.txt"
    path.write_text("id\tname\n1\tx\n")
    with pytest.raises(MiracleError, match=r"other\.txt has no column 'symbol'.*id, name"):
        read_hgnc(path)
