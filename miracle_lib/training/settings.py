"""How a network is trained: stages, rates and presets."""

from dataclasses import dataclass, replace
from typing import Literal

from miracle_lib.errors import MiracleError


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
        never ends early; the best weights are kept in any case.
    """

    epochs: int
    learning_rate: float
    batch_size: int | None = 64
    patience: int | None = 5


@dataclass(frozen=True)
class Settings:
    """All of the training.

    Attributes
    ----------
    autoencoder, heads, finetune : StageSettings
        The three stages. The learning rate of ``heads`` counts only for ``solver="adam"``.
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
    """

    autoencoder: StageSettings = StageSettings(20, 3e-3)
    heads: StageSettings = StageSettings(5, 1e-3, None, None)
    finetune: StageSettings = StageSettings(10, 1e-4, patience=3)
    solver: Literal["convex", "adam"] = "convex"
    kl_weight: float = 0.1
    kl_warmup: int = 5
    reconstruction_weight: float = 1.0
    encoder_rate: float = 0.2
    n_folds: int = 5


PRESETS = {
    "default": Settings(),
    # Learning rates, epochs and full batches of the original code; no early stopping there.
    "paper": Settings(
        autoencoder=StageSettings(800, 1e-3, None, None),
        heads=StageSettings(800, 1e-4, None, None),
        finetune=StageSettings(800, 1e-4, None, None),
        solver="adam",
        kl_weight=1.0,
        kl_warmup=80,
        encoder_rate=1.0,
    ),
}
# Heads with a hidden layer have no exact solution.
HIDDEN_HEADS = StageSettings(300, 1e-2, 64, 30)


def make_settings(
    preset: str,
    epochs: tuple[int, int, int] | None,
    learning_rate: tuple[float, float, float] | None,
    batch_size: int | Literal["preset"] | None,
    head_units: int | None = None,
) -> Settings:
    """Return a preset with epochs, learning rates or batch size replaced.

    Heads with a hidden layer (``head_units``) are trained by gradient steps in every preset.

    Raises
    ------
    MiracleError
        If the preset is unknown, or not three numbers are given.
    """
    if preset not in PRESETS:
        raise MiracleError(f"preset is {preset!r}; expected one of {', '.join(PRESETS)}")
    settings = PRESETS[preset]
    if head_units is not None and settings.solver == "convex":
        settings = replace(settings, solver="adam", heads=HIDDEN_HEADS)
    names = ("autoencoder", "heads", "finetune")
    for argument, key, values in (
        ("epochs", "epochs", epochs),
        ("learning_rate", "learning_rate", learning_rate),
    ):
        if values is None:
            continue
        if len(values) != len(names) or min(values) < 0:
            raise MiracleError(f"{argument} is {values!r}; expected one number per stage, {names}")
        for name, value in zip(names, values, strict=True):
            stage = replace(getattr(settings, name), **{key: value})
            settings = replace(settings, **{name: stage})
    if batch_size != "preset":
        for name in ("autoencoder", "finetune"):
            stage = replace(getattr(settings, name), batch_size=batch_size)
            settings = replace(settings, **{name: stage})
    return settings


@dataclass(frozen=True)
class Stage:
    """One entry of the list of stages.

    Attributes
    ----------
    name : str
    settings : StageSettings
    losses : tuple of {"autoencoder", "tasks"}
        What counts.
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


def list_stages(settings: Settings, stages: Literal["three", "joint"] = "three") -> list[Stage]:
    """Return the stages of a training, those without epochs left out.

    Examples
    --------
    >>> [(stage.name, stage.solver) for stage in list_stages(PRESETS["default"])]
    [('autoencoder', 'adam'), ('heads', 'convex'), ('finetune', 'adam')]
    """
    both = ("autoencoder", "tasks"), ("autoencoder", "heads")
    if stages == "joint":
        epochs = settings.autoencoder.epochs + settings.finetune.epochs
        found = [Stage("joint", replace(settings.autoencoder, epochs=epochs), *both)]
    else:
        exact = settings.solver == "convex"
        found = [
            Stage("autoencoder", settings.autoencoder, ("autoencoder",), ("autoencoder",)),
            Stage("heads", settings.heads, ("tasks",), ("heads",), settings.solver),
            Stage("finetune", settings.finetune, *both, on_trial=exact),
        ]
    return [stage for stage in found if stage.settings.epochs]
