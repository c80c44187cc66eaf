"""The model, its scores and its ablations: the middle steps of a run, and what reads them."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator

from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation import (
    PerTaskBaseline,
    cross_validate,
    failure_signs,
    make_folds,
    scores_of,
    summarise,
)
from miracle_lib.evaluation.validation import fitted
from miracle_lib.files import atomic_path
from miracle_lib.pipeline.data import graph, raw_cohorts, sample_table, samples_at
from miracle_lib.pipeline.run import Run, step
from miracle_lib.pipeline.selection import (
    ablation_plan,
    chosen_samples,
    fold_samples,
    selected,
    site_selector,
    study_samples,
)
from miracle_lib.preprocessing.sex import SexReference
from miracle_lib.studies import Ablations, run_ablations
from miracle_lib.studies.first_experiments import reconstruction_curve, two_cohorts
from miracle_lib.training.storage import Card, CohortCard

log = logging.getLogger(__name__)

FITTING = ("seed", "weighting", "device", "selection", "n_sites")
REFERENCES = {
    "L2 logistic regression": "logistic_l2",
    "covariates only": "covariates",
    "best single CpG": "single_cpg",
}


@step(uses=FITTING, after=("cohorts", "hierarchy", "chosen"))
def model(run: Run, folder: Path) -> None:
    """Fit the model on all samples, and say what it was trained on; scores come from folds."""
    unfitted = classifier(run).set_params(training__checkpoint_dir=folder / "checkpoint")
    model = fitted(unfitted, chosen_samples(run))
    shutil.rmtree(folder / "model", ignore_errors=True)  # what is left of a damaged one
    model.sex_, model.card_ = SexReference.learn(raw_cohorts(run)), _card(run)
    # A saved model names no folder of this machine.
    model.set_params(training__checkpoint_dir=None).save(folder / "model")
    model.history_.to_csv(folder / "history.csv")


@step(uses=(*FITTING, "n_folds", "n_repeats"), after=("hierarchy", "candidates"))
def scores(run: Run, folder: Path) -> None:
    """Cross-validate the model and its reference methods on the same folds."""
    seed = run.parameters.seed
    methods = {
        title: PerTaskBaseline(name, random_state=seed) for title, name in REFERENCES.items()
    }
    for title, method in {"MIRACLE": classifier(run), **methods}.items():
        target = folder / f"{title}.csv"
        if not target.is_file():
            log.info("scores: %s", title)
            predictions = cross_validated(run, selected(run, method)).attrs["predictions"]
            with atomic_path(target) as temporary:
                predictions.to_csv(temporary)


@step(uses=(*FITTING, "n_folds", "n_repeats"), after=("model", "scores"))
def calibrated(run: Run, folder: Path) -> None:
    """Add the scores of held-out samples, which calibrate those of new ones."""
    model = MiracleClassifier.load(run.folder("model") / "model")
    scores = score_tables(run)["MIRACLE"]
    model.keep_held_out(scores).save(folder / "model")
    table = summarise(scores).assign(where="held-out folds")
    table.to_csv(folder / "model" / "scores.csv", index=False)


def _card(run: Run) -> Card:
    """What each task was trained on."""
    samples = samples_at(run, [])
    about = sample_table(run).reindex(columns=["cohort", "tissue", "platform"])
    about = about.fillna("not stated").astype(str)
    cohorts = []
    for task, label in samples.labels.items():
        for name, part in about[label.notna()].groupby("cohort"):
            tissue, platform = (", ".join(part[key].unique()) for key in ("tissue", "platform"))
            cases, controls = (int((label[part.index] == value).sum()) for value in (1, 0))
            cohorts.append(
                CohortCard(
                    name=str(name),
                    task=str(task),
                    tissue=tissue,
                    platform=platform,
                    cases=cases,
                    controls=controls,
                )
            )
    return Card(simulated=run.profile.simulated, cohorts=cohorts)


@step(uses=(*FITTING, "n_folds"), after=("hierarchy", "candidates"))
def experiments(run: Run, folder: Path) -> None:
    """The first experiments: the autoencoder alone, one task, two tasks apart and together."""
    samples, seed = fold_samples(run), run.parameters.seed
    method = selected(run, classifier(run))
    curve = reconstruction_curve(method, samples, random_state=seed)
    curve.to_csv(folder / "reconstruction.csv")
    scores = two_cohorts(method, samples, n_splits=run.parameters.n_folds, random_state=seed)
    for name, table in scores.items():
        table.attrs["predictions"].to_csv(folder / f"{name}.csv")


@step(uses=(*FITTING, "n_folds", "grid"), after=("hierarchy", "candidates", "scores", "ablations"))
def signs(run: Run, folder: Path) -> None:
    """Look for the usual ways to fail, in a model that has not seen one of the folds."""
    samples, parameters = fold_samples(run), run.parameters
    folds = make_folds(samples, n_splits=parameters.n_folds, random_state=parameters.seed)
    fold = next(iter(folds))
    model = fitted(selected(run, classifier(run)), samples.take(fold.train))
    tables = score_tables(run)
    table = failure_signs(
        model,
        samples.take(fold.test),
        scores=tables["MIRACLE"],
        covariate_scores=tables["covariates only"],
        pathways=ablation_results(run).pathways.query("level == 'miracle'"),
    )
    table.to_csv(folder / "signs.csv")


@step(
    uses=("seed", "grid", "selection", "n_sites"),
    reads=("ablations",),
    after=("hierarchy", "study_candidates"),
)
def ablations(run: Run, folder: Path) -> None:
    """Take the model apart, one part at a time; finished cells are kept one by one."""
    results = run_ablations(
        ablation_plan(run),
        study_samples(run, "ablations"),
        hierarchy=graph(run),
        store=folder / "cells",
        scale=run.parameters.grid,
        selector=site_selector(run),
        **workers(run),
    )
    results.save(folder)


def classifier(run: Run) -> MiracleClassifier:
    """Give the model that the parameters describe, not fitted."""
    values = run.parameters
    return MiracleClassifier(
        graph(run), weighting=values.weighting, device=values.device, random_state=values.seed
    )


def cross_validated(run: Run, method: BaseEstimator) -> pd.DataFrame:
    """Score a method on the folds of the run, subjects kept together."""
    return cross_validate(
        method,
        fold_samples(run),
        n_splits=run.parameters.n_folds,
        n_repeats=run.parameters.n_repeats,
        random_state=run.parameters.seed,
    )


def fitted_model(run: Run) -> MiracleClassifier:
    """Model fitted on all samples of the run."""
    return run.load("model", "model", MiracleClassifier.load)


def score_tables(run: Run) -> dict[str, pd.DataFrame]:
    """Scores by task and fold, with predictions attached, for each method of the run."""
    return _scores(run, "scores", ["MIRACLE", *REFERENCES])


def two_cohort_scores(run: Run) -> dict[str, pd.DataFrame]:
    """Scores of the two largest tasks, learned alone and together."""
    return _scores(run, "experiments", ["alone", "together"])


def _scores(run: Run, step: str, names: list[str]) -> dict[str, pd.DataFrame]:
    """Score the predictions that a step has kept."""
    return {name: scores_of(run.table(step, name)) for name in names}


def ablation_results(run: Run) -> Ablations:
    """Results of the grid of ablations."""
    return run.load("ablations", "", Ablations.load)


def workers(run: Run) -> dict[str, Any]:
    """How a grid of cells runs on this machine, and from which seed."""
    n_jobs = int(os.environ.get("MIRACLE_JOBS", "-1"))
    return {"n_jobs": n_jobs, "random_state": run.parameters.seed}
