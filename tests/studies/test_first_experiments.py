import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.studies.first_experiments import (
    largest_tasks,
    reconstruction_curve,
    two_cohorts,
)


@pytest.fixture(scope="module")
def study():
    data = simulate_cohorts({"A": 40, "B": 80, "C": 60}, n_sites=400, random_state=1)
    X, Y, obs = merge_cohorts(list(data.cohorts.values()))
    hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets, sites=X.columns)
    model = MiracleClassifier(hierarchy, training=Training(epochs=(3, 3, 0), progress=False))
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


def test_sites_are_selected_inside_the_folds_of_both_experiments(study, fits):
    model, X, Y, obs = study
    piped = make_pipeline(SiteSelector(k=40), model)
    rows = {"groups": obs["subject"], "cohort": obs["cohort"]}
    curve = reconstruction_curve(piped, X, Y, epochs=(1, 40), **rows)
    assert curve.groupby("epochs")["share"].mean().is_monotonic_increasing
    two_cohorts(piped, X, Y, n_splits=2, **rows)
    selectors, models = fits[::2], fits[1::2]
    assert {fit.kind for fit in selectors} == {"SiteSelector"}
    assert {fit.kind for fit in models} == {"MiracleClassifier"}
    assert [fit.samples for fit in selectors] == [fit.samples for fit in models]
    # Three folds of 80 samples, two lengths; two folds of 140, alone (80 and 60) and together.
    sizes = [len(fit.samples) for fit in models]
    assert max(sizes[:6]) < 60
    assert max(sizes[6:]) < 80
    assert all(40 <= fit.n_sites <= 80 for fit in models)


def test_noise_gives_chance_though_the_sites_are_chosen_by_their_labels(study):
    model, X, Y, _ = study
    rng = np.random.default_rng(0)
    noise = pd.DataFrame(rng.uniform(0.2, 0.8, X.shape), X.index, X.columns)
    tables = two_cohorts(make_pipeline(SiteSelector(k=10), model), noise, Y, n_splits=3)
    inside = {name: table["auroc"].mean() for name, table in tables.items()}
    assert all(0.3 < score < 0.65 for score in inside.values())
    chosen = SiteSelector(k=10).fit_transform(noise, Y)  # the leak that this test must see
    assert two_cohorts(model, chosen, Y, n_splits=3)["together"]["auroc"].mean() > 0.75
