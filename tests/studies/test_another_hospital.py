import numpy as np
import pandas as pd
import pytest

from miracle_lib.cohorts import Hospital, merge_cohorts, simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.evaluation import PerTaskBaseline, scores_of
from miracle_lib.evaluation.metrics import calibration_intercept
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.samples import Samples
from miracle_lib.studies import another_hospital
from miracle_lib.studies.another_hospital import (
    OWN,
    Pair,
    elsewhere,
    falls,
    hospital_scores,
    leave_one_cohort_out,
    pairs_of,
    parts_of,
    rounds_of,
    within,
)
from miracle_lib.studies.hospital_views import (
    AS_IT_IS,
    LEVEL,
    VIEWS,
    measured_sites,
    possible_views,
)

FAR = "Simulated RA (hospital 2)"


def study(*hospitals, seed=0, n=160, **simulation):
    """One disease in hospitals that differ from the first by what is planted alone."""
    data = simulate_cohorts(
        {"RA": n},
        n_sites=400,
        cohort_effect=0,
        hospitals={"RA": hospitals},
        random_state=seed,
        **simulation,
    )
    X, Y, obs = merge_cohorts([*data.cohorts.values(), *data.hospitals], sites="union")
    known = obs[["age", *(name for name in obs if name.startswith("cell_"))]]
    samples = Samples(X, Y, cohort=obs["cohort"], subject=obs["subject"], covariates=known)
    return samples, Hierarchy.from_tables(data.site_gene, data.gene_sets, sites=X.columns)


def parts(hospital, **simulation):
    samples, _ = study(hospital, **simulation)
    return parts_of(samples, pairs_of(samples, [FAR])[0])


def scored(method, view, home, away):
    """AUROC, Brier score and calibration intercept in the other hospital."""
    table = elsewhere(PerTaskBaseline(method), {view: VIEWS[view]}, home, away)[view]
    score = scores_of(table).iloc[0]
    intercept = calibration_intercept(
        table["label"].to_numpy(), table["score"].to_numpy(), np.ones((1, len(table)))
    )
    return score["auroc"], score["brier"], intercept[0]


def test_another_level_spoils_probabilities_and_the_cohorts_own_level_brings_them_back():
    same = scored("logistic_l2", AS_IT_IS, *parts(Hospital(160), seed=1, effect=0.2))
    home, away = parts(Hospital(160, cohort_effect=0.8), seed=1, effect=0.2)
    brier = {view: scored("logistic_l2", view, home, away)[1] for view in VIEWS}
    assert brier[AS_IT_IS] > same[1] + 0.08
    assert brier[LEVEL] == pytest.approx(same[1], abs=0.02)
    assert brier["prevalence"] > same[1] + 0.08


def test_an_array_without_the_best_site_and_training_on_what_both_have():
    same = scored("single_cpg", AS_IT_IS, *parts(Hospital(160), seed=3, effect=0.2))
    home, away = parts(Hospital(160, absent=0.5), seed=3, effect=0.2)
    auroc = {view: scored("single_cpg", view, home, away)[0] for view in VIEWS}
    assert same[0] > 0.8
    assert auroc[AS_IT_IS] == auroc[LEVEL] == auroc["prevalence"] == 0.5
    assert auroc["array"] > 0.7


def test_another_share_of_cases_and_correcting_for_it():
    home, away = parts(Hospital(160, cases=0.15), effect=0.2)
    as_it_is, corrected = (
        scored("single_cpg", view, home, away) for view in (AS_IT_IS, "prevalence")
    )
    assert as_it_is[2] < -1.5
    assert abs(corrected[2]) < 0.5
    assert corrected[1] < as_it_is[1] - 0.08
    assert corrected[0] == as_it_is[0]


def test_the_cohorts_own_level_mistakes_another_share_of_cases_for_a_level():
    home, away = parts(Hospital(160, cases=0.15, cohort_effect=0.8), seed=1, effect=0.2)
    brier = {
        view: scored("rbf_svm", view, home, away)[1] for view in (AS_IT_IS, LEVEL, "all of them")
    }
    assert brier["all of them"] < 0.1 < 0.2 < brier[LEVEL] < brier[AS_IT_IS]


def test_a_score_that_comes_from_the_cell_mix_alone_falls_and_is_nothing_without_it():
    home, away = parts(Hospital(160, granulocytes=2), seed=4, n_planted=0)
    falls_by, outside = {}, {}
    for name in (AS_IT_IS, LEVEL, "composition"):
        folds = within(PerTaskBaseline(), VIEWS[name].at_home, home, home.sites, 3, 0)
        outside[name] = scored("logistic_l2", name, home, away)[0]
        falls_by[name] = scores_of(folds)["auroc"].mean() - outside[name]
    assert falls_by[AS_IT_IS] > 0.4
    assert falls_by[LEVEL] > 0.4
    assert abs(falls_by["composition"]) < 0.15
    assert outside["composition"] == pytest.approx(0.5, abs=0.1)


def test_composition_leaves_what_the_disease_does_and_takes_what_the_cells_do():
    rng = np.random.default_rng(0)
    label = np.tile([0.0, 1.0], 50)
    gran = rng.normal(0.5, 0.05, 100)
    m = pd.DataFrame({"cells": 8 * gran, "disease": 2 * label}) + rng.normal(0, 0.01, (100, 2))
    names = [f"s{i:03}" for i in range(100)]
    samples = Samples(
        (1 / (1 + 2.0**-m)).set_axis(names),
        pd.DataFrame({"RA": label}, names),
        covariates=pd.DataFrame({"cell_Gran": gran, "cell_Rest": 1 - gran}, names),
    )
    train, test = VIEWS["composition"].apply(samples, samples, samples.sites)
    values = np.log2(test.values / (1 - test.values))
    assert values["cells"].std() < 0.05
    assert values["disease"].groupby(label).mean().diff().iloc[-1] == pytest.approx(2, abs=0.1)
    assert list(train.covariates) == []


def test_a_sample_alone_is_read_the_same_as_in_a_batch():
    home, away = parts(Hospital(40, cohort_effect=0.4), n=40)
    for name in (AS_IT_IS, "each sample alone", "composition"):
        _, batch = VIEWS[name].apply(home, away, away.sites)
        _, single = VIEWS[name].apply(home, away.take([7]), away.sites)
        pd.testing.assert_frame_equal(single.values, batch.values.iloc[[7]], rtol=1e-6)


def test_a_stretched_and_shifted_sample_is_put_back_on_the_profile():
    home, away = parts(Hospital(40), n=40)
    m = np.log2(away.values / (1 - away.values))
    moved = away.replace(values=1 / (1 + 2.0 ** -(0.7 * m + 0.4)))
    views = [VIEWS["each sample alone"].apply(home, part, part.sites)[1] for part in (away, moved)]
    pd.testing.assert_frame_equal(views[0].values, views[1].values, rtol=1e-3)


def test_what_cannot_be_taken_away_is_no_view():
    home, away = parts(Hospital(40), n=40)
    assert "array" not in possible_views(home, away)
    bare = (part.replace(covariates=None) for part in (home, away))
    assert list(possible_views(*bare)) == [
        AS_IT_IS, "each sample alone", LEVEL, "prevalence", "all of them"
    ]  # fmt: skip


def test_external_cohorts_are_never_trained_on_but_take_their_turn_in_leaving_one_out():
    samples, _ = study(Hospital(20), Hospital(24), n=20)
    first, second, third = dict.fromkeys(samples.cohort)
    assert pairs_of(samples, [second, third]) == [
        Pair("RA", (first,), second),
        Pair("RA", (first,), third),
    ]
    assert len(pairs_of(samples, [])) == 3
    assert Pair("RA", (first, third), second) in rounds_of(samples)
    assert len(rounds_of(samples)) == 9


def test_scores_of_every_method_within_and_without(tmp_path, monkeypatch):
    monkeypatch.setattr(another_hospital, "METHODS", {OWN: None, "covariates only": "covariates"})
    samples, hierarchy = study(Hospital(30, absent=0.2), n=32)
    far = samples.take(samples.cohort == FAR)
    assert len(measured_sites(far)) < 400
    scores = hospital_scores(samples, hierarchy, [FAR], tmp_path, n_splits=2)
    assert set(scores["method"]) == {OWN, "covariates only"}
    assert set(scores["view"]) == set(VIEWS)
    table = falls(scores)
    assert len(table) == 2 * len(VIEWS)
    assert table["fall"].between(table["low"], table["high"]).all()
    with_one = table[table["view"] == "prevalence"].set_index("method")
    plain = table[table["view"] == AS_IT_IS].set_index("method")
    pd.testing.assert_series_equal(with_one["fall"], plain["fall"])


def test_without_a_second_cohort_there_is_nothing_to_score(tmp_path):
    samples, hierarchy = study(n=20)
    assert hospital_scores(samples, hierarchy, [], tmp_path).empty
    assert leave_one_cohort_out(samples, hierarchy, tmp_path).empty


def test_samples_without_a_cohort_are_refused():
    samples, _ = study(n=20)
    with pytest.raises(MiracleError, match="the samples have no cohort; expected the cohort of"):
        pairs_of(samples.replace(cohort=None), [])
