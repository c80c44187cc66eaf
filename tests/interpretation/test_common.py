import numpy as np
import pandas as pd
import pytest

from miracle_lib import MiracleError
from miracle_lib.interpretation import (
    activity_test,
    beyond_panels,
    common_pathways,
    oriented_activity,
    panel_scores,
)
from miracle_lib.interpretation.markers import Marker, Panel


def tables(p):
    """Explanations with given p-values, tasks x pathways."""
    index = pd.Index([f"P{i}" for i in range(p.shape[1])])
    return {
        f"T{i}": pd.DataFrame({"p_value": row, "q_value": row * 10, "directed": 1.0}, index)
        for i, row in enumerate(p)
    }


def test_one_strong_task_is_not_common():
    p = np.full((3, 20), 0.5)
    p[0, 3] = 1e-8
    p[:2, 5] = 1e-5
    found = common_pathways(tables(p))
    assert found.index[0] == "P5"
    assert found.loc["P5", ["n_tasks", "tasks"]].tolist() == [2, "T0, T1"]
    assert found.loc["P3", "p_value"] > 0.5
    assert found.attrs["overlap"]["observed"] == 1


def test_chance_of_a_count_is_that_of_independent_tasks():
    p = np.full((2, 10), 0.5)
    p[0, :4] = p[1, :5] = 1e-6
    found = common_pathways(tables(p))
    assert found.loc["P0", "chance"] == pytest.approx(0.4 * 0.5)
    assert found.loc["P9", "chance"] == 1
    assert found.attrs["overlap"]["expected"] == pytest.approx(2, abs=0.15)


def test_null_p_values_of_two_tasks_or_more_are_not_too_small():
    p = np.random.default_rng(0).random((4, 2000))
    found = common_pathways(tables(p))
    assert (found["p_value"] < 0.05).mean() < 0.05
    assert (found["q_value"] > 0.05).all()


def test_activity_is_oriented_by_methylation_and_tested_per_cohort(study):
    planted = study.simulation.truth.pathways
    shared = planted[planted["shared"]]
    pathway, direction = shared.iloc[0][["pathway", "direction"]]
    found = activity_test(study.model, study.X, study.Y, [pathway], study.obs["cohort"])
    assert found["cohort"].tolist() == ["Simulated RA", "Simulated SLE"]
    assert (np.sign(found["difference"]) == direction).all()
    assert (found["q_value"] < 0.01).all()
    activity = oriented_activity(study.model, study.X[study.Y["RA"].notna()], "RA")
    np.testing.assert_allclose(activity.std(ddof=0), 1, atol=1e-6)


def test_a_pathway_that_a_cohort_did_not_measure_has_no_p_value_there(study):
    pathway = study.simulation.truth.pathways.iloc[0]["pathway"]
    sites = study.mask.members(pathway)["site"].unique()
    X, rheumatoid = study.X.copy(), study.Y["RA"].notna()
    X.loc[rheumatoid, sites] = np.nan
    found = activity_test(study.model, X, study.Y, [pathway], study.obs["cohort"])
    found = found.set_index("cohort")
    assert found["p_value"].isna().to_dict() == {"Simulated RA": True, "Simulated SLE": False}
    assert found.loc["Simulated RA", "difference"] == 0
    assert found.loc["Simulated SLE", "q_value"] == found.loc["Simulated SLE", "p_value"]


def test_a_signal_made_of_inflammation_does_not_survive_it():
    rng = np.random.default_rng(0)
    label = pd.Series(np.repeat([0.0, 1.0], 100))
    inflammation = label + rng.normal(size=200)
    scores = pd.DataFrame({"CRP": inflammation + rng.normal(0, 0.1, 200)})
    follows = beyond_panels(inflammation + rng.normal(0, 0.3, 200), label, scores)
    other = beyond_panels(label + rng.normal(size=200), label, scores)
    assert follows.loc["alone", "p_value"] < 1e-6
    assert follows.loc["all panels", "retained"] < 0.3
    assert other.loc["all panels", "retained"] > 0.6


def test_panel_scores_rise_with_what_the_panel_measures():
    rng = np.random.default_rng(0)
    smoking = rng.normal(size=50)
    sites = [f"cg{i:08d}" for i in range(4)]
    values = pd.DataFrame(-smoking[:, None] + rng.normal(0, 0.3, (50, 4)), columns=sites)
    marks = [Marker(site=s, direction="hypo", source="s", confidence="high") for s in sites[:2]]
    panel = Panel(name="Smoking", tasks=(), kind="control", tissue="blood", markers=marks)
    assert np.corrcoef(panel_scores(values, [panel])["Smoking"], smoking)[0, 1] > 0.9


def test_refused_input():
    one = tables(np.full((1, 3), 0.5))
    with pytest.raises(MiracleError, match="1 task was explained"):
        common_pathways(one)
    two = tables(np.full((2, 3), np.nan))
    with pytest.raises(MiracleError, match="lacks p-values"):
        common_pathways(two)
