import numpy as np
import pytest
import torch

from miracle_lib.errors import MiracleError
from miracle_lib.training.data import balanced_accuracy, inner_folds, joined, mini_batches

NAN = float("nan")


def label_table(sizes):
    """One task per size, half cases, each sample labelled for one task."""
    labels = torch.full((sum(sizes), len(sizes)), NAN)
    start = 0
    for task, size in enumerate(sizes):
        labels[start : start + size, task] = torch.arange(size) % 2
        start += size
    return labels


def test_every_task_appears_in_every_batch_and_every_sample_once():
    labels = label_table([9, 40, 100])
    batches = mini_batches(labels, 20, seed=3)
    assert len(batches) == 8
    assert sorted(torch.cat(batches).tolist()) == list(range(149))
    for batch in batches:
        assert (~labels[batch].isnan()).any(0).all()


def test_unlabelled_and_doubly_labelled_samples_do_not_make_batches_fewer():
    labels = label_table([20, 60])
    labels[25:30, 0] = 1.0
    labels = torch.cat([labels, torch.full((3, 2), NAN)])
    batches = mini_batches(labels, 10, seed=0)
    assert len(batches) == 9
    assert sorted(torch.cat(batches).tolist()) == list(range(83))
    for batch in batches:
        assert (~labels[batch].isnan()).any(0).all()


def test_batches_differ_by_seed_only():
    labels = label_table([30, 30])
    one, same, other = (mini_batches(labels, 10, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0])
    assert len(mini_batches(labels, None, 0)) == 1


@pytest.mark.parametrize(
    ("sizes", "least", "found"),
    [
        ([2, 2, 1], 2, [2, 3]),
        ([1, 3, 1], 2, [5]),
        ([1, 1, 1, 1, 1], 2, [2, 3]),
        ([1], 2, [1]),
        ([2, 1, 2], 1, [2, 1, 2]),
    ],
)
def test_parts_that_are_too_small_join_their_neighbours(sizes, least, found):
    parts = joined(torch.arange(sum(sizes)).split(sizes), least)
    assert [len(part) for part in parts] == found
    assert torch.cat(parts).tolist() == list(range(sum(sizes)))


def test_inner_folds_keep_groups_whole_and_classes_balanced():
    labels = label_table([40, 60])
    groups = np.repeat(np.arange(50), 2)
    folds = inner_folds(labels, groups, 5, seed=0)
    for group in range(50):
        assert len(set(folds[groups == group])) == 1
    for fold in range(5):
        for task in range(2):
            part = labels[folds == fold, task]
            part = part[~part.isnan()]
            assert abs(float(part.mean()) - 0.5) < 0.15
            assert len(part) > 4


def test_few_large_groups_give_folds_without_gaps_and_one_group_is_refused():
    labels = label_table([40])
    folds = inner_folds(labels, np.arange(40) // 15, 5, seed=0)
    assert sorted(np.unique(folds)) == list(range(folds.max() + 1))
    assert 1 <= folds.max() <= 2
    with pytest.raises(MiracleError, match=r"one group"):
        inner_folds(labels, np.zeros(40), 5, seed=0)


def test_folds_shrink_to_the_smallest_class():
    labels = torch.tensor([[1.0]] * 3 + [[0.0]] * 30)
    folds = inner_folds(labels, np.arange(33), 5, seed=0)
    assert sorted(np.unique(folds)) == [0, 1, 2]
    assert all((labels[folds == fold] == 1).sum() == 1 for fold in range(3))


def test_balanced_accuracy_by_hand():
    # Task 0: 2 of 3 cases and 1 of 1 controls right. Task 1: one case, right; no control.
    logits = torch.tensor([[1.0, 2.0], [1.0, 0.0], [-1.0, 0.0], [-2.0, 0.0]])
    labels = torch.tensor([[1.0, 1.0], [1.0, NAN], [1.0, NAN], [0.0, NAN]])
    expected = [(2 / 3 + 1) / 2, 0.75]
    assert balanced_accuracy(logits, labels).tolist() == pytest.approx(expected)
