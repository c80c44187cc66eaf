"""How far the weights of the heads may be from zero, and how much the tasks share."""

from dataclasses import dataclass

import numpy as np

from miracle_lib.training.triangle import square, strips


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


def labelled_pairs(labels: np.ndarray) -> Pairs:
    """List the labelled pairs of a table samples x tasks, task by task."""
    task, row = np.nonzero(~np.isnan(labels.T))
    return Pairs(row, task, labels[row, task])


@dataclass(frozen=True)
class Prior:
    """Gaussian prior of the head weights, on features of variance 1.

    The weights of feature i of block b in tasks t and u have covariance ``scale[t, b] *
    scale[u, b] * sqrt(v[i, t] * v[i, u]) * (sharing if t != u else 1)``, with the variances v that
    `miracle_lib.training.relatives` finds.

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
        """Return the prior covariance of the logits of the pairs, its lower triangle.

        Parameters
        ----------
        grams : list of ndarray, shape (n_pairs, n_pairs)
            Of each block, the inner products of the pairs' features scaled by the root of their
            variances; the lower triangles are read.
        pairs : Pairs
        """
        total = square(len(pairs))
        tie = np.where(np.eye(len(self.scale)), 1.0, self.sharing)
        # A block without weights is not read: at many pairs it lies on disk.
        scales = zip(self.scale.T, grams, strict=True)
        weighed = [(np.outer(scale, scale) * tie, gram) for scale, gram in scales if scale.any()]
        for rows, columns in strips(len(pairs)):
            between = np.ix_(pairs.task[rows], pairs.task[columns])
            for factor, gram in weighed:
                total[rows, columns] += gram[rows, columns] * factor[between]
        return total
