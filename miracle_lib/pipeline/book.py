"""Building the book from the notebooks of a run."""

import os
import subprocess
import sys
from pathlib import Path

from miracle_lib.config import ROOT
from miracle_lib.errors import MiracleError

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
        ``index.html`` in the run's ``book`` folder.

    Raises
    ------
    MiracleError
        ``run_dir`` is no run, or the build fails.
    """
    run_dir = Path(run_dir).resolve()
    if not (run_dir / "run.json").is_file():
        raise MiracleError(f"{run_dir} holds no run.json; expected the folder of a run.")
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        "book/",
    ]
    command += ["--path-output", str(run_dir / "book"), "--quiet", "--all"]
    command += ["-W", "-n", "--keep-going"] if strict else []
    environment = {**os.environ, "MIRACLE_RUN": str(run_dir)}
    answer = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    index = run_dir / "book" / "_build" / "html" / "index.html"
    if answer.returncode or not index.is_file():
        raise MiracleError(
            f"the book was not built:\n{answer.stdout[-2000:]}{answer.stderr[-4000:]}"
        )
    return index
