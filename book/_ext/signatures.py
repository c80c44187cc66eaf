"""Signatures in the reference name a file, not the folder of the machine that built the book."""

import re

from sphinx.application import Sphinx

PATH = re.compile(r"\w*Path\('(?:[^']*/)?([^'/]*)'\)")


def without_folders(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str, returned: str
) -> tuple[str, str] | None:
    """Replace a path among the defaults by the name of its file."""
    return (PATH.sub(r"'\1'", signature), returned) if signature else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-signature", without_folders)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
