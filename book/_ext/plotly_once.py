"""Pages with interactive pictures load one copy of their script, from the book's own files."""

import shutil
from pathlib import Path

import plotly
from sphinx.application import Sphinx

SCRIPT = "plotly.min.js"


def copy(app: Sphinx) -> None:
    """Put the script beside the other files of the book."""
    if app.builder.format == "html":
        target = Path(app.outdir) / "_static"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(plotly.__file__).parent / "package_data" / SCRIPT, target / SCRIPT)


def load(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Load the script before the first picture of a page."""
    body = context.get("body", "")
    if 'class="interactive"' in body:
        source = context["pathto"](f"_static/{SCRIPT}", 1)
        context["body"] = f'<script src="{source}"></script>\n{body}'


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", copy)
    app.connect("html-page-context", load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
