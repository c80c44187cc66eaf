"""Fixtures shared by all tests."""

import inspect
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation import PerTaskBaseline
from miracle_lib.preprocessing import SiteSelector

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Folder of real public files; tests that ask for it are skipped where it is absent."""
    path = Path(os.environ.get("MIRACLE_TEST_MIRROR", ROOT.parent / "shared" / "data" / "mirror"))
    if not path.is_dir():
        pytest.skip("the offline mirror of real public data is absent")
    return path


class Fit(NamedTuple):
    """What one call of ``fit`` was given."""

    kind: str
    k: int | None
    samples: tuple[str, ...]
    n_sites: int


@pytest.fixture
def fits(monkeypatch) -> list[Fit]:
    """Every fit of a selector, a network or a baseline in this process, noted as it happens."""
    seen = []

    def note(kind):
        fit = kind.fit

        def noted(self, X, Y=None, *args, **known):
            seen.append(Fit(kind.__name__, getattr(self, "k", None), tuple(X.index), X.shape[1]))
            return fit(self, X, Y, *args, **known)

        # Cross-validation reads which arguments a fit accepts.
        noted.__signature__ = inspect.signature(fit)
        monkeypatch.setattr(kind, "fit", noted)

    note(SiteSelector)
    note(PerTaskBaseline)
    note(MiracleClassifier)
    return seen
