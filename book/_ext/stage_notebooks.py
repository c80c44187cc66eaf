"""Bring the notebooks into the book: the committed ones, or those of a run.

Jupyter Book takes pages from below ``book/`` only, and builds on without a word when one is
missing. So the notebooks are copied to ``book/notebooks/`` (ignored by git) before Sphinx looks
for pages, and a page of ``_toc.yml`` that has no file stops the build.

``MIRACLE_RUN`` names a run directory whose executed notebooks replace the committed ones.
"""

import json
import os
from pathlib import Path

import yaml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

BOOK = Path(__file__).resolve().parents[1]
STAGED = BOOK / "notebooks"
PARAMETERS = {"parameters", "injected-parameters"}
DEMO = {"title": "six simulated cohorts", "simulated": True}


def _source() -> tuple[Path, dict]:
    """Folder of the notebooks to show, and what they were computed on."""
    run = os.environ.get("MIRACLE_RUN")
    if not run:
        return BOOK.parent / "notebooks", DEMO
    described = Path(run) / "run.json"
    if not described.is_file():
        raise ExtensionError(f"MIRACLE_RUN: {described} is missing; expected a run directory.")
    return Path(run) / "notebooks", json.loads(described.read_text(encoding="utf-8"))


def _copy_changed(source: Path) -> None:
    """Mirror ``*.ipynb`` of ``source`` in the staged folder, touching only what differs."""
    if STAGED.is_symlink() or STAGED.is_file():
        STAGED.unlink()
    STAGED.mkdir(exist_ok=True)
    notebooks = {path.name: path for path in source.glob("*.ipynb")}
    for stale in STAGED.glob("*.ipynb"):
        if stale.name not in notebooks:
            stale.unlink()
    for name, path in notebooks.items():
        target, page = STAGED / name, _page(path)
        if not target.is_file() or target.read_text(encoding="utf-8") != page:
            target.write_text(page, encoding="utf-8")


def _page(path: Path) -> str:
    """A notebook without its parameter cells, which name folders of a machine; a box shows them."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"] = [
        cell
        for cell in notebook["cells"]
        if not PARAMETERS & set(cell.get("metadata", {}).get("tags", []))
    ]
    return json.dumps(notebook, indent=1)


def _pages() -> list[str]:
    """Every page that ``_toc.yml`` names."""
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [page for part in toc["parts"] for page in part["chapters"]]
    sections = [page for chapter in chapters for page in chapter.get("sections", [])]
    return [toc["root"], *(page["file"] for page in [*chapters, *sections])]


def stage(app: Sphinx, config: object) -> None:
    """Copy the notebooks, check that every page exists and announce what the numbers show."""
    source, run = _source()
    _copy_changed(source)
    missing = [
        page
        for page in _pages()
        if not any((BOOK / page).with_suffix(end).is_file() for end in (".md", ".ipynb"))
    ]
    if missing:
        raise ExtensionError(f"book/_toc.yml names pages without a file: {', '.join(missing)}.")
    kind = "simulated data" if run["simulated"] else "real cohorts"
    said = f"The chapters of this copy show {kind} ({run['title']})"
    # The open questions are asked of simulations, whatever the run.
    said += "." if run["simulated"] else "; sections on simulated data say so."
    config.html_theme_options |= {
        "announcement": said,
        "navbar_persistent": [],  # the sidebar has the search field already
    }
    config.myst_substitutions = {"run_title": run["title"], "run_kind": kind}


def outdated(app: Sphinx, env: object, added: set, changed: set, removed: set) -> list[str]:
    """Rebuild every page when a notebook changed: cross-page references are not tracked."""
    touched = added | changed | removed
    return list(env.found_docs) if any(page.startswith("notebooks/") for page in touched) else []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", stage)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
