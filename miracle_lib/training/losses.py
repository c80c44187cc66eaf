"""The losses that a stage can name: a new one is one entry of `LOSSES`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import torch
from torch import Tensor

from miracle_lib.model import (
    Heads,
    VAEOutput,
    kl_divergence,
    kl_warmup,
    masked_task_loss,
    reconstruction_loss,
)
from miracle_lib.training.data import TrainingData
from miracle_lib.training.member import Member
from miracle_lib.training.settings import Settings, Stage


@dataclass(frozen=True)
class Pass:
    """Some samples of a batch on their way through a network; a loss takes from it what it needs.

    Attributes
    ----------
    member : Member
    data : TrainingData
    rows, batch : Tensor
        Rows of these samples, and of the batch that they are part of.
    epoch : int
    stage : Stage
    settings : Settings
    task_weights : Tensor, shape (n_tasks,)
    penalty : callable, optional
        Of the heads, per labelled sample; a stage that classifies has one.
    """

    member: Member
    data: TrainingData
    rows: Tensor
    batch: Tensor
    epoch: int
    stage: Stage
    settings: Settings
    task_weights: Tensor
    penalty: Callable[[Heads], Tensor] | None = None

    @property
    def share(self) -> float:
        """These samples' share of the batch."""
        return len(self.rows) / len(self.batch)

    @cached_property
    def sites(self) -> Tensor:
        """Input of the autoencoder, 0 where a site is missing."""
        return self.member.sites(self.data.x, self.rows)

    @cached_property
    def output(self) -> VAEOutput:
        """What the autoencoder makes of the samples."""
        return self.member.network(self.sites, self.data.covariates[self.rows])

    @cached_property
    def logits(self) -> Tensor:
        """What the heads make of the samples; a frozen encoder runs without its decoder."""
        member, x = self.member, self.data.x
        if "autoencoder" in self.stage.trains:
            return member.heads(member.blocks_of(x, self.output, self.rows))
        with torch.no_grad():
            blocks = member.blocks(x, self.data.covariates, self.rows)
        return member.heads(blocks)


def reconstruction(seen: Pass) -> Tensor:
    """Return the loss of the reconstruction per observed value."""
    network = seen.member.network
    loss = reconstruction_loss(
        seen.output.reconstruction,
        seen.sites,
        seen.sites != 0,
        likelihood=network.likelihood,
        site_logvar=network.site_logvar,
    )
    return seen.share * (_beside_tasks(seen) * loss)


def kl(seen: Pass) -> Tensor:
    """Return the Kullback-Leibler term per value of the input; it warms up where it is alone."""
    settings = seen.settings
    warm = 1.0 if seen.stage.classifies else kl_warmup(seen.epoch, settings.kl_warmup)
    weight = _beside_tasks(seen) * warm * settings.kl_weight
    loss = kl_divergence(seen.output.mean, seen.output.logvar).mean() / seen.sites.shape[1]
    return seen.share * (weight * loss)


def _beside_tasks(seen: Pass) -> float:
    """Return the weight of the autoencoder's losses."""
    return seen.settings.reconstruction_weight if seen.stage.classifies else 1.0


def task(seen: Pass) -> Tensor:
    """Return the weighted sum of the tasks' mean losses, each by its labels in the batch."""
    labels = seen.data.labels
    here, whole = ((~labels[rows].isnan()).sum(0) for rows in (seen.rows, seen.batch))
    weights = seen.task_weights * (here / whole.clamp_min(1)).to(seen.task_weights)
    losses = masked_task_loss(seen.logits, labels[seen.rows])
    return (weights.to(losses) * losses).sum()


def penalty(seen: Pass) -> Tensor:
    """Return the penalty of the heads."""
    of_heads = cast(Callable[[Heads], Tensor], seen.penalty)
    return seen.share * of_heads(seen.member.heads)


class Loss(NamedTuple):
    """One loss of a stage.

    ``of`` gives what the samples of a pass contribute to the loss of their batch: the parts of a
    batch add up to it. ``on_samples`` is False for a loss of the weights alone, which says nothing
    of held-out samples.
    """

    of: Callable[[Pass], Tensor]
    on_samples: bool = True


LOSSES = {
    "reconstruction": Loss(reconstruction),
    "kl": Loss(kl),
    "task": Loss(task),
    "penalty": Loss(penalty, on_samples=False),
}
