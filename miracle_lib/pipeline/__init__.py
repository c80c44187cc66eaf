"""From parameters to a run directory, executed notebooks and a book."""

from miracle_lib.pipeline import steps  # registers the steps
from miracle_lib.pipeline.book import build_book
from miracle_lib.pipeline.notebooks import execute_run
from miracle_lib.pipeline.run import Run, open_run

__all__ = ["Run", "build_book", "execute_run", "open_run", "steps"]
