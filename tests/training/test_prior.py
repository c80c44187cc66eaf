import numpy as np
import pytest
from scipy.optimize import check_grad

from miracle_lib.training.prior import Pairs, Prior, _Evidence, fit_prior, labelled_pairs


def planted(shared, n=80, n_tasks=3, p=60, seed=0):
    """Features and labels of tasks whose weights are common or unrelated."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n * n_tasks, p))
    common = rng.normal(size=p)
    labels = np.full((n * n_tasks, n_tasks), np.nan)
    for task in range(n_tasks):
        rows = slice(task * n, (task + 1) * n)
        weights = common if shared else rng.normal(size=p)
        labels[rows, task] = x[rows] @ weights + rng.normal(size=n) > 0
    return x @ x.T / p, labels


def test_pairs_are_listed_task_by_task():
    pairs = labelled_pairs(np.array([[1, np.nan], [np.nan, 0], [0, 1]]))
    assert pairs.row.tolist() == [0, 2, 1, 2]
    assert pairs.task.tolist() == [0, 0, 1, 1]
    assert pairs.label.tolist() == [1, 0, 0, 1]


def test_covariance_by_hand():
    prior = Prior(np.array([[1.0], [2.0]]), sharing=0.5)
    pairs = Pairs(np.array([0, 1]), np.array([0, 1]), np.array([0, 1]))
    gram = np.array([[3.0, 5.0], [5.0, 7.0]])
    np.testing.assert_allclose(
        prior.covariance([gram], pairs), [[3, 5 * 2 * 0.5], [5 * 2 * 0.5, 7 * 4]]
    )


@pytest.mark.parametrize("sharing", [None, 0.3])
def test_gradient_of_the_evidence(sharing):
    gram, labels = planted(True, n=15)
    other = np.cov(np.random.default_rng(1).normal(size=(45, 100)))
    evidence = _Evidence([gram, other], labelled_pairs(labels), 3, sharing)
    theta = evidence.start + np.random.default_rng(2).normal(size=len(evidence.start)) / 3
    error = check_grad(lambda t: evidence(t)[0], lambda t: evidence(t)[1], theta)
    assert error < 1e-4 * np.linalg.norm(evidence(theta)[1])


def test_sharing_is_found_where_it_is_and_only_there():
    assert fit_prior([planted(True)[0]], labelled_pairs(planted(True)[1]), 3).sharing > 0.75
    gram, labels = planted(False)
    assert fit_prior([gram], labelled_pairs(labels), 3).sharing < 0.25


def test_without_sharing_the_evidence_is_the_sum_of_single_tasks():
    gram, labels = planted(True, n=20)
    together = _Evidence([gram], labelled_pairs(labels), 3, 0.0)
    alone = [
        _Evidence([gram], labelled_pairs(labels[:, [task]]), 1, 0.0)(together.start[[0, 1, 2, -1]])[
            0
        ]
        for task in range(3)
    ]
    assert together(together.start)[0] == pytest.approx(sum(alone))


def test_block_that_carries_the_signal_gets_the_larger_scale():
    gram, labels = planted(True)
    noise = np.random.default_rng(5).normal(size=(240, 60))
    scale = fit_prior([noise @ noise.T / 60, gram], labelled_pairs(labels), 3).scale
    assert (scale[:, 1] > 2 * scale[:, 0]).all()
