"""The open questions at full scale: simulations whose answer is known.

Finished cells are kept in the folder MIRACLE_CELLS (default ``runs/benchmark_open_questions``), so
an interrupted run continues.
"""

import os
import platform
import time
from pathlib import Path

import pandas as pd

from miracle_lib.studies import (
    held_out_edges,
    hidden_effects,
    hidden_patterns,
    mean_interval,
    sharing_effects,
    sharing_sweep,
)
from miracle_lib.studies.open_questions import EDGES, HIDDEN
from miracle_lib.studies.sharing import SWEEPS

CELLS = Path(os.environ.get("MIRACLE_CELLS", "runs/benchmark_open_questions"))
WHERE = {"store": CELLS, "scale": "full", "n_jobs": -1}


def _show(title: str, note: str, table: pd.DataFrame) -> None:
    """Print a table under a heading and what it shows."""
    counts = table.columns.intersection(["n", "n_replicates"])
    text = table.astype(dict.fromkeys(counts, int)).astype(object)
    text = text.map(lambda value: f"{value:.3f}" if isinstance(value, float) else value)
    numbers = text.replace("nan", "").to_markdown(index=False, disable_numparse=True)
    print(f"\n## {title}\n\n{note}\n\n{numbers}", flush=True)


def main() -> None:
    start = time.perf_counter()
    print("# The open questions on simulated cohorts\n")
    print("Command: `python -m benchmarks open_questions`\n")
    print(
        "Six simulated tasks; means over independent replicates with 95 % intervals (Student's t). "
        f"{os.cpu_count()} cores, {platform.machine()}."
    )
    sweep = SWEEPS["full"]
    _show(
        "When learning the tasks together helps and when it hurts",
        f"AUROC of multi- minus single-task networks on {sweep['n_test']} held-out subjects per "
        "task, by the share of planted pathways that all tasks have in common and by training "
        "subjects per task.",
        sharing_effects(sharing_sweep(**WHERE)),
    )
    patterns = hidden_patterns(**WHERE)
    levels = patterns.drop(columns="seed").groupby(["outside", "model"], sort=False).mean()
    _show(
        "Do the constraints hide new patterns?",
        f"{HIDDEN['full']['n']} training subjects per task. `outside`: share of the effect planted "
        "in genes that no pathway contains. `found_inside`, `found_outside`: probability that a "
        "planted site is attributed more than one that is not (0.5 is chance).",
        levels.reset_index(),
    )
    _show(
        "The same as differences from the network without residual block",
        "Paired by replicate.",
        hidden_effects(patterns),
    )
    edges = held_out_edges(**WHERE)
    measures = {name: mean_interval(edges[name]) for name in ("weight", "correlation")}
    _show(
        "Are held-out edges found again?",
        f"{EDGES['full']['n']} training subjects per task, a tenth of the gene-pathway edges held "
        "out; probability that a true edge ranks above a false one.",
        pd.DataFrame(measures).T.rename_axis("measure").reset_index(),
    )
    print(f"\nThis call took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
