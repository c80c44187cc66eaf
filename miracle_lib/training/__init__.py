"""Training: three stages, inner folds, early stopping, checkpoints."""

from miracle_lib.training.checkpoint import Checkpoint
from miracle_lib.training.data import TrainingData, inner_folds
from miracle_lib.training.member import Member
from miracle_lib.training.prior import Prior
from miracle_lib.training.settings import PRESETS, Settings, StageSettings, make_settings
from miracle_lib.training.trainer import Trained, Trainer

__all__ = [
    "PRESETS",
    "Checkpoint",
    "Member",
    "Prior",
    "Settings",
    "StageSettings",
    "Trained",
    "Trainer",
    "TrainingData",
    "inner_folds",
    "make_settings",
]
