import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import chisquare

from miracle_lib.hierarchy.rewiring import permute_edges, random_edges, removable_edges


def random_mask(rng):
    """Any shape and density, every row and column with an edge."""
    shape = rng.integers(1, 25, size=2)
    dense = rng.random(shape) < rng.uniform(0.02, 0.9)
    dense[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = True
    dense[rng.integers(shape[0], size=shape[1]), np.arange(shape[1])] = True
    return csr_matrix(dense)


def degrees(mask):
    return mask.sum(axis=1).A1.tolist(), mask.sum(axis=0).A1.tolist()


def curveball(mask, rng, n_trades=400):
    """Strona et al. 2014, in plain Python: an independent way to permute."""
    rows = [set(mask[i].indices) for i in range(mask.shape[0])]
    for _ in range(n_trades):
        i, j = rng.choice(len(rows), 2, replace=False)
        only_i, only_j = rows[i] - rows[j], rows[j] - rows[i]
        pool = rng.permutation(sorted(only_i | only_j)).tolist()
        both = rows[i] & rows[j]
        rows[i], rows[j] = both | set(pool[: len(only_i)]), both | set(pool[len(only_i) :])
    dense = np.zeros(mask.shape, dtype=bool)
    for i, row in enumerate(rows):
        dense[i, list(row)] = True
    return dense


def test_permutation_keeps_every_degree_of_100_random_graphs():
    rng = np.random.default_rng(0)
    for _ in range(100):
        mask = random_mask(rng)
        assert degrees(permute_edges(mask, rng)) == degrees(mask)


def test_permutation_moves_edges_where_degrees_leave_room():
    rng = np.random.default_rng(1)
    mask = csr_matrix(rng.random((60, 40)) < 0.1)
    assert (permute_edges(mask, rng) != mask).nnz > mask.nnz


@pytest.mark.parametrize(
    "start",
    [
        [[1, 0], [0, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 1, 0], [1, 0, 0], [0, 0, 1]],  # one of its five graphs is left by single swaps only
        [[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0]],
    ],
)
def test_every_graph_of_the_degrees_is_equally_likely(start):
    mask = csr_matrix(np.array(start, dtype=bool))
    shape = mask.shape
    graphs = [
        cells
        for cells in itertools.product([False, True], repeat=shape[0] * shape[1])
        if degrees(csr_matrix(np.reshape(cells, shape))) == degrees(mask)
    ]
    rng = np.random.default_rng(2)
    drawn = Counter(tuple(permute_edges(mask, rng).toarray().ravel()) for _ in range(300))
    assert set(drawn) == set(graphs)
    assert chisquare([drawn[cells] for cells in graphs]).pvalue > 1e-3


def test_overlap_with_the_original_falls_to_that_of_an_independent_algorithm():
    rng = np.random.default_rng(3)
    hubs = np.linspace(0.05, 0.9, 20)  # unequal degrees: chance overlap is far from zero
    mask = csr_matrix(rng.random((30, 20)) < hubs * np.linspace(0.3, 1, 30)[:, None])
    original = mask.toarray()
    ours = [(permute_edges(mask, rng).toarray() & original).sum() for _ in range(100)]
    theirs = [(curveball(mask, rng) & original).sum() for _ in range(100)]
    error = np.sqrt((np.var(ours) + np.var(theirs)) / 100)
    assert abs(np.mean(ours) - np.mean(theirs)) < 4 * error
    assert np.mean(ours) < 0.7 * mask.nnz


def test_random_masks_keep_the_number_of_edges_and_leave_nobody_out():
    rng = np.random.default_rng(4)
    changed = 0
    for _ in range(100):
        mask = random_mask(rng)
        drawn = random_edges(mask, rng)
        assert drawn.nnz == mask.nnz
        assert drawn.has_canonical_format
        assert min(map(min, degrees(drawn))) >= 1
        changed += degrees(drawn) != degrees(mask)
    assert changed > 50


def test_random_masks_do_not_keep_the_hubs():
    hub = np.zeros((200, 10), dtype=bool)
    hub[:, 0] = True
    hub[np.arange(10), np.arange(10)] = True
    drawn = random_edges(csr_matrix(hub), np.random.default_rng(5))
    assert drawn.sum(axis=0).max() < 50


def test_edges_can_be_removed_together_without_emptying_a_node():
    rng = np.random.default_rng(6)
    for _ in range(100):
        mask = random_mask(rng)
        free = removable_edges(mask, rng)
        rows, columns = mask.nonzero()
        rest = np.ones(mask.nnz, dtype=bool)
        rest[free] = False
        assert set(rows[rest]) == set(range(mask.shape[0]))
        assert set(columns[rest]) == set(range(mask.shape[1]))
        assert len(set(free.tolist())) == len(free)


def test_a_path_has_no_edge_to_spare_and_a_full_mask_many():
    rng = np.random.default_rng(7)
    assert len(removable_edges(csr_matrix(np.eye(5, dtype=bool)), rng)) == 0
    assert len(removable_edges(csr_matrix(np.ones((5, 5), dtype=bool)), rng)) >= 16
