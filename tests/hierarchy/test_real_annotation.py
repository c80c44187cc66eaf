"""Counts on the real 450K annotation, against counts made with csv, re and sets alone."""

import csv
import gzip
import zipfile
from collections import defaultdict

import numpy as np
import pytest

from miracle_lib.hierarchy import Hierarchy, load_annotation_source, redundant_sets

pytestmark = pytest.mark.mirror


@pytest.fixture(scope="module")
def array(mirror):
    return load_annotation_source("illumina_450k", mirror)


@pytest.fixture(scope="module")
def go(mirror):
    return load_annotation_source("go_bp", mirror)


@pytest.fixture(scope="module")
def whole(array, go):
    return Hierarchy.from_tables(array.site_gene, go, sites=array.sites)


@pytest.fixture(scope="module")
def plain(mirror):
    """Genes of every probe, groups of every probe, by the csv module."""
    genes, groups, places = {}, {}, {}
    with gzip.open(mirror / "HumanMethylation450_15017482_v1-2.csv.gz", "rt") as file:
        rows = csv.reader(file)
        header = next(row for row in rows if row[0] == "IlmnID")
        name, group = header.index("UCSC_RefGene_Name"), header.index("UCSC_RefGene_Group")
        for row in rows:
            genes[row[0]] = {gene for gene in row[name].split(";") if gene}
            groups[row[0]] = set(row[group].split(";")) - {""}
            places[row[0]] = (row[header.index("CHR")], row[header.index("MAPINFO")])
    return genes, groups, places


def plain_sets(lines):
    return {
        f[0]: {g for g in f[2:] if g} for f in (line.rstrip("\n").split("\t") for line in lines)
    }


def test_pairs_and_sites(array, plain):
    genes, groups, _ = plain
    assert len(array.sites) == len(genes) == 485_512
    assert len(array.site_gene) == sum(map(len, genes.values())) == 407_090
    assert (array.sites["reason"] == "").sum() == sum(map(bool, genes.values())) == 365_860
    found = defaultdict(set)
    for row in array.site_gene.itertuples(index=False):
        found[row.site].add(row.gene)
        assert set(row.group.split(";")) == groups[row.site]
    assert found == {site: named for site, named in genes.items() if named}


def test_promoter_only(array, plain):
    genes, groups, _ = plain
    promoter = {"TSS1500", "TSS200", "5'UTR", "1stExon"}
    expected = {site for site, of in groups.items() if of & promoter and genes[site]}
    kept = array.keep_groups("promoter")
    assert set(kept.site_gene["site"]) == expected
    lost = (kept.sites["reason"] == "only in gene groups left out").sum()
    assert lost == sum(map(bool, genes.values())) - len(expected)


def test_sets_within_the_limits_and_what_they_reach(whole, plain, mirror):
    genes, _, _ = plain
    on_array = set().union(*genes.values())
    with open(mirror / "GO_Biological_Process_2021.gmt") as file:
        sets = {name: of & on_array for name, of in plain_sets(file).items()}
    assert len(sets) == 6_036
    kept = {name: of for name, of in sets.items() if 5 <= len(of) <= 500}
    in_sets = set().union(*kept.values())
    assert whole.pathways.tolist() == sorted(kept)
    assert whole.genes.tolist() == sorted(in_sets)
    assert whole.sites.tolist() == sorted(site for site, of in genes.items() if of & in_sets)
    assert whole.gene_pathway.nnz == sum(map(len, kept.values()))
    assert whole.site_gene.nnz == sum(len(of & in_sets) for of in genes.values())
    assert whole.gene_sets() == {name: sorted(of) for name, of in kept.items()}
    listed = whole.unannotated
    assert (listed["layer"] == "site").sum() == len(genes) - len(whole.sites)


def test_sites_reachable_from_reactome(array, plain, mirror):
    genes, _, _ = plain
    with zipfile.ZipFile(mirror / "ReactomePathways.gmt.zip") as archive:
        lines = archive.read("ReactomePathways.gmt").decode().splitlines()
    on_array = set().union(*genes.values())
    sets = {name: of & on_array for name, of in plain_sets(lines).items()}
    reached = set().union(*(of for of in sets.values() if 5 <= len(of) <= 500))
    tree = load_annotation_source("reactome_tree", mirror)
    assert len(tree.gene_sets) == 2_694
    made = Hierarchy.from_tables(
        array.site_gene, tree.gene_sets, parents=tree.parents, n_parent_levels=2
    )
    assert set(made.sites) == {site for site, of in genes.items() if of & reached}
    ids = {fields[1] for fields in (line.split("\t") for line in lines)}
    with open(mirror / "ReactomePathwaysRelation.txt") as file:
        relations = {tuple(line.split()) for line in file}
    assert len(tree.parents) == sum(a in ids and b in ids for a, b in relations)
    for child, parent in tree.parents.sample(200, random_state=0).to_numpy():
        assert set(tree.gene_sets[child]) <= set(tree.gene_sets[parent])
    assert made.layers[4].isin(made.layers[3].append(made.pathways)).sum() > 100


def test_masks_and_sites_near_a_gene(array, plain, mirror):
    genes, _, places = plain
    masks = load_annotation_source("probe_masks_450k", mirror)
    with gzip.open(mirror / "HM450_probe_masks.csv.gz", "rt") as file:
        bad = {r["IlmnID"] for r in csv.DictReader(file) if r["zhou_general"] == "True"}
    masked = array.drop_masked(masks, ["zhou_general"])
    assert len(masked.site_gene) == sum(len(of) for site, of in genes.items() if site not in bad)

    near = array.add_nearest_genes(5_000)
    at = defaultdict(list)
    for site, (chromosome, position) in places.items():
        if genes[site]:
            at[chromosome].append(int(position))
    sorted_at = {chromosome: np.sort(found) for chromosome, found in at.items()}
    lonely = [site for site, of in genes.items() if not of]
    close = 0
    for site in lonely:
        chromosome, position = places[site]
        if chromosome in sorted_at and position:
            found, p = sorted_at[chromosome], int(position)
            i = np.searchsorted(found, p)
            close += min(abs(int(found[j]) - p) for j in (i - 1, i) if 0 <= j < len(found)) <= 5_000
    assert (near.sites["reason"] != "").sum() == len(lonely) - close


def test_redundant_go_sets(go):
    found = redundant_sets(go)
    twins = found[found["relation"] == "duplicate of"]
    frozen = defaultdict(int)
    for genes in go.values():
        frozen[frozenset(genes)] += 1
    assert len(twins) == sum(n * (n - 1) // 2 for n in frozen.values())


def test_two_thousand_sites_restrict_and_permute(whole):
    some = whole.restrict(whole.sites[::132], min_genes=5)
    shuffled = some.permuted(0)
    for before, after in zip(some.masks, shuffled.masks, strict=True):
        assert (before.sum(axis=0) == after.sum(axis=0)).all()
        assert (before.sum(axis=1) == after.sum(axis=1)).all()
    shared = some.gene_pathway.multiply(shuffled.gene_pathway).nnz
    assert shared < 0.25 * some.gene_pathway.nnz
