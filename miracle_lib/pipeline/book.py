"""Building the book from the notebooks of a run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from miracle_lib.errors import MiracleError
from miracle_lib.extras import needs
from miracle_lib.pipeline.notebooks import STEPS_OF
from miracle_lib.pipeline.run import kept_parameters
from miracle_lib.resources import BOOK, ROOT

# The package has no __main__, and the command may not be on the PATH.
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


def build_book(run_dir: str | Path, *, strict: bool = True) -> Path:
    """Build the book from the executed notebooks of a run.

    Parameters
    ----------
    run_dir : str or Path
        A finished run.
    strict : bool, default True
        Whether a warning stops the build.

    Returns
    -------
    Path
        ``index.html`` in the run's ``book`` folder, beside a copy of the sources it was built
        from.

    Raises
    ------
    MiracleError
        ``run_dir`` is no run or lacks chapters of its parameters, the book's tools are not
        installed, or the build fails.
    """
    run_dir = Path(run_dir).resolve()
    if not (run_dir / "run.json").is_file():
        raise MiracleError(f"{run_dir} holds no run.json; expected the folder of a run.")
    parameters = kept_parameters(run_dir)
    paths = [run_dir / "notebooks" / f"{name}.ipynb" for name in STEPS_OF]
    if missing := [path.stem for path in paths if not _is_finished(path, parameters)]:
        raise MiracleError(
            f"{run_dir} has no chapter {', '.join(missing)} finished with its parameters; "
            "'miracle run' without --chapters executes them."
        )
    with needs("book", "The book"):
        import jupyter_book  # noqa: F401
        import latex2mathml  # noqa: F401
    book = run_dir / "book"
    source = _copy_source(book / "source")
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", str(source)]
    command += ["--path-output", str(book), "--quiet", "--all"]
    command += ["-W", "-n", "--keep-going"] if strict else []
    environment = {**os.environ, "MIRACLE_RUN": str(run_dir)}
    answer = subprocess.run(
        command, cwd=book, env=environment, capture_output=True, text=True, check=False
    )
    index = book / "_build" / "html" / "index.html"
    if answer.returncode or not index.is_file():
        raise MiracleError(
            f"the book was not built:\n{answer.stdout[-2000:]}{answer.stderr[-4000:]}"
        )
    return index


def _is_finished(notebook: Path, parameters: dict[str, Any]) -> bool:
    """Whether a chapter was executed to its end, and with the parameters of its run."""
    try:
        about = json.loads(notebook.read_text("utf-8")).get("metadata", {})
    except (FileNotFoundError, ValueError):  # the second: killed while it was written
        return False
    given = about.get("papermill", {}).get("parameters", {})
    return "key" in about.get("miracle", {}) and given.items() <= parameters.items()


def _copy_source(folder: Path) -> Path:
    """Copy pages and configuration, because a build writes among the pages; give the pages."""
    shutil.rmtree(folder, ignore_errors=True)
    made = shutil.ignore_patterns("__pycache__", "notebooks")
    pages = Path(shutil.copytree(BOOK, folder / "book", ignore=made))
    shutil.copy(ROOT / "_config.yml", folder)
    return pages
