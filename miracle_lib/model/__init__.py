"""Masked layers, the masked variational autoencoder, heads and losses."""

from miracle_lib.model.heads import DeepHeads, Heads, TaskHeads
from miracle_lib.model.losses import (
    kl_divergence,
    kl_warmup,
    masked_task_loss,
    reconstruction_loss,
)
from miracle_lib.model.masked_linear import MaskedLinear
from miracle_lib.model.sparse_product import by_feature
from miracle_lib.model.vae import MaskedVAE, VAEOutput

__all__ = [
    "DeepHeads",
    "Heads",
    "MaskedLinear",
    "MaskedVAE",
    "TaskHeads",
    "VAEOutput",
    "by_feature",
    "kl_divergence",
    "kl_warmup",
    "masked_task_loss",
    "reconstruction_loss",
]
