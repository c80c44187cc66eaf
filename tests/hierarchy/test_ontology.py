import gzip

import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy, read_go, read_reactome

OBO = """format-version: 1.2
default-namespace: process

[Term]
id: GO:1
name: root
namespace: process

[Term]
id: GO:2
name: middle
namespace: process
is_a: GO:1 ! root
alt_id: GO:22

[Term]
id: GO:3
name: leaf
namespace: process
is_a: GO:2 ! middle
relationship: part_of GO:4 ! whole

[Term]
id: GO:4
name: whole
namespace: process
is_a: GO:1
relationship: regulates GO:5 ! lone

[Term]
id: GO:5
name: lone
namespace: process

[Term]
id: GO:6
name: empty
namespace: process
is_a: GO:1

[Term]
id: GO:7
name: activity
namespace: function
relationship: part_of GO:4

[Term]
id: GO:8
name: old
namespace: process
is_obsolete: true
"""


def gaf_line(symbol, term, qualifier="involved_in", evidence="IDA"):
    return "\t".join(["UniProtKB", "P0", symbol, qualifier, term, "PMID:1", evidence, *[""] * 10])


GAF = "\n".join(
    [
        "!gaf-version: 2.2",
        gaf_line("A", "GO:3"),
        gaf_line("B", "GO:22"),
        gaf_line("C", "GO:4"),
        gaf_line("D", "GO:3", qualifier="NOT|involved_in"),
        gaf_line("E", "GO:3", evidence="ND"),
        gaf_line("F", "GO:7"),
        gaf_line("G", "GO:5", evidence="IEA"),
        gaf_line("H", "GO:8"),
    ]
)


@pytest.fixture
def go(tmp_path):
    def read(obo=OBO, gaf=GAF, **options):
        (tmp_path / "go.obo").write_text(obo)
        (tmp_path / "human.gaf.gz").write_bytes(gzip.compress(gaf.encode()))
        options = {"namespace": "process", **options}
        return read_go(tmp_path / "go.obo", tmp_path / "human.gaf.gz", **options)

    return read


def test_genes_pass_up_every_true_path_and_no_other(go):
    tree = go()
    assert tree.gene_sets == {
        "leaf (GO:3)": ["A"],
        "lone (GO:5)": ["G"],
        "middle (GO:2)": ["A", "B"],
        "root (GO:1)": ["A", "B", "C"],
        "whole (GO:4)": ["A", "C"],
    }
    assert tree.parents.to_numpy().tolist() == [
        ["leaf (GO:3)", "middle (GO:2)"],
        ["leaf (GO:3)", "whole (GO:4)"],
        ["middle (GO:2)", "root (GO:1)"],
        ["whole (GO:4)", "root (GO:1)"],
    ]


def test_relations_and_evidence_are_choices(go):
    assert go(relations=["is_a"]).gene_sets["whole (GO:4)"] == ["C"]
    assert "lone (GO:5)" not in go(exclude_evidence=["ND", "IEA"]).gene_sets
    assert go(exclude_evidence=[]).gene_sets["leaf (GO:3)"] == ["A", "E"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obo": OBO.replace("name: root", "name: root\nis_a: GO:3")}, "go.obo is cyclic: .*GO:3"),
        ({"namespace": "biological_process"}, "no term of the namespace .*function, process"),
        ({"gaf": GAF + "\nshort\tline"}, r"human\.gaf\.gz, line 10: expected at least 15"),
        (
            {"gaf": GAF + "\n" + gaf_line("2-Sep", "GO:3")},
            r"human\.gaf\.gz, field 3 \(symbol\): '2-Sep' is a gene name that Excel turned into",
        ),
        ({"gaf": gaf_line("A", "GO:99")}, "no annotation of human.gaf.gz is to a term"),
        ({"obo": "hello\tthere"}, r"go\.obo is no ontology in OBO format: [^\n]*hello there"),
    ],
)
def test_bad_ontologies_are_refused(go, change, message):
    with pytest.raises(MiracleError, match=message):
        go(**change)


GMT = "Whole\tR-HSA-1\tA\tB\tC\nPart\tR-HSA-2\tA\tB\nBit\tR-HSA-3\tA\nLone\tR-HSA-4\tD\n"
RELATIONS = "R-HSA-1\tR-HSA-2\nR-HSA-2\tR-HSA-3\nR-MMU-1\tR-MMU-2\nR-HSA-9\tR-HSA-4\n"


@pytest.fixture
def reactome(tmp_path):
    def read(relations=RELATIONS, gmt=GMT):
        (tmp_path / "sets.gmt").write_text(gmt)
        (tmp_path / "relations.txt").write_text(relations)
        return read_reactome(tmp_path / "sets.gmt", tmp_path / "relations.txt")

    return read


def test_reactome_relations_are_of_this_species_and_by_name(reactome):
    tree = reactome()
    assert tree.parents.to_numpy().tolist() == [["Bit", "Part"], ["Part", "Whole"]]
    assert tree.gene_sets["Part"] == ["A", "B"]


def test_reactome_parents_fit_a_hierarchy(reactome):
    import pandas as pd

    tree = reactome()
    pairs = pd.DataFrame({"site": ["s1", "s2"], "gene": ["A", "D"]})
    made = Hierarchy.from_tables(
        pairs, tree.gene_sets, min_genes=1, parents=tree.parents, n_parent_levels=2
    )
    assert made.pathways.tolist() == ["Bit", "Lone", "Part", "Whole"]
    assert made.layers[3].tolist() == ["Lone", "Part", "Whole"]
    assert made.layers[4].tolist() == ["Lone", "Whole"]
    assert made.masks[2].toarray().astype(int).tolist() == [
        [0, 1, 0],
        [1, 0, 0],
        [0, 0, 1],
        [0, 0, 1],
    ]


@pytest.mark.parametrize(
    ("relations", "message"),
    [
        ("R-HSA-1\tR-HSA-2\nR-HSA-1\n", r"relations\.txt, line 2: expected a parent and a child"),
        ("R-MMU-1\tR-MMU-2\n", "no relation of relations.txt .*'R-HSA-1'"),
        ("R-HSA-1\tR-HSA-2\nR-HSA-2\tR-HSA-1\n", "relations.txt is cyclic"),
    ],
)
def test_bad_relations_are_refused(reactome, relations, message):
    with pytest.raises(MiracleError, match=message):
        reactome(relations)


def test_reactome_genes_turned_into_dates_are_refused(reactome):
    with pytest.raises(MiracleError, match=r"^sets\.gmt, gene set 'Lone': '1-Dec' is a gene name"):
        reactome(gmt=GMT.replace("\tD", "\t1-Dec"))
