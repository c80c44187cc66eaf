import pandas as pd
import pytest
import yaml

from miracle_lib.config import Parameters, load_profile
from miracle_lib.errors import MiracleError
from miracle_lib.pipeline import external
from miracle_lib.pipeline.run import Run
from miracle_lib.plots import external as plots
from miracle_lib.plots import openings
from miracle_lib.studies import another_hospital, calibration_table, curve_means, falls
from miracle_lib.studies.another_hospital import OWN

ALONE = {"title": "one disease", "simulation": {"sizes": {"MS": 24}, "n_sites": 300}}
TWO = {
    "title": "two hospitals",
    "simulation": {
        "sizes": {"MS": 24},
        "n_sites": 300,
        "hospitals": {"MS": [{"n": 20, "cases": 0.4, "absent": 0.2}]},
    },
}
FAR = "Simulated MS (hospital 2)"


def opened(folder, profile):
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    values = {"profile": str(folder / "profile.yaml"), "run_dir": str(folder / "run")}
    return Run(Parameters(n_folds=2, **values))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    methods = {OWN: "naive_bayes", "L2 logistic regression": "logistic_l2"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIRACLE_JOBS", "1")
        patch.setattr(another_hospital, "METHODS", methods)
        run = opened(tmp_path_factory.mktemp("two"), TWO)
        run.folder("elsewhere")
        return run


def test_the_other_hospital_tests_and_is_not_among_the_samples_of_the_run(two):
    assert external.external(two) == [FAR]
    samples = external.every_hospital(two)
    far = samples.take(samples.cohort == FAR)
    assert len(far) == 20
    assert far.values.isna().all().mean() == pytest.approx(0.2, abs=0.06)
    (pair,) = external.pairs(two).to_dict("records")
    assert pair["known"] == "20% of the sites are not on its array, 40% are cases"
    assert (pair["test"], pair["samples"], pair["cases"]) == (FAR, 20, 8 / 20)


def test_what_the_chapter_shows(two):
    scores, rounds = external.scores(two), external.rounds(two)
    assert set(rounds["test"]) == {"Simulated MS", FAR}
    table = calibration_table(scores)
    assert list(table.columns) == ["task", "test", "where", "view", "brier", "intercept", "slope"]
    assert table["brier"].str.fullmatch(r"0\.\d\d \(0\.\d\d to 0\.\d\d\)").all()
    assert "level" not in set(table.loc[table["where"] == "within", "view"])
    assert len(plots.within_and_without(scores).axes) == 1
    assert len(plots.causes(scores).axes) == 2
    assert len(plots.rounds(rounds).axes) == 2
    opening = openings.another_hospital(
        falls(scores), falls(scores, "brier"), curve_means(external.curve(two)), OWN
    )
    assert "of 1 test elsewhere the AUROC of MIRACLE falls beyond" in opening
    assert "where the Brier score goes from" in opening


def test_a_hospital_that_tests_two_diseases_is_shown_with_each(two):
    """Diseases that share their controls come from one cohort, at home and elsewhere."""
    scores, rounds = (
        pd.concat([table, table.assign(task="RA")], ignore_index=True)
        for table in (external.scores(two), external.rounds(two))
    )
    titles = [f"{FAR}, MS", f"{FAR}, RA"]
    assert [axes.get_title() for axes in plots.within_and_without(scores).axes] == titles
    assert [axes.get_title() for axes in plots.causes(scores).axes][::2] == titles
    assert len(plots.rounds(rounds).axes) == 4
    table = calibration_table(scores)
    assert (table["task"].value_counts() == len(table) / 2).all()
    fell = falls(scores), falls(scores, "brier")
    opening = openings.another_hospital(*fell, curve_means(external.curve(two)), OWN)
    assert "of 2 tests elsewhere" in opening


def test_without_a_second_cohort_the_chapter_says_what_it_cannot_show(tmp_path, monkeypatch):
    monkeypatch.setenv("MIRACLE_JOBS", "1")
    run = opened(tmp_path, ALONE)
    scores, curve = external.scores(run), external.curve(run)
    assert scores.empty
    assert external.pairs(run).empty
    assert not len(external.every_hospital(run).sites)
    assert calibration_table(scores).empty
    opening = openings.another_hospital(
        falls(scores), falls(scores, "brier"), curve_means(curve), OWN
    )
    assert "No disease of this run has a second cohort" in opening
    assert "*What it cannot show*: whether any score of this book holds in another" in opening
    for figure in (
        plots.within_and_without(scores),
        plots.causes(scores),
        plots.rounds(external.rounds(run)),
        plots.learning(curve),
    ):
        assert figure.texts


def test_external_cohorts_stand_beside_those_that_are_trained_on(tmp_path):
    sources = {"mask": "go_bp", "validation": {"KEGG": "kegg"}}
    path = tmp_path / "profile.yaml"
    for given, message in (
        ({"external": ["GSE111942"], "simulation": {"sizes": {"MS": 24}}}, "need 'cohorts'"),
        (
            {"cohorts": ["GSE42861"], "external": ["GSE42861"], "annotation": sources},
            "GSE42861 is among 'cohorts' and 'external'",
        ),
    ):
        path.write_text(yaml.safe_dump({"title": "wrong", **given}))
        with pytest.raises(MiracleError, match=message):
            load_profile(str(path))
    given = {"cohorts": ["GSE42861"], "external": ["far.yaml"], "annotation": sources}
    path.write_text(yaml.safe_dump({"title": "right", **given}))
    assert load_profile(str(path)).external == [str(tmp_path / "far.yaml")]
