import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation import (
    PerTaskBaseline,
    active_units,
    cohort_leakage,
    cross_validate,
    failure_signs,
    reconstructed_share,
)
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.preprocessing import SiteSelector


@pytest.fixture(scope="module")
def fitted():
    simulation = simulate_cohorts({"RA": 120, "MS": 120}, n_sites=600, random_state=0)
    X, Y, obs = merge_cohorts(list(simulation.cohorts.values()))
    hierarchy = Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    train = np.arange(len(X)) % 2 == 0
    model = MiracleClassifier(hierarchy, training=Training(epochs=(20, 5, 2), progress=False))
    model.fit(X[train], Y[train], obs["cohort"][train])
    return model, X[~train], Y[~train], obs[~train]


def test_reconstruction_is_none_for_the_mean_and_positive_for_the_network(fitted, monkeypatch):
    model, X, _, obs = fitted
    assert reconstructed_share(model, X, obs["cohort"]) > 0.02
    mean = model.standardizer_.mean_[model.hierarchy_.sites]
    flat = 1 / (1 + 2.0 ** -mean.loc[obs["cohort"]].set_axis(X.index))
    with monkeypatch.context() as patch:
        patch.setattr(type(model), "reconstruct", lambda self, X, cohort: flat)
        assert reconstructed_share(model, X, obs["cohort"]) == pytest.approx(0, abs=1e-4)
        observed = X[model.hierarchy_.sites].fillna(0.5)
        patch.setattr(type(model), "reconstruct", lambda self, X, cohort: observed)
        assert reconstructed_share(model, X, obs["cohort"]) == pytest.approx(1)


def test_collapsed_units_are_counted(fitted, monkeypatch):
    model, X, _, obs = fitted
    assert active_units(model, X, obs["cohort"]) == 1
    activity = model.transform(X, obs["cohort"])
    activity.iloc[:, : activity.shape[1] // 4] = 1.0
    monkeypatch.setattr(type(model), "transform", lambda self, X, cohort: activity)
    signs = failure_signs(model, X, obs["cohort"]).set_index("sign")
    assert signs.loc["collapsed latent units", "value"] == pytest.approx(0.25, abs=0.02)
    assert signs.loc["collapsed latent units", "failed"]
    assert "variational=False" in signs.loc["collapsed latent units", "advice"]


def test_cohort_leakage_is_near_chance_unless_the_cohort_is_in_the_latent(fitted, monkeypatch):
    model, X, _, obs = fitted
    leak = cohort_leakage(model, X, obs["cohort"], obs["subject"])
    assert leak["chance"] == 0.5
    assert leak["accuracy"] < 0.68
    activity = model.transform(X, obs["cohort"])
    activity.iloc[:, 0] += 10 * (obs["cohort"] == obs["cohort"].iloc[-1])
    monkeypatch.setattr(type(model), "transform", lambda self, X, cohort: activity)
    assert cohort_leakage(model, X, obs["cohort"])["accuracy"] > 0.95
    assert failure_signs(model, X, obs["cohort"]).set_index("sign").loc["cohort leakage", "failed"]


def test_accuracy_and_stability_are_judged_by_task(fitted):
    model, X, Y, obs = fitted
    # A "model" that is the covariates themselves cannot beat them.
    covariates = obs[["age", "sex"]]
    scores = cross_validate(PerTaskBaseline("covariates"), X, Y, covariates=covariates, n_splits=3)
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(50)]
    pathways = pd.concat(
        pd.DataFrame({"repeat": 0, "fold": fold, "task": "RA", "pathway": names}).assign(
            score=rng.normal(size=50)
        )
        for fold in range(3)
    )
    table = failure_signs(model, X, obs["cohort"], None, scores, scores, pathways).set_index(
        ["sign", "task"]
    )
    assert table.loc[("no gain over covariates", "RA"), "failed"]
    assert table.loc[("no gain over covariates", "RA"), "value"] == 0
    assert table.loc[("unstable ranking", "RA"), "failed"]
    assert not table.loc[("collapsed latent units", "all"), "failed"]
    assert table.loc[("collapsed latent units", "all"), "advice"] == ""


def test_a_pipeline_is_judged_by_its_network_on_what_the_earlier_steps_give_it():
    simulation = simulate_cohorts({"RA": 60, "MS": 60}, n_sites=300, random_state=2)
    X, Y, obs = merge_cohorts(list(simulation.cohorts.values()))
    network = MiracleClassifier(
        Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets),
        training=Training(epochs=(5, 2, 0), progress=False),
    )
    piped = make_pipeline(FunctionTransformer(lambda table: 1 - table), SiteSelector(k=80), network)
    train = np.arange(len(X)) % 2 == 0
    piped.fit(X[train], Y[train], miracleclassifier__cohort=obs["cohort"][train])
    found = failure_signs(piped, X[~train], obs["cohort"][~train])
    expected = failure_signs(piped[-1], 1 - X[~train], obs["cohort"][~train])
    pd.testing.assert_frame_equal(found, expected)
