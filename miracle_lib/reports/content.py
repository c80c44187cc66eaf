"""What a report says, as plain values that a template can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from miracle_lib.estimator.distances import KINDS
from miracle_lib.estimator.reliability import REFUSED, RELIABLE, UNCERTAIN, site_weights
from miracle_lib.plots.report import Drawing, as_svg, held_out_scores
from miracle_lib.preprocessing import estimate_cell_fractions, is_blood
from miracle_lib.reports.evidence import Evidence, Push, pushes

if TYPE_CHECKING:
    from miracle_lib.estimator import MiracleClassifier
    from miracle_lib.limits import Limits

CLASSES = {"control": 0, "case": 1}
N_MISSING = 5  # sites that are named
VERDICTS = (RELIABLE, UNCERTAIN, REFUSED)
BRIEF = ("verdict", "probability", "low", "high")
ANSWER = (*BRIEF, "reason", "classes", "score", "weight_present", "cohort")


@dataclass(frozen=True)
class Batch:
    """Samples that were predicted, and what there is to explain them; see `write_report`."""

    model: MiracleClassifier
    X: pd.DataFrame
    result: pd.DataFrame
    limits: Limits
    evidence: Evidence | None = None
    cell_reference: pd.DataFrame | None = None

    def take(self, samples: pd.Index) -> Batch:
        """Return some of the samples."""
        return replace(self, X=self.X.loc[samples], result=self.result.loc[samples])

    def usable(self, task: str) -> pd.DataFrame:
        """Return the values of the samples that are not refused in a task."""
        return self.X[(self.result[f"verdict[{task}]"] != REFUSED).to_numpy()]


@dataclass(frozen=True)
class TaskSummary:
    """One task over the batch.

    Attributes
    ----------
    name : str
    verdicts : dict of str to int
        How many samples have each.
    known : dict of str to ndarray
        Held-out scores of controls and of cases; empty where the model has none.
    drawing, batch_drawing : Drawing or None
        These scores with a line for a sample, and with ticks for the batch.
    n_survivors : int or None
        Pathways that survived their controls; None where no controls exist.
    """

    name: str
    verdicts: dict[str, int]
    known: dict[str, np.ndarray]
    drawing: Drawing | None
    batch_drawing: Drawing | None
    n_survivors: int | None


@dataclass(frozen=True)
class Distance:
    """How far a sample lies from a cohort, and how far held-out samples of it lie at most."""

    cohort: str
    kind: str
    value: float
    limit: float


@dataclass(frozen=True)
class Answer:
    """What is said of one sample in one task: columns of `miracle_lib.predict`, and why.

    ``missing`` are the sites without a value that the task leans on most, with their shares of its
    weight; ``below`` is the share of held-out samples of each class that score less; ``pushes`` is
    None where the sample is refused or no controls exist.
    """

    task: str
    probability: float
    low: float
    high: float
    classes: str
    score: float
    weight_present: float
    cohort: str
    verdict: str
    reason: str
    missing: dict[str, float]
    below: dict[str, float]
    pushes: list[Push] | None


@dataclass(frozen=True)
class SamplePage:
    """Everything on the page of one sample.

    ``cells`` is None without a reference or a model of blood, and empty where the sample does not
    allow an estimate.
    """

    name: str
    warnings: list[str]
    call_rate: float
    sites_present: int
    sex: str
    distances: list[Distance]
    answers: list[Answer]
    cells: dict[str, float] | None


def summarise(batch: Batch) -> list[TaskSummary]:
    """Say of each task what holds for the whole batch."""
    return [_summary(batch, task) for task in batch.model.tasks_]


def describe_samples(batch: Batch, tasks: list[TaskSummary]) -> list[SamplePage]:
    """Say of each sample what its page shows."""
    moved, cells = {task.name: _pushes(batch, task.name) for task in tasks}, _cells(batch)
    missing = {task.name: _missing(batch, task.name) for task in tasks}
    return [
        SamplePage(
            name=str(sample),
            warnings=_warnings(row, batch.model.tasks_),
            call_rate=row["call_rate"],
            sites_present=round(row["sites_present"] * len(batch.model.sites_)),
            sex=row["sex_predicted"],
            distances=list(_distances(batch, row)),
            answers=[
                _answer(row, task, missing[task.name][sample], moved[task.name].get(sample))
                for task in tasks
            ],
            cells=None if cells is None else cells.get(sample, {}),
        )
        for sample, row in batch.result.iterrows()
    ]


def describe_rows(batch: Batch, files: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Say of each sample what the table of the batch shows, and which file is its page."""
    for sample, row in batch.result.to_dict("index").items():
        yield {
            "name": str(sample),
            "file": files.get(str(sample)),
            "answers": [
                {name: row[f"{name}[{task}]"] for name in BRIEF} for task in batch.model.tasks_
            ],
            "sites_present": row["sites_present"],
            "warning": row["warning"],
        }


def _summary(batch: Batch, task: str) -> TaskSummary:
    """Count and draw one task."""
    counts = batch.result[f"verdict[{task}]"].value_counts()
    known = _held_out(batch.model, task)
    new = batch.result.loc[batch.usable(task).index, f"score[{task}]"].to_numpy()
    return TaskSummary(
        name=task,
        verdicts={verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS},
        known=known,
        drawing=as_svg(held_out_scores(**known)) if known else None,
        batch_drawing=as_svg(held_out_scores(**known, new=new)) if known else None,
        n_survivors=None if batch.evidence is None else len(batch.evidence.survivors(task)),
    )


def _held_out(model: MiracleClassifier, task: str) -> dict[str, np.ndarray]:
    """Held-out scores of controls and of cases; empty where there are none."""
    if model.held_out_ is None:
        return {}
    known = model.held_out_[model.held_out_["task"] == task]
    scores = {
        name: known.loc[known["label"] == label, "score"].to_numpy()
        for name, label in CLASSES.items()
    }
    return scores if len(known) else {}


def _pushes(batch: Batch, task: str) -> dict[Any, list[Push]]:
    """Pathways that move each sample that is predicted; none where no controls exist."""
    if batch.evidence is None:
        return {}
    values = batch.usable(task).reindex(columns=batch.model.sites_)
    survivors = batch.evidence.survivors(task)
    return pushes(batch.model, values, task, survivors, batch.result[f"cohort[{task}]"])


def _cells(batch: Batch) -> dict[Any, dict[str, float]] | None:
    """Cell fractions by sample, of those that are predicted in some task of a model of blood."""
    card = batch.model.card_
    blood = card is not None and all(is_blood(cohort.tissue) for cohort in card.cohorts)
    if batch.cell_reference is None or not blood:
        return None
    refused = (batch.result.filter(like="verdict[") == REFUSED).all(axis=1)
    fractions = estimate_cell_fractions(batch.X[~refused.to_numpy()], batch.cell_reference)
    fractions = fractions.dropna().rename(columns=lambda name: name.removeprefix("cell_"))
    return fractions.to_dict("index")


def _warnings(row: pd.Series, tasks: list[str]) -> list[str]:
    """What is wrong with a sample, then what is wrong with it in single tasks."""
    of_tasks = [
        f"{task}: {row[f'verdict[{task}]']}: {row[f'reason[{task}]']}"
        for task in tasks
        if row[f"reason[{task}]"] not in row["warning"]
    ]
    return [text for text in row["warning"].split("; ") if text] + of_tasks


def _distances(batch: Batch, row: pd.Series) -> Iterator[Distance]:
    """Distances of a sample from every training cohort."""
    model = batch.model
    for cohort in model.standardizer_.cohorts_:
        for kind, words in KINDS.items():
            limit = model.familiarity_.limit(kind, cohort, batch.limits.quantile)
            yield Distance(cohort, words, row[f"{kind}[{cohort}]"], limit)


def _missing(batch: Batch, task: str) -> dict[Any, dict[str, float]]:
    """By sample, the heaviest sites of a task that have no value."""
    weights = site_weights(batch.model, task).sort_values(ascending=False)
    absent = batch.X.reindex(columns=weights.index).isna()
    return {
        sample: weights[row.to_numpy()][:N_MISSING].to_dict() for sample, row in absent.iterrows()
    }


def _answer(
    row: pd.Series, task: TaskSummary, missing: dict[str, float], moved: list[Push] | None
) -> Answer:
    """What is said of a sample in one task."""
    columns = {name: row[f"{name}[{task.name}]"] for name in ANSWER}
    below = {name: float((known < columns["score"]).mean()) for name, known in task.known.items()}
    return Answer(task=task.name, missing=missing, below=below, pushes=moved, **columns)
