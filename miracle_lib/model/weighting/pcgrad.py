"""Gradient surgery, on the gradients of the head weights of a whole epoch."""

import torch
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting


class PCGrad(Weighting):
    """Project each task's head gradient of an epoch off those it conflicts with, and add up.

    The others come in random order. A projected gradient is a combination of the task gradients
    with coefficients that are not negative, so the sum is expressed as task weights.

    References
    ----------
    Yu et al. 2020, Gradient surgery for multi-task learning, NeurIPS, arXiv 2001.06782.
    """

    name = "pcgrad"

    def raw(self, signals: Signals) -> Tensor:
        """Return the summed coefficients of the projected gradients."""
        gradients = signals.gradients().double()
        gram = gradients @ gradients.T
        generator = torch.Generator().manual_seed(self.seed * 100_003 + signals.epoch)
        coefficients = torch.eye(self.n_tasks, dtype=torch.float64)
        for task in range(self.n_tasks):
            for other in torch.randperm(self.n_tasks, generator=generator).tolist():
                conflict = coefficients[task] @ gram[:, other]
                if other != task and conflict < 0:
                    coefficients[task, other] -= conflict / gram[other, other]
        return coefficients.sum(0)
