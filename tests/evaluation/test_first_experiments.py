import pandas as pd
import pytest

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation.first_experiments import (
    largest_tasks,
    reconstruction_curve,
    two_cohorts,
)
from miracle_lib.hierarchy import Hierarchy


@pytest.fixture(scope="module")
def study():
    data = simulate_cohorts({"A": 40, "B": 80, "C": 60}, n_sites=400, random_state=1)
    X, Y, obs = merge_cohorts(list(data.cohorts.values()))
    hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets, sites=X.columns)
    model = MiracleClassifier(hierarchy, epochs=(3, 3, 0), progress=False)
    return model, X, Y, obs


def test_the_largest_tasks_come_first_and_ties_keep_their_order():
    Y = pd.DataFrame({"A": [0, None, None], "B": [1, 0, None], "C": [0, 1, None]}, dtype=float)
    assert largest_tasks(Y, 2) == ["B", "C"]


def test_training_longer_rebuilds_held_out_samples_better_than_their_mean(study):
    model, X, Y, obs = study
    curve = reconstruction_curve(
        model, X, Y, epochs=(1, 40), groups=obs["subject"], cohort=obs["cohort"]
    )
    assert set(curve["task"]) == {"B"}
    assert len(curve) == 6
    share = curve.groupby("epochs")["share"].mean()
    assert share[40] > max(0.02, share[1])


def test_two_cohorts_are_scored_alone_and_together_on_the_same_samples(study):
    model, X, Y, obs = study
    scores = two_cohorts(
        model, X, Y, groups=obs["subject"], cohort=obs["cohort"], n_splits=2, random_state=0
    )
    alone, together = (scores[name].attrs["predictions"] for name in ("alone", "together"))
    assert set(alone["task"]) == {"B", "C"}
    keys = ["sample", "task", "fold", "label"]
    assert alone[keys].sort_values(keys).values.tolist() == (
        together[keys].sort_values(keys).values.tolist()
    )
    assert not alone["score"].equals(together["score"])
