import pandas as pd
import pytest
import yaml

from miracle_lib.config import Parameters
from miracle_lib.pipeline import data, ewas
from miracle_lib.pipeline.run import Run

PROFILE = {
    "title": "two simulated cohorts",
    "simulation": {"sizes": {"MS": 80, "RA": 100}, "n_sites": 600, "effect": 1.0},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ewas")
    (folder / "two.yaml").write_text(yaml.safe_dump(PROFILE))
    return Run(Parameters(profile=str(folder / "two.yaml"), run_dir=str(folder / "run")))


def test_every_task_is_tested_with_and_without_adjustment(run):
    sites = data.all_samples(run).sites
    for task in ("MS", "RA"):
        tables = ewas.site_tests(run, task)
        assert list(tables) == [ewas.CRUDE, ewas.ADJUSTED, ewas.COMPOSITION]
        assert all(table.index.equals(sites) for table in tables.values())
        planted = run.table("annotation", "truth_sites").query("task == @task")["site"]
        p = tables[ewas.COMPOSITION]["p_value"]
        assert p.loc[planted].median() < 0.01 < p.drop(planted).median()
    assert sites.isin(ewas.positions(run).index).all()


def test_its_pathways_stand_beside_those_of_the_network(run):
    found = ewas.baseline(run, "RA")
    single = found.index[found["q_value"] <= 0.05]
    planted = run.table("annotation", "truth_pathways").query("task == 'RA'")["pathway"]
    assert single.isin(planted).any()
    silent = pd.DataFrame({"q_value": 1.0}, index=data.graph(run).pathways)
    beside = ewas.beside_network(run, "RA", silent)
    assert beside["pathways"].to_dict() == {"both": 0, "network only": 0, "EWAS only": len(single)}
    assert beside.loc["EWAS only", "planted"] == single.isin(planted).sum()


def test_an_adjustment_that_cannot_be_made_is_left_out_with_a_warning(
    run, tmp_path, caplog, monkeypatch
):
    def aliased(run, task):
        samples = data.samples_of_task(run, task)
        return samples.replace(covariates=samples.covariates.assign(age=samples.labels[task]))

    monkeypatch.setattr(ewas, "samples_of_task", aliased)
    ewas.ewas(run, tmp_path)
    assert "EWAS of RA, covariates, is left out: y follows from" in caplog.text
    assert (tmp_path / "RA, crude.csv").is_file()
    assert not (tmp_path / "RA, covariates.csv").exists()


def test_a_task_may_be_named_by_any_text(run, tmp_path, monkeypatch):
    def renamed(run, _):
        samples = data.samples_of_task(run, "RA")
        return samples.replace(labels=samples.labels.rename(columns={"RA": "SLE/DLE"}))

    monkeypatch.setattr(ewas, "samples_at", renamed)
    monkeypatch.setattr(ewas, "samples_of_task", renamed)
    ewas.ewas(run, tmp_path)
    monkeypatch.setattr(run, "folder", lambda name: tmp_path)
    assert list(ewas.site_tests(run, "SLE/DLE")) == [ewas.CRUDE, ewas.ADJUSTED, ewas.COMPOSITION]
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv"}
