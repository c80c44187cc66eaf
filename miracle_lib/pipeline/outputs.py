"""What a run has made, under names that a person would look for."""

import os
import shutil
from pathlib import Path

import pandas as pd

from miracle_lib.pipeline.run import STEPS, Run
from miracle_lib.studies.another_hospital import OWN
from miracle_lib.studies.hospital_views import AS_IT_IS


def publish(run: Run) -> dict[str, Path]:
    """Lay out what is finished in the run's folder: samples, model and tables.

    Parameters
    ----------
    run : Run
        Steps that are not finished are left out; nothing is computed.

    Returns
    -------
    dict of str to Path
        What there is: samples, model, tables, figures, notebooks, book.
    """
    finished = [name for name in STEPS if run.done(name)]
    # What earlier parameters or code have made must not stand beside the parameters of now.
    (run.directory / "samples.h5ad").unlink(missing_ok=True)
    if "samples" in finished:
        _link(run.folder("samples") / "samples.h5ad", run.directory / "samples.h5ad")
    if "model" not in finished:
        shutil.rmtree(run.directory / "model", ignore_errors=True)
    for name in ("model", "calibrated"):  # the second is the first, with its held-out scores
        if name in finished:
            _replace(run.folder(name) / "model", run.directory / "model")
    if {"calibrated", "elsewhere"} <= set(finished):
        _add_elsewhere(run)
    tables = run.directory / "tables"
    shutil.rmtree(tables, ignore_errors=True)
    for name in finished:
        folder = run.folder(name)
        for table in sorted(folder.rglob("*.csv")):
            target = tables / name / table.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(table, target)
    places = {
        "samples": run.directory / "samples.h5ad",
        "model": run.directory / "model",
        "tables": tables,
        "figures": run.directory / "figures",
        "notebooks": run.directory / "notebooks",
        "book": run.directory / "book" / "_build" / "html" / "index.html",
    }
    return {name: path for name, path in places.items() if path.exists()}


def _add_elsewhere(run: Run) -> None:
    """Put scores in cohorts that were not trained on beside those within, on the model's card."""
    target = run.directory / "model" / "scores.csv"
    within, found = pd.read_csv(target), run.table("elsewhere", "scores")
    plain = (found["method"] == OWN) & (found["view"] == AS_IT_IS)
    away = found[plain & (found["where"] == "without")]
    away = away.assign(where=away["test"] + ", trained on " + away["train"])
    away = away[away["metric"].isin(within["metric"])]
    if len(away):
        pd.concat([within, away], join="inner").to_csv(target, index=False)


def _link(source: Path, target: Path) -> None:
    """Give a large file a second name; a copy where the disk has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _replace(source: Path, target: Path) -> None:
    """Copy a folder; the old one stays until the copy is whole."""
    fresh = target.with_name(f".{target.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, copy_function=shutil.copyfile)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
