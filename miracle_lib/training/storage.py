"""A trained model on disk: safetensors for numbers, JSON for the rest, no pickle."""

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy

FORMAT, VERSION = "miracle model", 1


def save_model(
    path: str | Path, about: dict[str, Any], tensors: dict[str, Tensor], hierarchy: Hierarchy
) -> None:
    """Write a folder; one of the same name is replaced only when the new one is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not (path / "model.json").exists():
        raise MiracleError(f"{path} exists and is no saved model; it is not overwritten")
    temporary, old = (path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}") for _ in range(2))
    temporary.mkdir()
    try:
        save_file(
            {name: value.cpu().contiguous() for name, value in tensors.items()},
            temporary / "weights.safetensors",
        )
        hierarchy.save(temporary / "hierarchy.npz")
        about = {"format": FORMAT, "version": VERSION} | about
        (temporary / "model.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_about(path: str | Path) -> dict[str, Any]:
    """Return the description of a saved model.

    Raises
    ------
    MiracleError
        If the folder is absent, holds no model, or was written by a later version.
    """
    file = Path(path) / "model.json"
    if not file.is_file():
        raise MiracleError(f"{path} holds no saved model: {file.name} is absent")
    try:
        about = json.loads(file.read_text("utf-8"))
    except ValueError:
        raise MiracleError(f"{file} is damaged: it is not JSON") from None
    if about.get("format") != FORMAT or about.get("version", 0) > VERSION:
        raise MiracleError(
            f"{file} is {about.get('format')!r} version {about.get('version')}; this program "
            f"reads {FORMAT!r} up to version {VERSION}"
        )
    return about


def load_model(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor], Hierarchy]:
    """Read what `save_model` wrote.

    Raises
    ------
    MiracleError
        As `read_about`, or if a file is damaged.
    """
    about, path = read_about(path), Path(path)
    try:
        tensors = load_file(path / "weights.safetensors")
    except (OSError, SafetensorError) as error:
        raise MiracleError(f"{path / 'weights.safetensors'} cannot be read: {error}") from None
    return about, tensors, Hierarchy.load(path / "hierarchy.npz")
