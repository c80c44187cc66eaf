"""The notebooks as they are committed: executed with their own defaults, and only if they changed.

``python -m miracle_lib.pipeline.committed`` brings those of this repository up to date. Each keeps
a seal: a hash of all that its outputs depend on and of the outputs themselves, so that an edit of a
cell, of the code behind it, of the data or of an output by hand are all seen.
"""

import logging
import sys
import tempfile
from ast import literal_eval
from pathlib import Path
from typing import Any

from miracle_lib.code import digest
from miracle_lib.config import check_parameters
from miracle_lib.extras import needs
from miracle_lib.files import atomic_path
from miracle_lib.pipeline import notebooks
from miracle_lib.pipeline.run import Run
from miracle_lib.store import only_one

log = logging.getLogger("miracle_lib.pipeline.committed")

# What names a moment or a machine; as in .pre-commit-config.yaml.
STRIPPED = [
    "metadata.papermill",
    "metadata.language_info.version",
    "cell.metadata.papermill",
    "cell.metadata.execution",
]


def refresh() -> list[str]:
    """Execute the notebooks whose outputs are not those of their cells, code and data.

    Returns
    -------
    list of str
        Names of those that were executed.

    Raises
    ------
    MiracleError
        A notebook fails; it stays as it was.
    """
    with needs("test", "make notebooks"):
        import nbformat
        from nbstripout import strip_output
    done = []
    for name in notebooks.STEPS_OF:
        path = notebooks.NOTEBOOKS / f"{name}.ipynb"
        run, key = opened(path)
        if is_current(path, key):
            log.info("%s: unchanged, not run again", name)
            continue
        with only_one(run.directory), tempfile.TemporaryDirectory() as folder:
            for step in notebooks.STEPS_OF[name]:
                run.folder(step)
            executed = notebooks.execute_notebook(path, Path(folder) / path.name, path.parent, {})
        executed = strip_output(
            executed, keep_output=True, keep_count=True, keep_id=False, extra_keys=STRIPPED
        )
        executed.metadata["miracle"] = {"seal": _seal(executed, key)}
        with atomic_path(path) as temporary:
            nbformat.write(executed, temporary)
        done.append(name)
    return done


def opened(path: Path) -> tuple[Run, str]:
    """Open the run of a notebook's own defaults; return it and the key of the notebook."""
    import papermill

    declared = papermill.inspect_notebook(str(path))
    values = {name: literal_eval(each["default"]) for name, each in declared.items()}
    run = Run(check_parameters(values))
    return run, notebooks.key_of(run, path, values)


def is_current(path: Path, key: str) -> bool:
    """Whether the outputs of a notebook are those of its key."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get("miracle") == {"seal": _seal(notebook, key)}


def _seal(notebook: Any, key: str) -> str:
    """Hash of what the outputs depend on and of the outputs."""
    return digest([key, [cell.get("outputs") for cell in notebook.cells]])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    refresh()
