"""The stages: autoencoder, heads on the frozen encoder, and everything at a lower rate."""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, Protocol, cast

import numpy as np
import torch
from scipy.special import expit, log_expit
from torch import Tensor

from miracle_lib.errors import MiracleError
from miracle_lib.model import (
    Heads,
    TaskHeads,
    kl_divergence,
    kl_warmup,
    masked_task_loss,
    reconstruction_loss,
)
from miracle_lib.model.weighting import Signals, Weighting
from miracle_lib.training import processes
from miracle_lib.training.convex import Blocks, HeadProblem, log_loss, pair_accuracy
from miracle_lib.training.data import TrainingData, balanced_accuracy, mini_batches
from miracle_lib.training.member import Member, halves
from miracle_lib.training.prior import Prior
from miracle_lib.training.settings import Settings, Stage, StageSettings

Row = dict[str, Any]
STEEPEST = 0.1  # least variance and scale of a penalty that gradient steps follow
SETTLED = 0.01  # largest change of a task weight at which the heads are solved


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
        Policy, single-task accuracies and penalty of the heads, if the tasks count.
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
        self.options, self.settings, self.seed = settings, stage.settings, seed
        self.reconstructs = "autoencoder" in stage.losses
        self.classifies = "tasks" in stage.losses
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
        self.waited, self.best_score = 0, self.measure(validation)["validation"]
        self.best_weights = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        """Copy the weights as they are."""
        return {name: value.clone() for name, value in self.member.state_dict().items()}

    def run(self, epoch: int) -> Row:
        """Train for one epoch and measure."""
        weights = None
        if self.classifies:
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
        return [self.train[part.to(self.train.device)] for part in parts]

    def record(self, row: Row, weights: Tensor | None) -> Row:
        """Note whether an epoch was the best so far; return its row with the task weights."""
        if weights is not None:
            row |= task_columns("weight", weights, self.tasks)
        self.waited += 1
        if row["validation"] < self.best_score:
            self.waited, self.best_score = 0, row["validation"]
            self.best_weights = self._weights()
        return row

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
        self.optimizer.zero_grad()
        shown: dict[str, float] = {}
        # A batch too wide for one pass is taken in parts, whose gradients add up.
        for number, piece in enumerate(rows.split(self.member.most_at_once)):
            if not processes.is_mine(number):
                self.member.network.skip(len(piece))
                continue
            parts = self._share_of_losses(piece, rows, epoch, weights)
            loss = reduce(torch.add, parts.values())
            self.refuse_infinite(float(loss.detach()), epoch)
            loss.backward()
            for name, value in parts.items():
                shown[name] = shown.get(name, 0.0) + float(value.detach())
        trained = (each for group in self.optimizer.param_groups for each in group["params"])
        shown = processes.add_up(trained, shown)
        self.optimizer.step()
        return shown

    def _share_of_losses(
        self, piece: Tensor, rows: Tensor, epoch: int, weights: Tensor | None
    ) -> dict[str, Tensor]:
        """Return what some samples of a batch contribute to its losses."""
        parts, logits = self._losses(piece, epoch, sample=None)
        if weights is not None and logits is not None:
            here, whole = ((~self.data.labels[part].isnan()).sum(0) for part in (piece, rows))
            of_task = weights * (here / whole.clamp_min(1)).to(weights)
            parts |= self.task_losses(logits, piece, of_task)
        share = len(piece) / len(rows)
        return {name: v if name == "task" else share * v for name, v in parts.items()}

    def task_losses(self, logits: Tensor, rows: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Return the weighted loss of the tasks and the penalty of the heads."""
        losses = masked_task_loss(logits, self.data.labels[rows])
        parts = {"task": (weights.to(losses) * losses).sum()}
        if self.penalty is not None:
            parts["penalty"] = self.penalty(self.member.heads) / self._mean_task_size
        return parts

    def refuse_infinite(self, loss: float, epoch: int) -> None:
        """Stop a training that has diverged."""
        if not math.isfinite(loss):
            raise MiracleError(
                f"the loss became {loss} in stage {self.name!r}, epoch {epoch + 1}; "
                f"a learning rate below {self.settings.learning_rate:g} may help"
            )

    @property
    def _mean_task_size(self) -> float:
        """Labelled training samples per task: the penalty belongs to the sum over them."""
        labelled = ~self.data.labels[self.train].isnan()
        return float(labelled.sum()) / labelled.shape[1]

    def _losses(
        self, rows: Tensor, epoch: int, sample: bool | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Run the network; return the autoencoder's losses per value, and logits if they count."""
        x, covariates = self.data.x, self.data.covariates
        member, network = self.member, self.member.network
        if not self.reconstructs:
            with torch.no_grad():  # the encoder is frozen
                blocks = member.blocks(x, covariates, rows)
            return {}, member.heads(blocks)
        sites = member.sites(x, rows)
        output = network(sites, covariates[rows], sample=sample)
        logits = None
        if self.classifies:
            logits = member.heads(member.blocks_of(x, output, rows))
        reconstruction = reconstruction_loss(
            output.reconstruction,
            sites,
            sites != 0,
            likelihood=network.likelihood,
            site_logvar=network.site_logvar,
        )
        kl = kl_divergence(output.mean, output.logvar).mean() / network.n_sites
        scale = self.options.reconstruction_weight if self.classifies else 1.0
        warm = kl_warmup(epoch, self.options.kl_warmup) if not self.classifies else 1.0
        losses = {
            "reconstruction": scale * reconstruction,
            "kl": scale * warm * self.options.kl_weight * kl,
        }
        return losses, logits

    @torch.no_grad()
    def measure(self, rows: Tensor) -> Row:
        """Return losses on held-out samples; ``validation`` is what early stopping watches."""
        self.member.eval()
        parts, logits = [], []
        for batch in rows.split(self.member.chunk):
            # The KL term at full weight, so that epochs can be compared during warm-up.
            losses, found = self._losses(batch, self.options.kl_warmup, sample=False)
            parts.append({name: float(value) * len(batch) for name, value in losses.items()})
            if found is not None:
                logits.append(found)
        row = {
            f"validation_{name}": sum(part[name] for part in parts) / len(rows) for name in parts[0]
        }
        row["validation"] = sum(row.values())
        if self.classifies:
            of_task = masked_task_loss(torch.cat(logits), self.data.labels[rows])
            row["validation_task"] = row["validation"] = float(of_task.mean())
        return row

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

    _kept = ("waited", "best_score", "best_weights")


def task_gradients(logits: Tensor, labels: Tensor, shared: Tensor) -> Tensor:
    """Return the gradient of each task's mean loss by shared head weights, (tasks, features)."""
    labelled = ~labels.isnan()
    error = torch.where(labelled, logits.sigmoid() - torch.nan_to_num(labels), 0.0)
    return (error / labelled.sum(0).clamp_min(1)).T @ shared


class ConvexHeads:
    """Heads on the frozen encoder, solved for exactly under the task weights of each epoch.

    The problem is solved on all samples and without each inner fold in turn, so that policies see
    the accuracy on samples that the solution has not seen. Weights are averaged over the epochs,
    so that a policy that swings settles.

    Parameters
    ----------
    member : Member
    problem : HeadProblem
    tasks : list of str
    stage : StageSettings
    weighting : Weighting
    ceiling : Tensor
    """

    name = "heads"

    def __init__(
        self,
        member: Member,
        problem: HeadProblem,
        tasks: list[str],
        stage: StageSettings,
        weighting: Weighting,
        ceiling: Tensor,
    ) -> None:
        self.member, self.problem, self.settings = member, problem, stage
        self.tasks, self.weighting, self.ceiling = tasks, weighting, ceiling
        # One row per fold left out; the last one leaves out nothing.
        self.solutions = np.zeros((len(problem.folds) + 1, problem.n_unknowns))
        self.weights = np.ones(len(tasks))
        self.moved, self.started = np.inf, False

    def run(self, epoch: int) -> Row:
        """Re-weight the tasks and solve."""
        before = self.weights.copy()
        weights = self.weighting(self._signals(epoch)).numpy()
        self.weights += (weights - self.weights) / (epoch + 1)
        self.moved = float(np.abs(self.weights - before).max())
        self.started |= self.moved >= SETTLED
        if epoch == 0 or self.moved > 0:
            self._solve()
        seen, unseen = self._by_task(log_loss)
        a = self.solutions[-1][: len(self.problem.pairs)]
        row: Row = {
            "task": float((self.weights * seen).sum()),
            "penalty": 0.5 * float(a @ a) * len(self.tasks) / len(a),
            "validation_task": float(unseen.mean()),
            "validation": float(unseen.mean()),
        }
        return row | task_columns("weight", self.weights, self.tasks)

    def _solve(self) -> None:
        """Solve without each fold, and on all samples."""
        for subset, start in enumerate(self.solutions):
            self.solutions[subset] = self.problem.solve(subset, self.weights, start)

    def solve_under(self, weights: np.ndarray) -> None:
        """Solve under given task weights."""
        self.weights = weights
        self._solve()

    def held_out_losses(self, fold: int) -> np.ndarray:
        """Return the losses of a fold's pairs unseen, all tasks weighing alike."""
        folds = self.problem.folds
        out = ~folds.kept(folds.index(fold))
        pairs, logits = self.problem.pairs.take(out), self._out_of_fold()[out]
        size = np.bincount(pairs.task, minlength=len(self.tasks))[pairs.task]
        return -log_expit((2 * pairs.label - 1) * logits) / size

    @property
    def exhausted(self) -> bool:
        """Whether the task weights have settled; the solution then has too.

        Policies that follow the losses start from heads that predict nothing, and so from equal
        weights: what has never moved has not settled.
        """
        return self.started and self.moved < SETTLED

    def write(self, without_fold: int) -> None:
        """Set the heads to the solution without a fold, each weight where the prior has it."""
        subset = self.problem.folds.index(without_fold)
        self.problem.write(self.solutions[subset], cast(TaskHeads, self.member.heads), subset)

    def finish(self) -> None:
        """Set the heads to the solution on all samples, credited to genes and pathways."""
        problem, heads = self.problem, cast(TaskHeads, self.member.heads)
        problem.write(self.solutions[-1], heads)
        values = {name: block.values for name, block in problem.blocks.items()}
        pairs = problem.pairs
        with torch.no_grad():
            moved = -heads(values)
            self.member.credit_nodes()
            moved = (moved + heads(values)).double().cpu().numpy()[pairs.row, pairs.task]
            mean = np.bincount(pairs.task, moved) / np.bincount(pairs.task)
            heads.bias.sub_(torch.from_numpy(mean).to(heads.bias))

    def _out_of_fold(self) -> np.ndarray:
        """Return each pair's logit from the solution without its fold."""
        return self.problem.gathered(list(self.solutions))

    def _by_task(self, measure: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Measure on the samples solved for, and on samples not seen."""
        pairs, n_tasks = self.problem.pairs, len(self.tasks)
        seen = self.problem.logits(-1, self.solutions[-1])
        return measure(pairs, seen, n_tasks), measure(pairs, self._out_of_fold(), n_tasks)

    def _signals(self, epoch: int) -> Signals:
        """Describe the tasks as the current solutions leave them."""
        pairs, n_tasks = self.problem.pairs, len(self.tasks)
        sizes = np.bincount(pairs.task, minlength=n_tasks)

        def gradients() -> Tensor:
            error = expit(self.problem.logits(-1, self.solutions[-1])) - pairs.label
            block = next(iter(self.problem.blocks.values()))
            rows = (block.values - block.mean).double().cpu().numpy()[pairs.row]
            by_task = np.zeros((n_tasks, rows.shape[1]))
            np.add.at(by_task, pairs.task, (error / sizes[pairs.task])[:, None] * rows)
            return torch.from_numpy(by_task)

        return Signals(
            epoch,
            torch.from_numpy(self._by_task(log_loss)[0]),
            torch.from_numpy(self._by_task(pair_accuracy)[1]),
            self.ceiling,
            torch.from_numpy(sizes),
            gradients,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return solutions and policy."""
        return {
            "solutions": torch.from_numpy(self.solutions.copy()),
            "weights": torch.from_numpy(self.weights.copy()),
            "moved": self.moved,
            "started": self.started,
            "weighting": self.weighting.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.solutions = state["solutions"].numpy().copy()
        self.weights = state["weights"].numpy().copy()
        self.moved, self.started = state["moved"], state["started"]
        self.weighting.load_state_dict(state["weighting"])
