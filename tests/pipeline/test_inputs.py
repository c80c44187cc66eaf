import pytest
import yaml

from miracle_lib.config import Parameters
from miracle_lib.errors import MiracleError
from miracle_lib.pipeline import data
from miracle_lib.pipeline.inputs import cell_reference, refuse_alike
from miracle_lib.pipeline.run import Run


def simulated(folder, *tasks):
    content = {
        "title": "simulated",
        "simulation": {"sizes": dict.fromkeys(tasks, 20), "n_sites": 100, "n_planted": 1},
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(content))
    return Run(Parameters(profile=str(folder / "own.yaml"), run_dir=str(folder / "run")))


def test_hostile_task_names_stay_in_the_run_and_keep_apart(tmp_path):
    run = simulated(tmp_path, "../../x", "SLE/DLE", "SLE_DLE", "sites")
    tasks = {adata.obs["task"].iloc[0] for adata in data.raw_cohorts(run)}
    assert tasks == {"../../x", "SLE/DLE", "SLE_DLE", "sites"}
    outside = {path.name for path in tmp_path.iterdir()}
    assert outside == {"own.yaml", "run"}
    assert len(list(run.folder("cohorts").glob("*.h5ad"))) == 4


def test_tasks_that_differ_in_case_only_are_refused_before_any_work(tmp_path):
    run = simulated(tmp_path, "SLE", "RA", "Sle")
    with pytest.raises(MiracleError, match="the tasks 'SLE' and 'Sle' differ in case only"):
        run.folder("cohorts")


def test_one_task_of_several_cohorts_is_no_clash():
    refuse_alike(["SLE", "RA", "SLE"], "tasks")


def test_means_of_sorted_cells_may_be_a_file_of_ones_own(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("cpg,Mono,Gran\ncg1,0.1,0.9\n")
    assert cell_reference(str(path), None).loc["cg1"].to_dict() == {"Mono": 0.1, "Gran": 0.9}
    assert cell_reference(None, None) is None
    path.write_text("cpg,Mono,Gran\ncg1,0.1,9\n")
    with pytest.raises(MiracleError, match="cells.csv: site 'cg1' has a value"):
        cell_reference(str(path), None)
