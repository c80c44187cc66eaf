"""PWInVal: piecewise-linear in the validation accuracy."""

import torch
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting

AT_CEILING = 0.1


class PWInVal(Weighting):
    """Fall from 1 to 0.1 as accuracy rises to the single-task ceiling s, then to 0 at accuracy 1.

    With w = 0.1 and accuracy x: ``1 + (w - 1) x / s`` up to s, ``w (1 - x) / (1 - s)`` above; the
    two pieces meet at s. (The published code has ``w (1 + x) / (1 - s)`` in the second piece,
    which jumps above 1.)

    References
    ----------
    MIRACLE, 2023, arXiv 2306.13866.
    """

    name = "pwinval"

    def raw(self, signals: Signals) -> Tensor:
        """Return the piecewise-linear weights."""
        x, s = signals.accuracy.double(), signals.ceiling.double().clamp(0.01, 0.99)
        below = 1 + (AT_CEILING - 1) * x / s
        above = AT_CEILING * (1 - x) / (1 - s)
        return torch.where(x <= s, below, above)
