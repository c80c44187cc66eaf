"""Homoscedastic uncertainty."""

import torch
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting

RATE = 0.1


class Uncertainty(Weighting):
    """Weight exp(-s) with s = log variance of the task, learned from ``exp(-s) L + s / 2``.

    One gradient step on s per epoch, at rate 0.1.

    References
    ----------
    Kendall, Gal and Cipolla 2018, Multi-task learning using uncertainty to weigh losses, CVPR,
    arXiv 1705.07115.
    """

    name = "uncertainty"

    def __init__(self, n_tasks: int, seed: int = 0) -> None:
        super().__init__(n_tasks, seed)
        self.log_variance = torch.zeros(n_tasks, dtype=torch.float64)

    def raw(self, signals: Signals) -> Tensor:
        """Step the log-variances down their gradient and return the precisions."""
        gradient = 0.5 - torch.exp(-self.log_variance) * signals.losses.double()
        self.log_variance = self.log_variance - RATE * gradient
        return torch.exp(-self.log_variance)
