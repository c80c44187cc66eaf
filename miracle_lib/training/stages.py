"""A stage of training by gradient steps: the autoencoder, the heads, or both."""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from miracle_lib.errors import MiracleError
from miracle_lib.model import Heads, masked_task_loss
from miracle_lib.model.weighting import Signals, Weighting
from miracle_lib.training import processes
from miracle_lib.training.data import TrainingData, balanced_accuracy, joined, mini_batches
from miracle_lib.training.losses import LOSSES, Pass
from miracle_lib.training.member import Member, halves
from miracle_lib.training.settings import Settings, Stage, StageSettings

Row = dict[str, Any]


class Running(Protocol):
    """What the trainer needs of a stage."""

    name: str
    settings: StageSettings

    def run(self, epoch: int) -> Row:
        """Train for one epoch; the row has the losses and ``validation``, which is minimised."""

    @property
    def exhausted(self) -> bool:
        """Whether further epochs are of no use."""

    def finish(self) -> None:
        """Leave the weights that are to be kept in the member."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next epoch depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""


def epoch_seed(seed: int, stage: str, epoch: int) -> int:
    """Return a seed that only this epoch has, so that no generator's state need be stored."""
    return (seed * 1_000_003 + sum(stage.encode()) * 7919 + epoch) % (2**31)


def task_columns(label: str, values: Tensor | np.ndarray, tasks: list[str]) -> Row:
    """Return one entry per task, such as ``weight[RA]``."""
    return {f"{label}[{task}]": float(v) for task, v in zip(tasks, values, strict=True)}


class GradientStage:
    """Mini-batch training by Adam of the autoencoder, the heads, or both.

    Parameters
    ----------
    stage : Stage
    member : Member
    data : TrainingData
    train, validation : Tensor
        Rows of the samples trained on and of those held out.
    tasks : list of str
    settings : Settings
    weighting, ceiling, penalty
        Policy, single-task accuracies and penalty of the heads per labelled sample, if the tasks
        count.
    seed : int
    """

    def __init__(
        self,
        stage: Stage,
        member: Member,
        data: TrainingData,
        train: Tensor,
        validation: Tensor,
        tasks: list[str],
        settings: Settings,
        *,
        weighting: Weighting | None = None,
        ceiling: Tensor | None = None,
        penalty: Callable[[Heads], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        self.name, self.member, self.data, self.tasks = stage.name, member, data, tasks
        self.train, self.validation = train, validation
        self.stage, self.settings, self.seed = stage, stage.settings, seed
        self.options = settings
        self.equal = torch.full((len(tasks),), 1 / len(tasks), dtype=torch.float64)
        self.weighting, self.ceiling, self.penalty = weighting, ceiling, penalty
        rate = stage.settings.learning_rate
        trained = []
        if "autoencoder" in stage.trains:
            encoder, decoder = halves(member.network)
            trained.append({"params": encoder, "lr": settings.encoder_rate * rate})
            trained.append({"params": decoder, "lr": rate})
        if "heads" in stage.trains:
            trained.append({"params": list(member.heads.parameters()), "lr": rate})
        self.optimizer = torch.optim.Adam(trained)
        self.waited, self.start_score = 0, self.measure(validation)["validation"]
        self.best_score = self.start_score
        self.best_weights = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        """Copy the weights as they are."""
        return {name: value.clone() for name, value in self.member.state_dict().items()}

    def run(self, epoch: int) -> Row:
        """Train for one epoch and measure."""
        weights = None
        if self.stage.classifies:
            data = self.data
            seen, unseen = (
                self.member.outputs(data.x, data.covariates, rows)
                for rows in (self.train, self.validation)
            )
            weights = self.task_weights(epoch, seen, unseen[0])
        totals: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_of(epoch))
            batches = self.batches(epoch)
            for rows in batches:
                for part, value in self._step(rows, epoch, weights).items():
                    totals[part] = totals.get(part, 0.0) + value / len(batches)
        return self.record(totals | self.measure(self.validation), weights)

    def seed_of(self, epoch: int) -> int:
        """Return the seed of an epoch's batches and latent noise."""
        return epoch_seed(self.seed, self.name, epoch)

    def batches(self, epoch: int) -> list[Tensor]:
        """Return the rows of each mini-batch of an epoch."""
        labels = self.data.labels[self.train]
        parts = mini_batches(labels, self.settings.batch_size, self.seed_of(epoch))
        parts = joined(parts, self.member.least_at_once)
        return [self.train[part.to(self.train.device)] for part in parts]

    def record(self, row: Row, weights: Tensor | None) -> Row:
        """Note whether an epoch was the best so far; return its row with the task weights.

        It says the held-out loss of the stage's start, and of the weights kept if it ended here.
        """
        if weights is not None:
            row |= task_columns("weight", weights, self.tasks)
        self.waited += 1
        if row["validation"] < self.best_score:
            self.waited, self.best_score = 0, row["validation"]
            self.best_weights = self._weights()
        kept = self.best_score if self.settings.keep == "best" else row["validation"]
        return row | {"validation_start": self.start_score, "validation_kept": kept}

    @property
    def exhausted(self) -> bool:
        """Whether the held-out loss has not fallen for too many epochs."""
        return self.settings.patience is not None and self.waited >= self.settings.patience

    def finish(self) -> None:
        """Return to the best weights, if they are to be kept."""
        if self.settings.keep == "best":
            self.member.load_state_dict(self.best_weights)

    def _step(self, rows: Tensor, epoch: int, weights: Tensor | None) -> dict[str, float]:
        """Take one gradient step and return the parts of the loss."""
        self.member.train()
        if "autoencoder" not in self.stage.trains:
            self.member.network.eval()  # else running means of a frozen encoder would move
        self.optimizer.zero_grad()
        shown: dict[str, float] = {}
        # A batch too wide for one pass is taken in parts, whose gradients add up.
        pieces = joined(rows.split(self.member.most_at_once), self.member.least_at_once)
        for number, piece in enumerate(pieces):
            if not processes.is_mine(number):
                self.member.network.skip(len(piece))
                continue
            seen = self._pass(piece, rows, epoch, weights)
            parts = {name: LOSSES[name].of(seen) for name in self.stage.losses}
            loss = reduce(torch.add, parts.values())
            self.refuse_infinite(float(loss.detach()), epoch)
            loss.backward()
            for name, value in parts.items():
                shown[name] = shown.get(name, 0.0) + float(value.detach())
        trained = (each for group in self.optimizer.param_groups for each in group["params"])
        shown = processes.add_up(trained, shown)
        self.optimizer.step()
        return shown

    def _pass(self, rows: Tensor, batch: Tensor, epoch: int, weights: Tensor | None) -> Pass:
        """Return the pass of some samples of a batch; without weights, tasks count alike."""
        weights = self.equal if weights is None else weights
        of_stage = self.stage, self.options, weights, self.penalty
        return Pass(self.member, self.data, rows, batch, epoch, *of_stage)

    def refuse_infinite(self, loss: float, epoch: int) -> None:
        """Stop a training that has diverged."""
        if not math.isfinite(loss):
            raise MiracleError(
                f"the loss became {loss} in stage {self.name!r}, epoch {epoch + 1}; "
                f"a learning rate below {self.settings.learning_rate:g} may help"
            )

    @torch.no_grad()
    def measure(self, rows: Tensor) -> Row:
        """Return losses on held-out samples; ``validation`` is what early stopping watches."""
        self.member.eval()
        losses = {name: LOSSES[name] for name in self.stage.losses if LOSSES[name].on_samples}
        row = {f"validation_{name}": 0.0 for name in losses}
        for some in rows.split(self.member.chunk):
            # The KL term at full weight, so that epochs can be compared during warm-up.
            seen = self._pass(some, rows, self.options.kl_warmup, None)
            for name, loss in losses.items():
                row[f"validation_{name}"] += float(loss.of(seen))
        watched = row["validation_task"] if self.stage.classifies else sum(row.values())
        return row | {"validation": watched}

    @torch.no_grad()
    def task_weights(self, epoch: int, seen: tuple[Tensor, Tensor], unseen: Tensor) -> Tensor:
        """Ask the policy for this epoch's weights.

        ``seen`` are logits and pathway activities of the training samples, ``unseen`` the logits
        of those held out.
        """
        (logits, pathways), data = seen, self.data
        labels = data.labels[self.train]
        signals = Signals(
            epoch,
            masked_task_loss(logits, labels).cpu(),
            balanced_accuracy(unseen, data.labels[self.validation]).cpu(),
            cast(Tensor, self.ceiling),
            (~labels.isnan()).sum(0).cpu(),
            lambda: task_gradients(logits, labels, pathways).cpu(),
        )
        return cast(Weighting, self.weighting)(signals)  # a stage that classifies has one

    def state_dict(self) -> dict[str, Any]:
        """Return current and best weights, optimiser and policy."""
        state = {name: getattr(self, name) for name in self._kept}
        state |= {
            "model": self.member.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "weighting": self.weighting and self.weighting.state_dict(),
        }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        for name in self._kept:
            setattr(self, name, state[name])
        self.member.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.weighting is not None:
            self.weighting.load_state_dict(state["weighting"])

    _kept = ("waited", "start_score", "best_score", "best_weights")


def task_gradients(logits: Tensor, labels: Tensor, shared: Tensor) -> Tensor:
    """Return the gradient of each task's mean loss by shared head weights, (tasks, features)."""
    labelled = ~labels.isnan()
    error = torch.where(labelled, logits.sigmoid() - torch.nan_to_num(labels), 0.0)
    return (error / labelled.sum(0).clamp_min(1)).T @ shared
