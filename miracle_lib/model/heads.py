"""Heads: from named blocks of input to one logit per task."""

import math
from collections.abc import Mapping
from functools import reduce
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from miracle_lib.errors import MiracleError

Blocks = Mapping[str, Tensor]


class Heads(nn.Module):
    """From the blocks that a network offers to one logit per task; subclass it for your own.

    A subclass is called with the arguments below and has a ``forward`` from a mapping of blocks,
    each (batch, width), to logits (batch, n_tasks). It is trained by gradient steps.

    Parameters
    ----------
    n_features : mapping of str to int
        Width of each block that is read; none of width 0.
    n_tasks : int
    hidden : int, optional
        The option ``head_units``; what None means is up to the heads.
    seed : int, optional
        Of the starting weights.

    Attributes
    ----------
    linear : bool
        Whether every feature has one weight per task, in ``blocks``.

    Examples
    --------
    >>> class Nearest(Heads):
    ...     def __init__(self, n_features, n_tasks, hidden=None, seed=None):
    ...         super().__init__()
    ...         self.centre = nn.Parameter(torch.zeros(n_tasks, n_features["pathways"]))
    ...
    ...     def forward(self, blocks):
    ...         return -torch.cdist(blocks["pathways"], self.centre)
    >>> Nearest({"pathways": 3}, 2)({"pathways": torch.ones(5, 3)}).shape
    torch.Size([5, 2])
    """

    linear = False

    def regularisation(self) -> Tensor:
        """Return what is added to the sum over samples of the log loss; nothing by default."""
        return torch.zeros(())

    def contributions(self, blocks: Blocks) -> dict[str, Tensor]:
        """Return the logits (batch, n_tasks) with all blocks but one at their mean, by block."""
        mean = {name: block.mean(0).expand_as(block) for name, block in blocks.items()}
        return {name: self(mean | {name: block}) for name, block in blocks.items()}

    def shares(self, blocks: Blocks) -> dict[str, Tensor]:
        """Return each block's share of the spread of the predictions over a batch, (n_tasks,).

        The share of a block is the mean absolute deviation of its contribution from its own mean,
        over the sum of these for all blocks: between 0 and 1, adding up to 1 (0 for all blocks
        where nothing varies).
        """
        parts = {
            name: (part - part.mean(0)).abs().mean(0)
            for name, part in self.contributions(blocks).items()
        }
        total = reduce(torch.add, parts.values())
        return {name: part / total.clamp_min(1e-12) for name, part in parts.items()}


class SharedLinear(nn.Module):
    """Linear maps of several tasks, each the sum of a shared and a task-specific part.

    Penalising the two parts differently sets how much the tasks share: with a specific part that
    costs far more than the shared one all tasks get the same weights, with the reverse they are
    independent.

    Parameters
    ----------
    n_inputs, n_outputs, n_tasks : int
        ``n_outputs`` is the number of outputs per task.
    per_task_input : bool
        The input has a task axis already: (batch, n_tasks, n_inputs).

    References
    ----------
    Evgeniou and Pontil 2004, Regularized multi-task learning, doi 10.1145/1014052.1014067.

    Examples
    --------
    >>> import torch
    >>> SharedLinear(4, 2, n_tasks=3)(torch.ones(5, 4)).shape
    torch.Size([5, 3, 2])
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, n_tasks: int, per_task_input: bool = False
    ) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(n_outputs, n_inputs))
        self.specific = nn.Parameter(torch.zeros(n_tasks, n_outputs, n_inputs))
        self.equation = "btw,tow->bto" if per_task_input else "bw,tow->bto"

    @property
    def weight(self) -> Tensor:
        """The weights in use, shape (n_tasks, n_outputs, n_inputs)."""
        return self.shared + self.specific

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_inputs) to (batch, n_tasks, n_outputs)."""
        return torch.einsum(self.equation, x, self.weight)

    def penalty(self, sharing: float) -> Tensor:
        """Return the squared norm; the shared part counts ``1 / sharing`` as much."""
        return self.specific.square().sum() + self.shared.square().sum() / sharing


class BlockHead(nn.Module):
    """The contribution of one block of input to the logits, linear or by one hidden layer."""

    def __init__(self, n_inputs: int, n_tasks: int, hidden: int | None) -> None:
        super().__init__()
        self.hidden = SharedLinear(n_inputs, hidden, n_tasks) if hidden else None
        # Without offsets a sum of tanh is an odd function: no interaction of two inputs is one.
        self.offset = nn.Parameter(torch.zeros(n_tasks, hidden)) if hidden else None
        self.activation = nn.Tanh()
        self.output = SharedLinear(hidden or n_inputs, 1, n_tasks, per_task_input=bool(hidden))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None) -> None:
        """Start from a contribution of zero, with a hidden layer from random units."""
        for parameter in self.parameters():
            parameter.zero_()
        if self.hidden is not None and self.offset is not None:
            start = torch.randn(self.hidden.specific.shape, generator=generator)
            self.hidden.specific.copy_(start / math.sqrt(start.shape[-1]))
            self.offset.copy_(torch.randn(self.offset.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_inputs) to (batch, n_tasks)."""
        if self.hidden is not None:
            x = self.activation(self.hidden(x) + self.offset)
        return self.output(x).squeeze(-1)

    def penalty(self, sharing: float) -> Tensor:
        """Return the squared norm of every weight."""
        own = self.output.penalty(sharing)
        return own if self.hidden is None else self.hidden.penalty(sharing) + own


class TaskHeads(Heads):
    """One logit per task: a bias plus one contribution per block of input.

    Parameters
    ----------
    n_features : mapping of str to int
        Width of each block, such as ``{"pathways": 300, "genes": 1500, "residual": 800}``; a
        block of width 0 is left out.
    tasks : sequence of str, or int
        The tasks, or their number.
    hidden : int, optional
        Units of one hidden layer per block and task (tanh); None gives a linear head.
    seed : int, optional
        Of the hidden layers' starting weights; linear heads start at zero.

    Raises
    ------
    MiracleError
        If there is no task or no feature.

    References
    ----------
    Shared and task-specific weights: Evgeniou and Pontil 2004, doi 10.1145/1014052.1014067.

    Examples
    --------
    >>> import torch
    >>> heads = TaskHeads({"pathways": 3, "genes": 4}, tasks=["MS", "RA"])
    >>> heads({"pathways": torch.ones(5, 3), "genes": torch.ones(5, 4)}).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        n_features: Mapping[str, int],
        tasks: list[str] | int,
        hidden: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        n_tasks = tasks if isinstance(tasks, int) else len(tasks)
        widths = {name: width for name, width in n_features.items() if width}
        if not n_tasks or not widths:
            raise MiracleError(
                f"heads for {n_tasks} tasks on {sum(widths.values())} features; expected some"
            )
        heads = {name: BlockHead(width, n_tasks, hidden) for name, width in widths.items()}
        self.blocks = cast("Mapping[str, BlockHead]", nn.ModuleDict(heads))
        self.bias = nn.Parameter(torch.zeros(n_tasks))
        self.linear = hidden is None
        self.reset_parameters(seed)

    @torch.no_grad()
    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw every weight anew."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for block in self.blocks.values():
            block.reset_parameters(generator)
        self.bias.zero_()

    def forward(self, blocks: Blocks) -> Tensor:
        """Return logits.

        Parameters
        ----------
        blocks : mapping of str to Tensor
            One tensor (batch, width) per block; further entries are ignored.

        Returns
        -------
        Tensor, shape (batch, n_tasks)
        """
        return self.bias + sum(head(blocks[name]) for name, head in self.blocks.items())

    def contributions(self, blocks: Blocks) -> dict[str, Tensor]:
        """Return each block's part of the logits, (batch, n_tasks); they add up with the bias."""
        return {name: head(blocks[name]) for name, head in self.blocks.items()}

    def penalty(self, strength: Mapping[str, float] | float, sharing: float = 1.0) -> Tensor:
        """Return the sum over blocks of strength times squared norm of the weights.

        Parameters
        ----------
        strength : mapping of str to float, or float
            Penalty of each block; one number holds for all.
        sharing : float
            How much cheaper a weight is when all tasks share it; larger ties tasks closer.
        """
        if not isinstance(strength, Mapping):
            strength = dict.fromkeys(self.blocks, strength)
        parts = (strength[name] * head.penalty(sharing) for name, head in self.blocks.items())
        return reduce(torch.add, parts)


class DeepHeads(Heads):
    """Four layers per task on all blocks side by side, as the paper draws them.

    Widths fall geometrically from that of the input to 1, with a ReLU between.

    Parameters
    ----------
    n_features, n_tasks, seed
        As in `Heads`.
    hidden : int, optional
        Width of the three hidden layers, instead of falling ones.

    References
    ----------
    MIRACLE, 2023, arXiv 2306.13866.

    Examples
    --------
    >>> heads = DeepHeads({"pathways": 16}, n_tasks=2)
    >>> [layer.out_features for layer in heads.tasks[0] if isinstance(layer, nn.Linear)]
    [8, 4, 2, 1]
    """

    def __init__(
        self,
        n_features: Mapping[str, int],
        n_tasks: int,
        hidden: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.names = list(n_features)
        n = sum(n_features.values())
        inner = [hidden or round(n**power) for power in (0.75, 0.5, 0.25)]
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.tasks = nn.ModuleList(_layers([n, *inner, 1]) for _ in range(n_tasks))

    def forward(self, blocks: Blocks) -> Tensor:
        """Return logits, (batch, n_tasks)."""
        x = torch.cat([blocks[name] for name in self.names], dim=1)
        return torch.cat([layers(x) for layers in self.tasks], dim=1)


def _layers(widths: list[int]) -> nn.Sequential:
    """Return linear layers of these widths with a ReLU between."""
    parts: list[nn.Module] = []
    for n_inputs, n_outputs in pairwise(widths):
        parts += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


HEADS: dict[str, type[Heads]] = {"additive": TaskHeads, "deep": DeepHeads}
