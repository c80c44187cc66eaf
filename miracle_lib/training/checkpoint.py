"""Where a killed training continues."""

from pathlib import Path
from typing import Any

import torch

from miracle_lib.files import atomic_path


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
        return torch.load(self.path, weights_only=True)

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
