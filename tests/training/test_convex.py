import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from miracle_lib import stored
from miracle_lib.errors import MiracleError
from miracle_lib.model import TaskHeads
from miracle_lib.training import convex
from miracle_lib.training.convex import (
    Block,
    Folds,
    HeadProblem,
    fit_prior,
    log_loss,
    pair_accuracy,
)
from miracle_lib.training.prior import Pairs, Prior, labelled_pairs
from miracle_lib.training.relatives import Relatives

WIDTHS = {"pathways": 3, "genes": 6, "sites": 14}


def relatives():
    """Twelve sites in pairs on six genes, two genes per pathway; two sites outside."""
    site_gene = sp.csr_matrix(np.kron(np.eye(6), np.ones((2, 1))))
    gene_pathway = sp.csr_matrix(np.kron(np.eye(3), np.ones((2, 1))))
    return Relatives(SimpleNamespace(site_gene=site_gene, gene_pathway=gene_pathway), 2)


def blocks_of(values, labels, n_folds=4):
    """Blocks and folds of features by name."""
    folds = Folds(np.arange(len(labels)) % n_folds, labelled_pairs(labels))
    blocks = {
        name: Block(name, torch.from_numpy(each), folds, labels.shape[1], relatives())
        for name, each in values.items()
    }
    return blocks, folds


def data(n=60, seed=0, effect=2.0):
    """Two tasks; the second task's samples follow the first's; site 0 matters."""
    rng = np.random.default_rng(seed)
    values = {name: rng.normal(3, 2, (n, width)) for name, width in WIDTHS.items()}
    score = effect * (values["sites"][:, 0] - 3) / 2 + rng.normal(size=n)
    labels = np.full((n, 2), np.nan)
    labels[: n // 2, 0] = score[: n // 2] > 0
    labels[n // 2 :, 1] = score[n // 2 :] > 0
    return values, labels


def problem(sharing=0.6, **options):
    values, labels = data(**options)
    blocks, folds = blocks_of(values, labels)
    prior = Prior(np.array([[1.0, 2.0, 1.5], [3.0, 0.5, 1.0]]), sharing)
    return HeadProblem(blocks, folds, prior, 2)


@pytest.mark.parametrize("subset", [-1, 1])
def test_equals_logistic_regression_on_shared_and_specific_copies_of_the_features(subset):
    """Features are scaled by the root of the variance that each has in each task."""
    heads = problem()
    pairs, prior = heads.pairs, heads.prior
    columns = []
    for number, block in enumerate(heads.blocks.values()):
        scaled = ((block.values - block.mean) / block.unit).numpy()
        deviation = prior.scale[:, number, None] * np.sqrt(block.variances[subset].T)
        mine = deviation[pairs.task] * scaled[pairs.row]
        columns.append(np.sqrt(prior.sharing) * mine)
        for task in (0, 1):
            columns.append(np.sqrt(1 - prior.sharing) * mine * (pairs.task == task)[:, None])
    # Biases cost next to nothing.
    columns.append(1e3 * np.eye(2)[pairs.task])
    table, weight = np.hstack(columns), np.array([0.7, 1.3])
    keep = heads.folds.kept(subset)
    reference = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(
        table[keep], pairs.label[keep], sample_weight=weight[pairs.task[keep]]
    )
    solution = heads.solve(subset, weight)
    expected = reference.decision_function(table)
    np.testing.assert_allclose(heads.logits(subset, solution), expected, atol=5e-3)


@pytest.mark.parametrize("subset", [-1, 2])
def test_written_heads_give_the_logits_of_the_solution(subset, monkeypatch):
    monkeypatch.setattr(convex, "COLUMNS", 4)
    heads = problem()
    solution = heads.solve(subset, np.ones(2))
    module = TaskHeads(WIDTHS, 2).double()
    heads.write(solution, module, subset)
    values = {name: block.values for name, block in heads.blocks.items()}
    logits = module(values).detach().numpy()[heads.pairs.row, heads.pairs.task]
    np.testing.assert_allclose(logits, heads.logits(subset, solution), atol=1e-4)


@pytest.mark.parametrize(("sharing", "differ"), [(0.0, True), (1.0, False)])
def test_sharing_ties_the_weights_of_the_tasks(sharing, differ):
    values, labels = data()
    blocks, folds = blocks_of({"sites": values["sites"]}, labels)
    for block in blocks.values():  # the same variances in both tasks
        block.variances[-1][:, 1] = block.variances[-1][:, 0]
    heads = HeadProblem(blocks, folds, Prior(np.ones((2, 1)), sharing), 2)
    module = TaskHeads({"sites": 14}, 2).double()
    heads.write(heads.solve(-1, np.ones(2)), module)
    assert (module.blocks["sites"].output.specific.abs().max() > 1e-3) == differ
    assert (module.blocks["sites"].output.shared.abs().max() > 1e-3) != differ


def test_out_of_fold_logits_do_not_know_their_own_labels():
    """Not even through the variances, which are found from the labels."""
    values, labels = data(n=40)
    found = []
    for flip in (False, True):
        table = labels.copy()
        table[2::4] = np.where(flip, 1 - table[2::4], table[2::4])
        blocks, folds = blocks_of(values, table)
        heads = HeadProblem(blocks, folds, Prior(np.ones((2, 3)), 0.5), 2)
        found.append(heads.out_of_fold(np.ones(2)))
    inside = ~folds.kept(2)
    np.testing.assert_array_equal(found[0][inside], found[1][inside])
    assert np.abs(found[0][~inside] - found[1][~inside]).max() > 0.01


def test_gram_is_that_of_the_scaled_features():
    heads = problem()
    block, pairs = heads.blocks["genes"], heads.pairs
    scaled = ((block.values - block.mean) / block.unit).numpy()[pairs.row]
    scaled = scaled * np.sqrt(block.variances[0].T)[pairs.task]
    np.testing.assert_allclose(block.grams[0], scaled @ scaled.T, atol=1e-10)


@pytest.mark.parametrize("n", [60, 1500])
@pytest.mark.parametrize("kind", ["few sites", "repeated samples", "repeated sites"])
def test_rounding_in_single_precision_never_makes_the_matrix_indefinite(n, kind, monkeypatch):
    """Repeated sites round alike, which adds up: the smallest eigenvalue becomes -1.5e-4."""
    monkeypatch.setattr(convex, "prior_variances", lambda t, *_: np.full(t.shape, 1 / len(t)))
    rng = np.random.default_rng(0)
    twice = np.repeat(rng.normal(size=(n // 2, 1)), 2, axis=0)
    sites = {
        "few sites": rng.normal(size=(n, 3)),
        "repeated samples": np.repeat(rng.normal(size=(3, 5_000)), n // 3, axis=0),
        "repeated sites": twice + 1e-7 * rng.normal(size=(1, 9_000)),
    }[kind]
    labels = (np.arange(n)[:, None] // 2 % 2).astype(float)
    blocks, folds = blocks_of({"genes": sites.astype(np.float32)}, labels, n_folds=2)
    heads = HeadProblem(blocks, folds, Prior(np.array([[16.0]]), 0.0), 1)
    for subset in (0, 1, -1):
        heads.root(subset)


def test_single_precision_gives_the_probabilities_of_double(monkeypatch):
    monkeypatch.setattr(convex, "prior_variances", lambda t, *_: np.full(t.shape, 1 / len(t)))
    rng = np.random.default_rng(0)
    sites = rng.normal(size=(300, 6_000)).astype(np.float32)
    labels = (sites[:, :50].mean(1, keepdims=True) + 0.1 * rng.normal(size=(300, 1)) > 0) * 1.0
    found = []
    for kind in (np.float32, np.float64):
        blocks, folds = blocks_of({"genes": sites.astype(kind)}, labels)
        heads = HeadProblem(blocks, folds, Prior(np.array([[8.0]]), 0.0), 1)
        found.append(expit(heads.out_of_fold(np.ones(1))))
    np.testing.assert_allclose(*found, atol=1e-3)
    assert found[0].std() > 0.05


@pytest.fixture
def few_inside(monkeypatch):
    """The folds have about 90 labelled pairs."""
    monkeypatch.setattr(convex, "MOST", 90)


def test_folds_have_the_same_share_of_every_class_and_lack_none(few_inside):
    task, label = np.repeat([0, 1], [400, 50]), np.tile([1.0, 0, 0, 0, 0], 90)
    folds = Folds(np.arange(450) // 5 % 5, Pairs(np.arange(450), task, label))
    cells = np.stack([folds.fold, folds.inside.task, folds.inside.label])
    _, number = np.unique(cells, axis=1, return_counts=True)
    # Of 16 cases, 64 controls, 2 cases and 8 controls in each fold a fifth, rounded up.
    np.testing.assert_array_equal(number.reshape(5, 4), [[13, 4, 2, 1]] * 5)
    assert not set(folds.inside.row) & set(folds.outside.row)
    assert len(folds.inside) + len(folds.outside) == 450


def test_few_pairs_are_all_in_the_folds():
    folds = Folds(np.arange(60) % 5, labelled_pairs(data()[1]))
    np.testing.assert_array_equal(folds.inside.row, folds.labelled.row)
    assert len(folds.outside) == 0


def test_the_prior_of_many_pairs_is_that_of_those_in_the_folds(few_inside):
    values, labels = data(n=400)
    blocks, folds = blocks_of(values, labels)
    fewer = np.full_like(labels, np.nan)
    fewer[folds.inside.row, folds.inside.task] = folds.inside.label
    alone, folds_alone = blocks_of(values, fewer)
    found, expected = fit_prior(blocks, folds, 2), fit_prior(alone, folds_alone, 2)
    np.testing.assert_array_equal(found.scale, expected.scale)
    assert found.sharing == expected.sharing
    assert len(HeadProblem(blocks, folds, found, 2).solve(-1, np.ones(2))) == 400 + 2


def test_many_pairs_are_predicted_as_after_a_search_among_all(monkeypatch):
    values, labels = data(n=400)
    found = []
    for most in (90, 400):
        monkeypatch.setattr(convex, "MOST", most)
        blocks, folds = blocks_of(values, labels)
        heads = HeadProblem(blocks, folds, fit_prior(blocks, folds, 2), 2)
        found.append(heads.logits(-1, heads.solve(-1, np.ones(2))))
    assert np.corrcoef(found)[0, 1] > 0.98
    assert np.abs(np.diff(expit(found), axis=0)).mean() < 0.03


MAPS = Path("/proc/self/maps")
needs_maps = pytest.mark.skipif(not MAPS.exists(), reason="Linux lists what is mapped")


def mapped(folder):
    """Matrices that lie in nameless files of a folder."""
    return [line for line in MAPS.read_text().splitlines() if str(folder) in line]


@needs_maps
def test_matrices_in_files_give_the_same_numbers_and_are_gone_afterwards(tmp_path, monkeypatch):
    found = []
    for limit in (2**26, 0):
        monkeypatch.setattr("miracle_lib.training.triangle.IN_MEMORY", limit)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        heads = problem()
        # Three blocks, without each of four folds and on all.
        assert len(mapped(tmp_path)) == (0 if limit else 15)
        solution, module = heads.solve(1, np.ones(2)), TaskHeads(WIDTHS, 2).double()
        heads.write(solution, module, 1)
        weights = [value.numpy() for value in module.state_dict().values()]
        found.append([solution, heads.times(2).out_of_fold(np.ones(2)), *weights])
        # And the roots without each fold.
        assert len(mapped(tmp_path)) == (0 if limit else 19)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    del heads
    assert not mapped(tmp_path)
    assert not list(tmp_path.iterdir())


@needs_maps
def test_a_disk_that_is_full_half_way_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("miracle_lib.training.triangle.IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    calls, reserve = iter(range(20)), stored._reserve

    def filling(*arguments):
        if next(calls) == 17:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reserve(*arguments)

    monkeypatch.setattr(stored, "_reserve", filling)
    message = r"no room for the inner products of 60 labelled samples \(0.0 GB\): No space left"
    with pytest.raises(MiracleError, match=message):
        problem().out_of_fold(np.ones(2))
    assert not mapped(tmp_path)
    assert not list(tmp_path.iterdir())


def test_features_that_do_not_vary_have_no_variance():
    values, labels = data()
    values["sites"][:, 3] = 4.0
    blocks, *_ = blocks_of(values, labels)
    assert all((variance[3] == 0).all() for variance in blocks["sites"].variances)
    assert np.isfinite(blocks["sites"].grams[-1]).all()


def test_the_site_that_matters_has_the_largest_variance_and_weight():
    values, labels = data(n=200)
    blocks, folds = blocks_of(values, labels)
    assert (blocks["sites"].variances[-1].argmax(0) == 0).all()
    prior = fit_prior(blocks, folds, 2)
    heads = HeadProblem(blocks, folds, prior, 2)
    module = TaskHeads(WIDTHS, 2).double()
    heads.write(heads.solve(-1, np.ones(2)), module)
    weight = module.blocks["sites"].output.weight[:, 0].abs()
    assert (weight.argmax(1) == 0).all()
    assert pair_accuracy(heads.pairs, heads.out_of_fold(np.ones(2)), 2).min() > 0.8


def test_labels_that_say_nothing_are_predicted_with_the_share_of_cases():
    rng = np.random.default_rng(5)
    values, labels = data(n=120)
    labels[:60, 0], labels[60:, 1] = rng.random(60) < 0.5, rng.random(60) < 0.5
    blocks, folds = blocks_of(values, labels)
    prior = fit_prior(blocks, folds, 2)
    heads = HeadProblem(blocks, folds, prior, 2)
    loss = log_loss(heads.pairs, heads.out_of_fold(np.ones(2)), 2).mean()
    assert loss < np.log(2) + 0.05
    assert prior.scale.max() <= 1


def test_sharing_is_found_where_effects_are_common():
    rng = np.random.default_rng(2)
    found = []
    for common in (True, False):
        values = {"sites": rng.normal(size=(120, 14))}
        labels = np.full((120, 2), np.nan)
        for task, rows in enumerate((slice(0, 60), slice(60, 120))):
            effect = np.full(14, 0.5 if common or task == 0 else -0.5)
            score = values["sites"][rows] @ effect + rng.normal(size=60)
            labels[rows, task] = score > 0
        blocks, folds = blocks_of(values, labels)
        found.append(fit_prior(blocks, folds, 2).sharing)
    assert found[0] > 0.8
    assert found[1] < 0.01


def test_the_prior_is_the_mean_of_what_was_tried_by_the_likelihood_out_of_fold(monkeypatch):
    values, labels = data()
    blocks, folds = blocks_of({"sites": values["sites"]}, labels)
    monkeypatch.setattr(convex, "SCALES", (1.0, 4.0))
    monkeypatch.setattr(convex, "SHARINGS", (0.0, 0.5))
    total = within = between = 0.0
    for scale in (1.0, 4.0):
        for sharing in (0.0, 0.5):
            prior = Prior(np.full((2, 1), scale), sharing)
            logits = HeadProblem(blocks, folds, prior, 2).out_of_fold(np.ones(2))
            odds = np.where(folds.inside.label == 1, 1, -1) * logits
            likelihood = np.prod(1 / (1 + np.exp(-odds)))  # as many pairs in one task as the other
            total += likelihood
            within += likelihood * scale**2
            between += likelihood * scale**2 * sharing
    found = fit_prior(blocks, folds, 2)
    np.testing.assert_allclose(found.scale, np.sqrt(within / total), rtol=1e-3)
    np.testing.assert_allclose(found.sharing, between / within, rtol=1e-3)


def test_blocks_that_are_read_share_the_prior_among_them():
    assert convex._mixes(["pathways"]) == [{"pathways": 1.0}]
    assert convex._mixes(["pathways", "genes"]) == [{"pathways": 0.5, "genes": 0.5}]
    assert convex._mixes(["pathways", "genes", "sites"])[0] == {"sites": 1.0}


def test_a_block_that_next_to_no_candidate_reads_is_left_out():
    sites, both = Prior(np.array([[2.0, 0.0]]), 0.0), Prior(np.array([[1.0, 1.0]]), 0.5)
    found = convex._mean([sites, both], np.array([0.5, 0.5]))
    np.testing.assert_allclose(found.scale**2, [[2.5, 0.5]])
    np.testing.assert_allclose(found.sharing, 0.5 / 3)
    assert (convex._mean([sites, both], np.array([0.99, 0.01])).scale[:, 1] == 0).all()


def test_measures_by_hand():
    pairs = Pairs(np.arange(3), np.array([0, 0, 1]), np.array([1.0, 0.0, 1.0]))
    logits = np.array([0.0, 0.0, np.log(3)])
    np.testing.assert_allclose(log_loss(pairs, logits, 2), [np.log(2), np.log(4 / 3)])
    np.testing.assert_allclose(pair_accuracy(pairs, logits, 2), [0.5, 0.75])


@pytest.mark.parametrize("n", [8, 12, 80])
@pytest.mark.parametrize("sharing", [0.0, 1.0])
def test_nearly_equal_sites_in_repeated_samples_leave_the_problem_solvable(n, sharing):
    rng = np.random.default_rng(n)
    base = np.repeat(rng.normal(size=(n // 2, 1)), 2, axis=0)  # every sample twice
    near = {
        name: (base + 1e-4 * rng.normal(size=(1, width))).astype(np.float32)
        for name, width in WIDTHS.items()
    }
    labels = np.tile((base > np.median(base)).astype(float), 2)
    blocks, folds = blocks_of(near, labels, n_folds=2)
    prior = Prior(np.array([[50.0, 1e-3, 50.0], [1e-3, 50.0, 1.0]]), sharing)
    heads = HeadProblem(blocks, folds, prior, 2)
    solution = heads.solve(-1, np.ones(2))
    assert (pair_accuracy(heads.pairs, heads.logits(-1, solution), 2) > 0.9).all()
