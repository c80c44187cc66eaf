"""Simulated replicates: training cohorts of a chosen size and large test cohorts beside them."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from miracle_lib.cohorts import Simulation, merge_cohorts, simulate_cohorts
from miracle_lib.evaluation.metrics import score_task
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.samples import Samples

TASKS = ("IBD", "MS", "Psoriasis", "RA", "SLE", "T1D")


class Replicate(NamedTuple):
    """A simulation cut into a training and a test part with no subject in both."""

    simulation: Simulation
    hierarchy: Hierarchy
    train: Samples
    test: Samples


def make_replicate(n: int, n_test: int, seed: int, **simulation: Any) -> Replicate:
    """Simulate six tasks; about ``n`` subjects of each train, the others test.

    A large test set makes the score of one replicate nearly exact, so that replicates are
    independent draws and an ordinary interval over them is right.
    """
    sizes = dict.fromkeys(TASKS, n + n_test)
    made = simulate_cohorts(sizes, random_state=seed, **simulation)
    X, Y, obs = merge_cohorts(list(made.cohorts.values()))
    # Cases and controls alternate by subject, so that both parts are balanced.
    subjects = obs.groupby("subject").agg(task=("task", "first"), label=("label", "first"))
    rank = subjects.groupby(["task", "label"]).cumcount()
    train = obs["subject"].map(rank < n / 2).to_numpy(bool)
    hierarchy = Hierarchy.from_tables(made.site_gene, made.gene_sets)
    samples = Samples(X, Y, cohort=obs["cohort"], subject=obs["subject"])
    return Replicate(made, hierarchy, samples.take(train), samples.take(~train))


def held_out_scores(proba: pd.DataFrame, labels: pd.DataFrame) -> dict[str, float]:
    """AUROC of every task on the test part."""
    scores = {}
    for task, label in labels.items():
        labelled = label.notna()
        scores[task] = score_task(label[labelled], proba.loc[labelled, task])["auroc"]
    return scores


def mean_interval(values: pd.Series, level: float = 0.95) -> pd.Series:
    """Mean over independent replicates with Student's t interval."""
    values = values.dropna().to_numpy(float)
    mean, n = (values.mean() if len(values) else np.nan), len(values)
    half = np.nan
    if n > 1:
        half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return pd.Series({"mean": mean, "low": mean - half, "high": mean + half, "n_replicates": n})
