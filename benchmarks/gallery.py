"""The scores of a finished run, for the gallery of the book: one small file and one picture.

``GALLERY_RUN`` names the folder of the run. ``GALLERY_NAME`` (default: its profile) is what the
entry is called, ``GALLERY_SIMULATED=1`` says that the values of real series were simulated.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import yaml

from miracle_lib import __version__
from miracle_lib.config import Parameters
from miracle_lib.evaluation import summarise
from miracle_lib.pipeline import reopen_run
from miracle_lib.pipeline.models import score_tables
from miracle_lib.pipeline.run import Run
from miracle_lib.plots import style
from miracle_lib.plots.evaluation import score_forest
from miracle_lib.resources import BOOK


def main() -> None:
    run = reopen_run(os.environ["GALLERY_RUN"])
    name = os.environ.get("GALLERY_NAME", Path(run.parameters.profile).stem)
    summaries = {
        method: summarise(table, ("auroc",)) for method, table in score_tables(run).items()
    }
    simulated = run.profile.simulated or os.environ.get("GALLERY_SIMULATED") == "1"
    about = {
        "title": run.profile.title,
        "data": "simulated" if simulated else "real",
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
        "command": command(run),
        "auroc": rows(summaries),
    }
    text = yaml.safe_dump(about, sort_keys=False, default_flow_style=None, width=100)
    (BOOK / "gallery" / f"{name}.yaml").write_text(text)
    ending, picture = style.rendered(score_forest(summaries, own="MIRACLE"))
    (BOOK / "images" / f"{name}_scores.{ending}").write_bytes(picture)


def command(run: Run) -> str:
    """The command line that made a run, without its folders."""
    usual = Parameters().model_dump() | {"run_dir": run.parameters.run_dir}
    usual |= run.profile.parameters
    given = run.parameters.model_dump(exclude={"profile"})
    options = [f"-p {name}={value}" for name, value in given.items() if value != usual[name]]
    return " ".join(["miracle run --profile", Path(run.parameters.profile).name, *options])


def rows(summaries: dict[str, pd.DataFrame]) -> list[dict]:
    """Score and interval of every method, task by task; the last row is the mean."""
    tables = {method: table.set_index("task") for method, table in summaries.items()}
    own = next(iter(tables.values()))
    found = []
    for task in own.index:
        row = {"task": str(task)}
        if own["n"].notna()[task]:
            row |= {"patients": int(own["n"][task]), "cases": int(own["n_cases"][task])}
        numbers = {m: t.loc[task, ["estimate", "low", "high"]] for m, t in tables.items()}
        found.append(row | {m: [round(float(x), 3) for x in n] for m, n in numbers.items()})
    return found
