"""What a task-weighting policy sees and gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Signals:
    """State of the training at the start of an epoch, one entry per task.

    Attributes
    ----------
    epoch : int
        Counted from 0.
    losses : Tensor, shape (n_tasks,)
        Mean training loss.
    accuracy : Tensor, shape (n_tasks,)
        Balanced accuracy on the inner validation samples, 0 to 1.
    ceiling : Tensor, shape (n_tasks,)
        Accuracy to be expected of a model trained for the task alone.
    n_samples : Tensor, shape (n_tasks,)
        Training samples labelled for the task.
    gradients : callable
        Returns (n_tasks, n_features): the gradient of each task's loss with respect to head
        weights that all tasks share, on the pathway activities. Its size, and so the cost of the
        policies that use it, does not grow with the array.
    """

    epoch: int
    losses: Tensor
    accuracy: Tensor
    ceiling: Tensor
    n_samples: Tensor
    gradients: Callable[[], Tensor]


class Weighting:
    """Base of the policies: gives one weight per task at the start of every epoch.

    Parameters
    ----------
    n_tasks : int
    seed : int, default 0
        For policies that draw random numbers.

    Examples
    --------
    A policy of one's own takes a class with one method:

    >>> from miracle_lib.model.weighting import make_weighting, register
    >>> @register("first-only")
    ... class FirstOnly(Weighting):
    ...     def raw(self, signals):
    ...         return torch.eye(self.n_tasks)[0]
    >>> make_weighting("first-only", 2).n_tasks
    2
    """

    name: ClassVar[str]

    def __init__(self, n_tasks: int, seed: int = 0) -> None:
        self.n_tasks, self.seed = n_tasks, seed

    def raw(self, signals: Signals) -> Tensor:
        """Return weights on any scale, shape (n_tasks,), none negative."""
        raise NotImplementedError

    def __call__(self, signals: Signals) -> Tensor:
        """Return the weights scaled to a mean of 1, so that penalties keep their meaning."""
        weights = torch.as_tensor(self.raw(signals), dtype=torch.float64).clamp_min(0)
        total = weights.sum()
        return weights * (self.n_tasks / total) if total > 0 else torch.ones_like(weights)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes during training."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        vars(self).update(state)
