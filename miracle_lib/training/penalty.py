"""The penalty of the heads: their prior, as gradient steps can follow it."""

import numpy as np
import torch
from torch import Tensor

from miracle_lib.model import Heads, TaskHeads
from miracle_lib.training.convex import Blocks
from miracle_lib.training.prior import Prior

STEEPEST = 0.1  # least variance and scale of a penalty that gradient steps follow


def head_penalty(heads: Heads, prior: Prior, blocks: Blocks, subset: int = -1) -> Tensor:
    """Return half the squared length of the head weights under their prior.

    Heads that are no sum over blocks say themselves what is added to their loss.

    Variances below a tenth of the mean count as a tenth: gradient steps cannot follow a steeper
    penalty. Linear associations say nothing of interactions, so the inputs of hidden units all
    have the same variance; a unit's input has an SD of 1, and the units of a block add up to a
    logit with the SD that was found for linear heads, or 1 if that is more.
    """
    if not isinstance(heads, TaskHeads):
        return heads.regularisation()
    total = heads.bias.new_zeros(())
    for number, (name, block) in enumerate(blocks.items()):
        scale, head = prior.scale[:, number], heads.blocks[name]
        unit = torch.where(block.unit.isinf(), 0.0, block.unit)
        weight = head.output.weight[:, 0]
        if head.hidden is None:
            variance = block.variances[subset].T * scale[:, None] ** 2
            # A block that the prior leaves out still has a penalty to divide by.
            least = STEEPEST / len(unit) * np.maximum(scale[:, None], STEEPEST) ** 2
            sd = torch.from_numpy(np.sqrt(np.maximum(variance, least))).to(unit)
            total = total + _half_length(weight * unit / sd, prior.sharing, variance > 0)
            continue
        inner = (head.hidden.weight * unit * len(unit) ** 0.5).flatten(1)
        total = total + _half_length(inner, prior.sharing)
        sd = torch.from_numpy(np.maximum(scale, 1.0)).to(weight)
        outer = weight * weight.shape[1] ** 0.5 / sd[:, None]
        total = total + _half_length(outer, prior.sharing)
    return total


def _half_length(weight: Tensor, sharing: float, tied: np.ndarray | None = None) -> Tensor:
    """Return half the squared length of weights (tasks x any) of SD 1, tied between the tasks.

    Weights that the prior leaves out are not ``tied``: that one is 0 says nothing of the others.
    """
    rho = min(sharing, 0.98)
    tie = torch.ones_like(weight) if tied is None else torch.from_numpy(tied).to(weight)
    common = (weight * tie).sum(0).square() * rho / (1 - rho + rho * tie.sum(0))
    own = weight.square() / (1 - rho * tie)
    return 0.5 * (own.sum() - common.sum() / (1 - rho))
