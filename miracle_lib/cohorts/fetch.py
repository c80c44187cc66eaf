"""Files from the network or from a mirror."""

import os
from pathlib import Path

from miracle_lib.errors import MiracleError


def fetch_file(url: str, mirror: str | Path | None = None) -> Path:
    """Path of a file, fetched from ``url`` or found by its base name in ``mirror``."""
    mirror = mirror or os.environ.get("MIRACLE_MIRROR")
    name = url.rstrip("/").rsplit("/", 1)[-1]
    if mirror:
        path = Path(mirror) / name
        if path.is_file():
            return path
        raise MiracleError(f"{name} is not in the mirror {mirror}.")
    raise MiracleError(f"{name} is not there.")
