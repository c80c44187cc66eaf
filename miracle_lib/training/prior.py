"""How strongly each block of weights is penalised, and how much the tasks share: by evidence."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

MAX_PAIRS = 1500  # labelled samples used to find the prior; its cost grows with their cube
MAX_ITERATIONS = 40
BLOCK_SPREAD = 0.5  # SD of the log variance of a block around that of all blocks


@dataclass(frozen=True)
class Pairs:
    """The labelled (sample, task) pairs: rows, task numbers and labels 0 or 1."""

    row: np.ndarray
    task: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, keep: np.ndarray) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(self.row[keep], self.task[keep], self.label[keep])

    @property
    def same_task(self) -> np.ndarray:
        """Whether two pairs belong to one task, shape (n_pairs, n_pairs)."""
        return self.task[:, None] == self.task[None, :]


def labelled_pairs(labels: np.ndarray) -> Pairs:
    """List the labelled pairs of a table samples x tasks, task by task."""
    task, row = np.nonzero(~np.isnan(labels.T))
    return Pairs(row, task, labels[row, task])


@dataclass(frozen=True)
class Prior:
    """Gaussian prior of the head weights, on features of variance 1.

    The weights of a feature of block b in tasks t and u have covariance
    ``scale[t, b] * scale[u, b] * (sharing if t != u else 1)`` per feature of the block.

    Attributes
    ----------
    scale : ndarray, shape (n_tasks, n_blocks)
        Standard deviation of the logit that the block contributes in each task.
    sharing : float
        Correlation of the weights between tasks, 0 (independent) to 1 (the same).
    """

    scale: np.ndarray
    sharing: float

    def covariance(self, grams: list[np.ndarray], pairs: Pairs) -> np.ndarray:
        """Return the prior covariance of the logits of the pairs."""
        total = np.zeros((len(pairs), len(pairs)))
        for block, gram in enumerate(grams):
            scale = self.scale[pairs.task, block]
            total += gram[np.ix_(pairs.row, pairs.row)] * np.outer(scale, scale)
        return total * np.where(pairs.same_task, 1.0, self.sharing)

    def times(self, factor: float) -> "Prior":
        """Return the prior with all scales multiplied."""
        return Prior(self.scale * factor, self.sharing)


def fit_prior(
    grams: list[np.ndarray],
    pairs: Pairs,
    n_tasks: int,
    sharing: float | None = None,
    seed: int = 0,
) -> Prior:
    """Find block scales, task amplitudes and sharing that make the labels most probable.

    Labels, centred and scaled within each task, are modelled as Gaussian with the covariance of
    `Prior` plus noise, and the marginal likelihood is maximised under weak hyperpriors that pull
    the tasks together. With no sharing it falls apart into the single-task models, so that
    learning tasks together costs nothing when nothing is common.

    Parameters
    ----------
    grams : list of ndarray, shape (n_samples, n_samples)
        Inner products of the samples in each block of features, mean diagonal 1.
    pairs : Pairs
    n_tasks : int
    sharing : float, optional
        Fixed sharing, 0 to 1. Default: found from the data.
    seed : int, default 0
        Picks the pairs used when there are more than 1,500.

    Returns
    -------
    Prior
        On the scale of a logit.

    References
    ----------
    Evidence: MacKay 1992, Bayesian interpolation, doi 10.1162/neco.1992.4.3.415. Task covariance:
    Bonilla, Chai and Williams 2007, Multi-task Gaussian process prediction, NeurIPS.
    """
    if len(pairs) > MAX_PAIRS:
        rng = np.random.default_rng(seed)
        pairs = pairs.take(np.sort(rng.permutation(len(pairs))[:MAX_PAIRS]))
    evidence = _Evidence(grams, pairs, n_tasks, sharing)
    found = minimize(
        evidence,
        evidence.start,
        jac=True,
        method="L-BFGS-B",
        bounds=evidence.bounds,
        options={"maxiter": MAX_ITERATIONS, "ftol": 1e-5},
    ).x
    scale, noise, sharing = evidence.unpack(found)
    # A logistic error has SD 1.81; latent values are brought to the scale of this error.
    return Prior(1.81 * scale / np.sqrt(np.maximum(noise, 0.05))[:, None], sharing)


class _Evidence:
    """Negative log marginal likelihood plus hyperprior, with gradient.

    Parameters are log variances: a common level, one deviation per block, one per task and block,
    one noise per task; and the logit of the sharing, if it is free.
    """

    def __init__(
        self, grams: list[np.ndarray], pairs: Pairs, n_tasks: int, sharing: float | None
    ) -> None:
        self.grams = [gram[np.ix_(pairs.row, pairs.row)] for gram in grams]
        self.same = pairs.same_task
        self.member = np.eye(n_tasks)[pairs.task]
        self.task, self.n_tasks, self.sharing = pairs.task, n_tasks, sharing
        mean = (self.member.T @ pairs.label / self.member.sum(0))[pairs.task]
        self.y = (pairs.label - mean) / np.sqrt(mean * (1 - mean))
        n_blocks = len(grams)
        sizes = [1, n_blocks, n_tasks * n_blocks, n_tasks, sharing is None]
        self.ends = np.cumsum(sizes)[:4]
        self.start = np.repeat([0.0, np.log(0.3 / n_blocks), 0.0, np.log(0.7), 0.0], sizes)
        self.spread = np.repeat([3.0, BLOCK_SPREAD, 0.7, 1.0, 2.0], sizes)
        limits = np.repeat([[-9, 4], [-6, 4], [-4, 4], [-6, 2], [-6, 6]], sizes, axis=0)
        self.bounds = [tuple(limit) for limit in limits]

    def unpack(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Return scales (tasks x blocks), noise variances and sharing."""
        level, block, task, noise, sharing = np.split(theta, self.ends)
        log_variance = level + block + task.reshape(self.n_tasks, -1)
        rho = 1 / (1 + np.exp(-sharing[0])) if self.sharing is None else self.sharing
        return np.exp(0.5 * log_variance), np.exp(noise), float(rho)

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        scale, noise, rho = self.unpack(theta)
        tie = np.where(self.same, 1.0, rho)
        parts = [
            gram * np.outer(scale[self.task, b], scale[self.task, b])
            for b, gram in enumerate(self.grams)
        ]
        total = sum(parts)
        covariance = total * tie
        covariance[np.diag_indices_from(covariance)] += noise[self.task] + 1e-9
        root = torch.linalg.cholesky(torch.from_numpy(covariance))
        inverse = torch.cholesky_inverse(root).numpy()
        alpha = inverse @ self.y
        slope = 0.5 * (inverse - np.outer(alpha, alpha))
        tied = slope * tie
        by_task = [self.member.T @ np.einsum("ij,ij->i", tied, part) for part in parts]
        by_block = np.array([part.sum() for part in by_task])
        gradient = [
            [by_block.sum()],
            by_block,
            np.stack(by_task, axis=1).ravel(),
            self.member.T @ slope.diagonal() * noise,
        ]
        if self.sharing is None:
            # Pairs of one task cancel; those of two tasks are tied by rho.
            gradient.append([rho * (np.einsum("ij,ij->", slope, total) - by_block.sum())])
        z = (theta - self.start) / self.spread
        value = 0.5 * self.y @ alpha + float(root.diagonal().log().sum()) + 0.5 * z @ z
        return value, np.concatenate(gradient) + z / self.spread
