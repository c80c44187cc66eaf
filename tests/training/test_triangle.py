import numpy as np
import pytest

from miracle_lib.training import triangle
from miracle_lib.training.prior import Pairs, Prior
from miracle_lib.training.triangle import Root, square, strips


@pytest.mark.parametrize("width", [3, 7, 8, 100])
def test_strips_cover_the_lower_triangle_once(width, monkeypatch):
    monkeypatch.setattr(triangle, "WIDTH", width)
    covered = np.zeros((7, 7), int)
    for rows, columns in strips(7):
        covered[rows, columns] += 1
    assert (covered[np.tril_indices(7)] == 1).all()
    assert covered.max() == 1


def test_covariance_in_strips_is_that_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    task = np.repeat([0, 1, 2], [2, 4, 3])
    pairs = Pairs(np.arange(9), task, np.zeros(9))
    prior = Prior(rng.uniform(1, 2, (3, 2)), sharing=0.3)
    grams = [a @ a.T for a in rng.normal(size=(2, 9, 5))]
    scale = prior.scale[task]
    expected = sum(gram * np.outer(s, s) for gram, s in zip(grams, scale.T, strict=True))
    expected *= np.where(task[:, None] == task, 1.0, 0.3)
    monkeypatch.setattr(triangle, "WIDTH", 4)
    found = prior.covariance([np.tril(gram) for gram in grams], pairs)
    np.testing.assert_allclose(np.tril(found), np.tril(expected), rtol=1e-14)


def test_a_block_without_weights_is_not_read():
    pairs = Pairs(np.arange(2), np.array([0, 1]), np.zeros(2))
    prior = Prior(np.array([[2.0, 0.0], [1.0, 0.0]]), sharing=0.5)
    unread = np.full((2, 2), np.nan)
    found = prior.covariance([np.array([[3.0, 0.0], [5.0, 7.0]]), unread], pairs)
    np.testing.assert_array_equal(np.tril(found), [[12, 0], [5, 7]])


def test_root_by_hand():
    """L = [[2, 0], [3, 4]]; the covariance is overwritten."""
    covariance = square(2)
    covariance[:] = [[4, 0], [6, 25]]  # the lower triangle is enough
    root = Root.of(covariance)
    np.testing.assert_allclose(root.triangle, [[2, 0], [3, 4]], rtol=1e-5)
    assert np.shares_memory(root.triangle, covariance)
    np.testing.assert_allclose(root @ np.array([1.0, 1.0]), [2, 7], rtol=1e-5)
    twice = root * 2
    np.testing.assert_allclose(twice.transposed(np.array([1.0, 1.0])), [10, 8], rtol=1e-5)
    np.testing.assert_allclose(twice.solve_transposed(np.array([10.0, 8.0])), [1, 1], rtol=1e-5)
    assert np.shares_memory(twice.triangle, covariance)
