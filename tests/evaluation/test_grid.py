import importlib
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation.grid import Cell, Data, run_grid

HERE = str(Path(__file__).parent)


def executed(log):
    return sorted(int(line.split()[0]) for line in Path(log).read_text().splitlines())


@pytest.fixture(autouse=True)
def _importable_by_workers(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", HERE)


@pytest.fixture
def cells_module():
    return importlib.import_module("grid_cells")


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return str(path)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_in_order_and_nothing_runs_twice(tmp_path, log, n_jobs, cells_module):
    data = Data(values=pd.DataFrame({"a": [1.0, np.nan]}))
    cells = [Cell(cells_module.count, {"x": x, "log": log}, data) for x in (3, 1, 2)]
    first = run_grid(cells, tmp_path / "store", n_jobs)
    again = run_grid([*cells, cells[0]], tmp_path / "store", n_jobs)
    assert [table["result"]["total"].item() for table in first] == [4, 2, 3]
    assert np.isnan(first[0]["result"]["missing"].item())
    assert [table["result"]["x"].item() for table in again] == [3, 1, 2, 3]
    assert executed(log) == [1, 2, 3]


def test_finished_cells_survive_a_failure(tmp_path, log, cells_module):
    cells = [Cell(cells_module.fail, {"x": x, "log": log}) for x in (1, 2, 3, 4)]
    with pytest.raises(MiracleError, match="1 of 4 cells failed, the others are stored.*three"):
        run_grid(cells, tmp_path)
    run_grid([cells[0], cells[1], cells[3]], tmp_path)
    assert executed(log) == [1, 2, 4]


@pytest.fixture
def _fresh_workers():
    get_reusable_executor().shutdown(wait=True)
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.mark.usefixtures("_fresh_workers")
def test_a_worker_that_outgrew_its_memory_is_replaced_in_silence(tmp_path, log, cells_module):
    cells = [Cell(cells_module.grow, {"x": x, "log": log}) for x in range(5)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        results = run_grid(cells, tmp_path, n_jobs=2)
    assert not [warning for warning in said if "worker stopped" in str(warning.message)]
    assert [table["result"]["x"].item() for table in results] == executed(log) == list(range(5))
    workers = {line.split()[1] for line in Path(log).read_text().splitlines()}
    assert len(workers) > 2  # else nothing was replaced, and the test shows nothing


@pytest.mark.usefixtures("_fresh_workers")
def test_a_worker_that_dies_is_not_passed_over(tmp_path, log, cells_module):
    with pytest.raises(TerminatedWorkerError, match="SIGKILL"):
        run_grid([Cell(cells_module.die, {"x": 0, "log": log})], tmp_path, n_jobs=2)


def test_key_follows_settings_data_and_function(cells_module):
    table = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}, ["s1", "s2"])
    key = Cell(cells_module.count, {"x": 1}, Data(values=table)).key
    assert Cell(cells_module.count, {"x": 1}, Data(values=table.copy())).key == key
    others = [
        Cell(cells_module.count, {"x": 2}, Data(values=table)),
        Cell(cells_module.fail, {"x": 1}, Data(values=table)),
        Cell(cells_module.count, {"x": 1}, Data(values=table.replace(2.0, 3.0))),
        Cell(cells_module.count, {"x": 1}, Data(values=table.replace("y", "z"))),
        Cell(cells_module.count, {"x": 1}, Data(values=table.set_axis(["s1", "s3"]))),
        Cell(cells_module.count, {"x": 1}, Data(values=table.astype({"a": "float32"}))),
        Cell(cells_module.count, {"x": 1}),
    ]
    assert len({key, *(cell.key for cell in others)}) == 8


@pytest.mark.parametrize("harm", ["cut", "number"])
def test_a_damaged_cell_is_said_and_run_again(tmp_path, log, cells_module, caplog, harm):
    cell = Cell(cells_module.count, {"x": 1, "log": log})
    (before,) = run_grid([cell], tmp_path)
    file = tmp_path / f"{cell.key}.json"
    text = file.read_text()
    changed = text[: len(text) // 2] if harm == "cut" else re.sub(r"\[1", "[2", text, count=1)
    assert changed != text
    file.write_text(changed)
    (after,) = run_grid([cell], tmp_path)
    assert [
        message for message in caplog.messages if "is damaged; the cell is run again" in message
    ]
    for name, table in before.items():
        pd.testing.assert_frame_equal(after[name], table)
