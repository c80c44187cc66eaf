"""Loss share, a soft form of distributionally robust optimisation."""

from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting


class LossShare(Weighting):
    """Each task's share of the total loss ('DRO' of the original code).

    References
    ----------
    Sagawa et al. 2020, Distributionally robust neural networks, arXiv 1911.08731 (idea).
    """

    name = "dro"

    def raw(self, signals: Signals) -> Tensor:
        """Return the losses; scaling makes shares of them."""
        return signals.losses.double()
