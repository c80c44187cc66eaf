"""Whole fits of small models, one at a time against stacked, in one process and in two."""

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import torch
from joblib import Parallel, delayed

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.estimator import MiracleClassifier, fit_together
from miracle_lib.evaluation.splits import make_folds
from miracle_lib.hierarchy import Hierarchy

SITES = (300, 900, 1500)
TASKS = {"MS": 120, "RA": 120, "SLE": 120, "T1D": 120}
N_MODELS, N_FOLDS, RUNS = 20, 5, 2

Models = list[MiracleClassifier]
Fits = list[dict[str, Any]]


def plan(n_sites: int) -> tuple[Models, Fits]:
    """Models and their training data: the folds of repeated cross-validation."""
    data = simulate_cohorts(TASKS, n_sites=n_sites, random_state=0)
    X, Y, _ = merge_cohorts(list(data.cohorts.values()))
    hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets)
    folds = list(make_folds(Y, None, N_FOLDS, N_MODELS // N_FOLDS, 0))
    models = [
        MiracleClassifier(hierarchy, random_state=fold.repeat, progress=False) for fold in folds
    ]
    return models, [{"X": X.iloc[fold.train], "Y": Y.iloc[fold.train]} for fold in folds]


def one_by_one(models: Models, fits: Fits) -> tuple[list[np.ndarray], float]:
    """Fit each model by itself; return predictions and processor seconds."""
    return _timed(lambda: [m.fit(**fit) for m, fit in zip(models, fits, strict=True)], fits)


def stacked(models: Models, fits: Fits) -> tuple[list[np.ndarray], float]:
    """Fit the models together; return predictions and processor seconds."""
    return _timed(lambda: fit_together(models, fits), fits)


def _timed(work: Callable[[], Models], fits: Fits) -> tuple[list[np.ndarray], float]:
    start = time.process_time()
    models = work()
    seconds = time.process_time() - start
    return [m.predict_proba(f["X"]).to_numpy() for m, f in zip(models, fits, strict=True)], seconds


def in_two(work: Callable) -> Callable:
    """Share the models out to two processes."""

    def run(models: Models, fits: Fits) -> tuple[list[np.ndarray], float]:
        half = len(models) // 2
        parts = [(models[:half], fits[:half]), (models[half:], fits[half:])]
        done = Parallel(n_jobs=2)(delayed(work)(*part) for part in parts)
        return done[0][0] + done[1][0], done[0][1] + done[1][1]

    return run


WAYS = {
    "one at a time": one_by_one,
    "one at a time, 2 processes": in_two(one_by_one),
    "stacked": stacked,
    "stacked, 2 processes": in_two(stacked),
}


def main() -> None:
    print("# Small models fitted together\n")
    print("Command: `python -m benchmarks stacked`\n")
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads in the first and third way, joblib "
        f"{joblib.__version__}. All three stages of `MiracleClassifier` with default options, "
        f"{len(TASKS)} tasks of {TASKS['MS']} samples, {N_MODELS} models (folds of repeated "
        f"cross-validation); best of {RUNS} alternating runs. The difference is the largest of any "
        "predicted probability from that of the model fitted alone, and that of all models but "
        "the most different one.\n"
    )
    print(
        "| sites | way | models per minute | ratio | processor s per model | ratio | difference |"
    )
    print("|---|---|---|---|---|---|---|")
    for n_sites in SITES:
        wall = {way: [] for way in WAYS}
        processor = {way: [] for way in WAYS}
        found = {}
        for _ in range(RUNS):
            for way, run in WAYS.items():
                models, fits = plan(n_sites)
                run(models[:2], fits[:2])  # warm up
                start = time.perf_counter()
                found[way], seconds = run(models, fits)
                wall[way].append(time.perf_counter() - start)
                processor[way].append(seconds)
        first = next(iter(WAYS))
        for way in WAYS:
            ratios = [min(spent[first]) / min(spent[way]) for spent in (wall, processor)]
            worst = sorted(
                np.abs(ours - theirs).max()
                for ours, theirs in zip(found[way], found[first], strict=True)
            )
            print(
                f"| {n_sites} | {way} | {60 * N_MODELS / min(wall[way]):.0f} | {ratios[0]:.2f} "
                f"| {min(processor[way]) / N_MODELS:.2f} | {ratios[1]:.2f} "
                f"| {worst[-1]:.0e}, {worst[-2]:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
