"""The heads on fixed features: a convex problem, solved in the space of the samples."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from torch import Tensor

from miracle_lib.model import TaskHeads
from miracle_lib.training.prior import Pairs, Prior

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
COLUMNS = 4_096  # features handled at a time
CAUTION = 0.01  # relative fall in cross-entropy that a factor of two away from 1 must bring


@dataclass
class Features:
    """Blocks of features with the mean, SD and width that bring them to a common scale."""

    blocks: dict[str, Tensor]
    mean: dict[str, Tensor]
    unit: dict[str, Tensor]

    @classmethod
    def of(cls, blocks: dict[str, Tensor]) -> "Features":
        """Measure blocks; empty ones are dropped, features that do not vary are switched off."""
        blocks = {name: block for name, block in blocks.items() if block.shape[1]}
        mean = {name: block.mean(0) for name, block in blocks.items()}
        unit = {}
        for name, block in blocks.items():
            spread = block.std(0, correction=0)
            alive = spread > 1e-6
            spread = torch.where(alive, spread, torch.inf)
            unit[name] = spread * max(int(alive.sum()), 1) ** 0.5
        return cls(blocks, mean, unit)

    def parts(self, name: str) -> Iterator[tuple[slice, Tensor]]:
        """Yield columns of a block with features of variance 1 / width: bounds memory."""
        for start in range(0, self.blocks[name].shape[1], COLUMNS):
            part = slice(start, start + COLUMNS)
            scaled = self.blocks[name][:, part] - self.mean[name][part]
            scaled /= self.unit[name][part]
            yield part, scaled

    def grams(self) -> list[np.ndarray]:
        """Return the inner products of the samples in each block; their mean diagonal is 1."""
        n_samples = len(self.blocks["pathways"])
        grams = []
        for name in self.blocks:
            gram = np.zeros((n_samples, n_samples))
            for _, scaled in self.parts(name):
                # In double: rounding would make the matrix indefinite, and Cholesky fail.
                scaled = scaled.double()
                gram += (scaled @ scaled.T).cpu().numpy()
            grams.append(gram)
        return grams


class HeadProblem:
    """Penalised logistic regression of all tasks at once, given a prior of the weights.

    With K = L L' the prior covariance of the logits of all labelled pairs, the weights are
    ``features' K^-1 L a``, and the problem is the logistic regression of the labels on the rows
    of L with penalty ``|a|^2 / 2``: as many unknowns as labelled pairs, however many features.
    """

    def __init__(self, grams: list[np.ndarray], pairs: Pairs, prior: Prior, n_tasks: int) -> None:
        self.pairs, self.prior, self.n_tasks = pairs, prior, n_tasks
        covariance = prior.covariance(grams, pairs)
        jitter = 1e-6 * covariance.diagonal().mean() + 1e-12
        covariance[np.diag_indices_from(covariance)] += jitter
        self.root = cholesky(covariance, lower=True)
        self.member = np.eye(n_tasks)[pairs.task]

    def times(self, factor: float) -> "HeadProblem":
        """Return the problem under a prior whose scales are multiplied."""
        other = copy.copy(self)
        other.prior, other.root = self.prior.times(factor), self.root * factor
        return other

    @property
    def n_unknowns(self) -> int:
        """Number of coefficients and biases."""
        return len(self.pairs) + self.n_tasks

    def logits(self, solution: np.ndarray) -> np.ndarray:
        """Return the logit of every pair."""
        n = len(self.pairs)
        return self.root @ solution[:n] + solution[n:][self.pairs.task]

    def solve(
        self,
        keep: np.ndarray,
        task_weights: np.ndarray,
        start: np.ndarray | None = None,
        tolerance: float = 1e-9,
    ) -> np.ndarray:
        """Return the solution on some of the pairs.

        Parameters
        ----------
        keep : ndarray of bool, shape (n_pairs,)
        task_weights : ndarray, shape (n_tasks,)
            Weight of each task's loss.
        start : ndarray, optional
            Solution to start from.
        tolerance : float
            Relative fall of the objective at which it stops.
        """
        root, member = self.root[keep], self.member[keep]
        sign = 2 * self.pairs.label[keep] - 1
        weight = task_weights[self.pairs.task[keep]]
        n = len(self.pairs)

        def objective(solution: np.ndarray) -> tuple[float, np.ndarray]:
            a, bias = solution[:n], solution[n:]
            margin = sign * (root @ a + member @ bias)
            slope = -weight * sign * expit(-margin)
            value = -(weight * log_expit(margin)).sum() + 0.5 * a @ a
            return value, np.concatenate([root.T @ slope + a, member.T @ slope])

        start = np.zeros(self.n_unknowns) if start is None else start
        options = {"maxiter": 500, "ftol": tolerance, "gtol": 1e-5}
        return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x

    def out_of_fold(self, folds: np.ndarray, task_weights: np.ndarray) -> np.ndarray:
        """Return the logit of every pair, from the model fitted without its fold."""
        fold = folds[self.pairs.row]
        logits = np.empty(len(self.pairs))
        for held_out in np.unique(fold):
            solution = self.solve(fold != held_out, task_weights, tolerance=1e-5)
            logits[fold == held_out] = self.logits(solution)[fold == held_out]
        return logits

    @torch.no_grad()
    def write(self, solution: np.ndarray, features: Features, heads: TaskHeads) -> None:
        """Turn a solution into the weights and biases of the heads."""
        n = len(self.pairs)
        alpha = solve_triangular(self.root, solution[:n], trans="T", lower=True)
        dual = np.zeros((self.n_tasks, len(features.blocks["pathways"])))
        np.add.at(dual, (self.pairs.task, self.pairs.row), alpha)
        bias = torch.from_numpy(solution[n:]).to(heads.bias)
        rho = self.prior.sharing
        for block, name in enumerate(features.blocks):
            scale = self.prior.scale[:, block, None]
            coefficients = torch.from_numpy(scale * dual).to(features.mean[name])
            own = torch.empty_like(features.mean[name]).repeat(self.n_tasks, 1)
            for part, scaled in features.parts(name):
                own[:, part] = coefficients @ scaled
            scale = torch.from_numpy(scale).to(own)
            shared = rho * scale.mean() * own.sum(0) / features.unit[name]
            weight = scale * (rho * own.sum(0) + (1 - rho) * own) / features.unit[name]
            output = heads.blocks[name].output
            output.shared.copy_(shared[None])
            output.specific.copy_((weight - shared)[:, None])
            bias = bias - weight @ features.mean[name]
        heads.bias.copy_(bias)


def log_loss(pairs: Pairs, logits: np.ndarray, n_tasks: int) -> np.ndarray:
    """Return each task's mean cross-entropy."""
    loss = -log_expit((2 * pairs.label - 1) * logits)
    return np.bincount(pairs.task, loss, n_tasks) / np.bincount(pairs.task, minlength=n_tasks)


def pair_accuracy(pairs: Pairs, logits: np.ndarray, n_tasks: int) -> np.ndarray:
    """Return each task's balanced accuracy."""
    right = (logits > 0) == (pairs.label == 1)
    rates = []
    for value in (0, 1):
        members = pairs.label == value
        count = np.bincount(pairs.task[members], minlength=n_tasks)
        hits = np.bincount(pairs.task[members], right[members], n_tasks)
        rates.append(np.where(count > 0, hits / np.maximum(count, 1), 0.5))
    return (rates[0] + rates[1]) / 2


def calibrate_prior(
    grams: list[np.ndarray], pairs: Pairs, prior: Prior, folds: np.ndarray, n_tasks: int
) -> Prior:
    """Return the prior times the factor whose out-of-fold cross-entropy is least.

    The evidence is Gaussian, the loss is logistic; this puts their scales right where the data
    say so clearly.
    """
    flat = np.ones(n_tasks)
    problem, losses = HeadProblem(grams, pairs, prior, n_tasks), []
    for factor in FACTORS:
        logits = problem.times(factor).out_of_fold(folds, flat)
        loss = log_loss(pairs, logits, n_tasks).mean()
        losses.append(loss * (1 + CAUTION * abs(np.log2(factor))))
    return prior.times(FACTORS[int(np.argmin(losses))])
