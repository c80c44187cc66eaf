"""Results of a Dask cluster are those of one machine, also when a worker is killed."""

import ctypes
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from typer.testing import CliRunner

from miracle_lib import Hierarchy, MiracleClassifier, MiracleError, Training, parallel, pipeline
from miracle_lib.cli import app
from miracle_lib.evaluation import Cell, Data, cross_validate, permutation_test, run_grid
from miracle_lib.interpretation import refit_attributions
from miracle_lib.parallel import cluster, give_back_memory, spread
from miracle_lib.pipeline import models, outputs

HERE = str(Path(__file__).parent / "evaluation")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cells_module():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        patch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))
        import grid_cells

        yield grid_cells


@pytest.fixture(scope="module")
def address(cells_module):
    """Two workers of one thread, each replaced if it dies."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as machines:
        yield machines.scheduler_address


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return str(path)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no GNU C library")
def test_memory_below_what_is_still_in_use_is_given_back():
    def used():
        return psutil.Process().memory_info().rss / 1e6

    pieces = [bytes(4_000) for _ in range(20_000)]  # small enough for the heap
    last, before = pieces[-1], used()
    del pieces
    give_back_memory()
    assert used() < before - 60
    assert len(last) == 4_000


class KillOne(threading.Thread):
    """Kill the worker that has written the last line of a log, once a few are there."""

    def __init__(self, log):
        super().__init__()
        self.log, self.killed = log, False

    def run(self):
        deadline = time.time() + 60
        while time.time() < deadline:
            lines = Path(self.log).read_text().splitlines()
            if len(lines) >= 4:
                os.kill(int(lines[-1].split()[1]), signal.SIGKILL)
                self.killed = True
                return
            time.sleep(0.02)

    def __enter__(self):
        self.start()

    def __exit__(self, *error):
        self.join()
        assert self.killed


def noise(n=40, sites=20):
    rng = np.random.default_rng(0)
    names = [f"s{i}" for i in range(n)]
    X = pd.DataFrame(
        rng.uniform(0.3, 0.7, (n, sites)), names, [f"cg{i}" for i in range(sites)]
    ).astype("float32")
    return X, pd.DataFrame({"RA": (np.arange(n) % 2).astype(float)}, names)


def test_a_killed_worker_loses_no_cell(address, tmp_path, log, cells_module):
    data = Data(values=pd.DataFrame({"a": [0.5]}))
    cells = [Cell(cells_module.count, {"x": x, "log": log, "wait": 0.2}, data) for x in range(12)]
    with cluster(address), KillOne(log):
        tables = run_grid(cells, tmp_path / "store")
    assert [table["result"]["total"].item() for table in tables] == [x + 0.5 for x in range(12)]
    assert len(list((tmp_path / "store").glob("*.json"))) == 12
    before = Path(log).read_text()
    assert {int(line.split()[0]) for line in before.splitlines()} == set(range(12))
    run_grid(cells, tmp_path / "store")
    assert Path(log).read_text() == before


def test_folds_of_a_cluster_are_those_of_one_machine(address, log, cells_module):
    X, Y = noise()
    estimator = cells_module.Logged(log=log, wait=0.1)
    here = cross_validate(estimator, X, Y, n_splits=3, n_repeats=2)
    with cluster(address):
        there = cross_validate(estimator, X, Y, n_splits=3, n_repeats=2)
    pd.testing.assert_frame_equal(here, there)
    pd.testing.assert_frame_equal(here.attrs["predictions"], there.attrs["predictions"])
    pids = [line.split()[1] for line in Path(log).read_text().splitlines()]
    assert str(os.getpid()) not in pids[6:]


def test_permutations_of_a_cluster_are_those_of_one_machine(address, log, cells_module):
    X, Y = noise()
    estimator = cells_module.Logged(log=log)
    here = permutation_test(estimator, X, Y, n_permutations=6, n_splits=2)
    with cluster(address):
        there = permutation_test(estimator, X, Y, n_permutations=6, n_splits=2)
    pd.testing.assert_frame_equal(here, there)
    pd.testing.assert_frame_equal(here.attrs["null"], there.attrs["null"])
    pids = [line.split()[1] for line in Path(log).read_text().splitlines()]
    assert pids[:14] == [str(os.getpid())] * 14
    assert len(set(pids[14:])) == 2
    assert str(os.getpid()) not in pids[14:]


def test_seeds_and_controls_of_a_cluster_are_those_of_one_machine(address):
    X, Y = noise(n=48)
    genes = [f"G{i // 4}" for i in range(20)]
    mask = Hierarchy.from_tables(
        pd.DataFrame({"site": X.columns, "gene": genes}),
        {"P1": ["G0", "G1", "G2"], "P2": ["G2", "G3", "G4"]},
        min_genes=1,
    )

    def make(mask, seed):
        training = Training(epochs=(2, 3, 0), progress=False)
        return MiracleClassifier(mask, random_state=seed, device="cpu", training=training)

    kinds = ("real", "shuffled labels")
    here = refit_attributions(make, mask, X, Y, kinds=kinds, n_seeds=2)
    with cluster(address):
        there = refit_attributions(make, mask, X, Y, kinds=kinds, n_seeds=2)
    pd.testing.assert_frame_equal(here, there, rtol=1e-4)


def test_a_job_that_kills_every_worker_is_one_sentence(cells_module, log):
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as machines,
        cluster(machines.scheduler_address),
        pytest.raises(MiracleError, match="lost its workers while it ran jobs"),
    ):
        list(spread(cells_module.die, [(0, log)]))


def test_an_address_where_nothing_answers_is_one_sentence():
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}),
        pytest.raises(MiracleError, match=r"No Dask scheduler answers at tcp://127.0.0.1:9"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_run_with_a_scheduler_makes_the_same_files(address, tmp_path, monkeypatch):
    """`miracle run --scheduler` hands the folds of a step to the workers."""
    profile = {
        "title": "two simulated cohorts",
        "simulation": {"sizes": {"MS": 40, "RA": 40}, "n_sites": 200, "effect": 1.0},
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(profile))
    quick = {"device": "cpu", "training": Training(epochs=(1, 2, 0), progress=False)}
    monkeypatch.setattr(
        models, "classifier", lambda run: MiracleClassifier(models.graph(run), **quick)
    )
    monkeypatch.setattr(models, "REFERENCES", {"naive Bayes": "naive_bayes"})
    monkeypatch.setattr(pipeline, "execute_run", lambda run, _: run.folder("scores"))
    monkeypatch.setattr(outputs, "publish", lambda run: {"scores": run.folder("scores")})
    command = ["run", "--profile", str(tmp_path / "two.yaml"), "--run-dir", str(tmp_path / "run")]
    command += ["-p", "n_folds=2"]
    asked, on_workers = [], parallel._on_workers

    def counted(client, function, jobs, *rest):
        asked.append(len(jobs))
        return on_workers(client, function, jobs, *rest)

    monkeypatch.setattr(parallel, "_on_workers", counted)
    tables = []
    for options in ([], ["--scheduler", address]):
        result = CliRunner(env={"MIRACLE_SCHEDULER": None}).invoke(app, [*command, *options])
        assert result.exit_code == 0, result.output
        (folder,) = (tmp_path / "run" / "steps" / "scores").glob("*/")
        tables.append({path.name: pd.read_csv(path) for path in folder.glob("*.csv")})
        shutil.rmtree(folder)
    assert asked == [2, 2]  # the folds of two methods, of the second run alone
    here, there = tables
    assert set(here) == set(there) == {"MIRACLE.csv", "naive Bayes.csv"}
    for file, table in here.items():
        pd.testing.assert_frame_equal(table, there[file])
