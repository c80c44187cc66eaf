"""Executing the notebooks of a run in order, with checked parameters."""

import base64
import logging
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from miracle_lib.code import code_behind, digest
from miracle_lib.config import check_parameters, load_profile, profile_path
from miracle_lib.errors import MiracleError
from miracle_lib.extras import needs
from miracle_lib.files import atomic_path
from miracle_lib.pipeline.run import Run
from miracle_lib.resources import NOTEBOOKS
from miracle_lib.store import environment, only_one

log = logging.getLogger(__name__)

DRAWING = ("matplotlib", "plotly")
DISPLAY = "from miracle_lib.plots.style import displayed"  # called by a run, named by no notebook

# The steps a notebook shows; they are run before it, where their progress can be seen.
STEPS_OF = {
    "01_preprocessing": ("samples", "survey"),
    "02_mask_construction": ("hierarchy",),
    "03_three_stage_training": ("model", "experiments", "scores", "calibrated"),
    "04_ablations": ("ablations", "signs"),
    "05_enrichment_validation": ("explained", "enriched", "stability", "ewas"),
    "06_open_questions": ("open_questions", "ablations"),
    "07_paper_reproduced": ("paper", "attributions", "ablations", "explained"),
    "08_another_hospital": ("elsewhere", "small_cohorts"),
}
# What a notebook reads itself, beside its steps.
READ_BY = {"05_enrichment_validation": ("markers",), "08_another_hospital": ("pairs",)}


def _notebook_tools() -> tuple[ModuleType, ModuleType]:
    """Give nbformat and papermill, which prints a warning when imported inside a notebook."""
    with needs("book", "A run"):
        import nbformat
        import papermill
    return nbformat, papermill


def parameters_of(notebook: Path) -> list[str]:
    """Names of the parameters that a notebook declares."""
    _, papermill = _notebook_tools()
    return list(papermill.inspect_notebook(str(notebook)))


def key_of(run: Run, notebook: Path, values: dict[str, Any]) -> str:
    """Return the hash of all that the outputs of a notebook depend on.

    Its cells, the code of this package that they name, its parameters, the results that it shows,
    and the versions of the packages that compute and draw.
    """
    nbformat, _ = _notebook_tools()
    cells = nbformat.read(notebook, as_version=4).cells
    source = [(cell.cell_type, cell.source) for cell in cells]
    code = code_behind("\n".join([DISPLAY, *(text for kind, text in source if kind == "code")]))
    steps = [run.key(name) for name in STEPS_OF[notebook.stem]]
    read = [run.banner, *map(run.reads, READ_BY.get(notebook.stem, ()))]
    return digest([source, code, values, steps, read, environment(), [*map(version, DRAWING)]])


def execute_notebook(notebook: Path, target: Path, cwd: Path, values: dict[str, Any]) -> Any:
    """Execute a notebook into a file, which on an error keeps it.

    Returns
    -------
    NotebookNode

    Raises
    ------
    MiracleError
    """
    _, papermill = _notebook_tools()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        return papermill.execute_notebook(
            str(notebook), str(target), parameters=values, cwd=str(cwd), kernel_name="python3"
        )
    except papermill.PapermillExecutionError as error:
        raise MiracleError(
            f"{notebook.name}: {error.ename}: {error.evalue.splitlines()[0]} "
            f"(the executed copy with the error is {target})."
        ) from None


def _execute(run: Run, notebook: Path) -> None:
    """Execute one notebook into the run directory unless the same is there already."""
    nbformat, _ = _notebook_tools()
    every = run.parameters.model_dump()
    values = {name: every[name] for name in parameters_of(notebook)}
    target = run.directory / "notebooks" / notebook.name
    key = key_of(run, notebook, values)
    if target.is_file():
        executed = nbformat.read(target, as_version=4)
        if executed.metadata.get("miracle") == {"key": key}:
            log.info("%s: unchanged, not run again", notebook.stem)
            return
    executed = execute_notebook(notebook, target, target.parent, values)
    _keep_figures(executed, run.directory / "figures")
    executed.metadata["miracle"] = {"key": key}
    with atomic_path(target) as temporary:
        nbformat.write(executed, temporary)


def _keep_figures(executed: Any, folder: Path) -> None:
    """Write the figures of an executed notebook under the names that `Run.figure` gave them."""
    for output in (each for cell in executed.cells for each in cell.get("outputs", [])):
        for kind, read in (("image/png", base64.b64decode), ("image/svg+xml", str.encode)):
            picture = output.get("data", {}).get(kind)
            name = output.get("metadata", {}).get(kind, {}).get("file")
            if picture and name:
                with atomic_path(folder / name) as temporary:
                    temporary.write_bytes(read(picture))


def open_profile_run(
    profile: str, run_dir: str, given: dict[str, Any], mirror: str | None = None
) -> Run:
    """Open a run: given values before those of the profile before the defaults.

    Parameters
    ----------
    profile : str
        Name or path of a profile.
    run_dir : str
        Folder of the run; a relative path belongs to the current folder, as does ``profile``.
    given : dict
        Typed parameter values.
    mirror : str, optional
        Folder or URL that replaces the network.
    """
    for name in ("profile", "run_dir"):
        if name in given:
            option = name.replace("_", "-")
            raise MiracleError(f"parameter '{name}' is given by --{option}, not by -p.")
    values = {**load_profile(profile).parameters, **given}
    if profile.endswith((".yaml", ".yml")):
        profile = str(profile_path(profile).absolute())  # the notebooks run in another folder
    values |= {"profile": profile, "run_dir": str(Path(run_dir).absolute())}
    return Run(check_parameters(values), mirror)


def parse_chapters(text: str) -> list[int]:
    """Read chapters such as "1,3,5" or "1-3,5".

    Parameters
    ----------
    text : str

    Returns
    -------
    list of int
        In order, each once.

    Raises
    ------
    MiracleError
        Something else than numbers of chapters.

    Examples
    --------
    >>> parse_chapters("5,1-3")
    [1, 2, 3, 5]
    """
    chosen = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        numbers = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
        if not numbers or numbers[0] < 1 or numbers[-1] > len(STEPS_OF):
            raise MiracleError(
                f"chapters are {text!r}; expected numbers from 1 to {len(STEPS_OF)}, such as 1,3 "
                "or 1-3."
            )
        chosen |= {*numbers}
    return sorted(chosen)


def execute_run(run: Run, chapters: Sequence[int] | None = None) -> None:
    """Run every step and execute every notebook of a run, in order.

    Parameters
    ----------
    run : Run
        An opened run; executed notebooks go to its ``notebooks`` folder.
    chapters : sequence of int, optional
        Numbers of the chapters to execute, from 1; default: all. Steps of other chapters are run
        where these need them.

    Raises
    ------
    MiracleError
        A notebook is missing or fails; the executed copy with its error is kept.
    """
    _notebook_tools()
    with only_one(run.directory):
        run.describe()
        for number, (name, steps) in enumerate(STEPS_OF.items(), start=1):
            if chapters is not None and number not in chapters:
                continue
            notebook = NOTEBOOKS / f"{name}.ipynb"
            if not notebook.is_file():
                raise MiracleError(f"{notebook} is missing; expected one notebook per chapter.")
            log.info("chapter %d of %d: %s", number, len(STEPS_OF), name)
            for step in steps:
                run.folder(step)
            _execute(run, notebook)
        run.write_provenance()
