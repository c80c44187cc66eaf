import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from miracle_lib import MiracleError
from miracle_lib.interpretation import gene_scores, prerank, ssgsea


@pytest.fixture
def array():
    rng = np.random.default_rng(0)
    size = rng.integers(1, 60, 500)
    genes = np.array([f"G{i:03d}" for i in range(500)])
    table = pd.DataFrame({"gene": np.repeat(genes, size)})
    table["site"] = [f"c{i}" for i in range(len(table))]
    sets = {f"S{i}": list(rng.choice(genes, 20, replace=False)) for i in range(40)}
    sets["large genes"] = list(genes[np.argsort(size)[-20:]])
    return table, sets, pd.Series(rng.random(len(table)), index=table["site"])


def test_scores_of_random_sites_are_normal_whatever_the_size_of_the_gene(array):
    table, _, ranking = array
    scores = gene_scores(ranking, table)
    size = table.groupby("gene").size()
    assert kstest(scores, "norm").pvalue > 0.01
    assert abs(scores.corr(size, method="spearman")) < 0.1
    assert ranking.groupby(table["gene"].to_numpy()).max().corr(size, method="spearman") > 0.5


def test_prerank_finds_the_planted_set_only(array):
    table, sets, ranking = array
    scores = gene_scores(ranking, table)
    assert (prerank(scores, sets)["q_value"] > 0.05).all()
    scores[sets["S7"]] += 2
    found = prerank(scores, sets)
    assert found.index[0] == "S7"
    assert found["q_value"].iloc[0] < 0.001
    assert len(found) == len(sets)
    pd.testing.assert_frame_equal(found, prerank(scores, sets))


def test_ssgsea_follows_a_planted_shift(array):
    table, sets, _ = array
    rng = np.random.default_rng(1)
    values = pd.DataFrame(rng.normal(size=(12, len(table))), columns=table["site"])
    sites = table.loc[table["gene"].isin(sets["S2"]), "site"]
    values.loc[:5, sites] += 0.7
    scores = ssgsea(values, table, sets)
    assert scores.shape == (12, len(sets))
    difference = scores.loc[:5].mean() - scores.loc[6:].mean()
    assert difference.idxmax() == "S2"


def test_refused_input(array):
    table, sets, ranking = array
    with pytest.raises(MiracleError, match="No ranked site has a gene"):
        gene_scores(ranking.rename(index=lambda s: s + "x"), table)
    with pytest.raises(MiracleError, match="No gene set has 300 to 500"):
        prerank(gene_scores(ranking, table), sets, min_genes=300)
