from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import ttest_ind

from miracle_lib.training import relatives as module
from miracle_lib.training.pathway_variances import excess_from_pathways
from miracle_lib.training.relatives import Relatives, moderated_t, prior_variances


def chain(n_genes=40, per_gene=4, per_pathway=5, outside=0, order=None):
    """Sites in genes in pathways, each in one; genes can be dealt to pathways in another order."""
    n_pathways = n_genes // per_pathway
    site_gene = np.kron(np.eye(n_genes), np.ones((per_gene, 1)))
    gene_pathway = np.kron(np.eye(n_pathways), np.ones((per_pathway, 1)))
    if order is not None:
        gene_pathway = gene_pathway[order]
    masks = SimpleNamespace(
        site_gene=sp.csr_matrix(site_gene), gene_pathway=sp.csr_matrix(gene_pathway)
    )
    return Relatives(masks, outside)


def test_means_over_relatives_by_hand():
    """Sites 0 and 1 on gene 0, 2 on gene 1, 3 on gene 2; genes 0 and 1 in one pathway, 2 alone."""
    masks = SimpleNamespace(
        site_gene=sp.csr_matrix([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        gene_pathway=sp.csr_matrix([[1, 0], [1, 0], [0, 1]]),
    )
    excess = np.array([[1.0, 10.0], [3.0, 20.0], [5.0, 30.0], [7.0, 40.0], [9.0, 50.0]])
    (inside, _, tables), (outside, _, rest) = Relatives(masks, 1).groups("sites", excess)
    assert (inside, outside) == (slice(0, 4), slice(4, None))
    gene, pathway, other, *_ = tables
    np.testing.assert_array_equal(gene[:, 0], [3, 1, np.nan, np.nan])
    of_genes = excess_from_pathways(
        np.array([[2.0 + 4, 32], [6, 31], [8, 41]]),
        np.array([[2.0, 2], [1, 1], [1, 1]]),
        masks.gene_pathway,
    )
    np.testing.assert_array_equal(pathway, of_genes[[0, 0, 1, 2]])
    np.testing.assert_array_equal(np.isnan(pathway[:, 0]), [False, False, False, True])
    np.testing.assert_array_equal(other[:, 0], [10, 20, 30, 40])
    np.testing.assert_array_equal(rest[0], [[50, 9]])
    ((_, _, tables),) = Relatives(masks, 1).groups("genes", excess[:3])
    of_genes = excess_from_pathways(excess[:3] + 1, np.ones((3, 2)), masks.gene_pathway)
    np.testing.assert_array_equal(tables[0], of_genes)


def test_what_sites_of_a_gene_have_in_common_by_chance_is_twice_the_squared_correlation():
    rng = np.random.default_rng(0)
    common = np.repeat(rng.normal(size=(40, 500)), 4, axis=0)
    alike = np.sqrt(0.6) * common + np.sqrt(0.4) * rng.normal(size=(160, 500))
    found = chain().by_chance(alike)
    assert found == pytest.approx(2 * 0.6**2, rel=0.1)
    assert chain().by_chance(rng.normal(size=(160, 500))) < 0.03
    excess = alike[:, :1] ** 2 - 1
    ((_, beyond, (gene, _)), _) = chain().groups("sites", excess, found)
    slope = found / gene.var()
    np.testing.assert_allclose(beyond, excess - slope * (gene - gene.mean()))


def test_a_gene_that_speaks_by_chance_lends_its_sites_less():
    z = np.repeat(np.random.default_rng(0).normal(size=(40, 2)), 4, axis=0)
    variance = [prior_variances(z, np.ones(160, bool), chain(), "sites", c) for c in (0.0, 2.0)]
    assert np.sum(variance[1] ** 2) < 0.8 * np.sum(variance[0] ** 2)


def test_one_task_has_no_other():
    ((_, _, tables), (_, _, outside)) = chain(outside=2).groups("sites", np.zeros((162, 1)))
    assert (len(tables), len(outside)) == (2, 0)
    assert chain().groups("pathways", np.zeros((8, 1)))[0][2] == []


def test_moderated_t_nears_the_t_of_many_samples():
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(2000, 3)), np.arange(2000) % 2
    x[label == 1, 1] += 0.1
    groups = [x[label == value] for value in (0, 1)]
    sums = [np.stack([each.sum(0) for each in (g, g**2)]) for g in groups]
    total, square = np.stack(sums, axis=1)
    found = moderated_t(total, square, np.array([1000, 1000]), np.array([True, True, False]))
    expected = ttest_ind(groups[1], groups[0]).statistic
    np.testing.assert_allclose(found[:2], expected[:2], rtol=0.01)
    assert found[2] == 0


def planted(rng, rel, n_tasks=2, common=True):
    """Associations of which those of the first pathway's twenty sites are large."""
    z = rng.normal(size=(160, n_tasks))
    for task in range(n_tasks):
        start = 0 if common else 20 * task
        z[start : start + 20, task] += rng.normal(size=20) * 3
    return z


def test_relatives_lend_variance_to_a_site_that_says_nothing_itself():
    rng = np.random.default_rng(0)
    z = planted(rng, chain())
    z[7] = 0.0  # in the pathway that speaks
    z[100] = 0.0  # elsewhere
    variance = prior_variances(z, np.ones(160, bool), chain(), "sites")
    assert (variance[7] > 2 * variance[100]).all()
    assert variance.sum(0).mean() == pytest.approx(1)


def test_the_right_pathways_find_more_of_what_is_planted_than_wrong_ones():
    gains = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(160, 1))
        z[:20] += rng.normal(size=(20, 1)) * 2
        found = [
            prior_variances(z, np.ones(160, bool), chain(order=order), "sites")[:20].sum()
            for order in (None, rng.permutation(40))
        ]
        gains.append(found[0] - found[1])
    assert np.mean(gains) > 0.05


def test_nothing_planted_leaves_variances_level():
    rng = np.random.default_rng(2)
    variance = prior_variances(rng.normal(size=(160, 3)), np.ones(160, bool), chain(), "sites")
    assert variance.max() < 0.2


def test_tasks_with_more_signal_have_more_variance():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(160, 2))
    z[:20, 0] += 4
    variance = prior_variances(z, np.ones(160, bool), chain(), "sites")
    assert variance[:, 0].sum() > 2 * variance[:, 1].sum()


def test_negligible_features_are_dropped_and_lose_little(monkeypatch):
    z = planted(np.random.default_rng(4), chain())
    variance = prior_variances(z, np.ones(160, bool), chain(), "sites")
    monkeypatch.setattr(module, "NEGLIGIBLE", 0.0)
    whole = prior_variances(z, np.ones(160, bool), chain(), "sites")
    assert 0 < (variance == 0).mean() < 1
    assert whole[variance == 0].sum() < 0.03 * whole.sum()


def test_a_site_that_a_task_did_not_measure_says_nothing():
    """It used to count as measured without effect, and took the site from the task that had it."""
    total = np.array([[0.0, 0.0], [30.0, 0.0]])
    square = np.array([[50.0, 0.0], [70.0, 0.0]])
    found = moderated_t(total, square, np.array([50, 50]), np.array([True, True]))
    assert np.isnan(found[1])
    assert np.isclose(found[0], 0.6 / np.sqrt(102 / 98 * (1 / 50 + 1 / 50)))
    excess = np.array([[4.0, np.nan], [2.0, 1.0], [np.nan, 3.0]])
    masks = SimpleNamespace(
        site_gene=sp.csr_matrix(np.ones((3, 1))), gene_pathway=sp.csr_matrix((1, 1))
    )
    ((_, _, tables), _) = Relatives(masks, 0).groups("sites", excess)
    gene, _, other, *_ = tables
    np.testing.assert_allclose(gene, [[2.0, 2.0], [4.0, 3.0], [3.0, 1.0]])
    np.testing.assert_allclose(other, [[np.nan, 4.0], [1.0, 2.0], [3.0, np.nan]])


def test_tasks_that_measured_few_sites_leave_the_others_as_they_would_be_alone():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(160, 3))
    z[:20, 0] += 4
    z[8:, 1:] = np.nan
    variance = prior_variances(z, np.ones(160, bool), chain(), "sites")
    alone = prior_variances(z[:, :1], np.ones(160, bool), chain(), "sites")
    assert (variance[8:, 1:] == 0).all()
    share = variance[:20, 0].sum() / variance[:, 0].sum()
    assert share > 0.9 * alone[:20].sum() / alone.sum()
