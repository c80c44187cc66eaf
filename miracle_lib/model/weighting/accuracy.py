"""Inverse validation accuracy."""

from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting


class InverseAccuracy(Weighting):
    """1 - validation accuracy: tasks that lag count more ('re-val' of the original code)."""

    name = "accuracy"

    def raw(self, signals: Signals) -> Tensor:
        """Return the error rates."""
        return 1 - signals.accuracy.double()
