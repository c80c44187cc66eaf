"""Fast adaptive multitask optimisation."""

import torch
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting

RATE = 0.1


class FAMO(Weighting):
    """Make all losses fall at one relative rate, without any task gradient.

    Weights are ``z_t / L_t`` with z the softmax of logits; after each epoch the logits move by
    0.1 down ``J' (log L_before - log L_after)``, J the Jacobian of the softmax: a task whose log
    loss fell less than the others gains weight.

    References
    ----------
    Liu et al. 2023, FAMO: Fast adaptive multitask optimization, NeurIPS, arXiv 2306.03792.
    """

    name = "famo"

    def __init__(self, n_tasks: int, seed: int = 0) -> None:
        super().__init__(n_tasks, seed)
        self.logits = torch.zeros(n_tasks, dtype=torch.float64)
        self.before: Tensor | None = None

    def raw(self, signals: Signals) -> Tensor:
        """Move the logits by what the last epoch achieved and return ``z / L``."""
        losses = signals.losses.double().clamp_min(1e-8)
        if self.before is not None:
            share = self.logits.softmax(0)
            gain = self.before.log() - losses.log()
            self.logits = self.logits - RATE * share * (gain - share @ gain)
        self.before = losses
        return self.logits.softmax(0) / losses
