"""Random loss weighting."""

import torch
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting


class Random(Weighting):
    """Softmax of standard normal draws, anew in every epoch.

    References
    ----------
    Lin et al. 2022, Reasonable effectiveness of random weighting, TMLR, arXiv 2111.10603.
    """

    name = "random"

    def raw(self, signals: Signals) -> Tensor:
        """Return a random point of the simplex, the same for the same seed and epoch."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + signals.epoch)
        return torch.randn(self.n_tasks, generator=generator, dtype=torch.float64).softmax(0)
