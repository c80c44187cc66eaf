"""The stages: autoencoder, heads on the frozen encoder, and everything at a lower rate."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from miracle_lib.errors import MiracleError
from miracle_lib.model import (
    TaskHeads,
    kl_divergence,
    kl_warmup,
    masked_task_loss,
    reconstruction_loss,
)
from miracle_lib.model.weighting import Signals, Weighting
from miracle_lib.training.convex import Features, HeadProblem, log_loss, pair_accuracy
from miracle_lib.training.data import TrainingData, balanced_accuracy, mini_batches
from miracle_lib.training.member import CHUNK, Member
from miracle_lib.training.prior import Prior
from miracle_lib.training.settings import Settings, StageSettings

Row = dict[str, Any]


class Stage(Protocol):
    """What the trainer needs of a stage."""

    name: str
    settings: StageSettings

    def run(self, epoch: int) -> Row:
        """Train for one epoch; the row has the losses and ``validation``, which is minimised."""

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


def head_penalty(heads: TaskHeads, prior: Prior, features: Features) -> Tensor:
    """Return half the squared length of the head weights under their prior."""
    total = heads.bias.new_zeros(())
    n_tasks = len(prior.scale)
    for block, name in enumerate(features.blocks):
        if name not in heads.blocks:
            continue
        scale = prior.scale[:, block]
        tie = np.full((n_tasks, n_tasks), min(prior.sharing, 0.98))
        np.fill_diagonal(tie, 1.0)
        precision = np.linalg.inv(np.outer(scale, scale) * tie)
        unit = torch.where(features.unit[name].isinf(), 0.0, features.unit[name])
        weight = heads.blocks[name].output.weight[:, 0] * unit
        inner = weight @ weight.T
        total = total + 0.5 * (torch.from_numpy(precision).to(inner) * inner).sum()
    return total


class GradientStage:
    """Mini-batch training by Adam of the autoencoder, the heads, or both.

    Parameters
    ----------
    name : str
    member : Member
    data : TrainingData
    train, validation : Tensor
        Rows of the samples trained on and of those held out.
    tasks : list of str
    settings : Settings
    stage : StageSettings
    reconstructs, classifies : bool
        Which losses count.
    trains_encoder : bool
        False leaves the autoencoder as it is.
    weighting, ceiling, prior_penalty
        Policy, single-task accuracies and penalty of the heads, if it classifies.
    seed : int
    """

    def __init__(
        self,
        name: str,
        member: Member,
        data: TrainingData,
        train: Tensor,
        validation: Tensor,
        tasks: list[str],
        settings: Settings,
        stage: StageSettings,
        *,
        reconstructs: bool,
        classifies: bool,
        trains_encoder: bool = True,
        weighting: Weighting | None = None,
        ceiling: Tensor | None = None,
        penalty: Callable[[TaskHeads], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        self.name, self.member, self.data, self.tasks = name, member, data, tasks
        self.train, self.validation = train, validation
        self.options, self.settings, self.seed = settings, stage, seed
        self.reconstructs, self.classifies = reconstructs, classifies
        self.weighting, self.ceiling, self.penalty = weighting, ceiling, penalty
        trained = []
        if trains_encoder:
            trained += list(member.network.parameters())
        if classifies:
            trained += list(member.heads.parameters())
        self.optimizer = torch.optim.Adam(trained, lr=stage.learning_rate)

    def run(self, epoch: int) -> Row:
        """Train for one epoch and measure."""
        weights = self._task_weights(epoch) if self.classifies else None
        seed = epoch_seed(self.seed, self.name, epoch)
        totals: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            batches = mini_batches(self.data.labels[self.train], self.settings.batch_size, seed)
            for batch in batches:
                parts = self._step(self.train[batch.to(self.train.device)], epoch, weights)
                for part, value in parts.items():
                    totals[part] = totals.get(part, 0.0) + value / len(batches)
        row: Row = dict(totals) | self.measure(self.validation)
        if weights is not None:
            row |= task_columns("weight", weights, self.tasks)
        return row

    def _step(self, rows: Tensor, epoch: int, weights: Tensor | None) -> dict[str, float]:
        """Take one gradient step and return the parts of the loss."""
        self.member.train()
        parts = self._losses(rows, epoch, sample=None)
        loss = sum(parts.values())
        shown = {name: float(value.detach()) for name, value in parts.items()}
        if weights is not None:
            task_losses = masked_task_loss(self._logits, self.data.labels[rows])
            task = (weights.to(task_losses) * task_losses).sum()
            shown |= {"task": float(task.detach())}
            loss = loss + task
            if self.penalty is not None:
                penalty = self.penalty(self.member.heads) / self._mean_task_size
                shown |= {"penalty": float(penalty.detach())}
                loss = loss + penalty
        if not math.isfinite(float(loss.detach())):
            raise MiracleError(
                f"the loss became {float(loss.detach())} in stage '{self.name}', epoch {epoch + 1}; "
                f"a learning rate below {self.settings.learning_rate:g} may help"
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return shown

    @property
    def _mean_task_size(self) -> float:
        """Labelled training samples per task: the penalty belongs to the sum over them."""
        labelled = ~self.data.labels[self.train].isnan()
        return float(labelled.sum()) / labelled.shape[1]

    def _losses(self, rows: Tensor, epoch: int, sample: bool | None) -> dict[str, Tensor]:
        """Run the network; keep its logits, and return the autoencoder's losses per value."""
        x, covariates = self.data.x[rows], self.data.covariates[rows]
        network = self.member.network
        if not self.reconstructs:
            self._logits = self.member(x, covariates)
            return {}
        sites = self.member.sites(x)
        output = network(sites, covariates, sample=sample)
        self._logits = self.member.heads(self.member.head_inputs(x, output.genes, output.mean))
        reconstruction = reconstruction_loss(
            output.reconstruction,
            sites,
            sites != 0,
            likelihood=network.likelihood,
            site_logvar=network.site_logvar,
        )
        scale = self.options.reconstruction_weight if self.classifies else 1.0
        warm = kl_warmup(epoch, self.options.kl_warmup) if not self.classifies else 1.0
        kl = kl_divergence(output.mean, output.logvar).mean() / network.n_sites
        return {
            "reconstruction": scale * reconstruction,
            "kl": scale * warm * self.options.kl_weight * kl,
        }

    @torch.no_grad()
    def measure(self, rows: Tensor) -> Row:
        """Return losses on held-out samples; ``validation`` is what early stopping watches."""
        self.member.eval()
        parts, logits = [], []
        for some in rows.split(CHUNK):
            # The KL term at full weight, so that epochs can be compared during warm-up.
            losses = self._losses(some, self.options.kl_warmup, sample=False)
            parts.append({name: float(value) * len(some) for name, value in losses.items()})
            logits.append(self._logits)
        row = {
            f"validation_{name}": sum(part[name] for part in parts) / len(rows) for name in parts[0]
        }
        row["validation"] = sum(row.values())
        if self.classifies:
            losses = masked_task_loss(torch.cat(logits), self.data.labels[rows])
            row["validation_task"] = row["validation"] = float(losses.mean())
        return row

    @torch.no_grad()
    def _task_weights(self, epoch: int) -> Tensor:
        """Ask the policy for this epoch's weights."""
        blocks = self.member.features(self.data.x[self.train], self.data.covariates[self.train])
        logits, labels = self.member.heads(blocks), self.data.labels[self.train]
        held_out = self.member.features(
            self.data.x[self.validation], self.data.covariates[self.validation]
        )
        signals = Signals(
            epoch,
            masked_task_loss(logits, labels).cpu(),
            balanced_accuracy(self.member.heads(held_out), self.data.labels[self.validation]).cpu(),
            self.ceiling,
            (~labels.isnan()).sum(0).cpu(),
            lambda: task_gradients(logits, labels, blocks["pathways"]).cpu(),
        )
        return self.weighting(signals)

    def state_dict(self) -> dict[str, Any]:
        """Return optimiser and policy."""
        state = {"optimizer": self.optimizer.state_dict()}
        if self.weighting is not None:
            state["weighting"] = self.weighting.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.weighting is not None:
            self.weighting.load_state_dict(state["weighting"])


def task_gradients(logits: Tensor, labels: Tensor, shared: Tensor) -> Tensor:
    """Return the gradient of each task's mean loss by shared head weights, (tasks, features)."""
    labelled = ~labels.isnan()
    error = torch.where(labelled, logits.sigmoid() - torch.nan_to_num(labels), 0.0)
    return (error / labelled.sum(0).clamp_min(1)).T @ shared


class ConvexHeads:
    """Heads on the frozen encoder, solved for exactly under the task weights of each epoch.

    Parameters
    ----------
    member : Member
    features : Features
    problem : HeadProblem
    validation : Tensor
        Rows held out.
    tasks : list of str
    stage : StageSettings
    weighting : Weighting
    ceiling : Tensor
    """

    name = "heads"

    def __init__(
        self,
        member: Member,
        features: Features,
        problem: HeadProblem,
        validation: Tensor,
        tasks: list[str],
        stage: StageSettings,
        weighting: Weighting,
        ceiling: Tensor,
    ) -> None:
        self.member, self.features, self.problem, self.settings = member, features, problem, stage
        self.tasks, self.weighting, self.ceiling = tasks, weighting, ceiling
        self.held_out = np.isin(problem.pairs.row, validation.cpu().numpy())
        self.solution = np.zeros(problem.n_unknowns)

    def run(self, epoch: int) -> Row:
        """Re-weight the tasks and solve."""
        weights = self.weighting(self._signals(epoch))
        self.solution = self.problem.solve(~self.held_out, weights.numpy(), self.solution)
        self.problem.write(self.solution, self.features, self.member.heads)
        logits, n_tasks = self.problem.logits(self.solution), len(self.tasks)
        losses = self._by_task(log_loss, logits, ~self.held_out)
        n = len(self.problem.pairs)
        row = {
            "task": float((weights.numpy() * losses).sum()),
            "penalty": 0.5 * float(self.solution[:n] @ self.solution[:n]) * n_tasks / n,
            "validation_task": float(self._by_task(log_loss, logits, self.held_out).mean()),
        }
        row["validation"] = row["validation_task"]
        return row | task_columns("weight", weights, self.tasks)

    def _by_task(self, measure: Callable, logits: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Measure some of the pairs."""
        return measure(self.problem.pairs.take(keep), logits[keep], len(self.tasks))

    def _signals(self, epoch: int) -> Signals:
        """Describe the tasks as the current solution leaves them."""
        logits, pairs = self.problem.logits(self.solution), self.problem.pairs
        train = ~self.held_out

        def gradients() -> Tensor:
            some = pairs.take(train)
            error = 1 / (1 + np.exp(-logits[train])) - some.label
            error /= np.bincount(some.task, minlength=len(self.tasks))[some.task]
            rows = self.features.scaled("pathways").cpu().double().numpy()[some.row]
            by_task = np.zeros((len(self.tasks), rows.shape[1]))
            np.add.at(by_task, some.task, error[:, None] * rows)
            return torch.from_numpy(by_task)

        return Signals(
            epoch,
            torch.from_numpy(self._by_task(log_loss, logits, train)),
            torch.from_numpy(self._by_task(pair_accuracy, logits, self.held_out)),
            self.ceiling,
            torch.from_numpy(np.bincount(pairs.task[train], minlength=len(self.tasks))),
            gradients,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return solution and policy."""
        return {
            "solution": torch.from_numpy(self.solution.copy()),
            "weighting": self.weighting.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.solution = state["solution"].numpy().copy()
        self.weighting.load_state_dict(state["weighting"])
