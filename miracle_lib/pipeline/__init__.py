"""From parameters to a run directory, executed notebooks and a book."""

# Importing them registers their steps.
from miracle_lib.pipeline import answers, data, ewas, external, models, paper, questions
from miracle_lib.pipeline.book import build_book
from miracle_lib.pipeline.notebooks import execute_run
from miracle_lib.pipeline.pdf import print_book
from miracle_lib.pipeline.run import Run, open_run, reopen_run

__all__ = [
    "Run",
    "answers",
    "build_book",
    "data",
    "ewas",
    "execute_run",
    "external",
    "models",
    "open_run",
    "paper",
    "print_book",
    "questions",
    "reopen_run",
]
