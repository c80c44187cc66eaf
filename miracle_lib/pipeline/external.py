"""Another hospital: cohorts that only test, as steps of a run."""

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from miracle_lib.cohorts import list_pairs
from miracle_lib.pipeline.data import (
    all_samples,
    as_samples,
    control,
    graph,
    raw_cohorts,
    samples_at,
    write_cohorts,
)
from miracle_lib.pipeline.inputs import load_external
from miracle_lib.pipeline.models import workers
from miracle_lib.pipeline.run import Run, step
from miracle_lib.pipeline.selection import site_selector, study_samples
from miracle_lib.samples import Samples
from miracle_lib.studies.another_hospital import (
    hospital_scores,
    leave_one_cohort_out,
    pairs_of,
    rounds_of,
)
from miracle_lib.studies.small_cohorts import learning_curve

LEARNING = ("seed", "selection", "n_sites")


@step(reads=("external", "array"))
def external_cohorts(run: Run, folder: Path) -> None:
    """Read or simulate each cohort that only tests, as it comes."""
    write_cohorts(load_external(run.profile, run.parameters.seed, run.mirror), folder)


@step(reads=("quality", "cell_reference", "merging"), after=("external_cohorts",))
def hospitals(run: Run, folder: Path) -> None:
    """Control the quality of the cohorts that only test, and merge them, if there are any."""
    if next(raw_cohorts(run, "external_cohorts"), None) is not None:
        control(run, "external_cohorts", folder)


@step(uses=(*LEARNING, "n_folds"), after=("samples", "hospitals", "hierarchy"))
def elsewhere(run: Run, folder: Path) -> None:
    """Score within cohorts and without; leave each cohort of a task out in turn."""
    samples, common = every_hospital(run), {"selector": site_selector(run), **workers(run)}
    cells = folder / "cells"
    scores = hospital_scores(
        samples, graph(run), external(run), cells, n_splits=run.parameters.n_folds, **common
    )
    scores.to_csv(folder / "scores.csv")
    leave_one_cohort_out(samples, graph(run), cells, **common).to_csv(folder / "rounds.csv")


@step(uses=(*LEARNING, "grid"), after=("hierarchy", "study_candidates"))
def small_cohorts(run: Run, folder: Path) -> None:
    """Learn the largest tasks from few of their samples, alone and with the other diseases."""
    curve = learning_curve(
        study_samples(run, "small_cohorts"),
        graph(run),
        folder / "cells",
        selector=site_selector(run),
        scale=run.parameters.grid,
        **workers(run),
    )
    curve.to_csv(folder / "curve.csv")


def external(run: Run) -> list[str]:
    """Names of the cohorts that only test."""
    other = _other_samples(run)
    return [] if other is None or other.cohort is None else sorted(set(other.cohort))


def _other_samples(run: Run) -> Samples | None:
    """Samples of the cohorts that only test, if there are any."""

    def read(path: Path) -> Samples | None:
        return as_samples(anndata.read_h5ad(path)) if path.is_file() else None

    return run.load("hospitals", "samples.h5ad", read)


def every_hospital(run: Run) -> Samples:
    """All samples of the run and those of the cohorts that only test, at the sites of the run.

    Without values where no task has a second cohort: there is nothing to test then.
    """
    bare, other = samples_at(run, []), _other_samples(run)
    if other is None and not rounds_of(bare):
        return bare
    home = all_samples(run)
    if other is None:
        return home
    values = np.concatenate([home.values, other.values.reindex(columns=home.sites)])
    names = home.names.append(other.names)
    known: dict[str, Any] = {
        # As objects: a column that is empty in one of them must not decide the type of the whole.
        name: pd.concat([getattr(part, name).astype(object) for part in (home, other)])
        for name in ("labels", "cohort", "subject", "covariates")
    }
    known["covariates"] = known["covariates"].infer_objects()
    return Samples(pd.DataFrame(values, names, home.sites, copy=False), **known)


def pairs(run: Run) -> pd.DataFrame:
    """What is tested where, and how the cohort tested is known to differ.

    Returns
    -------
    DataFrame
        task, train, test, samples, cases (share), known; published: AUROC that others report for
        the pair. Empty where no disease of the run has a second cohort.
    """
    samples, public = every_hospital(run), list_pairs().drop_duplicates(["task", "test"])
    told = public.set_index(["task", "test"])
    rows = []
    for task, train, test in pairs_of(samples, external(run)):
        label = samples.labels.loc[samples.cohort == test, task].dropna()
        row = {"task": task, "train": " + ".join(train), "test": test, "samples": len(label)}
        row |= {"cases": label.mean(), "known": planted(run).get(test, ""), "published": np.nan}
        if (task, test) in told.index:
            row |= told.loc[(task, test), ["known", "published"]].to_dict()
        rows.append(row)
    columns = ["task", "train", "test", "samples", "cases", "known", "published"]
    return pd.DataFrame(rows, columns=columns)


def planted(run: Run) -> dict[str, str]:
    """How simulated cohorts that only test differ from the first, by name."""
    if not run.profile.simulated:
        return {}
    return {
        str(adata.obs["cohort"].iloc[0]): adata.uns["provenance"]["settings"]
        for adata in raw_cohorts(run, "external_cohorts")
    }


def scores(run: Run) -> pd.DataFrame:
    """Scores within and without, see `hospital_scores`."""
    return run.table("elsewhere", "scores")


def rounds(run: Run) -> pd.DataFrame:
    """Scores of cohorts left out, see `leave_one_cohort_out`."""
    return run.table("elsewhere", "rounds")


def curve(run: Run) -> pd.DataFrame:
    """Scores of small cohorts, see `learning_curve`."""
    return run.table("small_cohorts", "curve")
