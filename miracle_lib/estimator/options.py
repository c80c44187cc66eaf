"""Options of the estimator: what each may be, and those of the training as a group of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

from sklearn.base import BaseEstimator

from miracle_lib.constraints import (
    AT_LEAST_ONE,
    SHARE,
    Interval,
    StrOptions,
    check_options,
)
from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.model import Heads
from miracle_lib.model.heads import HEADS
from miracle_lib.model.vae import ACTIVATIONS, NORMS
from miracle_lib.model.weighting import POLICIES
from miracle_lib.training.settings import BLOCKS, PRESETS


class Training(BaseEstimator):
    """How the networks of a `MiracleClassifier` are trained.

    Its parameters can be set through the classifier: ``set_params(training__epochs=(2, 5, 0))``,
    also in the grid of a search.

    Parameters
    ----------
    stages : {"three", "joint"}, default "three"
        Autoencoder, heads on the frozen encoder, fine-tuning; or everything at once.
    epochs, learning_rate : tuple of three numbers, optional
        Per stage, in place of the preset's. 0 epochs leave a stage out.
    batch_size : int, None or "preset", default "preset"
        Samples per mini-batch; None: all at once.
    patience : int, None or "preset", default "preset"
        Epochs without gain on the inner validation samples before a stage ends; None: never.
    keep : {"best", "last"}, optional
        Weights that a stage keeps: of its best epoch on the inner validation samples, or its last.
        Default: the preset's.
    kl_weight : float, optional
        Weight of the Kullback-Leibler term, in place of the preset's; 1 is the evidence lower
        bound, 0 leaves it out.
    checkpoint_dir : path, optional
        Where a training that is killed leaves its state; the same call to `fit` continues it.
    checkpoint_every : int, default 1
        Epochs between two states written.
    progress : bool, optional
        Show a progress bar. Default: on a terminal only.

    Examples
    --------
    >>> Training(epochs=(2, 5, 0)).get_params()["epochs"]
    (2, 5, 0)
    """

    def __init__(
        self,
        *,
        stages: Literal["three", "joint"] = "three",
        epochs: tuple[int, int, int] | None = None,
        learning_rate: tuple[float, float, float] | None = None,
        batch_size: int | Literal["preset"] | None = "preset",
        patience: int | Literal["preset"] | None = "preset",
        keep: Literal["best", "last"] | None = None,
        kl_weight: float | None = None,
        checkpoint_dir: str | Path | None = None,
        checkpoint_every: int = 1,
        progress: bool | None = None,
    ) -> None:
        self.stages = stages
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.patience = patience
        self.keep = keep
        self.kl_weight = kl_weight
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every
        self.progress = progress


class PerStage:
    """Constraint: one number of a kind for each of the three stages."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def is_satisfied_by(self, value: Any) -> bool:
        """Return whether a value is three finite numbers, none negative."""
        return (
            isinstance(value, tuple | list)
            and len(value) == 3
            and all(isinstance(v, self.kind) and math.isfinite(v) and v >= 0 for v in value)
        )

    def __str__(self) -> str:
        whole = "whole " if self.kind is Integral else ""
        return f"three {whole}numbers, one per stage"


class Blocks:
    """Constraint: one or more of the blocks that heads can read."""

    def is_satisfied_by(self, value: Any) -> bool:
        """Return whether a value names blocks, each once."""
        named = isinstance(value, tuple | list) and len(value) == len(set(map(str, value)))
        return named and len(value) > 0 and set(value) <= set(BLOCKS)

    def __str__(self) -> str:
        return f"one or more of {', '.join(BLOCKS)}"


class OwnHeads:
    """Constraint: a class of heads of one's own."""

    def is_satisfied_by(self, value: Any) -> bool:
        """Return whether a value is such a class."""
        return isinstance(value, type) and issubclass(value, Heads)

    def __str__(self) -> str:
        return "a subclass of miracle_lib.model.Heads"


class Policy:
    """Constraint: the name of a task-weighting policy, registered by now."""

    def is_satisfied_by(self, value: Any) -> bool:
        """Return whether there is a policy of that name."""
        return isinstance(value, str) and value in POLICIES

    def __str__(self) -> str:
        return f"one of {', '.join(sorted(POLICIES))}"


OF_TRAINING: dict[str, list[Any]] = {
    "stages": [StrOptions({"three", "joint"})],
    "epochs": [None, PerStage(Integral)],
    "learning_rate": [None, PerStage(Real)],
    "batch_size": [None, StrOptions({"preset"}), AT_LEAST_ONE],
    "patience": [None, StrOptions({"preset"}), AT_LEAST_ONE],
    "keep": [None, StrOptions({"best", "last"})],
    "kl_weight": [None, Interval(Real, 0, None, closed="left")],
    "checkpoint_dir": [None, str, Path],
    "checkpoint_every": [AT_LEAST_ONE],
    "progress": [None, "boolean"],
}
OF_CLASSIFIER: dict[str, list[Any]] = {
    "hierarchy": [Hierarchy],
    "weighting": [Policy()],
    "ceiling": [None, Mapping],
    "sharing": [StrOptions({"auto"}), SHARE],
    "reads": [None, Blocks()],
    "head": [None, StrOptions(set(HEADS)), OwnHeads()],
    "head_units": [None, AT_LEAST_ONE],
    "sampled": [None, "boolean"],
    "activation": [None, StrOptions(set(ACTIVATIONS))],
    "latent_activation": [None, StrOptions(set(ACTIVATIONS))],
    "norm": [None, StrOptions(set(NORMS))],
    "dense_layers": [None, "boolean"],
    "start": [None, StrOptions({"average", "random"})],
    "variational": [None, "boolean"],
    "likelihood": [None, StrOptions({"gaussian", "bernoulli", "mse"})],
    "scale": [None, StrOptions({"m", "beta", "raw"})],
    "condition_on_cohort": [None, "boolean"],
    "preset": [StrOptions(set(PRESETS))],
    "n_members": [AT_LEAST_ONE],
    "min_site_share": [SHARE],
    "device": [str],
    "random_state": [None, Interval(Integral, 0, 2**32 - 1, closed="both")],
    "training": [None, Training],
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse what `MiracleClassifier.set_params` would be given, names of no option included.

    Raises
    ------
    MiracleError

    Examples
    --------
    >>> check_settings({"weighting": "mgda", "training__stages": "joint"})
    >>> check_settings({"training__stage": "joint"})
    Traceback (most recent call last):
    miracle_lib.errors.MiracleError: MiracleClassifier has no argument 'training__stage'
    """
    allowed = OF_CLASSIFIER | {f"training__{name}": each for name, each in OF_TRAINING.items()}
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise MiracleError(f"MiracleClassifier has no argument {unknown[0]!r}")
    check_options(settings, allowed)
