"""Inverse sample size."""

from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting


class InverseSampleSize(Weighting):
    """1 / number of labelled samples: small tasks count more ('re-ss' of the original code)."""

    name = "sample-size"

    def raw(self, signals: Signals) -> Tensor:
        """Return the inverse counts."""
        return 1 / signals.n_samples.double()
