"""Training of the ensemble: three stages per member, resumable after any epoch."""

import copy
import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from miracle_lib.model.vae import Masks
from miracle_lib.model.weighting import Weighting, make_weighting
from miracle_lib.training.checkpoint import Checkpoint
from miracle_lib.training.convex import Features, HeadProblem, calibrate_prior, pair_accuracy
from miracle_lib.training.data import TrainingData, inner_folds
from miracle_lib.training.member import Member
from miracle_lib.training.prior import Prior, fit_prior, labelled_pairs
from miracle_lib.training.settings import Settings, StageSettings
from miracle_lib.training.stages import (
    ConvexHeads,
    GradientStage,
    Row,
    Stage,
    epoch_seed,
    head_penalty,
)

CALIBRATION_SAMPLES = 512


@dataclass
class Trained:
    """What training gives: networks, one row per epoch, and the prior of the head weights."""

    members: list[Member]
    history: list[Row]
    prior: Prior
    ceiling: Tensor


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
        Passed on to `MaskedVAE`.
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
        self._state = self.checkpoint.load()
        self._history: list[Row] = self._state.get("history", [])
        self._prior = _prior_from(self._state.get("prior"))
        self._ceiling = self._state.get("ceiling", self.ceiling)
        done = self._state.get("done", [])
        members = []
        total = self.n_members * sum(stage.epochs for _, stage in self._plan())
        bar_off = None if self.progress is None else not self.progress
        with tqdm(total=total, desc="training", unit="epoch", disable=bar_off) as self._bar:
            for index in range(self.n_members):
                member = self._new_member(index)
                if index < len(done):
                    member.load_state_dict(done[index])
                else:
                    self._train(member, index, done)
                    done.append(copy.deepcopy(member.state_dict()))
                    self._state = {}
                member.eval()
                members.append(member)
        self.checkpoint.remove()
        return Trained(members, self._history, self._prior, self._ceiling)

    def _plan(self) -> list[tuple[str, StageSettings]]:
        """Return names and settings of the stages."""
        options = self.settings
        if self.stages == "joint":
            epochs = options.autoencoder.epochs + options.finetune.epochs
            return [("joint", replace(options.autoencoder, epochs=epochs))]
        return [
            ("autoencoder", options.autoencoder),
            ("heads", options.heads),
            ("finetune", options.finetune),
        ]

    def _new_member(self, index: int) -> Member:
        """Return a member with weights of its own."""
        x = self.data.x
        member = Member(
            self.hierarchy,
            x.shape[1] - self.hierarchy.site_gene.shape[0],
            len(self.tasks),
            self.data.covariates.shape[1],
            seed=epoch_seed(self.seed, "member", index),
            **self.network_options,
        )
        return member.to(x.device)

    def _train(self, member: Member, index: int, done: list[dict[str, Tensor]]) -> None:
        """Run the stages of one member, from where the checkpoint left it."""
        held_out = self._folds == index % (self._folds.max() + 1)
        self._train_rows, self._validation_rows = (
            torch.from_numpy(np.flatnonzero(rows)).to(self.data.x.device)
            for rows in (~held_out, held_out)
        )
        some = self._train_rows[:CALIBRATION_SAMPLES]
        member.network.calibrate(member.sites(self.data.x[some]), self.data.covariates[some])
        if self._state:
            member.load_state_dict(self._state["model"])
        for number, (name, settings) in enumerate(self._plan()):
            if settings.epochs == 0 and name != "heads":
                continue
            if number < self._state.get("stage_number", 0):
                continue
            stage = self._stage(name, settings, member, index)
            self._run(stage, member, index, number, done)
            self._state = {}

    def _stage(self, name: str, settings: StageSettings, member: Member, index: int) -> Stage:
        """Set up a stage."""
        shared = {"seed": epoch_seed(self.seed, "stage", index)}
        arguments = (
            name,
            member,
            self.data,
            self._train_rows,
            self._validation_rows,
            self.tasks,
            self.settings,
            settings,
        )
        if name == "autoencoder":
            return GradientStage(*arguments, reconstructs=True, classifies=False, **shared)
        self._features = Features.of(member.features(self.data.x, self.data.covariates))
        grams = self._features.grams()
        self._learn_prior(grams)
        self._problem = HeadProblem(grams, self._pairs, self._prior, len(self.tasks))
        policy = make_weighting(self.weighting, len(self.tasks), epoch_seed(self.seed, name, index))
        if name == "heads" and self.settings.solver == "convex":
            return ConvexHeads(
                member,
                self._features,
                self._problem,
                self._validation_rows,
                self.tasks,
                settings,
                policy,
                self._ceiling,
            )
        features, prior = self._features, self._prior
        return GradientStage(
            *arguments,
            reconstructs=name != "heads",
            classifies=True,
            trains_encoder=name != "heads",
            weighting=policy,
            ceiling=self._ceiling,
            penalty=lambda heads: head_penalty(heads, prior, features),
            **shared,
        )

    def _learn_prior(self, grams: list[np.ndarray]) -> None:
        """Find the prior once, on the features of the first member, and the ceilings."""
        n_tasks = len(self.tasks)
        if self._prior is None:
            fixed = None if self.sharing == "auto" else float(self.sharing)
            fixed = 0.0 if n_tasks == 1 else fixed
            prior = fit_prior(grams, self._pairs, n_tasks, fixed, self.seed)
            self._prior = calibrate_prior(grams, self._pairs, prior, self._folds, n_tasks)
        if self._ceiling is None:
            self._ceiling = torch.ones(n_tasks, dtype=torch.float64)
            if n_tasks > 1 and self.weighting == "pwinval":
                alone = replace(self._prior, sharing=0.0)
                problem = HeadProblem(grams, self._pairs, alone, n_tasks)
                logits = problem.out_of_fold(self._folds, np.ones(n_tasks))
                self._ceiling = torch.from_numpy(pair_accuracy(self._pairs, logits, n_tasks))

    def _run(
        self, stage: Stage, member: Member, index: int, number: int, done: list[dict[str, Tensor]]
    ) -> None:
        """Run the epochs of a stage; keep the best weights, or the last of a convex problem."""
        keeps_best = not isinstance(stage, ConvexHeads)
        improves_on = stage.name == "finetune"
        first, waited = 0, 0
        best = stage.measure(self._validation_rows)["validation"] if improves_on else math.inf
        best_weights = copy.deepcopy(member.state_dict())
        improved = False
        if self._state:
            stage.load_state_dict(self._state["stage"])
            first, waited = self._state["epoch"], self._state["waited"]
            best, best_weights = self._state["best"], self._state["best_weights"]
            improved = self._state["improved"]
        weights: Weighting | None = getattr(stage, "weighting", None)
        for epoch in range(first, stage.settings.epochs):
            if stage.settings.patience is not None and waited >= stage.settings.patience:
                break
            row = stage.run(epoch)
            self._history.append({"member": index, "stage": stage.name, "epoch": epoch + 1} | row)
            self._bar.update()
            self._bar.set_postfix({k: f"{row[k]:.3g}" for k in _shown(row)}, refresh=False)
            waited += 1
            if row["validation"] < best - 1e-5:
                best, waited, improved = row["validation"], 0, True
                if keeps_best:
                    best_weights = copy.deepcopy(member.state_dict())
            if self.checkpoint.due(epoch):
                self.checkpoint.save(
                    {
                        "history": self._history,
                        "prior": _prior_state(self._prior),
                        "ceiling": self._ceiling,
                        "done": done,
                        "model": member.state_dict(),
                        "stage_number": number,
                        "stage": stage.state_dict(),
                        "epoch": epoch + 1,
                        "waited": waited,
                        "best": best,
                        "best_weights": best_weights,
                        "improved": improved,
                    }
                )
        if keeps_best:
            member.load_state_dict(best_weights)
        if not improved and stage.name == "finetune":
            self._refit(stage, member)
        del weights

    def _refit(self, stage: Stage, member: Member) -> None:
        """Solve for the heads on all samples, once nothing is left to be chosen."""
        if self.settings.solver != "convex":
            return
        everything = np.ones(len(self._pairs), dtype=bool)
        solution = self._problem.solve(everything, np.ones(len(self.tasks)))
        self._problem.write(solution, self._features, member.heads)


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
