"""What a saved model is, in words: a model card (Mitchell et al. 2019, 10.1145/3287560.3287596)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from miracle_lib.hierarchy import Hierarchy
from miracle_lib.training.storage import About, read_about

SHOWN = {"auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier score"}  # of the table of scores


def describe_model(model_path: str | Path) -> str:
    """Return what a saved model holds, how well it predicts, and its limits of use, as text.

    Parameters
    ----------
    model_path : str or Path
        Folder of a saved model; ``scores.csv`` in it, as a run writes it, holds the scores.

    Raises
    ------
    MiracleError
        If the folder holds no saved model.
    """
    about, path = read_about(model_path), Path(model_path)
    hierarchy = Hierarchy.load(path / "hierarchy.npz").restrict(about.columns)
    sections = {
        "Trained on": _training(about),
        "Network": _network(about, hierarchy),
        "Scores (95 % interval)": _scores(path / "scores.csv"),
        "Prediction": _prediction(about),
        "Limits of use": _limits(about),
    }
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items()
    )


def _training(about: About) -> list[str]:
    """Cohorts of each task."""
    if about.card is None:
        return [f"{task}: {', '.join(names)}" for task, names in about.cohorts_of.items()]
    return [
        f"{each.task}: {each.name}, {each.cases:,} cases and {each.controls:,} controls, "
        f"{each.tissue}, {each.platform}"
        for each in about.card.cohorts
    ]


def _network(about: About, hierarchy: Hierarchy) -> list[str]:
    """Sizes and options."""
    parameters, levels = about.parameters, about.covariates.levels
    numbers = [name for name in about.covariates.mean if name.partition("=")[0] not in levels]
    conditions = [*numbers, *levels]
    return [
        f"{len(hierarchy.sites):,} sites in the hierarchy, "
        f"{len(about.columns) - len(hierarchy.sites):,} outside of it; "
        f"{len(hierarchy.genes):,} genes, {len(hierarchy.pathways):,} pathways",
        f"heads read {', '.join(about.blocks)}: {_heads(parameters)}",
        f"task weighting {parameters['weighting']}, sharing between tasks {about.sharing:.2f}, "
        f"networks: {parameters['n_members']}",
        f"conditioned on {', '.join(conditions) or 'no covariate'}; unknown ones count as average",
    ]


def _heads(parameters: dict[str, Any]) -> str:
    """Say what the heads are."""
    head, units = parameters["head"], parameters["head_units"]
    if head is None and parameters["preset"] == "default":
        head = "additive"
    if head == "additive":
        return f"one hidden layer of {units} units" if units else "linear"
    return "four layers" if head in (None, "deep") else f"of the class {head}"


def _scores(path: Path) -> list[str]:
    """Scores within the cohorts and elsewhere, as far as a run has written them."""
    if not path.is_file():
        return ["not known: this model was saved without them"]
    table, lines = pd.read_csv(path), []
    shown = table[table["metric"].isin(SHOWN) & (table["task"] != "all")]
    for (task, where), rows in shown.groupby(["task", "where"], sort=False):
        scores = (
            f"{SHOWN[row.metric]} {row.estimate:.3f} ({row.low:.3f} to {row.high:.3f})"
            for row in rows.itertuples()
        )
        lines.append(f"{task}, {where}: {', '.join(scores)}")
    return lines


def _prediction(about: About) -> list[str]:
    """What predictions rest on."""
    lines = ["probabilities as the network gives them: no held-out scores are known"]
    if about.held_out is not None:
        held_out = pd.DataFrame(about.held_out.model_dump())
        lines = [
            f"{task}: probabilities calibrated on {len(part):,} held-out samples, "
            f"{part['label'].mean():.0%} of them cases"
            for task, part in held_out.groupby("task", sort=False)
        ]
    lines.append("each sample is judged by itself: the same alone and in a batch")
    if about.sex is None:
        return [*lines, "sex is not predicted"]
    return [*lines, f"sex from {len(about.sex.sites)} sites on X and Y"]


def _limits(about: About) -> list[str]:
    """What the model is not for."""
    lines = ["For research use, not diagnosis."]
    if about.card is not None:
        tissues, platforms = (
            ", ".join(dict.fromkeys(getattr(each, name) for each in about.card.cohorts))
            for name in ("tissue", "platform")
        )
        lines.append(f"Tissue: {tissues}; array: {platforms}. Other tissue is not to be used.")
        if about.card.simulated:
            lines.append("Its cohorts are simulated: it says nothing of patients.")
    share = about.parameters["min_site_share"]
    lines.append(f"A sample needs {share:.0%} of the sites; 'miracle predict' says what it lacks.")
    lines.append(
        "Another laboratory may differ in level: read the distance before the probability."
    )
    return lines
