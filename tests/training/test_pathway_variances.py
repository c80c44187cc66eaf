import numpy as np
import scipy.sparse as sp

from miracle_lib.training.pathway_variances import PARTS, excess_from_pathways

GENES = 120


def dealt(rng, n_pathways=24, per_gene=4):
    """Every gene in some pathways."""
    mask = np.zeros((GENES, n_pathways))
    for gene in mask:
        gene[rng.choice(n_pathways, per_gene, replace=False)] = 1
    return sp.csr_matrix(mask)


def squares(rng, variance, n_sites=4):
    """Sums of squared associations of sites whose variance is that of their gene."""
    z = rng.normal(size=(n_sites, len(variance))) * np.sqrt(variance)
    return (z**2).sum(0)[:, None], np.full((len(variance), 1), float(n_sites))


def test_variances_add_up_over_pathways():
    """Means over many draws come near what was planted: 1, then 1 + 6, then 1 + 6 + 3."""
    rng = np.random.default_rng(0)
    mask = sp.csr_matrix(np.kron(np.array([[0, 0], [1, 0], [1, 1]]), np.ones((40, 1))))
    planted = mask @ np.array([6.0, 3.0])
    total, number = squares(rng, 1 + planted, n_sites=200)
    found = excess_from_pathways(total, number, mask)[:, 0]
    assert np.isnan(found[:40]).all()
    np.testing.assert_allclose(found[40:80], 6, rtol=0.1)
    np.testing.assert_allclose(found[80:], 9, rtol=0.1)


def test_the_pathway_that_speaks_is_heard_among_silent_ones():
    """A mean over a gene's four pathways would give genes beside an active one a quarter."""
    rng = np.random.default_rng(1)
    mask = dealt(rng)
    active = mask[:, [3]].toarray().ravel() == 1
    found = excess_from_pathways(*squares(rng, 1 + 5.0 * active), mask)[:, 0]
    assert found[active].mean() > 4
    assert found[~active].mean() < 0.4


def test_a_gene_says_nothing_of_itself():
    rng = np.random.default_rng(2)
    mask = dealt(rng)
    total, number = squares(rng, np.ones(GENES))
    before = excess_from_pathways(total, number, mask)
    total[7] *= 1000
    after = excess_from_pathways(total, number, mask)
    same_part = np.arange(GENES) % PARTS == 7 % PARTS
    np.testing.assert_array_equal(before[same_part], after[same_part])
    assert (after[~same_part] > before[~same_part]).any()


def test_nothing_planted_gives_next_to_nothing():
    rng = np.random.default_rng(3)
    found = excess_from_pathways(*squares(rng, np.ones(GENES)), dealt(rng))
    assert found.mean() < 0.2


def test_tasks_are_found_apart_and_unmeasured_genes_do_not_count():
    rng = np.random.default_rng(4)
    mask = dealt(rng)
    active = mask[:, [3]].toarray().ravel() == 1
    one = squares(rng, 1 + 5.0 * active)
    two = squares(rng, np.ones(GENES))
    two[0][active], two[1][active] = 0, 0
    both = excess_from_pathways(*(np.hstack(pair) for pair in zip(one, two, strict=True)), mask)
    np.testing.assert_allclose(both[:, [0]], excess_from_pathways(*one, mask))
    np.testing.assert_allclose(both[:, [1]], excess_from_pathways(*two, mask))
    assert np.isfinite(both).all()
