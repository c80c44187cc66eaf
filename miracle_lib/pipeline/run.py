"""One run directory, its steps, and what each step reads and writes.

A step is a function that fills a folder. The folder's name is a hash of all that the step
depends on, so a step whose inputs are unchanged is found and not run again, runs with other
parameters lie side by side, and a killed run continues: a step works in ``KEY.part`` and is
renamed to ``KEY`` when it is complete.
"""

import hashlib
import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from miracle_lib.config import Parameters, Profile, check_parameters, load_profile, run_folder
from miracle_lib.files import atomic_path, write_json
from miracle_lib.resources import PACKAGE

if TYPE_CHECKING:
    from IPython.display import Image
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

PACKAGES = ("torch", "numpy", "pandas", "scipy", "scikit-learn", "anndata", "gseapy", "captum")


@dataclass(frozen=True)
class Step:
    """One unit of work: what it needs and the function that fills its folder."""

    name: str
    make: Callable[["Run", Path], None]
    uses: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


STEPS: dict[str, Step] = {}


def step(*, uses: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Callable:
    """Register a function as the step of its name.

    Parameters
    ----------
    uses : tuple of str
        Names of the parameters that change the result.
    after : tuple of str
        Steps whose folders it reads.
    """

    def register(make: Callable[["Run", Path], None]) -> Callable[["Run", Path], None]:
        STEPS[make.__name__] = Step(make.__name__, make, uses, after)
        return make

    return register


@cache
def _code_digest() -> str:
    """Hash of the library's source, without what only draws or talks."""
    aside = {"cli.py", "config.py"}
    files = sorted(p for p in PACKAGE.rglob("*.py") if "plots" not in p.parts)
    digest = hashlib.sha256()
    for path in files:
        if path.name not in aside:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _git_commit() -> str:
    """Commit of the working tree, or 'unknown' outside a repository."""
    command = ["git", "-C", str(PACKAGE), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


class Run:
    """A run directory with its checked parameters and its steps.

    Parameters
    ----------
    parameters : Parameters
        Checked parameters.
    mirror : str, optional
        Folder or URL that replaces the network; default the variable ``MIRACLE_MIRROR``.

    Attributes
    ----------
    directory : Path
        Folder of the run.
    profile : Profile
        What the run works on.
    """

    def __init__(self, parameters: Parameters, mirror: str | None = None) -> None:
        self.parameters = parameters
        self.profile: Profile = load_profile(parameters.profile)
        self.directory = run_folder(parameters.run_dir)
        self.mirror = mirror or os.environ.get("MIRACLE_MIRROR")
        self._loaded: dict[Any, Any] = {}
        self._found: set[str] = set()

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Hash of everything that comes from outside: the profile and each file it names."""
        from miracle_lib.pipeline.inputs import input_hashes

        return input_hashes(self.profile, self.mirror)

    def key(self, name: str) -> str:
        """Hash of all that the result of a step depends on."""
        step = STEPS[name]
        values = self.parameters.model_dump()
        parts = {
            "code": _code_digest(),
            "inputs": self.inputs,
            "parameters": {use: values[use] for use in step.uses},
            "after": [self.key(upstream) for upstream in step.after],
        }
        text = json.dumps([name, parts], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def done(self, name: str) -> bool:
        """Whether a step's result is there."""
        return (self.directory / "steps" / name / self.key(name)).is_dir()

    def folder(self, name: str) -> Path:
        """Folder of a finished step; the step and those before it are run if they must.

        Parameters
        ----------
        name : str
            Name of a step.
        """
        for upstream in STEPS[name].after:
            self.folder(upstream)
        done = self.directory / "steps" / name / self.key(name)
        if done.is_dir():
            if name not in self._found:
                log.info("%s: unchanged, not run again", name)
            self._found.add(name)
            return done
        self._found.add(name)
        work = done.with_suffix(".part")
        work.mkdir(parents=True, exist_ok=True)
        self.describe()
        log.info("%s: running", name)
        started = time.monotonic()
        STEPS[name].make(self, work)
        work.replace(done)
        log.info("%s: done in %.1f s", name, time.monotonic() - started)
        return done

    def load(self, name: str, file: str, read: Callable[[Path], Any]) -> Any:
        """Read a file of a step once; later calls give the same object."""
        if (name, file) not in self._loaded:
            self._loaded[name, file] = read(self.folder(name) / file)
        return self._loaded[name, file]

    def table(self, name: str, file: str) -> pd.DataFrame:
        """Read a CSV table of a step, with its first column as index."""
        return self.load(name, f"{file}.csv", lambda path: pd.read_csv(path, index_col=0))

    def describe(self) -> None:
        """Write what the run is: its parameters and its provenance."""
        write_json(self.directory / "parameters.json", self.parameters.model_dump())
        about = {"title": self.profile.title, "simulated": self.profile.simulated}
        write_json(self.directory / "run.json", about)
        provenance = {
            "inputs": self.inputs,
            "code": _code_digest(),
            "git_commit": _git_commit(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
            "seed": self.parameters.seed,
        }
        write_json(self.directory / "provenance.json", provenance)

    def figure(self, drawn: "Figure", name: str) -> "Image":
        """Keep a figure in the run's ``figures`` folder as PNG, and give what a notebook shows.

        Parameters
        ----------
        drawn : Figure
        name : str
            Name of the file, without its ending.
        """
        from IPython.display import Image

        from miracle_lib.plots import style

        path = self.directory / "figures" / f"{name}.png"
        with atomic_path(path) as temporary:
            temporary.write_bytes(style.png(drawn))
        width = int(96 * drawn.get_figwidth())  # pixels of a page; the file has twice as many
        return Image(path.read_bytes(), width=width)

    @property
    def banner(self) -> str:
        """One sentence that says what the numbers of this run were computed on."""
        if self.profile.simulated:
            return (
                f"**Simulated data.** All numbers on this page come from {self.profile.title}: "
                "planted effects, no patients."
            )
        return f"**Real cohorts.** All numbers on this page come from {self.profile.title}."


def open_run(**parameters: Any) -> Run:
    """Check a notebook's parameters and open its run.

    Parameters
    ----------
    **parameters
        Any of :class:`miracle_lib.config.Parameters`.

    Raises
    ------
    MiracleError
        An unknown parameter, a value of the wrong type, or an unknown profile.
    """
    return Run(check_parameters(parameters))
