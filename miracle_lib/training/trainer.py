"""Training of the ensemble: three stages per member, resumable after any epoch."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from miracle_lib.errors import MiracleError
from miracle_lib.model import Heads, TaskHeads
from miracle_lib.model.vae import Masks
from miracle_lib.model.weighting import Weighting, make_weighting
from miracle_lib.training import processes
from miracle_lib.training.checkpoint import Checkpoint
from miracle_lib.training.convex import Block, Blocks, Folds, HeadProblem, fit_prior, pair_accuracy
from miracle_lib.training.convex_heads import ConvexHeads
from miracle_lib.training.data import TrainingData, inner_folds
from miracle_lib.training.member import Member
from miracle_lib.training.paths import PathHeads
from miracle_lib.training.penalty import head_penalty
from miracle_lib.training.prior import Prior, labelled_pairs
from miracle_lib.training.relatives import Relatives
from miracle_lib.training.settings import Settings, Stage, along_paths, list_stages
from miracle_lib.training.stages import GradientStage, Row, Running, epoch_seed

CALIBRATION_SAMPLES = 128
UNTUNED = 2.0  # standard deviation of a logit where it is not found from the data
MARGIN = 2.0  # standard errors by which fine-tuning must lower the held-out loss to be kept


@dataclass
class Trained:
    """What training gives: networks, one row per epoch, and the prior of the head weights.

    ``folds`` numbers the inner fold of each sample; the first member has not seen fold 0.
    """

    members: list[Member]
    history: list[Row]
    prior: Prior
    ceiling: Tensor
    fine_tuned: list[bool]
    folds: np.ndarray


@dataclass
class Trainer:
    """Trains the members one after the other; holds what was asked for, and nothing of a fit.

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
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    progress: bool | None = None

    def fit(self) -> Trained:
        """Train every member; with the other processes, where ``torchrun`` has started some."""
        with processes.together():
            return self._fit()

    def _fit(self) -> Trained:
        """Train every member."""
        state = self.checkpoint.load()
        common = Common(self, state)
        total = self.n_members * sum(stage.settings.epochs for stage in self.list_stages())
        bar_off = None if self.progress is None else not self.progress
        members = []
        with tqdm(total=total, desc="training", unit="epoch", disable=bar_off) as bar:
            for index in range(self.n_members):
                fit = MemberFit(self, common, index)
                if index < len(common.done):
                    fit.member.load_state_dict(common.done[index]["weights"])
                else:
                    kept = fit.run(state, bar)
                    state = {}  # of the member that was being trained only
                    weights = copy.deepcopy(fit.member.state_dict())
                    common.done.append({"kept": kept, "weights": weights})
                members.append(fit.member.eval())
        self.checkpoint.remove()
        return common.trained(members)

    def list_stages(self) -> list[Stage]:
        """Return the list of stages."""
        return list_stages(self.settings, self.stages)

    @property
    def along_paths(self) -> bool:
        """Whether effects of single sites are solved for and written along the paths."""
        return along_paths(self.settings, self.stages)

    @property
    def n_outside(self) -> int:
        """Number of sites that the hierarchy does not reach."""
        return self.data.x.shape[1] - self.hierarchy.site_gene.shape[0]

    def new_member(self, index: int) -> Member:
        """Return a member with starting weights of its own."""
        member = Member(
            self.hierarchy,
            self.n_outside,
            len(self.tasks),
            self.data.covariates.shape[1],
            seed=epoch_seed(self.seed, "member", index),
            design=self.settings.design,
        )
        if member.least_at_once > 1 and processes.asked_for():
            raise MiracleError(
                "batch normalisation cannot be trained by several processes: each would keep the "
                "statistics of its own samples, and have another model; norm='layer' can"
            )
        if self.along_paths:
            member.fix_activities()
        return member.to(self.data.x.device)

    def policy(self, stage: str, index: int) -> Weighting:
        """Return a fresh policy for a stage of a member."""
        seed = epoch_seed(self.seed, stage, index)
        return make_weighting(self.weighting, len(self.tasks), seed)


class Common:
    """What the members of one fit have in common, found once.

    Parameters
    ----------
    trainer : Trainer
    state : dict
        What a killed fit has left, or nothing.

    Attributes
    ----------
    folds : ndarray of int, shape (n_samples,)
        Inner folds; each member holds out one.
    history : list of dict
        One row per epoch of any member.
    done : list of dict
        Weights of each finished member, and whether its fine-tuning was kept.
    prior, ceiling
        As in `Trained`; None until the first heads are trained.
    """

    def __init__(self, trainer: Trainer, state: dict[str, Any]) -> None:
        data = trainer.data
        self.trainer = trainer
        self.folds = inner_folds(data.labels, data.groups, trainer.settings.n_folds, trainer.seed)
        self.inner = Folds(self.folds, labelled_pairs(data.labels.cpu().numpy()))
        self.history: list[Row] = state.get("history", [])
        self.done: list[dict[str, Any]] = state.get("done", [])
        self.prior = _prior_from(state.get("prior"))
        self.ceiling: Tensor | None = state.get("ceiling", trainer.ceiling)
        self._sites: Block | None = None  # the same for every network

    def state_dict(self) -> dict[str, Any]:
        """Return what a fit continues from."""
        return {
            "history": self.history,
            "done": self.done,
            "prior": _prior_state(self.prior),
            "ceiling": self.ceiling,
        }

    def trained(self, members: list[Member]) -> Trained:
        """Return the result of the fit; where no heads were trained, a prior of no weights."""
        n_tasks = len(self.trainer.tasks)
        prior, ceiling = self.prior, self.ceiling
        if prior is None:
            prior = Prior(np.zeros((n_tasks, 0)), 0.0)
        if ceiling is None:
            ceiling = torch.full((n_tasks,), torch.nan, dtype=torch.float64)
        kept = [bool(each["kept"]) for each in self.done]
        return Trained(members, self.history, prior, ceiling, kept, self.folds)

    def problem(self, member: Member) -> tuple[HeadProblem, Tensor]:
        """Return the heads' problem on the encoder of a member, and the ceilings."""
        blocks, n_tasks = self._blocks(member), len(self.trainer.tasks)
        if self.prior is None:
            additive = isinstance(member.heads, TaskHeads)
            self.prior = self._learn_prior(blocks) if additive else self._untuned(blocks)
        if self.ceiling is None:
            self.ceiling = self._learn_ceiling(blocks, self.prior)
        return HeadProblem(blocks, self.inner, self.prior, n_tasks), self.ceiling

    def _blocks(self, member: Member) -> Blocks:
        """Return the blocks that the heads read, be it along the paths."""
        data, n_tasks = self.trainer.data, len(self.trainer.tasks)
        if self.trainer.along_paths:
            values = {"sites": data.x[:, : member.network.n_sites]}
        else:
            features = member.features(data.x, data.covariates)
            values = {name: features[name] for name in member.reads}
        relatives = Relatives(self.trainer.hierarchy, self.trainer.n_outside)
        blocks = {}
        for name in values:
            if name == "sites" and self._sites is not None:
                blocks[name] = self._sites
                continue
            blocks[name] = Block(name, values[name], self.inner, n_tasks, relatives)
        self._sites = blocks.get("sites")
        return blocks

    def _learn_prior(self, blocks: Blocks) -> Prior:
        """Find the prior, on the features of the first member."""
        sharing, n_tasks = self.trainer.sharing, len(self.trainer.tasks)
        fixed = None if sharing == "auto" else float(sharing)
        fixed = 0.0 if n_tasks == 1 else fixed
        return fit_prior(blocks, self.inner, n_tasks, fixed)

    def _untuned(self, blocks: Blocks) -> Prior:
        """Prior for the ceilings of heads that are no sum over blocks and have none to find."""
        shape = len(self.trainer.tasks), len(blocks)
        return Prior(np.full(shape, UNTUNED / len(blocks) ** 0.5), 0.0)

    def _learn_ceiling(self, blocks: Blocks, prior: Prior) -> Tensor:
        """Find the accuracy of heads that share nothing; 1 where no policy asks for it."""
        n_tasks = len(self.trainer.tasks)
        if n_tasks == 1 or self.trainer.weighting != "pwinval":
            return torch.ones(n_tasks, dtype=torch.float64)
        alone = replace(prior, sharing=0.0)
        problem = HeadProblem(blocks, self.inner, alone, n_tasks)
        logits = problem.out_of_fold(np.ones(n_tasks))
        return torch.from_numpy(pair_accuracy(self.inner.inside, logits, n_tasks))


class MemberFit:
    """The training of one member, with its own starting weights and its own fold held out.

    Parameters
    ----------
    trainer : Trainer
    common : Common
    index : int
        Number of the member.
    """

    def __init__(self, trainer: Trainer, common: Common, index: int) -> None:
        self.trainer, self.common, self.index = trainer, common, index
        self.member = trainer.new_member(index)
        self.fold = index % (int(common.folds.max()) + 1)

    def run(self, state: dict[str, Any], bar: tqdm) -> bool:
        """Train from where the state left it; tell if fine-tuning was kept."""
        member = self.member
        if state:
            member.load_state_dict(state["entry"])
        else:
            self.calibrate()
        heads: ConvexHeads | None = None
        origin: dict[str, Tensor] | None = None  # weights on which the heads were set up
        kept = False
        for number, stage in enumerate(self.trainer.list_stages()):
            if number < state.get("stage_number", 0):
                continue
            entry = copy.deepcopy(member.state_dict())
            if stage.classifies and heads is None:
                origin = state.get("origin") or entry
                member.load_state_dict(origin)
                heads = self.convex_heads()
                member.load_state_dict(entry)
                if "heads" in state:
                    heads.load_state_dict(state["heads"])
            if stage.on_trial and heads is not None:
                heads.write(without_fold=self.fold)
            exact = heads if stage.solver == "convex" else None
            running: Running = exact or self.gradient(stage, heads)
            first = 0
            if number == state.get("stage_number"):
                running.load_state_dict(state["stage"])
                first = state["epoch"]
            here: dict[str, Any] = {"stage_number": number, "entry": entry, "origin": origin}
            if stage.on_trial and heads is not None:
                here["heads"] = heads.state_dict()
            self._epochs(running, first, here, bar)
            if stage.name == "finetune" and heads is not None:
                kept = not stage.on_trial or self._encoder_gained(heads)
                if not kept:
                    member.load_state_dict(entry)
        return kept

    def calibrate(self, encoder: bool = True) -> None:
        """Scale the starting weights to some of the samples that are trained on."""
        rows = np.flatnonzero(self.common.folds != self.fold)[:CALIBRATION_SAMPLES]
        data = self.trainer.data
        self.member.calibrate(data.x, data.covariates, torch.from_numpy(rows), encoder)

    def _epochs(self, running: Running, first: int, here: dict[str, Any], bar: tqdm) -> None:
        """Run the epochs of a stage and keep their rows."""
        checkpoint, history = self.trainer.checkpoint, self.common.history
        for epoch in range(first, running.settings.epochs):
            if running.exhausted:
                break
            row = running.run(epoch)
            history.append({"member": self.index, "stage": running.name, "epoch": epoch + 1} | row)
            bar.update()
            bar.set_postfix({k: f"{row[k]:.3g}" for k in _shown(row)}, refresh=False)
            if checkpoint.due(epoch):
                stage = {"stage": running.state_dict(), "epoch": epoch + 1}
                checkpoint.save(here | self.common.state_dict() | stage)
        running.finish()

    def _encoder_gained(self, before: ConvexHeads) -> bool:
        """Solve the heads anew on the tuned encoder; tell if they predict the held-out fold better.

        The heads that stage three itself reached do not count: longer training sharpens logits,
        which lowers the loss without any gain in what the encoder sees. Heads that read single
        sites alone predict the same on any encoder.
        """
        if before.problem.read_by_prior <= {"sites"}:
            return False
        after = self.convex_heads()
        after.solve_under(before.weights)
        after.finish()
        fall = before.held_out_losses(self.fold) - after.held_out_losses(self.fold)
        return bool(fall.mean() > MARGIN * fall.std() / len(fall) ** 0.5)

    def gradient(self, stage: Stage, heads: ConvexHeads | None) -> GradientStage:
        """Set up a stage trained by gradient steps; ``heads`` if the tasks count in it."""
        trainer, common = self.trainer, self.common
        train, validation = (
            torch.from_numpy(np.flatnonzero(rows)).to(trainer.data.x.device)
            for rows in (common.folds != self.fold, common.folds == self.fold)
        )
        return GradientStage(
            stage,
            self.member,
            trainer.data,
            train,
            validation,
            trainer.tasks,
            trainer.settings,
            weighting=None if heads is None else trainer.policy(stage.name, self.index),
            ceiling=common.ceiling,
            penalty=None if heads is None else self._penalty(heads.problem, train),
            seed=epoch_seed(trainer.seed, "stage", self.index),
        )

    def _penalty(self, problem: HeadProblem, train: Tensor) -> Callable[[Heads], Tensor]:
        """Return the penalty of the heads, from labels outside the fold that is held out.

        It belongs to the sum over the labelled samples of a task, whose mean is what counts.
        """
        subset = problem.folds.index(self.fold)
        labelled = ~self.trainer.data.labels[train].isnan()
        size = float(labelled.sum()) / labelled.shape[1]
        return lambda heads: head_penalty(heads, problem.prior, problem.blocks, subset) / size

    def convex_heads(self) -> ConvexHeads:
        """Set up the heads on the encoder as it is."""
        trainer = self.trainer
        problem, ceiling = self.common.problem(self.member)
        policy = trainer.policy("heads", self.index)
        parts = self.member, problem, trainer.tasks, trainer.settings.heads, policy, ceiling
        if trainer.along_paths:
            return PathHeads(*parts, settle=partial(self.calibrate, encoder=False))
        return ConvexHeads(*parts)


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
