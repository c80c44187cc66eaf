"""What a network is made of and how it is trained: presets, and what replaces parts of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from miracle_lib.model import Heads
from miracle_lib.model.heads import HEADS
from miracle_lib.model.vae import Likelihood

BLOCKS = ("pathways", "genes", "sites")
AUTOENCODER = ("reconstruction", "kl")
TASKS = ("task", "penalty")


@dataclass(frozen=True)
class Design:
    """What a network is made of and what it is given.

    Attributes
    ----------
    reads : tuple of {"pathways", "genes", "sites"}
        Blocks that the heads read.
    head : str or subclass of Heads
        A name in `miracle_lib.model.heads.HEADS`, or a class of one's own.
    head_units : int, optional
        Units of hidden layers of the heads.
    sampled : bool
        In training, the heads read a draw of the latent instead of its mean.
    activation, latent_activation, norm, dense_layers, start, variational, likelihood
        As in `MaskedVAE`.
    scale : {"m", "beta", "raw"}
        M-values or beta values, standardised per cohort, or beta values as they are.
    condition_on_cohort : bool
        Whether the autoencoder is told the cohort.
    """

    reads: tuple[str, ...] = BLOCKS
    head: str | type[Heads] = "additive"
    head_units: int | None = None
    sampled: bool = False
    activation: str = "identity"
    latent_activation: str = "identity"
    norm: str = "none"
    dense_layers: bool = False
    start: Literal["average", "random"] = "average"
    variational: bool = True
    likelihood: Likelihood = "gaussian"
    scale: Literal["m", "beta", "raw"] = "m"
    condition_on_cohort: bool = True

    @property
    def heads(self) -> type[Heads]:
        """The class of the heads."""
        return HEADS[self.head] if isinstance(self.head, str) else self.head

    @property
    def exact(self) -> bool:
        """Whether the heads are linear, so that they can be solved for."""
        return self.head == "additive" and self.head_units is None

    @property
    def linear(self) -> bool:
        """Whether the encoder is linear, so that weights along a path multiply."""
        plain = self.activation == self.latent_activation == "identity"
        return plain and self.norm == "none" and not self.dense_layers

    @property
    def network(self) -> dict[str, Any]:
        """The options of `MaskedVAE`."""
        names = ("activation", "latent_activation", "norm", "dense_layers", "start")
        return {name: getattr(self, name) for name in (*names, "variational", "likelihood")}


@dataclass(frozen=True)
class StageSettings:
    """One stage.

    Attributes
    ----------
    epochs : int
        At most this many; 0 leaves the stage out.
    learning_rate : float
    batch_size : int, optional
        None: all samples in one batch.
    patience : int, optional
        Epochs without improvement on the inner validation samples before the stage ends. None:
        never ends early.
    keep : {"best", "last"}
        Weights that are kept: those of the best epoch on the inner validation samples, or the last.
    """

    epochs: int
    learning_rate: float
    batch_size: int | None = 64
    patience: int | None = 5
    keep: Literal["best", "last"] = "best"


@dataclass(frozen=True)
class Settings:
    """All of the training.

    Attributes
    ----------
    autoencoder, heads, finetune : StageSettings
        The three stages. The learning rate of ``heads`` counts only for ``solver="adam"``.
    design : Design
    solver : {"convex", "adam"}
        Linear heads on the frozen encoder are solved for exactly, or trained by gradient steps.
    kl_weight : float
        Weight of the Kullback-Leibler term after warm-up; 1 is the evidence lower bound.
    kl_warmup : int
        Epochs over which the term comes in.
    reconstruction_weight : float
        Weight of the autoencoder's loss where heads are trained along with it.
    encoder_rate : float
        Learning rate of the encoder relative to the rest: it starts as averages, which predict
        well, while the decoder has everything to learn.
    n_folds : int
        Inner folds; one of them is held out for early stopping.
    heads_from_start : bool
        The first stage trains the heads too.
    """

    autoencoder: StageSettings = StageSettings(20, 3e-3)
    heads: StageSettings = StageSettings(5, 1e-3, None, None)
    finetune: StageSettings = StageSettings(10, 1e-4, patience=3)
    design: Design = field(default_factory=Design)
    solver: Literal["convex", "adam"] = "convex"
    kl_weight: float = 0.1
    kl_warmup: int = 5
    reconstruction_weight: float = 1.0
    encoder_rate: float = 0.2
    n_folds: int = 5
    heads_from_start: bool = False


# The network as the paper describes it, with the epochs, learning rates, full batches and the
# tenth of the samples for validation of its code, which stops at the last epoch.
PAPER = Settings(
    autoencoder=StageSettings(800, 1e-3, None, None, "last"),
    heads=StageSettings(800, 1e-4, None, None, "last"),
    finetune=StageSettings(800, 1e-4, None, None, "last"),
    design=Design(
        reads=("pathways",),
        head="deep",
        sampled=True,
        activation="relu",
        start="random",
        likelihood="bernoulli",
        scale="raw",
        condition_on_cohort=False,
    ),
    solver="adam",
    kl_weight=1.0,
    kl_warmup=0,
    encoder_rate=1.0,
    n_folds=10,
)
PRESETS = {
    "default": Settings(),
    "paper": PAPER,
    "paper_code": replace(
        PAPER,
        design=replace(PAPER.design, latent_activation="relu", dense_layers=True),
        kl_weight=0.0,
        heads_from_start=True,
    ),
}
# Heads that are not linear have no exact solution.
GRADIENT_HEADS = StageSettings(300, 1e-2, 64, 30)
STAGES = ("autoencoder", "heads", "finetune")


def make_settings(
    preset: str,
    epochs: tuple[int, int, int] | None = None,
    learning_rate: tuple[float, float, float] | None = None,
    batch_size: int | Literal["preset"] | None = "preset",
    *,
    patience: int | Literal["preset"] | None = "preset",
    keep: Literal["best", "last"] | None = None,
    kl_weight: float | None = None,
    design: Mapping[str, Any] | None = None,
) -> Settings:
    """Return a preset with parts replaced; the options of the estimator have been checked.

    Heads that are not linear are trained by gradient steps in every preset.

    Parameters
    ----------
    preset : {"default", "paper", "paper_code"}
    epochs, learning_rate : tuple of three numbers, optional
        One per stage.
    batch_size : int, None or "preset"
        Of the stages that train the autoencoder.
    patience, keep
        Of every stage, see `StageSettings`.
    kl_weight : float, optional
    design : dict, optional
        Attributes of `Design` to replace.
    """
    settings = PRESETS[preset]
    settings = replace(settings, design=replace(settings.design, **(design or {})))
    if not settings.design.exact and settings.solver == "convex":
        settings = replace(settings, solver="adam", heads=GRADIENT_HEADS)
    if kl_weight is not None:
        settings = replace(settings, kl_weight=kl_weight)
    of_stage: dict[str, dict[str, Any]] = {name: {} for name in STAGES}
    for key, values in (("epochs", epochs), ("learning_rate", learning_rate)):
        for name, value in zip(STAGES, values or (), strict=values is not None):
            of_stage[name][key] = value
    for name, changed in of_stage.items():
        if batch_size != "preset" and name != "heads":
            changed["batch_size"] = batch_size
        if patience != "preset":
            changed["patience"] = patience
        if keep is not None:
            changed["keep"] = keep
        settings = replace(settings, **{name: replace(getattr(settings, name), **changed)})
    return settings


@dataclass(frozen=True)
class Stage:
    """One entry of the list of stages.

    Attributes
    ----------
    name : str
    settings : StageSettings
    losses : tuple of str
        What counts, by its name in `miracle_lib.training.losses.LOSSES`.
    trains : tuple of {"autoencoder", "heads"}
        What it changes.
    solver : {"adam", "convex"}
        Gradient steps, or the exact solution of linear heads.
    on_trial : bool
        Kept only if linear heads, solved for anew, predict the held-out fold clearly better.
    """

    name: str
    settings: StageSettings
    losses: tuple[str, ...]
    trains: tuple[str, ...]
    solver: Literal["adam", "convex"] = "adam"
    on_trial: bool = False

    @property
    def classifies(self) -> bool:
        """Whether the tasks count; early stopping then watches them alone."""
        return "task" in self.losses


def along_paths(settings: Settings, stages: Literal["three", "joint"] = "three") -> bool:
    """Whether effects of single sites are solved for and written along the paths.

    So it is where exact heads read the pathways of a linear encoder and nothing else: an encoder
    that has seen no label keeps from them what most of the sites say.
    """
    exact, strict = settings.solver == "convex", settings.design.reads == ("pathways",)
    return stages == "three" and exact and strict and settings.design.linear


def list_stages(settings: Settings, stages: Literal["three", "joint"] = "three") -> list[Stage]:
    """Return the stages of a training, those without epochs left out.

    Where encoder and heads are written along the paths, that comes first, and the autoencoder
    then learns to reconstruct from them.

    Examples
    --------
    >>> [(stage.name, stage.solver) for stage in list_stages(PRESETS["default"])]
    [('autoencoder', 'adam'), ('heads', 'convex'), ('finetune', 'adam')]
    """
    both = AUTOENCODER + TASKS, ("autoencoder", "heads")
    if stages == "joint":
        epochs = settings.autoencoder.epochs + settings.finetune.epochs
        found = [Stage("joint", replace(settings.autoencoder, epochs=epochs), *both)]
    else:
        exact = settings.solver == "convex"
        first = both if settings.heads_from_start else (AUTOENCODER, ("autoencoder",))
        found = [
            Stage("autoencoder", settings.autoencoder, *first),
            Stage("heads", settings.heads, TASKS, ("heads",), settings.solver),
            # Without heads that were solved for, there is nothing to go back to.
            Stage(
                "finetune", settings.finetune, *both, on_trial=exact and settings.heads.epochs > 0
            ),
        ]
    if along_paths(settings, stages):
        found = [found[1], found[0]]
    return [stage for stage in found if stage.settings.epochs]
