"""GradNorm, on the gradients of the head weights of a whole epoch."""

import torch
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting

ALPHA, RATE = 1.5, 0.1


class GradNorm(Weighting):
    """Move weights so that norms of head gradients per epoch follow the tasks' training rates.

    The target of task t is the mean weighted norm times r_t ** 1.5, with r_t the task's relative
    inverse training rate: its remaining loss (loss over first loss) over the mean of these. One
    step per epoch, at rate 0.1, down the gradient of the summed absolute differences.

    References
    ----------
    Chen et al. 2018, GradNorm, ICML, arXiv 1711.02257.
    """

    name = "gradnorm"

    def __init__(self, n_tasks: int, seed: int = 0) -> None:
        super().__init__(n_tasks, seed)
        self.weights = torch.ones(n_tasks, dtype=torch.float64)
        self.first: Tensor | None = None

    def raw(self, signals: Signals) -> Tensor:
        """Step the weights and scale them to a mean of 1."""
        losses = signals.losses.double()
        if self.first is None:
            self.first = losses
        remaining = losses / self.first.clamp_min(1e-12)
        norms = signals.gradients().double().norm(dim=1)
        weighted = self.weights * norms
        target = weighted.mean() * (remaining / remaining.mean()) ** ALPHA
        step = torch.sign(weighted - target) * norms / norms.mean().clamp_min(1e-12)
        weights = (self.weights - RATE * step).clamp_min(1e-3)
        self.weights = weights * (self.n_tasks / weights.sum())
        return self.weights
