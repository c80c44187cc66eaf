import numpy as np
import pandas as pd
import pytest

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.samples import Samples
from miracle_lib.studies import small_cohorts
from miracle_lib.studies.small_cohorts import curve_means, learning_curve, small_cohort


@pytest.fixture(scope="module")
def study():
    data = simulate_cohorts({"A": 70, "B": 40}, n_sites=300, random_state=1)
    X, Y, obs = merge_cohorts(list(data.cohorts.values()))
    hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets, sites=X.columns)
    return Samples(X, Y, cohort=obs["cohort"], subject=obs["subject"]), hierarchy


def test_what_is_tested_was_never_seen_and_the_other_disease_is_there(study):
    samples, _ = study
    train, test = small_cohort(samples, "A", 20, seed=0)
    seen = train.task("A")
    assert abs(len(seen) - 20) <= 2
    assert len(seen) + len(test) == 70
    assert not set(train.subject) & set(test.subject)
    assert len(train.task("B")) == 40
    assert abs(seen.labels["A"].mean() - samples.labels["A"].mean()) < 0.1


def test_another_seed_draws_others(study):
    samples, _ = study
    first, again, other = (small_cohort(samples, "A", 20, seed)[1].names for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_sizes_that_leave_too_few_to_test_are_left_out(study, tmp_path, monkeypatch):
    samples, hierarchy = study
    learners = {"boosted": ("naive_bayes", False), "together": ("naive_bayes", True)}
    monkeypatch.setattr(small_cohorts, "LEARNERS", learners)
    curve = learning_curve(samples, hierarchy, tmp_path)
    assert {task: sorted(set(part["n"])) for task, part in curve.groupby("task")} == {
        "A": [20, 40],
        "B": [20],
    }
    means = curve_means(curve)
    assert set(means["n_draws"]) == {2}
    row = curve[(curve["task"] == "B") & (curve["method"] == "together")]["auroc"]
    found = means[(means["task"] == "B") & (means["method"] == "together")]
    assert found["auroc"].item() == pytest.approx(row.mean())
    assert found["sd"].item() == pytest.approx(row.std())


def test_one_disease_has_nothing_to_lend(study, tmp_path):
    samples, hierarchy = study
    assert learning_curve(samples.task("A"), hierarchy, tmp_path).empty


def test_means_by_hand():
    curve = pd.DataFrame(
        [("A", 20, 0, "m", 0.6), ("A", 20, 1, "m", 0.8)],
        columns=["task", "n", "draw", "method", "auroc"],
    )
    (row,) = curve_means(curve).to_dict("records")
    assert row["auroc"] == pytest.approx(0.7)
    assert row["sd"] == pytest.approx(np.sqrt(0.02))
