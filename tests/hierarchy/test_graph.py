import copy
import os
import subprocess
import sys

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy, storage

# five sites: s4's gene is in no set, s5 has no gene
PAIRS = pd.DataFrame(
    [
        ("s1", "A", "TSS200"),
        ("s2", "A", "Body"),
        ("s2", "B", "Body"),
        ("s3", "B", ""),
        ("s4", "C", ""),
        ("s5", np.nan, ""),
    ],
    columns=["site", "gene", "group"],
)
SETS = {"Q": ["B"], "P": ["B", "A", "Z"], "R": ["Z"]}
PARENTS = pd.DataFrame({"child": ["P", "Q", "T"], "parent": ["T", "T", "U"]})


@pytest.fixture
def five():
    return Hierarchy.from_tables(PAIRS, SETS, min_genes=1)


def large(seed=0, n_sites=300, n_genes=60, n_sets=25):
    rng = np.random.default_rng(seed)
    genes = [f"g{i}" for i in range(n_genes)]
    pairs = pd.DataFrame(
        {"site": [f"s{i % n_sites}" for i in range(400)], "gene": rng.choice(genes, 400)}
    )
    sets = {
        f"p{i}": rng.choice(genes, rng.integers(2, 20), replace=False).tolist()
        for i in range(n_sets)
    }
    return Hierarchy.from_tables(pairs, sets, min_genes=1)


def edges(hierarchy):
    frame = hierarchy.to_frame()
    return set(zip(frame["level"], frame["child"], frame["parent"], strict=True))


def degree_lists(hierarchy):
    return {what: degree.tolist() for what, degree in hierarchy.degrees().items()}


def test_five_sites_every_edge_written_out(five):
    assert five.sites.tolist() == ["s1", "s2", "s3"]
    assert five.genes.tolist() == ["A", "B"]
    assert five.pathways.tolist() == ["P", "Q"]
    assert five.site_gene.toarray().tolist() == [[True, False], [True, True], [False, True]]
    assert five.gene_pathway.toarray().tolist() == [[True, False], [True, True]]
    assert five.site_gene.dtype == five.gene_pathway.dtype == bool
    assert five.groups.tolist() == ["TSS200", "Body", "Body", ""]
    assert five.site_gene.format == "csr"
    assert five.site_gene.has_sorted_indices


def test_everything_left_out_is_listed_with_its_reason(five):
    listed = {(row.layer, row.name): row.reason for row in five.unannotated.itertuples(index=False)}
    assert listed == {
        ("site", "s4"): "its genes are in no gene set",
        ("site", "s5"): "no gene in the annotation",
        ("gene", "C"): "in no gene set",
        ("gene", "Z"): "not on the array",
        ("pathway", "R"): "fewer than 1 genes with a site",
    }
    steps = {(row.layer, row.step): (row.removed, row.left) for row in five.filters.itertuples()}
    assert steps == {
        ("gene", "of the sets, without a site"): (1, 2),
        ("pathway", "with fewer than 1 genes"): (1, 2),
        ("pathway", "with more than 500 genes"): (0, 2),
        ("gene", "in no gene set"): (1, 2),
        ("gene", "only in sets of another size"): (0, 2),
        ("site", "without a gene"): (1, 4),
        ("site", "whose genes reach no pathway"): (1, 3),
    }


def test_size_limits_count_genes_with_a_site():
    two = Hierarchy.from_tables(PAIRS, SETS, min_genes=2)
    assert two.pathways.tolist() == ["P"]
    one = Hierarchy.from_tables(PAIRS, SETS, min_genes=1, max_genes=1)
    assert one.pathways.tolist() == ["Q"]
    assert one.genes.tolist() == ["B"]
    assert one.sites.tolist() == ["s2", "s3"]
    reasons = dict(zip(one.unannotated["name"], one.unannotated["reason"], strict=True))
    assert reasons["s1"] == "its genes are only in gene sets outside the size limits"
    assert reasons["A"] == "only in gene sets outside the size limits"
    assert reasons["P"] == "more than 1 genes with a site"
    assert one.groups.tolist() == ["Body", ""]


def test_given_sites_are_counted_and_accounted_for():
    some = Hierarchy.from_tables(PAIRS, SETS, sites=["s3", "s5", "s9"], min_genes=1)
    assert some.sites.tolist() == ["s3"]
    assert some.genes.tolist() == ["B"]
    assert some.pathways.tolist() == ["P", "Q"]  # one gene each: fewer than in PAIRS as a whole
    with pytest.raises(MiracleError, match="between 2 and 500"):
        Hierarchy.from_tables(PAIRS, SETS, sites=["s3"], min_genes=2)
    reasons = dict(zip(some.unannotated["name"], some.unannotated["reason"], strict=True))
    assert reasons["s9"] == reasons["s5"] == "no gene in the annotation"
    assert reasons["A"] == "no site among those given"


def test_reasons_known_from_the_annotation_are_passed_on():
    sites = pd.DataFrame({"reason": ["", "masked: snp"]}, index=["s1", "s5"])
    some = Hierarchy.from_tables(PAIRS, SETS, sites=sites, min_genes=1)
    assert ("s5", "site", "masked: snp") in set(some.unannotated.itertuples(index=False, name=None))


def test_genes_in_other_letters_are_reported():
    pairs = pd.DataFrame({"site": ["s1", "s2"], "gene": ["TP53", "C10orf90"]})
    made = Hierarchy.from_tables(pairs, {"P": ["TP53", "C10ORF90"]}, min_genes=1)
    reasons = dict(zip(made.unannotated["name"], made.unannotated["reason"], strict=True))
    assert reasons["C10ORF90"] == "on the array in other letters"


def test_repeated_pairs_count_once_and_join_their_groups():
    doubled = pd.concat([PAIRS, PAIRS.assign(group="Body")])
    made = Hierarchy.from_tables(doubled, SETS, min_genes=1)
    assert made == Hierarchy.from_tables(PAIRS, SETS, min_genes=1)
    assert made.groups.tolist() == ["Body;TSS200", "Body", "Body", "Body"]


def test_parents_make_further_levels():
    two = Hierarchy.from_tables(PAIRS, SETS, min_genes=1, parents=PARENTS, n_parent_levels=2)
    assert [layer.tolist() for layer in two.layers[2:]] == [["P", "Q"], ["T"], ["U"]]
    assert [mask.toarray().tolist() for mask in two.masks[2:]] == [[[True], [True]], [[True]]]
    assert two.level_names == ["site-gene", "gene-pathway", "pathway-parent", "parent-parent 2"]
    roots = Hierarchy.from_tables(PAIRS, SETS, min_genes=1, parents=PARENTS.iloc[:1])
    assert roots.layers[3].tolist() == ["Q", "T"]  # Q has no parent and stands for itself
    assert roots.masks[2].toarray().tolist() == [[False, True], [True, False]]
    only_q = roots.restrict(["s3"], min_genes=1)
    assert only_q.layers[3].tolist() == ["Q", "T"]
    assert str(two).startswith("Hierarchy(3 sites, 2 genes, 2 pathways, 1 parents, 1 parents;")


def test_restriction_drops_what_loses_its_last_edge(five):
    one = five.restrict(["s1", "s4", "s9"])
    assert edges(one) == {("site-gene", "s1", "A"), ("gene-pathway", "A", "P")}
    assert one.groups.tolist() == ["TSS200"]
    reasons = dict(zip(one.unannotated["name"], one.unannotated["reason"], strict=True))
    assert reasons["s4"] == "its genes are in no gene set"
    assert reasons["s9"] == "not in this hierarchy"
    assert "s5" not in reasons  # was not asked for
    with pytest.raises(MiracleError, match="none of the 1 sites .*'s9'.* among the 3 sites"):
        five.restrict(["s9"])


def test_restriction_may_ask_for_a_number_of_genes(five):
    both = five.restrict(["s1", "s2"], min_genes=2)
    assert both.pathways.tolist() == ["P"]
    assert both.genes.tolist() == ["A", "B"]
    with pytest.raises(MiracleError, match="no pathway has 3 genes"):
        five.restrict(["s1", "s2"], min_genes=3)


def test_the_limit_of_the_sets_holds_when_sites_are_taken_away(caplog, tmp_path):
    pairs = pd.DataFrame({"site": [f"s{i}" for i in range(6)], "gene": list("ABCDEF")})
    sets = {"P": list("ABCD"), "Q": list("CDEF"), "R": list("AE")}
    whole = Hierarchy.from_tables(pairs, sets, min_genes=3)
    assert whole.pathways.tolist() == ["P", "Q"]
    some = whole.restrict(["s0", "s1", "s2", "s4"])
    assert (some.pathways.tolist(), some.min_genes) == (["P"], 3)
    assert some.genes.tolist() == list("ABC")
    assert not caplog.text
    few = whole.restrict(["s0", "s3", "s4"])
    assert (few.pathways.tolist(), few.min_genes) == (["P", "Q"], 2)
    assert "no pathway has 3 genes among those of 3 sites: those with 2 are kept" in caplog.text
    assert whole.permuted(0).min_genes == 3
    whole.save(tmp_path / "h.npz")
    assert Hierarchy.load(tmp_path / "h.npz").min_genes == 3


def test_graphs_with_another_limit_are_not_equal():
    pairs, sets = PAIRS.iloc[:5], {"P": ["A", "B"], "Q": ["B", "C"]}
    one, two = (Hierarchy.from_tables(pairs, sets, min_genes=n) for n in (1, 2))
    assert edges(one) == edges(two)
    assert one != two


@given(
    seed=st.integers(0, 50),
    first=st.sets(st.integers(0, 299), min_size=1),
    second=st.sets(st.integers(0, 299), min_size=1),
)
@settings(max_examples=40, deadline=None)
def test_restricting_twice_restricts_to_the_intersection(seed, first, second):
    whole = large(seed)
    a, b = ({f"s{i}" for i in chosen} for chosen in (first, second))
    if not (a & b & set(whole.sites)):
        return
    twice, once = whole.restrict(a).restrict(b), whole.restrict(a & b)
    assert twice == once
    assert edges(twice) == edges(once)
    assert min(map(min, degree_lists(once).values())) >= 1


def test_from_tables_with_sites_equals_restriction():
    pairs, sets = PAIRS.iloc[:5], {"P": ["A", "B"], "Q": ["B", "C"]}
    whole = Hierarchy.from_tables(pairs, sets, min_genes=1)
    for sites in (["s1"], ["s2", "s4"], ["s1", "s3"]):
        some = Hierarchy.from_tables(pairs, sets, sites=sites, min_genes=1)
        assert some == whole.restrict(sites)
        two = ["s1", "s3", *sites]
        assert Hierarchy.from_tables(pairs, sets, sites=two, min_genes=2) == whole.restrict(
            two, min_genes=2
        )


@pytest.mark.parametrize("kind", ["permuted", "random", "fully_connected"])
def test_a_mask_without_another_place_for_an_edge_is_no_control(kind):
    pairs = pd.DataFrame({"site": ["s1", "s2"], "gene": ["A", "A"]})
    star = Hierarchy.from_tables(pairs, {"P": ["A"]}, min_genes=1)
    with pytest.warns(UserWarning, match=f"the {kind.replace('_', ' ')} mask is the mask itself"):
        getattr(star, kind)()


def test_permuted_keeps_degrees_of_both_levels_and_little_else():
    whole = large()
    shuffled = whole.permuted(1)
    assert degree_lists(shuffled) == degree_lists(whole)
    assert shuffled != whole
    assert shuffled == whole.permuted(1)
    assert shuffled != whole.permuted(2)
    kept = edges(shuffled) & edges(whole)
    assert len(kept) < 0.5 * len(edges(whole))
    assert set(shuffled.to_frame()["source"]) == {"permuted"}


def test_random_keeps_size_only():
    whole = large()
    drawn = whole.random(1)
    assert [mask.nnz for mask in drawn.masks] == [mask.nnz for mask in whole.masks]
    assert degree_lists(drawn) != degree_lists(whole)
    assert drawn == whole.random(1)
    assert drawn != whole.random(2)


def test_fully_connected_up_to_a_limit(five, monkeypatch):
    full = five.fully_connected()
    assert [mask.toarray().all() for mask in full.masks] == [True, True]
    assert full.sites.equals(five.sites)
    monkeypatch.setattr("miracle_lib.hierarchy.graph.MAX_DENSE_EDGES", 9)
    with pytest.raises(MiracleError, match="would have 10 edges, more than the 9 allowed"):
        five.fully_connected()


@pytest.mark.parametrize("level", ["site-gene", "gene-pathway"])
def test_held_out_edges_are_the_missing_ones(level):
    whole = large()
    rest, out = whole.hold_out(0.1, seed=3, level=level)
    n_level = whole.masks[whole.level_names.index(level)].nnz
    assert len(out) == round(0.1 * n_level)
    gone = {(level, row.child, row.parent) for row in out.itertuples()}
    assert edges(rest) == edges(whole) - gone
    assert gone < edges(whole)
    assert all(a.equals(b) for a, b in zip(rest.layers, whole.layers, strict=True))
    assert min(map(min, degree_lists(rest).values())) >= 1
    assert len(rest.groups) == rest.site_gene.nnz
    again, _ = whole.hold_out(0.1, seed=3, level=level)
    assert again == rest
    assert whole.hold_out(0.1, seed=4, level=level)[0] != rest


def test_hold_out_refuses_what_cannot_be(five):
    with pytest.raises(MiracleError, match="no level 'pathway'; there are site-gene, gene-pathway"):
        five.hold_out(0.1, level="pathway")
    with pytest.raises(MiracleError, match=r"share is 1\.5"):
        five.hold_out(1.5)
    with pytest.raises(MiracleError, match="2 of the 3 gene-pathway edges cannot be held out"):
        five.hold_out(0.6)


def test_save_and_load_is_the_identity(five, tmp_path):
    for whole in (
        five,
        large(),
        Hierarchy.from_tables(PAIRS, SETS, min_genes=1, parents=PARENTS, n_parent_levels=2),
        five.restrict(["s1", "s9"]).permuted(0),
    ):
        whole.save(tmp_path / "h.npz")
        read = Hierarchy.load(tmp_path / "h.npz")
        assert read == whole
        assert read.to_frame().equals(whole.to_frame())
        assert read.unannotated.astype(str).equals(whole.unannotated.astype(str))
        assert read.filters.astype(str).equals(whole.filters.astype(str))
        assert read.sources == whole.sources


def test_files_that_are_no_hierarchy_are_refused(five, tmp_path, monkeypatch):
    with pytest.raises(MiracleError, match="there is no file"):
        Hierarchy.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", x=np.ones(2))
    five.save(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-200])
    for name in ("text.npz", "other.npz", "cut.npz"):
        with pytest.raises(MiracleError, match=f"{name} is not a hierarchy"):
            Hierarchy.load(tmp_path / name)
    monkeypatch.setattr("miracle_lib.hierarchy.storage.VERSION", 2)
    five.save(tmp_path / "new.npz")
    monkeypatch.undo()
    with pytest.raises(MiracleError, match="version 2; this program reads .* up to version 1"):
        Hierarchy.load(tmp_path / "new.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices0": np.array([0, 0, 1, 2_000_000_000])}, "entry 2000000000 of a layer of"),
        ({"indices0": np.array([0, 0, 1, -1])}, "entry -1 of a layer of"),
        ({"indices0": np.array([0.0, 0, 1, 1])}, "no whole numbers"),
        ({"indices0": np.array([0, 1, 1, 1])}, "there twice"),
        ({"indptr0": np.array([0, 9, 3, 4])}, "rows of mask 0 overlap"),
        ({"indptr0": np.array([0, 4])}, "does not fit its layer of 3 names"),
        ({"indptr0": None}, "indptr0 is absent"),
        ({"layers": [["s1", "s1"], ["A"], ["P"]]}, "not unique texts"),
        ({"layers": [["s1"]]}, "1 layers; expected at least 2"),
        ({"layers": 5}, "not iterable"),
        ({"groups": ["TSS200"]}, "tables do not fit"),
        ({"sources": 3}, "cannot be read"),
    ],
)
def test_hierarchies_edited_on_disk_are_refused(five, tmp_path, change, message):
    five.save(tmp_path / "h.npz")
    values = storage.read(tmp_path / "h.npz") | change
    storage.write(tmp_path / "h.npz", {k: v for k, v in values.items() if v is not None})
    with pytest.raises(MiracleError, match=rf"^h\.npz is damaged.*{message}") as caught:
        Hierarchy.load(tmp_path / "h.npz")
    assert "\n" not in str(caught.value)


def test_hash_depends_on_the_graph_only(five):
    shuffled = PAIRS.sample(frac=1, random_state=0)
    sets = {name: genes[::-1] for name, genes in reversed(SETS.items())}
    assert Hierarchy.from_tables(shuffled, sets, min_genes=1).hash == five.hash
    assert Hierarchy.from_tables(PAIRS.drop(columns="group"), SETS, min_genes=1).hash == five.hash
    fewer = {**SETS, "P": ["A"]}
    assert Hierarchy.from_tables(PAIRS, fewer, min_genes=1).hash != five.hash
    renamed = PAIRS.replace({"site": {"s1": "s0"}})
    assert Hierarchy.from_tables(renamed, SETS, min_genes=1).hash != five.hash


def test_hash_does_not_depend_on_the_hash_seed_of_python():
    code = (
        "import pandas as pd; from miracle_lib.hierarchy import Hierarchy;"
        "p = pd.DataFrame({'site': [f's{i % 24}' for i in range(50)], 'gene': list('ABCDE') * 10});"
        "h = Hierarchy.from_tables(p, {'x': {'A', 'B', 'C'}, 'y': {'D', 'E', 'A'}}, min_genes=1);"
        "print(h.hash, h.permuted(1).hash, h.hold_out(0.1, level='site-gene')[1].to_csv())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


def test_deep_copies_share_the_graph(five):
    assert copy.deepcopy(five) is five
    assert {five: 1}[Hierarchy.from_tables(PAIRS, SETS, min_genes=1)] == 1


def test_frame_and_networkx_hold_every_edge(five):
    frame = five.to_frame()
    assert frame.columns.tolist() == ["child", "parent", "level", "source", "group"]
    assert edges(five) == {
        ("site-gene", "s1", "A"),
        ("site-gene", "s2", "A"),
        ("site-gene", "s2", "B"),
        ("site-gene", "s3", "B"),
        ("gene-pathway", "A", "P"),
        ("gene-pathway", "B", "P"),
        ("gene-pathway", "B", "Q"),
    }
    graph = five.to_networkx()
    assert set(graph.edges) == {
        ((level.split("-")[0], child), (level.split("-")[1], parent))
        for level, child, parent in edges(five)
    }
    assert graph.edges[("site", "s1"), ("gene", "A")]["group"] == "TSS200"
    assert nx.ancestors(graph, ("pathway", "Q")) == {("site", "s2"), ("site", "s3"), ("gene", "B")}


def test_sources_can_be_named():
    made = Hierarchy.from_tables(PAIRS, SETS, min_genes=1, sources=["450K v1.2", "GO 2021"])
    by_level = made.to_frame().groupby("level")["source"].unique().str[0].to_dict()
    assert by_level == {"site-gene": "450K v1.2", "gene-pathway": "GO 2021"}


def test_members_and_gene_sets(five):
    assert five.members("Q").to_numpy().tolist() == [["B", "s2", "Body"], ["B", "s3", ""]]
    assert five.gene_sets() == {"P": ["A", "B"], "Q": ["B"]}
    with pytest.raises(MiracleError, match="no pathway 'X' among the 2"):
        five.members("X")


def test_describe_counts_coverage_and_degrees(five):
    table = five.describe().set_index("what")["value"]
    assert table["sites given"] == 5
    assert table["sites with a gene"] == 4
    assert table["sites that reach a pathway"] == 3
    assert table["share of sites that reach a pathway"] == 0.6
    assert table["gene-pathway edges"] == 3
    assert table["genes per site, most"] == 2
    assert table["sites per gene, median"] == 2
    assert table["sites without a gene"] == 1
    assert table["pathways nested in another"] == 1
    assert table["pathways equal to another"] == 0
    masked = Hierarchy.from_tables(
        PAIRS, SETS, sites=pd.DataFrame({"reason": "masked: snp"}, index=["s1", "s5"]), min_genes=1
    )
    assert masked.describe().set_index("what")["value"]["sites with a gene"] == 1


@pytest.mark.parametrize(
    ("pairs", "sets", "options", "message"),
    [
        (PAIRS.assign(gene=5), SETS, {}, "column gene: found 5, expected text"),
        (
            PAIRS.assign(gene="1-Mar"),
            SETS,
            {},
            "^site_gene, column gene: '1-Mar' is a gene name that Excel turned into a date",
        ),
        (PAIRS, {"P": ["A", "Sep-02"]}, {}, "^gene set 'P': 'Sep-02' is a gene name that Excel"),
        (PAIRS.assign(site=None), SETS, {}, "column site: found None, expected text"),
        (PAIRS, SETS, {"sources": ["x"]}, "1 sources are named for 2 masks"),
        ([1, 2], SETS, {}, "must be a DataFrame .* not list"),
        (PAIRS.rename(columns={"gene": "symbol"}), SETS, {}, "no column 'gene'.*site, symbol"),
        (PAIRS.iloc[5:], SETS, {}, "names no gene for any site"),
        (PAIRS, {}, {}, "at least one set"),
        (PAIRS, {"P": ["A"], "E": []}, {}, "gene set 'E' is empty"),
        (PAIRS, {"P": "A"}, {}, "gene set 'P' must be a list"),
        (PAIRS, {"P": [1, 2]}, {}, "gene set 'P' must be a list"),
        (PAIRS, {"P": ["X", "Y"]}, {}, "no gene of the gene sets .*'X'"),
        (PAIRS, {"P": ["a", "b"]}, {}, "differ in case: 'a' of the gene sets is 'A'"),
        (PAIRS, SETS, {"min_genes": 0}, "min_genes=0 and max_genes=500"),
        (PAIRS, SETS, {"min_genes": 9, "max_genes": 3}, "min_genes=9 and max_genes=3"),
        (PAIRS, SETS, {"min_genes": 3}, "none of the 3 gene sets has between 3 and 500 genes"),
        (PAIRS, SETS, {"sites": ["x1"]}, "none of the 1 sites given .*'x1'.*'s1'"),
        (PAIRS, SETS, {"sites": []}, "list of sites is empty"),
        (PAIRS, SETS, {"sites": "s1"}, "not the text 's1'"),
        (PAIRS, SETS, {"parents": PAIRS}, "table of parents has no column 'child'"),
        (PAIRS, SETS, {"parents": PARENTS, "n_parent_levels": 0}, "n_parent_levels is 0"),
        (PAIRS, SETS, {"parents": PARENTS, "n_parent_levels": 9}, "no parents above level 2"),
        (PAIRS, SETS, {"parents": PARENTS.replace("P", "W").replace("Q", "V")}, "has a parent"),
        (
            PAIRS,
            SETS,
            {"parents": pd.DataFrame({"child": ["P", "T"], "parent": ["T", "P"]})},
            "cyclic: .*P -> T -> P|T -> P -> T",
        ),
    ],
)
def test_bad_input_is_one_clear_sentence(pairs, sets, options, message):
    with pytest.raises(MiracleError, match=message) as caught:
        Hierarchy.from_tables(pairs, sets, **{"min_genes": 1, **options})
    assert "\n" not in str(caught.value)


def test_masks_that_do_not_fit_their_layers_are_refused(five):
    with pytest.raises(MiracleError, match=r"shape \(3, 2\), its layers have 2 and 3"):
        Hierarchy([five.genes, five.sites, five.pathways], five.masks)
