"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Folder of real public files; tests that ask for it are skipped where it is absent."""
    path = Path(os.environ.get("MIRACLE_TEST_MIRROR", ROOT.parent / "shared" / "data" / "mirror"))
    if not path.is_dir():
        pytest.skip("the offline mirror of real public data is absent")
    return path
