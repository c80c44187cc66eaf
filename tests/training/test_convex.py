import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from miracle_lib.model import TaskHeads
from miracle_lib.training.convex import (
    Features,
    HeadProblem,
    calibrate_prior,
    log_loss,
    pair_accuracy,
)
from miracle_lib.training.prior import Pairs, Prior, labelled_pairs


def problem(sharing=0.6, n=60, widths=(5, 8), seed=0):
    """Two tasks on two blocks; the second task's samples follow the first's."""
    rng = np.random.default_rng(seed)
    names = ("pathways", "genes")
    blocks = {
        name: torch.from_numpy(rng.normal(3, 2, (n, width)))
        for name, width in zip(names, widths, strict=True)
    }
    labels = np.full((n, 2), np.nan)
    score = blocks["pathways"][:, 0] + blocks["genes"][:, 0] + torch.from_numpy(rng.normal(size=n))
    labels[: n // 2, 0] = score[: n // 2] > 6
    labels[n // 2 :, 1] = score[n // 2 :] > 6
    features = Features.of(blocks)
    prior = Prior(np.array([[1.0, 2.0], [3.0, 0.5]]), sharing)
    pairs = labelled_pairs(labels)
    return features, HeadProblem(features.grams(), pairs, prior, 2), pairs, prior


def test_equals_logistic_regression_on_shared_and_specific_copies_of_the_features():
    features, heads, pairs, prior = problem()
    columns = []
    for block, name in enumerate(features.blocks):
        scaled = torch.cat([part for _, part in features.parts(name)], dim=1).numpy()
        mine = prior.scale[pairs.task, block, None] * scaled[pairs.row]
        columns.append(np.sqrt(prior.sharing) * mine)
        for task in (0, 1):
            columns.append(np.sqrt(1 - prior.sharing) * mine * (pairs.task == task)[:, None])
    # Biases cost next to nothing.
    columns.append(1e3 * np.eye(2)[pairs.task])
    weight = np.array([0.7, 1.3])
    reference = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(
        np.hstack(columns), pairs.label, sample_weight=weight[pairs.task]
    )
    solution = heads.solve(np.ones(len(pairs), bool), weight)
    expected = reference.decision_function(np.hstack(columns))
    np.testing.assert_allclose(heads.logits(solution), expected, atol=2e-3)


def test_written_heads_give_the_logits_of_the_solution():
    features, heads, pairs, _ = problem()
    solution = heads.solve(np.ones(len(pairs), bool), np.ones(2))
    module = TaskHeads({"pathways": 5, "genes": 8}, 2).double()
    heads.write(solution, features, module)
    logits = module(features.blocks).detach().numpy()[pairs.row, pairs.task]
    np.testing.assert_allclose(logits, heads.logits(solution), atol=1e-4)


@pytest.mark.parametrize(("sharing", "differ"), [(0.0, True), (1.0, False)])
def test_sharing_ties_the_weights_of_the_tasks(sharing, differ):
    features, heads, pairs, _ = problem(sharing)
    heads.prior = Prior(np.ones((2, 2)), sharing)
    module = TaskHeads({"pathways": 5, "genes": 8}, 2).double()
    heads.write(heads.solve(np.ones(len(pairs), bool), np.ones(2)), features, module)
    specific = module.blocks["genes"].output.specific.abs().max()
    assert (specific > 1e-3) == differ
    assert (module.blocks["genes"].output.shared.abs().max() > 1e-3) != differ


def test_out_of_fold_logits_do_not_know_their_own_labels():
    _, heads, pairs, _ = problem(n=40)
    folds = np.arange(40) % 4
    before = heads.out_of_fold(folds, np.ones(2))
    flipped = pairs.label.copy()
    inside = folds[pairs.row] == 2
    flipped[inside] = 1 - flipped[inside]
    heads.pairs = Pairs(pairs.row, pairs.task, flipped)
    after = heads.out_of_fold(folds, np.ones(2))
    np.testing.assert_array_equal(before[inside], after[inside])
    assert np.abs(before[~inside] - after[~inside]).max() > 0.01


def test_constant_features_are_left_out():
    x = torch.randn(10, 3, dtype=torch.float64)
    x[:, 1] = 4.0
    features = Features.of({"pathways": x})
    (_, scaled), *_ = features.parts("pathways")
    assert (scaled[:, 1] == 0).all()
    assert float(np.trace(features.grams()[0])) == pytest.approx(10)


def test_calibration_moves_a_scale_that_is_far_off():
    features, _, pairs, prior = problem(n=200)
    folds = np.arange(200) % 5
    tiny = calibrate_prior(features.grams(), pairs, prior.times(0.1), folds, 2)
    assert tiny.scale[0, 0] == pytest.approx(0.1 * prior.scale[0, 0] * 4)


def test_measures_by_hand():
    pairs = Pairs(np.arange(3), np.array([0, 0, 1]), np.array([1.0, 0.0, 1.0]))
    logits = np.array([0.0, 0.0, np.log(3)])
    np.testing.assert_allclose(log_loss(pairs, logits, 2), [np.log(2), np.log(4 / 3)])
    np.testing.assert_allclose(pair_accuracy(pairs, logits, 2), [0.5, 0.75])


def test_many_equal_single_precision_features_leave_the_problem_solvable():
    base = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    features = Features.of({"pathways": torch.from_numpy(np.tile(base, 200) * 1.0001)})
    pairs = labelled_pairs((base[:, :1] > 0).astype(float))
    heads = HeadProblem(features.grams(), pairs, Prior(np.full((1, 1), 20.0), 0.0), 1)
    logits = heads.logits(heads.solve(np.ones(60, bool), np.ones(1)))
    assert pair_accuracy(pairs, logits, 1)[0] > 0.95


@pytest.mark.parametrize("n", [4, 12, 80])
@pytest.mark.parametrize("sharing", [0.0, 1.0])
def test_fifty_nearly_equal_sites_in_repeated_samples_leave_the_problem_solvable(n, sharing):
    rng = np.random.default_rng(n)
    base = np.repeat(rng.normal(size=(n // 2, 1)), 2, axis=0)  # every sample twice
    sites = (base + 1e-4 * rng.normal(size=(1, 50))).astype(np.float32)
    blocks = {"pathways": sites[:, :20], "genes": sites[:, 20:30], "residual": sites[:, 30:]}
    features = Features.of({name: torch.from_numpy(block) for name, block in blocks.items()})
    labels = np.tile((base > np.median(base)).astype(float), 2)
    pairs = labelled_pairs(labels)
    prior = Prior(np.array([[50.0, 1e-3, 50.0], [1e-3, 50.0, 1.0]]), sharing)
    heads = HeadProblem(features.grams(), pairs, prior, 2)
    solution = heads.solve(np.ones(len(pairs), bool), np.ones(2))
    assert (pair_accuracy(pairs, heads.logits(solution), 2) > 0.9).all()
