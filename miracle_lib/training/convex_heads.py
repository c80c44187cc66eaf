"""The stage of the heads on the frozen encoder, solved for exactly."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from scipy.special import expit, log_expit
from torch import Tensor

from miracle_lib.model import TaskHeads
from miracle_lib.model.weighting import Signals, Weighting
from miracle_lib.training.convex import HeadProblem, log_loss, pair_accuracy
from miracle_lib.training.member import Member
from miracle_lib.training.settings import StageSettings
from miracle_lib.training.stages import Row, task_columns

SETTLED = 0.01  # largest change of a task weight at which the heads are solved


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
        subsets = range(len(problem.folds) + 1)
        self.solutions = [np.zeros(problem.n_unknowns(subset)) for subset in subsets]
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
        pairs, logits = folds.inside.take(out), self._out_of_fold()[out]
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
            self._shift_biases(moved)

    def _shift_biases(self, moved: np.ndarray) -> None:
        """Take back what the logits of a task's pairs have moved in the mean."""
        task, bias = self.problem.pairs.task, cast(TaskHeads, self.member.heads).bias
        bias.sub_(torch.from_numpy(np.bincount(task, moved) / np.bincount(task)).to(bias))

    def _out_of_fold(self) -> np.ndarray:
        """Return the logit of every pair in a fold, from the solution without it."""
        return self.problem.gathered(self.solutions)

    def _by_task(self, measure: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Measure on the samples solved for, and on samples not seen."""
        problem, n_tasks = self.problem, len(self.tasks)
        seen, unseen = problem.logits(-1, self.solutions[-1]), self._out_of_fold()
        inside = problem.folds.inside
        return measure(problem.pairs, seen, n_tasks), measure(inside, unseen, n_tasks)

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
            "solutions": [torch.from_numpy(each.copy()) for each in self.solutions],
            "weights": torch.from_numpy(self.weights.copy()),
            "moved": self.moved,
            "started": self.started,
            "weighting": self.weighting.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.solutions = [each.numpy().copy() for each in state["solutions"]]
        self.weights = state["weights"].numpy().copy()
        self.moved, self.started = state["moved"], state["started"]
        self.weighting.load_state_dict(state["weighting"])
