"""Multiple-gradient descent."""

import torch
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting

STEPS = 200


def smallest_in_hull(gram: Tensor, steps: int = STEPS) -> Tensor:
    """Return the simplex weights of the shortest vector in the hull of the gradients.

    Frank-Wolfe with exact line search on ``w' G w``.
    """
    weights = torch.full((len(gram),), 1 / len(gram), dtype=gram.dtype)
    for _ in range(steps):
        slope = gram @ weights
        direction = -weights
        direction[slope.argmin()] += 1
        curvature = direction @ gram @ direction
        if direction @ slope >= -1e-12 or curvature <= 0:
            break
        weights = weights + direction * (-(direction @ slope) / curvature).clamp(0, 1)
    return weights


class MGDA(Weighting):
    """Weights of the shortest convex combination of the task gradients.

    References
    ----------
    Sener and Koltun 2018, Multi-task learning as multi-objective optimization, NeurIPS,
    arXiv 1810.04650.
    """

    name = "mgda"

    def raw(self, signals: Signals) -> Tensor:
        """Solve for the weights on the simplex."""
        gradients = signals.gradients().double()
        gram = gradients @ gradients.T
        return smallest_in_hull(gram / gram.diagonal().mean().clamp_min(1e-30))
