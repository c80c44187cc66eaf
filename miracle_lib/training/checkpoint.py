"""Where a killed training continues."""

import hashlib
import io
import logging
from functools import cache
from pathlib import Path
from typing import Any

import torch

from miracle_lib.code import code_of, digest
from miracle_lib.files import atomic_path
from miracle_lib.store import environment
from miracle_lib.training import processes

log = logging.getLogger(__name__)

FORMAT = b"miracle-checkpoint"


class Checkpoint:
    """One file that holds the state of a training, replaced atomically.

    Its first line names the code and the packages that made it, and the checksum of the rest;
    nothing in the file is executed when it is read.

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
        """Return the state last written, empty if there is none or it cannot be continued."""
        if self.path is None or not self.path.exists():
            return {}
        head, _, content = self.path.read_bytes().partition(b"\n")
        parts = head.split(b" ")
        if len(parts) != 3 or parts[0] != FORMAT:
            return self._set_aside(self.path, "holds no state of a training")
        if parts[2] != _checksum(content):
            return self._set_aside(self.path, "is damaged")
        if parts[1] != _maker():
            return self._set_aside(
                self.path, "was made by another version of the code or of its packages"
            )
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    def _set_aside(self, path: Path, problem: str) -> dict[str, Any]:
        """Keep a file that is no state under another name, say so, and start anew."""
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        log.warning("%s %s; set aside as %s, training starts anew", path, problem, aside.name)
        return {}

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state."""
        if self.path is not None and processes.is_first():
            written = io.BytesIO()
            torch.save(state, written)
            content = written.getvalue()
            head = b" ".join([FORMAT, _maker(), _checksum(content)])
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(head + b"\n" + content)

    def due(self, epoch: int) -> bool:
        """Whether the state after this epoch is to be written."""
        return self.path is not None and (epoch + 1) % self.every == 0

    def remove(self) -> None:
        """Forget the state, once the training is complete."""
        if self.path is not None and processes.is_first():
            self.path.unlink(missing_ok=True)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


@cache
def _maker() -> bytes:
    """What a state belongs to: the code of the training and the versions of its packages."""
    from miracle_lib.training.trainer import Trainer  # which imports this module

    return digest([code_of(Trainer), environment()]).encode()
