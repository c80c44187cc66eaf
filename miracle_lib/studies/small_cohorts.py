"""What the other diseases add where a cohort is small: a learning curve with and without them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from miracle_lib.evaluation.grid import Cell, Data, Tables, run_grid
from miracle_lib.evaluation.metrics import score_task
from miracle_lib.evaluation.validation import fitted, probabilities
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.samples import Samples
from miracle_lib.studies.first_experiments import largest_tasks
from miracle_lib.studies.variants import Variant, build, selection_of

SIZES = (20, 40, 80)
LEAST_TEST = 20  # samples that must be left to test
SCALES = {"small": {"n_tasks": 2, "n_draws": 2}, "full": {"n_tasks": 6, "n_draws": 10}}
LEARNERS: dict[str, tuple[str | None, bool]] = {
    "MIRACLE, with the other diseases": (None, True),
    "MIRACLE, alone": (None, False),
    "L2 logistic regression": ("logistic_l2", False),
}


def small_cohort(samples: Samples, task: str, n: int, seed: int) -> tuple[Samples, Samples]:
    """Draw about ``n`` samples of a task to train on; all its others are there to test.

    Subjects are kept whole, and cases and controls drawn in the proportion that they have.

    Returns
    -------
    train : Samples
        Those drawn, and the samples that are labelled for other tasks alone.
    test : Samples
        Of the task, none of whose subjects is in ``train``.
    """
    labelled = samples.labels[task].notna().to_numpy()
    subject = np.asarray(samples.names if samples.subject is None else samples.subject)
    people = pd.Series(samples.labels[task].to_numpy()[labelled], subject[labelled])
    people = people.groupby(level=0).max()
    chosen = people.groupby(people).sample(frac=n / labelled.sum(), random_state=seed).index
    drawn = np.isin(subject, chosen)
    tested = labelled & ~drawn
    elsewhere = ~labelled & ~np.isin(subject, subject[tested])
    return samples.take((labelled & drawn) | elsewhere), samples.take(tested)


def _draws(samples: Samples, scale: str) -> Iterator[tuple[str, int, int]]:
    """Yield task, size and number of every draw."""
    size, counts = SCALES[scale], samples.labels.notna().sum()
    tasks = largest_tasks(samples.labels, size["n_tasks"]) if len(samples.tasks) > 1 else []
    for task in tasks:
        for n in (n for n in SIZES if counts[task] - n >= LEAST_TEST):
            for draw in range(size["n_draws"]):
                yield task, n, draw


def training_sets(samples: Samples, scale: str, random_state: int = 0) -> Iterator[np.ndarray]:
    """Yield the positions of the samples that every draw trains on."""
    for task, n, draw in _draws(samples, scale):
        train, _ = small_cohort(samples, task, n, random_state + draw)
        yield samples.names.get_indexer(train.names)


def curve_cell(
    task: str,
    n: int,
    seed: int,
    variant: dict[str, Any],
    together: bool,
    samples: Samples,
    hierarchy: Hierarchy,
) -> Tables:
    """Score one method that has seen ``n`` samples of a task."""
    train, test = small_cohort(samples, task, n, seed)
    model = fitted(
        build(Variant(**variant), hierarchy, seed), train if together else train.task(task)
    )
    score = probabilities(model, test)[task]
    row = {"auroc": score_task(test.labels[task].to_numpy(), score.to_numpy())["auroc"]}
    return {"scores": pd.DataFrame([row])}


def learning_curve(
    samples: Samples,
    hierarchy: Hierarchy,
    store: str | Path,
    *,
    selector: SiteSelector | None = None,
    scale: str = "small",
    n_jobs: int = 1,
    random_state: int = 0,
) -> pd.DataFrame:
    """Learn a task from 20, 40 and 80 of its samples, alone and with the other diseases.

    Parameters
    ----------
    samples : Samples
    hierarchy : Hierarchy
    store, n_jobs
        As in :func:`run_grid`.
    selector : SiteSelector, optional
        Fitted on the training part, before every method.
    scale : {"small", "full"}, default "small"
        The two or six largest tasks, two or ten draws.
    random_state : int, default 0
        Draw i has the seed ``random_state + i``.

    Returns
    -------
    DataFrame
        One row per task, n, draw and method: auroc on the samples of the task that were not drawn.
        Draws share samples, so their spread is no interval. Empty with one task, or without a task
        that leaves 20 samples to test.
    """
    data = Data(samples=samples, hierarchy=hierarchy)
    cells, owners = [], []
    for task, n, draw in _draws(samples, scale):
        for method, (baseline, together) in LEARNERS.items():
            variant = {"baseline": baseline} | selection_of(selector)
            settings = {"task": task, "n": n, "seed": random_state + draw}
            settings |= {"variant": variant, "together": together}
            cells.append(Cell(curve_cell, settings, data))
            owners.append({"task": task, "n": n, "draw": draw, "method": method})
    found = run_grid(cells, store, n_jobs)
    rows = [
        owner | {"auroc": tables["scores"]["auroc"].item()}
        for owner, tables in zip(owners, found, strict=True)
    ]
    return pd.DataFrame(rows, columns=["task", "n", "draw", "method", "auroc"])


def curve_means(curve: pd.DataFrame) -> pd.DataFrame:
    """Mean AUROC of each task, size and method, and its spread over the draws.

    Parameters
    ----------
    curve : DataFrame
        Result of :func:`learning_curve`.

    Returns
    -------
    DataFrame
        task, n, method, auroc (mean over draws), sd (over draws), n_draws.
    """
    cells = curve.groupby(["task", "n", "method"], sort=False)["auroc"]
    return cells.agg(auroc="mean", sd="std", n_draws="size").reset_index()
