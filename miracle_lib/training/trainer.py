"""Training of the ensemble: three stages per member, resumable after any epoch."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from miracle_lib.model import TaskHeads
from miracle_lib.model.vae import Masks
from miracle_lib.model.weighting import Weighting, make_weighting
from miracle_lib.training.checkpoint import Checkpoint
from miracle_lib.training.convex import Block, Blocks, Folds, HeadProblem, fit_prior, pair_accuracy
from miracle_lib.training.data import TrainingData, inner_folds
from miracle_lib.training.member import Member
from miracle_lib.training.prior import Prior, labelled_pairs
from miracle_lib.training.relatives import Relatives
from miracle_lib.training.settings import Settings, Stage, list_stages
from miracle_lib.training.stages import (
    ConvexHeads,
    GradientStage,
    Row,
    Running,
    epoch_seed,
    head_penalty,
)

CALIBRATION_SAMPLES = 128
MARGIN = 2.0  # standard errors by which fine-tuning must lower the held-out loss to be kept


@dataclass
class Trained:
    """What training gives: networks, one row per epoch, and the prior of the head weights."""

    members: list[Member]
    history: list[Row]
    prior: Prior
    ceiling: Tensor
    fine_tuned: list[bool]


@dataclass
class Trainer:
    """Trains the members one after the other.

    Parameters
    ----------
    hierarchy : Hierarchy
    data : TrainingData
    tasks : list of str
    settings : Settings
    weighting : str
        Name of a policy.
    sharing : "auto" or float
        Correlation of the head weights between tasks.
    stages : {"three", "joint"}
        Three stages, or everything at once.
    n_members : int
    ceiling : Tensor, optional
        Single-task accuracies; found by inner single-task fits if None.
    seed : int
    network_options : dict
        Passed on to `Member`.
    checkpoint : Checkpoint
    progress : bool, optional
        Show a progress bar; None: only on a terminal.
    """

    hierarchy: Masks
    data: TrainingData
    tasks: list[str]
    settings: Settings
    weighting: str = "uniform"
    sharing: Literal["auto"] | float = "auto"
    stages: Literal["three", "joint"] = "three"
    n_members: int = 1
    ceiling: Tensor | None = None
    seed: int = 0
    network_options: dict[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    progress: bool | None = None

    def fit(self) -> Trained:
        """Train every member."""
        self._folds = inner_folds(
            self.data.labels, self.data.groups, self.settings.n_folds, self.seed
        )
        self._pairs = labelled_pairs(self.data.labels.cpu().numpy())
        self._inner = Folds(self._folds, self._pairs)
        self._relatives = Relatives(self.hierarchy, self._n_outside)
        self._sites: Block | None = None  # of no network: found once
        self._state = self.checkpoint.load()
        self._history: list[Row] = self._state.get("history", [])
        self._prior = _prior_from(self._state.get("prior"))
        self._ceiling = self._state.get("ceiling", self.ceiling)
        done = self._state.get("done", [])
        members = []
        total = self.n_members * sum(stage.settings.epochs for stage in self._stages())
        bar_off = None if self.progress is None else not self.progress
        with tqdm(total=total, desc="training", unit="epoch", disable=bar_off) as self._bar:
            for index in range(self.n_members):
                member = self._new_member(index)
                if index < len(done):
                    member.load_state_dict(done[index]["weights"])
                else:
                    kept = self._train(member, index, done)
                    done.append({"kept": kept, "weights": copy.deepcopy(member.state_dict())})
                member.eval()
                members.append(member)
        self.checkpoint.remove()
        fine_tuned = [bool(each["kept"]) for each in done]
        n_tasks = len(self.tasks)
        if self._prior is None:  # only the autoencoder was trained
            self._prior = Prior(np.zeros((n_tasks, 0)), 0.0)
        if self._ceiling is None:
            self._ceiling = torch.full((n_tasks,), torch.nan, dtype=torch.float64)
        return Trained(members, self._history, self._prior, self._ceiling, fine_tuned)

    def _stages(self) -> list[Stage]:
        """Return the list of stages."""
        return list_stages(self.settings, self.stages)

    @property
    def _n_outside(self) -> int:
        """Number of sites that the hierarchy does not reach."""
        return self.data.x.shape[1] - self.hierarchy.site_gene.shape[0]

    def _new_member(self, index: int) -> Member:
        """Return a member with weights of its own."""
        x = self.data.x
        member = Member(
            self.hierarchy,
            self._n_outside,
            len(self.tasks),
            self.data.covariates.shape[1],
            seed=epoch_seed(self.seed, "member", index),
            **self.network_options,
        )
        return member.to(x.device)

    def _train(self, member: Member, index: int, done: list[dict[str, Any]]) -> bool:
        """Train one member from where the checkpoint left it; tell if fine-tuning was kept."""
        state, self._state = self._state, {}
        self._fold = index % (int(self._folds.max()) + 1)
        if state:
            member.load_state_dict(state["entry"])
        else:
            rows = np.flatnonzero(self._folds != self._fold)[:CALIBRATION_SAMPLES]
            member.calibrate(self.data.x, self.data.covariates, torch.from_numpy(rows))
        heads: ConvexHeads | None = None
        kept = False
        for number, stage in enumerate(self._stages()):
            if number < state.get("stage_number", 0):
                continue
            entry = copy.deepcopy(member.state_dict())
            if "tasks" in stage.losses and heads is None:
                heads = self._convex_heads(member, index)
                if "heads" in state:
                    heads.load_state_dict(state["heads"])
            if stage.on_trial and heads is not None:
                heads.write(without_fold=self._fold)
            running: Running = (
                heads
                if heads is not None and stage.solver == "convex"
                else self._gradient(stage, member, index, heads)
            )
            first = 0
            if number == state.get("stage_number"):
                running.load_state_dict(state["stage"])
                first = state["epoch"]
            shared: dict[str, Any] = {"stage_number": number, "entry": entry, "done": done}
            if stage.on_trial and heads is not None:
                shared["heads"] = heads.state_dict()
            self._run(running, index, first, shared)
            if stage.name == "finetune" and heads is not None:
                kept = not stage.on_trial or self._encoder_gained(member, index, heads)
                if not kept:
                    member.load_state_dict(entry)
        return kept

    def _encoder_gained(self, member: Member, index: int, before: ConvexHeads) -> bool:
        """Solve the heads anew on the tuned encoder; tell if they predict the held-out fold better.

        The heads that stage three itself reached do not count: longer training sharpens logits,
        which lowers the loss without any gain in what the encoder sees.
        """
        after = self._convex_heads(member, index)
        after.solve_under(before.weights)
        after.finish()
        fall = before.held_out_losses(self._fold) - after.held_out_losses(self._fold)
        return bool(fall.mean() > MARGIN * fall.std() / len(fall) ** 0.5)

    def _run(self, stage: Running, index: int, first: int, shared: dict[str, Any]) -> None:
        """Run the epochs of a stage and keep their rows."""
        for epoch in range(first, stage.settings.epochs):
            if stage.exhausted:
                break
            row = stage.run(epoch)
            self._history.append({"member": index, "stage": stage.name, "epoch": epoch + 1} | row)
            self._bar.update()
            self._bar.set_postfix({k: f"{row[k]:.3g}" for k in _shown(row)}, refresh=False)
            if self.checkpoint.due(epoch):
                self.checkpoint.save(
                    shared
                    | {
                        "history": self._history,
                        "prior": _prior_state(self._prior),
                        "ceiling": self._ceiling,
                        "stage": stage.state_dict(),
                        "epoch": epoch + 1,
                    }
                )
        stage.finish()

    def _gradient(
        self,
        stage: Stage,
        member: Member,
        index: int,
        heads: ConvexHeads | None,
    ) -> GradientStage:
        """Set up a stage trained by gradient steps."""
        device = self.data.x.device
        train, validation = (
            torch.from_numpy(np.flatnonzero(rows)).to(device)
            for rows in (self._folds != self._fold, self._folds == self._fold)
        )
        return GradientStage(
            stage,
            member,
            self.data,
            train,
            validation,
            self.tasks,
            self.settings,
            weighting=None if heads is None else self._policy(stage.name, index),
            ceiling=self._ceiling,
            penalty=None if heads is None else self._penalty(heads.problem),
            seed=epoch_seed(self.seed, "stage", index),
        )

    def _convex_heads(self, member: Member, index: int) -> ConvexHeads:
        """Set up the heads on the encoder as it is."""
        blocks = self._blocks(member)
        prior, ceiling = self._learn_prior(blocks)
        problem = HeadProblem(blocks, self._pairs, self._inner, prior, len(self.tasks))
        policy = self._policy("heads", index)
        settings = self.settings.heads
        return ConvexHeads(member, problem, self.tasks, settings, policy, ceiling)

    def _blocks(self, member: Member) -> Blocks:
        """Return the blocks that the heads read."""
        values = member.features(self.data.x, self.data.covariates)
        blocks = {}
        for name in member.heads.blocks:
            if name == "sites" and self._sites is not None:
                blocks[name] = self._sites
                continue
            blocks[name] = Block(
                name, values[name], self._pairs, self._inner, len(self.tasks), self._relatives
            )
        self._sites = blocks.get("sites")
        return blocks

    def _penalty(self, problem: HeadProblem) -> Callable[[TaskHeads], Tensor]:
        """Return the penalty of the heads, from labels outside the fold that is held out."""
        subset = problem.folds.index(self._fold)
        return lambda heads: head_penalty(heads, problem.prior, problem.blocks, subset)

    def _policy(self, stage: str, index: int) -> Weighting:
        """Return a fresh policy."""
        seed = epoch_seed(self.seed, stage, index)
        return make_weighting(self.weighting, len(self.tasks), seed)

    def _learn_prior(self, blocks: Blocks) -> tuple[Prior, Tensor]:
        """Find the prior once, on the features of the first member, and the ceilings."""
        n_tasks = len(self.tasks)
        if self._prior is None:
            fixed = None if self.sharing == "auto" else float(self.sharing)
            fixed = 0.0 if n_tasks == 1 else fixed
            self._prior = fit_prior(blocks, self._pairs, self._inner, n_tasks, fixed)
        if self._ceiling is None:
            self._ceiling = torch.ones(n_tasks, dtype=torch.float64)
            if n_tasks > 1 and self.weighting == "pwinval":
                alone = replace(self._prior, sharing=0.0)
                problem = HeadProblem(blocks, self._pairs, self._inner, alone, n_tasks)
                logits = problem.out_of_fold(np.ones(n_tasks))
                self._ceiling = torch.from_numpy(pair_accuracy(self._pairs, logits, n_tasks))
        return self._prior, self._ceiling


def _shown(row: Row) -> list[str]:
    """Parts of the loss shown beside the progress bar."""
    return [name for name in ("reconstruction", "task", "validation") if name in row]


def _prior_state(prior: Prior | None) -> dict[str, Any] | None:
    """Return a prior as tensors."""
    if prior is None:
        return None
    return {"scale": torch.from_numpy(prior.scale), "sharing": prior.sharing}


def _prior_from(state: dict[str, Any] | None) -> Prior | None:
    """Inverse of `_prior_state`."""
    return None if state is None else Prior(state["scale"].numpy(), state["sharing"])
