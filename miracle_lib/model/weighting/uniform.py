"""Every task counts the same."""

import torch
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting


class Uniform(Weighting):
    """Weight 1 for every task."""

    name = "uniform"

    def raw(self, signals: Signals) -> Tensor:
        """Return ones."""
        return torch.ones(self.n_tasks)
