"""Conflict-averse gradient descent."""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from miracle_lib.model.weighting.base import Signals, Weighting

RADIUS = 0.4


class CAGrad(Weighting):
    """Best worst-case improvement within 0.4 of the length of the mean gradient g0 around it.

    With w the simplex weights that minimise ``g_w . g0 + c |g0| |g_w|``, the update is
    ``g0 + c |g0| g_w / |g_w|``, that is task weights ``1 / T + c |g0| w / |g_w|``.

    References
    ----------
    Liu et al. 2021, Conflict-averse gradient descent for multi-task learning, NeurIPS,
    arXiv 2110.14048.
    """

    name = "cagrad"

    def raw(self, signals: Signals) -> Tensor:
        """Solve the dual problem on the simplex and return the update's coefficients."""
        gradients = signals.gradients().double().numpy()
        gram = gradients @ gradients.T
        gram = gram / max(np.diag(gram).mean(), 1e-30)
        mean = np.full(self.n_tasks, 1 / self.n_tasks)
        reach = RADIUS * np.sqrt(max(mean @ gram @ mean, 0))

        def length(w: np.ndarray) -> float:
            return float(np.sqrt(max(w @ gram @ w, 1e-16)))

        solved = minimize(
            lambda w: w @ gram @ mean + reach * length(w),
            mean,
            jac=lambda w: gram @ mean + reach * gram @ w / length(w),
            method="SLSQP",
            bounds=[(0, 1)] * self.n_tasks,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        )
        return torch.from_numpy(mean + reach * solved.x / length(solved.x))
