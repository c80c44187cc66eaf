"""Does the network win where its assumptions hold, and lose nothing where they do not?

Four simulated diseases on 1,500 sites with effects planted in pathways of the mask, or outside of
all pathways, or in pathways that no two diseases share. Two folds each; every method sees the same
samples. ``PLANTED_REPLICATES`` (default 10) and ``PLANTED_FIRST`` (default 100) give the seeds,
``PLANTED_SETTINGS`` a choice of settings, separated by semicolons.
"""

import os
import time

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.base import BaseEstimator

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation import PerTaskBaseline, cross_validate
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.studies.single_task import SingleTask

TASKS = ("MS", "RA", "SLE", "T1D")
SETTINGS = {
    "53": (53, {"effect": 0.25}),
    "90": (90, {"effect": 0.22}),
    "200": (200, {"effect": 0.15}),
    "400": (400, {"effect": 0.12}),
    "2000": (2000, {"effect": 0.08}),
    "90, nothing shared": (90, {"effect": 0.22, "shared": 0.0}),
    "90, outside the mask": (90, {"effect": 0.22, "outside": 1.0}),
}
OURS = "MIRACLE"


def methods(hierarchy: Hierarchy, seed: int) -> dict[str, BaseEstimator]:
    """Every method by name."""

    def network(mask: Hierarchy) -> MiracleClassifier:
        return MiracleClassifier(mask, random_state=seed, training=Training(progress=False))

    return {
        OURS: network(hierarchy),
        "permuted mask": network(hierarchy.permuted(seed)),
        "single-task": SingleTask(network(hierarchy)),
        "elastic net": PerTaskBaseline("elastic_net"),
        "logistic L2": PerTaskBaseline("logistic_l2"),
    }


def replicate(setting: str, seed: int) -> pd.DataFrame:
    """AUROC and Brier score of every method, means over tasks and folds."""
    n, options = SETTINGS[setting]
    data = simulate_cohorts(dict.fromkeys(TASKS, n), n_sites=1500, random_state=seed, **options)
    X, Y, obs = merge_cohorts(list(data.cohorts.values()))
    hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets)
    rows = []
    for name, estimator in methods(hierarchy, seed).items():
        start = time.process_time()
        scores = cross_validate(
            estimator, X, Y, groups=obs["subject"], n_splits=2, random_state=seed
        )
        rows.append(
            {
                "setting": setting,
                "seed": seed,
                "method": name,
                "auroc": scores["auroc"].mean(),
                "brier": scores["brier"].mean(),
                "seconds": (time.process_time() - start) / 2,
            }
        )
    return pd.DataFrame(rows)


def interval(values: pd.Series) -> str:
    """Mean and 95 % t-interval over replicates."""
    if len(values) < 2:
        return f"{values.mean():+.3f}"
    half = student.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values))
    return f"{values.mean():+.3f} ({values.mean() - half:+.3f}, {values.mean() + half:+.3f})"


def show(table: pd.DataFrame) -> None:
    """Print scores, and the differences of the network to everything else."""
    for measure in ("auroc", "brier", "seconds"):
        wide = table.pivot_table(measure, "setting", "method", sort=False)
        print(f"\n## {measure}, means\n\n{wide.to_markdown(floatfmt='.3f')}", flush=True)
    wide = table.pivot_table("auroc", ["setting", "seed"], "method", sort=False)
    rest = [name for name in wide if name != OURS]
    gaps = wide[rest].rsub(wide[OURS], axis=0)
    shown = gaps.groupby("setting", sort=False).agg(interval)
    print(f"\n## AUROC, {OURS} minus the method (95 % interval)\n\n{shown.to_markdown()}")


def main() -> None:
    first = int(os.environ.get("PLANTED_FIRST", 100))
    seeds = range(first, first + int(os.environ.get("PLANTED_REPLICATES", 10)))
    chosen = os.environ.get("PLANTED_SETTINGS")
    settings = [*SETTINGS] if chosen is None else [name.strip() for name in chosen.split(";")]
    tables = []
    for setting in settings:
        tables += [replicate(setting, seed) for seed in seeds]
        show(pd.concat(tables, ignore_index=True))


if __name__ == "__main__":
    main()
