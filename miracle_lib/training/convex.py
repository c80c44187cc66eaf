"""The heads on fixed features: a convex problem, solved in the space of the samples."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_expit, softmax
from torch import Tensor

from miracle_lib.model import TaskHeads
from miracle_lib.training.prior import Pairs, Prior
from miracle_lib.training.read_ahead import nothing_around, read_ahead
from miracle_lib.training.relatives import Relatives, moderated_t, prior_variances
from miracle_lib.training.triangle import Root, kept, square, strips

COLUMNS = 4_096  # features handled at a time
# Rounding of every entry of a matrix, relative to its diagonal: eigenvalues move by 2 sqrt(n) times
# as much where it is random, and by some 30 times that where features repeat each other.
ROUNDING = 64
MOST = 3_000  # labelled pairs that the inner folds have: matrices grow with their square
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # standard deviations of a logit
SHARINGS = (0.0, 0.5, 0.9)
# Shares of a logit's variance: sites alone, or the encoder's averages beside them.
MIXES = ({"sites": 1.0}, {"sites": 0.6, "genes": 0.2, "pathways": 0.2})
DIRECTIONS = 16  # random ones of the samples, which say how features vary together
UNREAD = 0.01  # share of a logit's variance below which a block is left out


class Folds:
    """The inner folds of the labelled pairs: what is left out of each subset of them.

    Subset k leaves out fold k; the last subset leaves out nothing. Of more than `MOST` pairs the
    folds have about that many, and the rest is in the last subset only: what is chosen by
    predictions for samples not seen needs no more.

    Attributes
    ----------
    labelled, inside, outside : Pairs
        All pairs, those in a fold, drawn alike from each class of each task, and those in none.
    names : ndarray of int
        Of the folds.
    fold : ndarray of int
        Of each pair inside.
    """

    def __init__(self, folds: np.ndarray, pairs: Pairs) -> None:
        fold = folds[pairs.row]
        chance = pd.Series(np.random.default_rng(0).random(len(pairs)))
        cells = chance.groupby([fold, pairs.task, pairs.label])
        # At least one of every cell: no class is absent that was there.
        drawn = (cells.rank() - 1 < MOST / len(pairs) * cells.transform("size")).to_numpy()
        self.labelled, self.inside, self.outside = pairs, pairs.take(drawn), pairs.take(~drawn)
        self.names, self.fold = np.unique(folds), fold[drawn]

    def __len__(self) -> int:
        return len(self.names)

    def pairs(self, subset: int) -> Pairs:
        """Return the pairs of which a subset leaves out some; -1 is the last subset."""
        return self.labelled if subset in (-1, len(self)) else self.inside

    def kept(self, subset: int) -> np.ndarray:
        """Return which of these pairs a subset has."""
        if subset in (-1, len(self)):
            return np.ones(len(self.labelled), bool)
        return self.fold != self.names[subset]

    def parts(self) -> list[Pairs]:
        """Return the pairs of each fold, then those in none."""
        return [*(self.inside.take(self.fold == name) for name in self.names), self.outside]

    def index(self, fold: int) -> int:
        """Return the subset that leaves out a fold."""
        return int(np.flatnonzero(self.names == fold)[0])


class Block:
    """One block of features: scale, prior variances and inner products, per subset of the labels.

    Variances are found from the labels, so each subset has its own: what is predicted for a fold
    knows nothing of its labels.

    Attributes
    ----------
    values : Tensor, shape (n_samples, n_features)
    mean, unit : Tensor, shape (n_features,)
        Mean and standard deviation (infinite where a feature does not vary).
    association : ndarray, shape (n_features, n_tasks)
        Moderated t statistics on all labels.
    variances : list of ndarray, shape (n_features, n_tasks)
    grams : list of ndarray, shape (n_pairs, n_pairs)
        Inner products of the pairs of each subset, in the lower triangle.
    """

    def __init__(
        self,
        name: str,
        values: Tensor,
        folds: Folds,
        n_tasks: int,
        relatives: Relatives,
    ) -> None:
        self.values, self.mean, spread = values, *values.new_empty(2, values.shape[1])
        for columns in self._strips(np.arange(len(values))):
            self.mean[columns] = values[:, columns].mean(0)
            spread[columns] = values[:, columns].std(0, correction=0)
        self.unit = torch.where(spread > 1e-6, spread, torch.inf)
        alive = (spread > 1e-6).cpu().numpy()
        chance = relatives.by_chance(self._random()) if name == "sites" else 0.0
        self.variances = []
        for association in self._associations(folds, n_tasks, alive):
            self.association = association  # the last is that of all labels
            variance = prior_variances(association, alive, relatives, name, chance)
            self.variances.append(variance.astype(np.float32))
        self.grams = [
            self._gram(variance, folds.pairs(subset))
            for subset, variance in enumerate(self.variances)
        ]

    def parts(
        self, chosen: np.ndarray | None = None, rows: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield numbers and values of features of mean 0 and variance 1: bounds memory."""
        n, width = self.values.shape
        chosen = np.arange(width) if chosen is None else chosen
        rows = np.arange(n) if rows is None else rows
        samples = torch.from_numpy(rows).to(self.values.device)
        for columns in self._strips(rows):
            part = chosen[slice(*np.searchsorted(chosen, (columns.start, columns.stop)))]
            if len(part):
                at = torch.from_numpy(part).to(self.values.device)
                near = self.values[:, columns].index_select(0, samples)
                values = near.index_select(1, at - columns.start)
                yield part, values.sub_(self.mean[at]).div_(self.unit[at])

    def _strips(self, rows: np.ndarray) -> Iterator[slice]:
        """Yield the features some at a time, while the next ones of these samples are read."""
        width = self.values.shape[1]
        strips = [slice(start, start + COLUMNS) for start in range(0, width, COLUMNS)]
        with nothing_around(self.values):
            for columns, following in pairwise([*strips, slice(width, width)]):
                if columns.start == 0:
                    read_ahead(self.values[:, columns], rows)
                read_ahead(self.values[:, following], rows)
                yield columns

    def _random(self) -> np.ndarray:
        """Return associations of every feature with random directions of the samples."""
        n = len(self.values)
        normal = np.random.default_rng(0).normal(size=(DIRECTIONS, n)) / n**0.5
        direction = torch.from_numpy(normal).to(self.values)
        # Laid out beforehand: small results kept between large parts would scatter the memory.
        found = np.empty((self.values.shape[1], DIRECTIONS))
        for part, scaled in self.parts():
            found[part] = (direction @ scaled).T.cpu().numpy()
        return found

    def _associations(self, folds: Folds, n_tasks: int, alive: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the association of every feature with every task, on each subset; one pass."""
        n = len(self.values)
        shape = (len(folds) + 1, n_tasks, 2)
        inside = np.zeros((*shape, n), np.float32)
        for fold, pairs in enumerate(folds.parts()):
            inside[fold, pairs.task, pairs.label.astype(int), pairs.row] = 1
        member = torch.from_numpy(inside.reshape(-1, n)).to(self.values)
        number = member.sum(1).cpu().numpy().reshape(shape).astype(float)
        total, square = np.zeros((2, *shape, self.values.shape[1]), np.float32)
        for part, scaled in self.parts():
            total[..., part] = (member @ scaled).cpu().numpy().reshape(*shape, -1)
            square[..., part] = (member @ scaled.square()).cpu().numpy().reshape(*shape, -1)
        for left_out in [*([k, -1] for k in range(len(folds))), []]:
            sums = [np.delete(table, left_out, axis=0).sum(0) for table in (total, square, number)]
            tasks = [moderated_t(t, s, n, alive) for t, s, n in zip(*sums, strict=True)]
            yield np.stack(tasks, axis=1)

    def _gram(self, variance: np.ndarray, pairs: Pairs) -> np.ndarray:
        """Return the inner products of the pairs; their mean diagonal is about 1.

        They are added up in the precision of the values within a part, in double over the parts;
        the diagonal is raised so that rounding cannot make the matrix indefinite.
        """
        gram = square(len(pairs))
        for part, features in self.parts(np.flatnonzero(variance.any(1)), pairs.row):
            root = torch.from_numpy(np.sqrt(variance[part].T)).to(features)
            features *= root[torch.from_numpy(pairs.task)]
            for rows, columns in strips(len(pairs)):
                gram[rows, columns] += (features[rows] @ features[columns].T).cpu().numpy()
        precision = torch.finfo(self.values.dtype).eps
        gram[np.diag_indices_from(gram)] *= 1 + ROUNDING * precision * len(pairs) ** 0.5
        return kept(gram)


Blocks = dict[str, Block]


class HeadProblem:
    """Penalised logistic regression of all tasks at once, given a prior of the weights.

    With K = L L' the prior covariance of the logits of all labelled pairs, the weights are
    ``features' K^-1 L a``, and the problem is the logistic regression of the labels on the rows
    of L with penalty ``|a|^2 / 2``: as many unknowns as labelled pairs, however many features.
    Each subset of the labels has its own K, whose root is found when it is first asked for.
    """

    def __init__(self, blocks: Blocks, folds: Folds, prior: Prior, n_tasks: int) -> None:
        self.blocks, self.folds, self.pairs = blocks, folds, folds.labelled
        self.base, self.factor, self.n_tasks = prior, 1.0, n_tasks
        self.roots: dict[int, Root] = {}  # under the base

    @property
    def prior(self) -> Prior:
        """The base with its scales multiplied by the factor."""
        return replace(self.base, scale=self.base.scale * self.factor)

    def root(self, subset: int) -> Root:
        """Return the root of the covariance of a subset."""
        subset %= len(self.folds) + 1
        if subset not in self.roots:
            grams = [block.grams[subset] for block in self.blocks.values()]
            self.roots[subset] = Root.of(self.base.covariance(grams, self.folds.pairs(subset)))
        return self.roots[subset] * self.factor

    def times(self, factor: float) -> "HeadProblem":
        """Return the problem under a prior whose scales are multiplied; the roots are shared."""
        other = object.__new__(HeadProblem)
        other.__dict__ |= self.__dict__
        other.factor = self.factor * factor
        return other

    @property
    def read_by_prior(self) -> set[str]:
        """Blocks on which the prior has weights."""
        scales = zip(self.blocks, self.prior.scale.T, strict=True)
        return {name for name, scale in scales if scale.any()}

    def n_unknowns(self, subset: int) -> int:
        """Return the number of coefficients and biases."""
        return len(self.folds.pairs(subset)) + self.n_tasks

    def logits(self, subset: int, solution: np.ndarray) -> np.ndarray:
        """Return the logit of every pair of a subset under its solution."""
        pairs = self.folds.pairs(subset)
        n = len(pairs)
        return self.root(subset) @ solution[:n] + solution[n:][pairs.task]

    def solve(
        self,
        subset: int,
        task_weights: np.ndarray,
        start: np.ndarray | None = None,
        tolerance: float = 1e-9,
    ) -> np.ndarray:
        """Return the solution on a subset of the pairs.

        Parameters
        ----------
        subset : int
            See `Folds`.
        task_weights : ndarray, shape (n_tasks,)
            Weight of each task's loss.
        start : ndarray, optional
            Solution to start from.
        tolerance : float
            Relative fall of the objective at which it stops.
        """
        pairs, root = self.folds.pairs(subset), self.root(subset)
        member = np.eye(self.n_tasks)[pairs.task]
        sign = 2 * pairs.label - 1
        weight = task_weights[pairs.task] * self.folds.kept(subset)
        n = len(pairs)

        def objective(solution: np.ndarray) -> tuple[float, np.ndarray]:
            a, bias = solution[:n], solution[n:]
            margin = sign * (root @ a + member @ bias)
            slope = -weight * sign * expit(-margin)
            value = -(weight * log_expit(margin)).sum() + 0.5 * a @ a
            return value, np.concatenate([root.transposed(slope) + a, member.T @ slope])

        start = np.zeros(self.n_unknowns(subset)) if start is None else start
        options = {"maxiter": 500, "ftol": tolerance, "gtol": 1e-5}
        return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x

    def out_of_fold(self, task_weights: np.ndarray) -> np.ndarray:
        """Return the logit of every pair in a fold, from the model fitted without the fold."""
        return self.gathered(
            [self.solve(k, task_weights, tolerance=1e-5) for k in range(len(self.folds))]
        )

    def gathered(self, solutions: list[np.ndarray]) -> np.ndarray:
        """Return the logit of every pair in a fold, from the solution of the subset without it."""
        logits = np.empty(len(self.folds.inside))
        for subset in range(len(self.folds)):
            out = ~self.folds.kept(subset)
            logits[out] = self.logits(subset, solutions[subset])[out]
        return logits

    @torch.no_grad()
    def write(self, solution: np.ndarray, heads: TaskHeads, subset: int = -1) -> None:
        """Turn a solution into the weights and biases of the heads."""
        pairs, rho = self.folds.pairs(subset), self.prior.sharing
        n = len(pairs)
        alpha = self.root(subset).solve_transposed(solution[:n])
        first = next(iter(self.blocks.values())).values
        added = np.zeros((self.n_tasks, len(first)))
        np.add.at(added, (pairs.task, pairs.row), alpha)
        dual = torch.from_numpy(added).to(first)
        bias = torch.from_numpy(solution[n:]).to(first)
        for number, (name, block) in enumerate(self.blocks.items()):
            output = heads.blocks[name].output
            output.shared.zero_()
            output.specific.zero_()
            variance = block.variances[subset]
            for part, scaled in block.parts(np.flatnonzero(variance.any(1))):
                at = torch.from_numpy(part).to(first.device)
                deviation = np.sqrt(variance[part].T) * self.prior.scale[:, number, None]
                deviation = torch.from_numpy(deviation).to(first)
                own = deviation * (dual @ scaled)
                weight = deviation * (rho * own.sum(0) + (1 - rho) * own) / block.unit[at]
                shared = rho * deviation.mean(0) * own.sum(0) / block.unit[at]
                output.shared[0, at] = shared.to(output.shared)
                output.specific[:, 0, at] = (weight - shared).to(output.specific)
                bias = bias - weight @ block.mean[at]
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


def fit_prior(blocks: Blocks, folds: Folds, n_tasks: int, sharing: float | None = None) -> Prior:
    """Average over scales, sharings and mixes of the blocks, by how well each predicts.

    Each weighs as the likelihood that it gives all pairs out of fold: with few samples, the one
    that predicts best does so by chance. The variances of the features are found anew without each
    fold, so that the weights are honest. The other mixes are tried with the sharing and around the
    scale that are best for the first.

    Parameters
    ----------
    blocks : dict of str to Block
    folds : Folds
    n_tasks : int
    sharing : float, optional
        Fixed sharing, 0 to 1. Default: found from the data.

    Returns
    -------
    Prior

    References
    ----------
    Pseudo-Bayesian averaging: Yao et al. 2018, doi 10.1214/17-BA1091.
    """
    losses: dict[tuple[int, float, float], float] = {}
    mixes = _mixes(list(blocks))

    def prior(mix: int, rho: float, scale: float) -> Prior:
        share = [mixes[mix].get(name, 0.0) for name in blocks]
        return Prior(scale * np.tile(np.sqrt(share), (n_tasks, 1)), rho)

    def measure(mix: int, rho: float, scales: Sequence[float]) -> None:
        problem = HeadProblem(blocks, folds, prior(mix, rho, 1.0), n_tasks)
        for scale in scales:
            logits = problem.times(scale).out_of_fold(np.ones(n_tasks))
            losses[mix, rho, scale] = log_loss(folds.inside, logits, n_tasks).mean()

    for rho in SHARINGS if sharing is None else (sharing,):
        measure(0, rho, SCALES)
    _, rho, scale = min(losses, key=losses.__getitem__)
    for mix in range(1, len(mixes)):
        measure(mix, rho, (scale / 2, scale, scale * 2))
    weights = softmax(-len(folds.inside) * np.array([*losses.values()]))
    return _mean([prior(*candidate) for candidate in losses], weights)


def _mean(priors: list[Prior], weights: np.ndarray) -> Prior:
    """Return the prior whose covariance is the mean of some, without blocks that add nothing."""
    power = weights * [prior.scale[0] @ prior.scale[0] for prior in priors]
    sharing = np.average([prior.sharing for prior in priors], weights=power)
    variance = np.tensordot(weights, [prior.scale**2 for prior in priors], axes=1)
    unread = variance < UNREAD * variance.sum(1, keepdims=True)
    return Prior(np.sqrt(np.where(unread, 0, variance)), float(sharing))


def _mixes(names: list[str]) -> list[dict[str, float]]:
    """Return the shares of the blocks that are tried, those of absent blocks shared out."""
    mixes = [{name: mix[name] for name in names if name in mix} for mix in MIXES]
    mixes = [{name: v / sum(mix.values()) for name, v in mix.items()} for mix in mixes if mix]
    return [mix for i, mix in enumerate(mixes) if mix not in mixes[:i]]
