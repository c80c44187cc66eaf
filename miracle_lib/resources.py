"""Where the manifests, the notebooks and the book sources lie.

In a clone they stand beside the package, where they are edited; a wheel carries them inside it.
Both are only read: a run, a book and a cache are written elsewhere.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "_share").is_dir()  # False: a clone, or an editable install of one
ROOT = PACKAGE / "_share" if INSTALLED else PACKAGE.parent
MANIFEST = ROOT / "data_manifest"
NOTEBOOKS = ROOT / "notebooks"
BOOK = ROOT / "book"
