"""Dynamic weight average."""

import torch
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting

TEMPERATURE = 2.0


class DynamicWeightAverage(Weighting):
    """Softmax of the ratio of the last two losses over 2: slowly falling tasks count more.

    References
    ----------
    Liu, Johns and Davison 2019, End-to-end multi-task learning with attention, CVPR,
    arXiv 1803.10704.
    """

    name = "dwa"

    def __init__(self, n_tasks: int, seed: int = 0) -> None:
        super().__init__(n_tasks, seed)
        self.previous: list[Tensor] = []

    def raw(self, signals: Signals) -> Tensor:
        """Return equal weights until two losses are known, then follow their ratio."""
        self.previous = [*self.previous, signals.losses.double()][-2:]
        if len(self.previous) < 2:
            return torch.ones(self.n_tasks)
        older, newer = self.previous
        return (newer / older.clamp_min(1e-12) / TEMPERATURE).softmax(0)
