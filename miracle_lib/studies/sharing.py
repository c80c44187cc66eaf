"""When learning the tasks together helps and when it hurts: a sweep of simulations."""

from pathlib import Path
from typing import Any

import pandas as pd

from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation.grid import Cell, Tables, run_grid
from miracle_lib.evaluation.validation import fitted, probabilities
from miracle_lib.studies.replicates import held_out_scores, make_replicate, mean_interval
from miracle_lib.studies.single_task import SingleTask

SWEEPS: dict[str, dict[str, Any]] = {
    "small": {
        "shares": (0.0, 0.5, 1.0),
        "sizes": (40,),
        "n_replicates": 4,
        "n_sites": 800,
        "n_test": 200,
        "model": {"training__epochs": [8, 10, 5]},
    },
    "full": {
        "shares": (0.0, 0.25, 0.5, 0.75, 1.0),
        "sizes": (40, 80),
        "n_replicates": 8,
        "n_sites": 1000,
        "n_test": 300,
        "model": {},
    },
}


def sharing_cell(
    share: float,
    n: int,
    seed: int,
    n_sites: int,
    n_test: int,
    effect: float,
    model: dict[str, Any],
) -> Tables:
    """Score multi- and single-task networks on one simulated replicate."""
    data = make_replicate(n, n_test, seed, shared=share, n_sites=n_sites, effect=effect)
    network = MiracleClassifier(
        data.hierarchy, random_state=seed, training=Training(progress=False)
    ).set_params(**model)
    rows = []
    for method, estimator in (("multi", network), ("single", SingleTask(network))):
        proba = probabilities(fitted(estimator, data.train), data.test)
        for task, auroc in held_out_scores(proba, data.test.labels).items():
            rows.append((method, task, auroc))
    return {"scores": pd.DataFrame(rows, columns=["method", "task", "auroc"])}


def sharing_sweep(
    store: str | Path,
    scale: str = "small",
    effect: float = 0.2,
    n_jobs: int = 1,
    random_state: int = 0,
) -> pd.DataFrame:
    """Sweep the share of common pathways and the sample size on simulated cohorts.

    Parameters
    ----------
    store, n_jobs
        As in :func:`run_grid`.
    scale : {"small", "full"}, default "small"
        Shares of the planted pathways that all six tasks have, samples per task, replicates.
    effect : float, default 0.2
        Mean shift of a planted site in cases, in M-value units.
    random_state : int, default 0
        Replicate i is simulated with ``random_state + i``.

    Returns
    -------
    DataFrame
        One row per share, n (training samples per task) and replicate: multi, single (mean AUROC
        over the tasks on held-out samples), difference, worst (least difference of a task).
    """
    sweep = SWEEPS[scale]
    cells = [
        Cell(
            sharing_cell,
            {
                "share": share,
                "n": n,
                "seed": random_state + i,
                "effect": effect,
                **{name: sweep[name] for name in ("n_sites", "n_test", "model")},
            },
        )
        for share in sweep["shares"]
        for n in sweep["sizes"]
        for i in range(sweep["n_replicates"])
    ]
    rows = []
    for cell, tables in zip(cells, run_grid(cells, store, n_jobs), strict=True):
        wide = tables["scores"].pivot(index="task", columns="method", values="auroc")
        difference = wide["multi"] - wide["single"]
        row = {name: cell.settings[name] for name in ("share", "n", "seed")}
        row |= {"multi": wide["multi"].mean(), "single": wide["single"].mean()}
        rows.append(row | {"difference": difference.mean(), "worst": difference.min()})
    return pd.DataFrame(rows)


def sharing_effects(sweep: pd.DataFrame) -> pd.DataFrame:
    """Mean difference between multi- and single-task learning, with an interval over replicates.

    Parameters
    ----------
    sweep : DataFrame
        Result of :func:`sharing_sweep`.

    Returns
    -------
    DataFrame
        share, n, mean, low, high (difference in AUROC, Student's t over replicates),
        n_replicates, multi, single.
    """
    cells = sweep.groupby(["share", "n"])
    effects = cells["difference"].apply(mean_interval).unstack()
    return effects.join(cells[["multi", "single"]].mean()).reset_index()
