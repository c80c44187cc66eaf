"""The open questions: simulations whose answer is known, as the last steps of a run."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from miracle_lib.pipeline.models import workers
from miracle_lib.pipeline.run import Run, step
from miracle_lib.studies import held_out_edges, hidden_patterns, sharing_sweep

QUESTIONS: dict[str, Callable[..., pd.DataFrame]] = {
    "sharing": sharing_sweep,
    "hidden": hidden_patterns,
    "edges": held_out_edges,
}


@step(uses=("seed", "grid"))
def open_questions(run: Run, folder: Path) -> None:
    """Simulate what the paper left open; finished cells are kept one by one."""
    for name, ask in QUESTIONS.items():
        answer = ask(folder / "cells", scale=run.parameters.grid, **workers(run))
        answer.to_csv(folder / f"{name}.csv")


def answer(run: Run, name: str) -> pd.DataFrame:
    """Table of one question: sharing, hidden or edges."""
    return run.table("open_questions", name)
