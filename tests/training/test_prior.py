import numpy as np

from miracle_lib.training.prior import Pairs, Prior, labelled_pairs


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
