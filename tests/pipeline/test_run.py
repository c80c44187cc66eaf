import json
import logging

import pytest

from miracle_lib.config import Parameters
from miracle_lib.errors import MiracleError
from miracle_lib.pipeline import open_run
from miracle_lib.pipeline import run as module
from miracle_lib.pipeline.inputs import READERS
from miracle_lib.pipeline.run import Run, Step, reopen_run


@pytest.fixture
def made(monkeypatch):
    """Two steps, the second after the first; the list tells which were made."""
    made = []

    def first(run, folder):
        made.append("first")
        (folder / "seed.txt").write_text(str(run.parameters.seed))

    def second(run, folder):
        made.append("second")
        text = (run.folder("first") / "seed.txt").read_text()
        (folder / "twice.txt").write_text(text * 2)

    steps = {
        "first": Step("first", first, uses=("seed",)),
        "second": Step("second", second, uses=("n_folds",), after=("first",)),
    }
    monkeypatch.setattr(module, "STEPS", steps)
    return made


def new_run(folder, **values):
    return Run(Parameters(run_dir=str(folder), **values))


def test_a_step_runs_those_before_it_once(tmp_path, made):
    run = new_run(tmp_path, seed=7)
    assert (run.folder("second") / "twice.txt").read_text() == "77"
    assert made == ["first", "second"]


def test_what_a_step_has_read_does_not_stay_in_memory_while_the_next_is_made(tmp_path, made):
    run = new_run(tmp_path, seed=7)

    def read(path):
        return [path.read_text()]  # a list is not the same object when read again

    def second(run, folder):
        run.load("first", "seed.txt", read)

    module.STEPS["second"] = Step("second", second, after=("first",))
    before = run.load("first", "seed.txt", read)
    assert run.load("first", "seed.txt", read) is before
    run.folder("second")
    assert not run._loaded
    assert run.load("first", "seed.txt", read) == ["7"]


def test_an_unchanged_step_is_found_by_a_later_run_and_said(tmp_path, made, caplog):
    new_run(tmp_path).folder("second")
    caplog.set_level(logging.INFO, "miracle_lib")
    new_run(tmp_path).folder("second")
    assert made == ["first", "second"]
    assert "second: unchanged, not run again" in caplog.messages


def test_a_parameter_changes_only_the_steps_that_use_it_and_those_after(tmp_path, made):
    new_run(tmp_path).folder("second")
    new_run(tmp_path, n_folds=3).folder("second")
    assert made == ["first", "second", "second"]
    new_run(tmp_path, seed=1).folder("second")
    assert made[3:] == ["first", "second"]


def test_results_of_other_parameters_lie_side_by_side(tmp_path, made):
    one, two = new_run(tmp_path, seed=1), new_run(tmp_path, seed=2)
    texts = [(run.folder("first") / "seed.txt").read_text() for run in (one, two, one)]
    assert texts == ["1", "2", "1"]
    assert made == ["first", "first"]


def test_a_killed_step_finds_its_unfinished_work(tmp_path, monkeypatch):
    attempts = []

    def fragile(run, folder):
        attempts.append(sorted(path.name for path in folder.iterdir()))
        (folder / "half").write_text("")
        if len(attempts) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "STEPS", {"fragile": Step("fragile", fragile)})
    run = new_run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.folder("fragile")
    assert not run.done("fragile")
    run.folder("fragile")
    assert attempts == [[], ["half"]]
    assert run.done("fragile")


def test_opening_a_run_and_making_its_steps_describes_nothing(tmp_path, made):
    """What a reader finds there was written by who made the run."""
    new_run(tmp_path, seed=5).folder("first")
    assert [path.name for path in tmp_path.iterdir()] == ["steps"]


def test_a_run_describes_itself_with_the_versions_each_step_was_made_by(tmp_path, made):
    run = new_run(tmp_path, seed=5)
    run.folder("second")
    run.describe()
    run.write_provenance()
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {"parameters.json", "provenance.json", "run.json"}
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["seed"] == 5
    assert set(provenance["steps"]) == {"first", "second"}
    assert "torch" in provenance["steps"]["first"]["environment"]


def test_a_run_reopened_has_its_parameters_and_cleans_what_it_does_not_need(tmp_path, made):
    new_run(tmp_path, seed=1).folder("second")
    run = new_run(tmp_path, seed=2)
    run.folder("second")
    run.describe()
    again = reopen_run(tmp_path)
    assert again.parameters.seed == 2
    assert len(again.clean()) == 2
    assert again.done("first")
    assert again.done("second")
    assert not new_run(tmp_path, seed=1).done("first")
    with pytest.raises(MiracleError, match="holds no parameters.json"):
        reopen_run(tmp_path / "elsewhere")
    for damaged in ("{", "[1]"):
        (tmp_path / "parameters.json").write_text(damaged)
        with pytest.raises(MiracleError, match="is damaged: it is no table in JSON"):
            reopen_run(tmp_path)


def test_nothing_is_fetched_for_a_step_that_was_never_begun(tmp_path, made, monkeypatch):
    def fetch(*_):
        raise MiracleError("the network is down")

    monkeypatch.setitem(READERS, "external", fetch)
    third = module.STEPS["second"].make
    module.STEPS["third"] = Step("third", third, reads=("external",), after=("first",))
    run = new_run(tmp_path)
    run.folder("first")
    run.describe()
    assert not run.done("third")
    assert not reopen_run(tmp_path).clean()
    with pytest.raises(MiracleError, match="the network is down"):
        run.folder("third")


def test_the_seed_makes_other_cohorts_only_where_they_are_simulated(tmp_path):
    assert new_run(tmp_path, seed=1).key("cohorts") != new_run(tmp_path, seed=2).key("cohorts")
    (tmp_path / "beta.csv").write_text("id,cg01\nanna,0.5\n")
    (tmp_path / "ours.yaml").write_text(
        "name: ours\ntask: Lupus\nplatform: 450K\ntissue: blood\n"
        "files: [{url: beta.csv, layout: table}]\n"
        "phenotypes: {label: {key: status, case: ill, control: well}}\n"
    )
    for name in ("genes.gmt", "other.gmt", "array.csv"):
        (tmp_path / name).write_text(name)
    profile = (
        "title: ours\ncohorts: [ours.yaml]\n"
        "annotation: {array: array.csv, mask: MASK, validation: {Other: other.gmt}}\n"
    )
    keys = []
    for seed, mask in ((1, "genes.gmt"), (2, "genes.gmt"), (1, "other.gmt")):
        (tmp_path / "profile.yaml").write_text(profile.replace("MASK", mask))
        run = new_run(tmp_path / "run", seed=seed, profile=str(tmp_path / "profile.yaml"))
        keys.append((run.key("samples"), run.key("hospitals"), run.key("hierarchy")))
    assert keys[0] == keys[1]
    assert keys[0][:2] == keys[2][:2]  # quality control asks no gene set
    assert keys[0][2] != keys[2][2]


def test_who_looks_at_a_figure_writes_nothing(tmp_path, made):
    from miracle_lib.plots import style

    run = new_run(tmp_path, seed=1)
    run.describe()
    before = sorted(tmp_path.rglob("*"))
    picture = run.figure(style.new_figure(1), "a")
    assert picture.data.startswith("<svg")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_notebook_with_a_mistyped_parameter_stops_at_once():
    with pytest.raises(MiracleError, match="'seed' is '1'; expected an integer"):
        open_run(seed="1")
