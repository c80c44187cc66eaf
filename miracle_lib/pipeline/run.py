"""One run directory, its steps, and what each step reads and writes.

A step is a function that fills a folder of the run's `Store`. What a step depends on is declared
beside it: parameters, what it reads from outside, and the steps before it; its code and the
versions of the packages that compute are found by the store.
"""

import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from miracle_lib import __version__
from miracle_lib.code import code_of, digest
from miracle_lib.config import Parameters, Profile, check_parameters, load_profile, run_folder
from miracle_lib.errors import MiracleError
from miracle_lib.files import write_json
from miracle_lib.parallel import cluster, give_back_memory
from miracle_lib.resources import PACKAGE
from miracle_lib.store import Store, environment, only_one

if TYPE_CHECKING:
    from IPython.display import SVG, Image
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One unit of work: what it needs and the function that fills its folder.

    Attributes
    ----------
    name : str
    make : callable
    uses : tuple of str
        Parameters that change the result.
    reads : tuple of str
        Kinds of outside content that it reads, see `miracle_lib.pipeline.inputs.READERS`.
    after : tuple of str
        Steps whose folders it reads.
    """

    name: str
    make: Callable[["Run", Path], None]
    uses: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


STEPS: dict[str, Step] = {}


def step(
    *, uses: tuple[str, ...] = (), reads: tuple[str, ...] = (), after: tuple[str, ...] = ()
) -> Callable:
    """Register a function as the step of its name; see `Step`."""

    def register(make: Callable[["Run", Path], None]) -> Callable[["Run", Path], None]:
        STEPS[make.__name__] = Step(make.__name__, make, uses, reads, after)
        return make

    return register


def _git_commit() -> str:
    """Commit of the working tree, or 'unknown' outside a repository."""
    command = ["git", "-C", str(PACKAGE), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return "unknown"
    return answer.stdout.strip() or "unknown"


class Run:
    """A run directory with its checked parameters and its steps.

    Opening a run writes nothing; a step is made when its folder is asked for and not there.

    Parameters
    ----------
    parameters : Parameters
        Checked parameters; a relative ``run_dir`` belongs to the folder of the repository or, of an
        installed package, to the current one.
    mirror : str, optional
        Folder or URL that replaces the network; default the variable ``MIRACLE_MIRROR``.

    Attributes
    ----------
    directory : Path
        Folder of the run.
    profile : Profile
        What the run works on.
    store : Store
        Results of its steps.
    """

    def __init__(self, parameters: Parameters, mirror: str | None = None) -> None:
        self.parameters = parameters
        self.profile: Profile = load_profile(parameters.profile)
        self.directory = run_folder(parameters.run_dir)
        self.store = Store(self.directory / "steps")
        self.mirror = mirror or os.environ.get("MIRACLE_MIRROR")
        self._loaded: dict[Any, Any] = {}
        self._read: dict[str, Any] = {}
        self._found: dict[str, Path] = {}

    def reads(self, kind: str) -> Any:
        """Content from outside that a step reads: manifests, and files by path and checksum."""
        from miracle_lib.pipeline.inputs import READERS

        if kind not in self._read:
            self._read[kind] = READERS[kind](self.profile, self.mirror, self.parameters.seed)
        return self._read[kind]

    def key(self, name: str) -> str:
        """Hash of all that the result of a step depends on."""
        step = STEPS[name]
        values = self.parameters.model_dump()
        parts = {
            "step": name,
            "code": code_of(step.make),
            "reads": {kind: self.reads(kind) for kind in step.reads},
            "parameters": {use: values[use] for use in step.uses},
            "after": [self.key(upstream) for upstream in step.after],
            "environment": environment(),
        }
        return digest(parts)

    def done(self, name: str) -> bool:
        """Whether a step's result is there and whole."""
        # Of what was never begun there is no key: its inputs would be fetched for nothing.
        return name in self._found or (
            self.store.holds(name) and self.store.find(name, self.key(name)) is not None
        )

    def folder(self, name: str) -> Path:
        """Folder of a finished step; the step and those before it are run if they must.

        Parameters
        ----------
        name : str
            Name of a step.
        """
        if name in self._found:
            return self._found[name]
        for upstream in STEPS[name].after:
            self.folder(upstream)
        key = self.key(name)
        found = self.store.find(name, key)
        if found is None:
            log.info("%s: running", name)
            started = time.monotonic()
            with cluster(os.environ.get("MIRACLE_SCHEDULER")):
                found = self.store.make(name, key, lambda work: STEPS[name].make(self, work))
            self._loaded.clear()  # what the step has read must not lie beside what the next reads
            give_back_memory()
            log.info("%s: done in %.1f s", name, time.monotonic() - started)
        else:
            log.info("%s: unchanged, not run again", name)
        self._found[name] = found
        return found

    def load(self, name: str, file: str, read: Callable[[Path], Any]) -> Any:
        """Read a file of a step once; later calls give the same object."""
        if (name, file) not in self._loaded:
            self._loaded[name, file] = read(self.folder(name) / file)
        return self._loaded[name, file]

    def table(self, name: str, file: str) -> pd.DataFrame:
        """Read a CSV table of a step, with its first column as index."""
        return self.load(name, f"{file}.csv", lambda path: pd.read_csv(path, index_col=0))

    def describe(self) -> None:
        """Write what the run is: its parameters and its title. Only who makes a run does this."""
        write_json(self.directory / "parameters.json", self.parameters.model_dump())
        about = {"title": self.profile.title, "simulated": self.profile.simulated}
        write_json(self.directory / "run.json", about)

    def write_provenance(self) -> None:
        """Write what every finished step was made of, each with the versions it was made by."""
        steps = {}
        for name, folder in self._found.items():
            receipt = self.store.receipt(name, folder.name)
            steps[name] = {"key": folder.name, "environment": receipt["environment"]}
        kinds = sorted({kind for name in self._found for kind in STEPS[name].reads})
        provenance = {
            "inputs": {kind: self.reads(kind) for kind in kinds},
            "steps": steps,
            "git_commit": _git_commit(),
            "miracle_lib": __version__,
            "python": platform.python_version(),
            "seed": self.parameters.seed,
        }
        write_json(self.directory / "provenance.json", provenance)

    def clean(self) -> list[Path]:
        """Remove every result in the run directory that its parameters do not need."""
        with only_one(self.directory):
            begun = filter(self.store.holds, STEPS)
            return self.store.clean((name, self.key(name)) for name in begun)

    def figure(self, drawn: "Figure", name: str) -> "Image | SVG":
        """Give what a notebook shows of a figure; who executes it for a run keeps the figure.

        Parameters
        ----------
        drawn : Figure
        name : str
            Name of its file in ``figures``, without the ending.
        """
        from miracle_lib.plots.style import displayed

        return displayed(drawn, name)

    @property
    def banner(self) -> str:
        """What the numbers of this run were computed on, and its parameters, as Markdown."""
        from miracle_lib.plots.tables import parameter_box

        title = self.profile.title
        if self.profile.simulated:
            kind = (
                f"**Simulated data.** All numbers on this page come from {title}: planted effects, "
                "no patients."
            )
        else:
            kind = (
                f"**Real cohorts.** All numbers on this page come from {title}, except in sections "
                "that say that their data are simulated."
            )
        given = self.parameters.model_dump(include=self.parameters.model_fields_set - {"run_dir"})
        given["profile"] = Path(self.parameters.profile).name  # no folder of a machine on a page
        return f"{kind}\n\n{parameter_box(given)}"


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


def reopen_run(run_dir: str | Path) -> Run:
    """Open a run that a command has made, with the parameters it was made with.

    Parameters
    ----------
    run_dir : str or Path

    Raises
    ------
    MiracleError
        The folder holds no run, or its parameters are damaged.
    """
    values = kept_parameters(run_dir)
    return Run(check_parameters({**values, "run_dir": str(Path(run_dir).absolute())}))


def kept_parameters(run_dir: str | Path) -> dict[str, Any]:
    """Read the parameters that the folder of a run was made with; raises as `reopen_run`."""
    path = Path(run_dir).absolute() / "parameters.json"
    if not path.is_file():
        raise MiracleError(f"{run_dir} holds no {path.name}; expected the folder of a run.")
    try:
        values = dict(json.loads(path.read_text("utf-8")))
    except (TypeError, ValueError) as error:
        raise MiracleError(f"{path} is damaged: it is no table in JSON ({error}).") from None
    return values
