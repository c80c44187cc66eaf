import gzip
import zipfile

import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import SymbolTable, read_gene_sets, redundant_sets
from miracle_lib.hierarchy.gene_sets import read_gmt_lines

TEXT = "Repair (GO:1)\t\tBRCA1\tTP53\tTP53\nDeath\tsome words\tTP53,1.0\tBAX\t\n\n"
SETS = {"Repair (GO:1)": ["BRCA1", "TP53"], "Death": ["TP53", "BAX"]}


def write(path, text):
    path.write_text(text)
    return path


def test_plain_gzipped_and_zipped_files_read_the_same(tmp_path):
    plain = write(tmp_path / "sets.gmt", TEXT)
    packed = tmp_path / "sets.gmt.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    archive = tmp_path / "sets.gmt.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme", "x")
        file.writestr("sets.gmt", TEXT)
    assert read_gene_sets(plain) == read_gene_sets(packed) == read_gene_sets(archive) == SETS


def test_a_comma_within_a_name_is_no_weight(tmp_path):
    path = write(tmp_path / "a.gmt", "rRNA\tR-HSA-1\t18S rRNA, 28S rRNA\tTP53,0.5\n")
    assert read_gene_sets(path) == {"rRNA": ["18S rRNA, 28S rRNA", "TP53"]}


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    path = tmp_path / "a.gmt"
    path.write_bytes(b"\xef\xbb\xbfA\t\tg1\r\nB\t\tg2\r\n")
    assert read_gene_sets(path) == {"A": ["g1"], "B": ["g2"]}


def test_descriptions_are_kept_for_whoever_needs_the_ids(tmp_path):
    path = write(tmp_path / "a.gmt", "Repair\tR-HSA-1\tTP53\n")
    assert read_gmt_lines(path) == [("Repair", "R-HSA-1", ["TP53"])]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A\t\tg1\njust a line\n", ["a.gmt, line 2", "separated by tabs", "just a line"]),
        ("A\t\tg1\n\nB\tdescription\n", ["a.gmt, line 3", "'B' has no genes"]),
        ("A\t\tg1\nB\t\tg1\nA\t\tg2\n", ["a.gmt, line 3", "'A' is used already in line 1"]),
        ("\n\n", ["a.gmt holds no gene set"]),
    ],
)
def test_broken_files_are_refused_by_line(tmp_path, text, words):
    with pytest.raises(MiracleError) as caught:
        read_gene_sets(write(tmp_path / "a.gmt", text))
    assert all(word in str(caught.value) for word in words)


def test_genes_turned_into_dates_are_refused_or_repaired_where_that_is_certain(tmp_path):
    path = write(tmp_path / "a.gmt", "A\t\tTP53\nB\t\tTP53\t2-Sep\n")
    with pytest.raises(MiracleError, match=r"^a\.gmt, gene set 'B': '2-Sep' is a gene name that"):
        read_gene_sets(path)
    repaired = read_gene_sets(path, symbols=SymbolTable(["P53"], {"TP53": ["P53"]}))
    assert repaired == {"A": ["P53"], "B": ["P53", "SEPTIN2"]}
    write(path, "A\t\t1-Mar\n")
    with pytest.raises(MiracleError, match="'A': '1-Mar'"):  # MARCHF1 or MTARC1
        read_gene_sets(path, symbols=SymbolTable())


def test_missing_damaged_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(MiracleError, match="there is no file"):
        read_gene_sets(tmp_path / "none.gmt")
    cut = tmp_path / "cut.gmt.gz"
    cut.write_bytes(gzip.compress(TEXT.encode() * 100)[:40])
    with pytest.raises(MiracleError, match=r"cut\.gmt\.gz is damaged or cut off"):
        read_gene_sets(cut)
    image = tmp_path / "image.gmt"
    image.write_bytes(b"\x89PNG\xff")
    with pytest.raises(MiracleError, match="not UTF-8"):
        read_gene_sets(image)
    excel = tmp_path / "excel.gmt.gz"
    excel.write_bytes(gzip.compress(TEXT.encode("utf-16")))
    with pytest.raises(MiracleError, match=r"excel\.gmt\.gz is text in UTF-16.*expected UTF-8"):
        read_gene_sets(excel)


def test_duplicate_and_nested_sets_are_listed_with_sizes():
    sets = {"big": ["a", "b", "c"], "twin": ["c", "b", "a"], "small": ["b", "a"], "other": ["d"]}
    assert redundant_sets(sets).to_numpy().tolist() == [
        ["small", "nested in", "big", 2, 3],
        ["small", "nested in", "twin", 2, 3],
        ["twin", "duplicate of", "big", 3, 3],
    ]


def test_redundant_sets_agree_with_python_sets():
    sets = {f"s{i}": [f"g{g}" for g in range(40) if g % (i % 7 + 1) == i % 2] for i in range(1, 30)}
    sets = {name: genes for name, genes in sets.items() if genes}
    expected = {
        (a, b)
        for a in sets
        for b in sets
        if set(sets[a]) < set(sets[b]) or (set(sets[a]) == set(sets[b]) and a > b)
    }
    found = redundant_sets(sets)
    assert set(zip(found["set"], found["other"], strict=True)) == expected


def test_empty_sets_are_refused():
    with pytest.raises(MiracleError, match="gene set 'B' is empty"):
        redundant_sets({"A": ["g"], "B": []})
