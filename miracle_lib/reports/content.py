"""What a report says, as plain values that a template can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from miracle_lib.estimator.distances import KINDS
from miracle_lib.estimator.reliability import REFUSED, RELIABLE, UNCERTAIN
from miracle_lib.plots.report import Drawing, as_svg, held_out_scores
from miracle_lib.reports.evidence import Evidence, Push, pushes

if TYPE_CHECKING:
    from miracle_lib.estimator import MiracleClassifier
    from miracle_lib.limits import Limits

VERDICTS = (RELIABLE, UNCERTAIN, REFUSED)
BRIEF = ("verdict", "probability", "low", "high")
ANSWER = (*BRIEF, "reason", "classes", "score", "weight_present", "cohort")


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

    ``below`` says by class how many of the held-out samples have a smaller score;
    ``pushes`` is None where no controls exist.
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
    below: dict[str, float]
    pushes: list[Push] | None


@dataclass(frozen=True)
class SamplePage:
    """Everything on the page of one sample."""

    name: str
    warnings: list[str]
    call_rate: float
    sites_present: int
    sex: str
    distances: list[Distance]
    answers: list[Answer]
    cells: dict[str, float]


@dataclass(frozen=True)
class TaskSummary:
    """One task over the batch: verdicts counted, and the held-out scores behind both pages."""

    name: str
    verdicts: dict[str, int]
    known: dict[str, np.ndarray] = field(default_factory=dict)
    drawing: Drawing | None = None
    batch_drawing: Drawing | None = None
    n_survivors: int | None = None


def summarise(
    model: MiracleClassifier, result: pd.DataFrame, evidence: Evidence | None
) -> list[TaskSummary]:
    """Say of each task what holds for the whole batch."""
    found = []
    for task in model.tasks_:
        counts = result[f"verdict[{task}]"].value_counts()
        held_out = model.held_out_
        known = {} if held_out is None else _by_class(held_out[held_out["task"] == task])
        alone = batch = None
        if known:
            new = result.loc[result[f"verdict[{task}]"] != REFUSED, f"score[{task}]"].to_numpy()
            alone = as_svg(held_out_scores(**known))
            batch = as_svg(held_out_scores(**known, new=new))
        found.append(
            TaskSummary(
                task,
                {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS},
                known,
                alone,
                batch,
                None if evidence is None else len(evidence.survivors(task)),
            )
        )
    return found


def describe_samples(
    model: MiracleClassifier,
    X: pd.DataFrame,
    result: pd.DataFrame,
    tasks: list[TaskSummary],
    evidence: Evidence | None,
    cells: pd.DataFrame | None,
    limits: Limits,
) -> list[SamplePage]:
    """Say of each sample of ``result`` what its page shows."""
    moved = {task.name: _pushes(model, X, result, task.name, evidence) for task in tasks}
    return [
        SamplePage(
            name=str(sample),
            warnings=_warnings(row, model.tasks_),
            call_rate=row["call_rate"],
            sites_present=round(row["sites_present"] * len(model.sites_)),
            sex=row["sex_predicted"],
            distances=_distances(model, row, limits),
            answers=[_answer(row, task, moved[task.name].get(sample)) for task in tasks],
            cells=_of_sample(cells, sample),
        )
        for sample, row in result.iterrows()
    ]


def describe_rows(
    result: pd.DataFrame, tasks: list[str], files: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Say of each sample what the table of the batch shows."""
    for sample, row in result.to_dict("index").items():
        answers = [{name: row[f"{name}[{task}]"] for name in BRIEF} for task in tasks]
        yield {
            "name": str(sample),
            "file": files.get(str(sample)),
            "answers": answers,
            "sites_present": row["sites_present"],
            "warning": row["warning"],
        }


def _of_sample(cells: pd.DataFrame | None, sample: Any) -> dict[str, float]:
    """Cell fractions of a sample, none where they were not estimated."""
    if cells is None or sample not in cells.index:
        return {}
    return cells.loc[sample].dropna().to_dict()


def _by_class(held_out: pd.DataFrame) -> dict[str, np.ndarray]:
    """Held-out scores of controls and of cases; empty where there are none."""
    names = {"control": 0, "case": 1}
    scores = {
        name: held_out.loc[held_out["label"] == label, "score"].to_numpy()
        for name, label in names.items()
    }
    return scores if len(held_out) else {}


def _pushes(
    model: MiracleClassifier,
    X: pd.DataFrame,
    result: pd.DataFrame,
    task: str,
    evidence: Evidence | None,
) -> dict[Any, list[Push]]:
    """Pathways that move the samples that are predicted; none where no controls exist."""
    if evidence is None:
        return {}
    usable = result.index[result[f"verdict[{task}]"] != REFUSED]
    values = X.loc[usable].reindex(columns=model.sites_)
    return pushes(model, values, task, evidence.survivors(task), result[f"cohort[{task}]"])


def _warnings(row: pd.Series, tasks: list[str]) -> list[str]:
    """What is wrong with a sample, then what is wrong with it in single tasks."""
    of_tasks = [
        f"{task}: {row[f'verdict[{task}]']}: {row[f'reason[{task}]']}"
        for task in tasks
        if row[f"reason[{task}]"]
    ]
    return [text for text in row["warning"].split("; ") if text] + of_tasks


def _distances(model: MiracleClassifier, row: pd.Series, limits: Limits) -> list[Distance]:
    """Distances of a sample from every training cohort."""
    return [
        Distance(
            cohort,
            words,
            row[f"{kind}[{cohort}]"],
            model.familiarity_.limit(kind, cohort, limits.quantile),
        )
        for cohort in model.standardizer_.cohorts_
        for kind, words in KINDS.items()
    ]


def _answer(row: pd.Series, task: TaskSummary, moved: list[Push] | None) -> Answer:
    """What is said of a sample in one task."""
    columns = {name: row[f"{name}[{task.name}]"] for name in ANSWER}
    below = {name: float((known < columns["score"]).mean()) for name, known in task.known.items()}
    return Answer(task=task.name, below=below, pushes=moved, **columns)
