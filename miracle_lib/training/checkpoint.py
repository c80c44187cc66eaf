"""Where a killed training continues."""

import logging
from pathlib import Path
from typing import Any

import torch

from miracle_lib.files import atomic_path

log = logging.getLogger(__name__)

EXPECTED = {"history", "epoch", "stage_number"}


class Checkpoint:
    """One file that holds the state of a training, replaced atomically.

    Parameters
    ----------
    path : Path, optional
        None: nothing is ever written.
    every : int
        Epochs between two writes.
    """

    def __init__(self, path: Path | None = None, every: int = 1) -> None:
        self.path, self.every = path, every

    def load(self) -> dict[str, Any]:
        """Return the state last written, empty if there is none."""
        if self.path is None or not self.path.exists():
            return {}
        try:
            state = torch.load(self.path, weights_only=True)
        except Exception as error:  # torch raises many kinds at what it did not write
            return self._set_aside(f"cannot be read ({type(error).__name__})")
        if not isinstance(state, dict) or not state.keys() >= EXPECTED:
            return self._set_aside("holds no state of a training")
        return state

    def _set_aside(self, problem: str) -> dict[str, Any]:
        """Keep a file that is no state under another name, say so, and start anew."""
        aside = self.path.with_name(f"{self.path.name}.damaged")
        self.path.replace(aside)
        log.warning("%s %s; set aside as %s, training starts anew", self.path, problem, aside.name)
        return {}

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state."""
        if self.path is not None:
            with atomic_path(self.path) as temporary:
                torch.save(state, temporary)

    def due(self, epoch: int) -> bool:
        """Whether the state after this epoch is to be written."""
        return self.path is not None and (epoch + 1) % self.every == 0

    def remove(self) -> None:
        """Forget the state, once the training is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
