import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom, kstest

from miracle_lib import MiracleError
from miracle_lib.interpretation import overrepresentation
from miracle_lib.interpretation.wallenius import log_sf


@pytest.fixture(scope="module")
def biased():
    """Annotation with the array's bias: genes of 1 to 300 sites, sets that differ in it."""
    rng = np.random.default_rng(0)
    size = np.clip(rng.lognormal(2.3, 1.0, 10_000), 1, 300).astype(int)
    genes = np.array([f"G{i:05d}" for i in range(len(size))])
    table = pd.DataFrame({"gene": np.repeat(genes, size)})
    table.insert(0, "site", [f"cg{i:08d}" for i in range(len(table))])
    sets = {}
    for i in range(400):
        weight = size ** rng.uniform(-0.3, 0.6)  # some sets prefer genes of many sites
        sets[f"S{i}"] = list(rng.choice(genes, 100, replace=False, p=weight / weight.sum()))
    return table, sets


def test_five_genes_by_hand():
    table = pd.DataFrame(
        [("c1", "A"), ("c2", "A"), ("c3", "B"), ("c3", "C"), ("c4", "C"), ("c5", "D"), ("c6", "E")],
        columns=["site", "gene"],
    )
    sets = {"BC": ["B", "C", "unknown"], "A": ["A"], "all": list("ABCDE"), "none": ["unknown"]}
    got = overrepresentation(["c3", "c4"], ["c1", "c2", "c3", "c4", "c5", "c6"], table, sets)
    assert set(got.index) == {"BC", "A", "all"}
    assert got.loc["BC", "n_genes"] == 2
    # B: half of c3; C: half of c3 and c4, at most one.
    assert got.loc["BC", "n_significant"] == 1.5
    assert got.loc["BC", "genes"] == "B, C"
    assert got.loc["all", "p_value"] == 1
    assert got.loc["A", "p_value"] == 1
    plain = overrepresentation(["c3", "c4"], table["site"], table, sets, "hypergeometric")
    assert plain.loc["BC", "p_value"] == pytest.approx(hypergeom.sf(1, 5, 2, 2))
    assert plain.loc["BC", "n_significant"] == 2
    # Three tests: every set with a gene, those without a hit too.
    assert plain.loc["BC", "q_value"] == pytest.approx(3 * plain.loc["BC", "p_value"])


def test_bias_curve_is_the_tricube_average_written_out():
    sizes = [4, 1, 3, 2, 6, 5, 8, 7]
    table = pd.DataFrame(
        [(f"{g}{i}", g) for g, n in zip("ABCDEFGH", sizes, strict=True) for i in range(n)],
        columns=["site", "gene"],
    )
    got = overrepresentation(["G0", "H1", "A2"], table["site"], table, {"S": ["A", "G", "B"]})
    hit = [0, 0, 0, 1, 0, 0, 1, 1]  # genes by size: B D C A F E H G
    curve = []
    for i in range(8):
        near = [j for j in range(8) if abs(i - j) <= 2]
        weight = [(1 - (abs(i - j) / 3) ** 3) ** 3 for j in near]
        curve.append(np.dot(weight, [hit[j] for j in near]) / sum(weight))
    inside = np.mean([curve[0], curve[3], curve[7]])
    outside = np.mean([curve[j] for j in (1, 2, 4, 5, 6)])
    assert got.loc["S", "odds"] == pytest.approx(inside / outside)


def test_random_sites_name_nothing_while_the_plain_test_names_dozens(biased):
    table, sets = biased
    for n_sites in (1000, 8000):
        sites = table["site"].sample(n_sites, random_state=n_sites)
        got = overrepresentation(sites, table["site"], table, sets)
        assert (got["q_value"] < 0.05).sum() == 0
    plain = overrepresentation(sites, table["site"], table, sets, "hypergeometric")
    assert (plain["q_value"] < 0.05).sum() > 24


def test_p_values_of_random_sites_are_uniform(biased):
    table, sets = biased
    rng = np.random.default_rng(1)
    sites = table["site"].sample(1000, random_state=2)
    n_hit = table.loc[table["site"].isin(sites), "gene"].nunique()
    ks = {}
    for method in ("wallenius", "hypergeometric"):
        got = overrepresentation(sites, table["site"], table, sets, method)
        # P-values of counts are steps; noise as wide as the step makes them continuous.
        above, odds = got["n_significant"].to_numpy(int) + 1, got["odds"].to_numpy()
        step = np.exp(log_sf(above, got["n_genes"].to_numpy(), 10_000, n_hit, odds))
        ks[method] = kstest(rng.uniform(step, got["p_value"]), "uniform").pvalue
    assert ks["wallenius"] > 0.01
    assert ks["hypergeometric"] < 1e-6


def test_planted_set_is_found_whatever_its_size_of_genes(biased):
    table, sets = biased
    for name in ("S3", "S11"):
        planted = table[table["gene"].isin(sets[name])].groupby("gene").head(2)["site"]
        others = table["site"].sample(500, random_state=3)
        sites = {*planted, *others}
        assert overrepresentation(sites, table["site"], table, sets).index[0] == name


def test_refused_input(biased):
    table, sets = biased
    with pytest.raises(MiracleError, match="1 chosen sites are not in the universe.*'nowhere'"):
        overrepresentation(["nowhere"], table["site"], table, sets)
    with pytest.raises(MiracleError, match="no column 'gene'"):
        overrepresentation([], table["site"], table[["site"]], sets)
    with pytest.raises(MiracleError, match="No gene set"):
        overrepresentation([], table["site"], table, {"S": ["x"]})
    with pytest.raises(MiracleError, match="'fisher'"):
        overrepresentation([], table["site"], table, sets, "fisher")


@pytest.mark.mirror
def test_random_sites_of_the_real_array(mirror):
    from miracle_lib.hierarchy import read_gene_sets, read_illumina_manifest

    array = read_illumina_manifest(mirror / "HumanMethylation450_15017482_v1-2.csv.gz")
    table, universe = array.site_gene, array.sites.index
    sets = read_gene_sets(mirror / "GO_Biological_Process_2021.gmt")
    for n_sites in (1000, 8000):
        sites = np.random.default_rng(1).choice(universe, n_sites, replace=False)
        got = overrepresentation(sites, universe, table, sets)
        assert (got["q_value"] < 0.05).sum() == 0
        # Flooring fractional counts makes small p-values rarer than uniform, never more frequent.
        assert (got["p_value"] < 0.01).mean() < 0.01
    plain = overrepresentation(sites, universe, table, sets, "hypergeometric")
    assert (plain["q_value"] < 0.05).sum() > 24
