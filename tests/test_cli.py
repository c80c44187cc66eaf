import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import miracle_lib as ml
from miracle_lib.cli import app
from miracle_lib.errors import MiracleError
from miracle_lib.pipeline import notebooks as module
from miracle_lib.pipeline.notebooks import execute_run, open_profile_run


def call(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", ["fetch", "run", "book", "predict", "info"])
def test_every_command_explains_itself(command):
    answer = call(command, "--help")
    assert answer.exit_code == 0
    assert "Usage" in answer.stdout


def test_the_known_cohorts_are_listed():
    answer = call("fetch", "--list")
    assert answer.exit_code == 0
    assert all(f"GSE{number}" in answer.stdout for number in (42861, 59250, 106648, 87648))


def test_the_version_is_that_of_the_package():
    assert call("--version").stdout == f"miracle {ml.__version__}\n"


def test_the_command_is_a_module_too():
    command = [sys.executable, "-m", "miracle_lib.cli", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == f"miracle {ml.__version__}\n"


def test_fetch_says_what_is_where(tmp_path):
    (tmp_path / "beta.csv").write_text("id,cg01\nanna,0.5\n")
    (tmp_path / "ours.yaml").write_text(
        "name: ours\ntask: Lupus\nplatform: 450K\ntissue: blood\n"
        "files: [{url: beta.csv, layout: table}]\n"
        "phenotypes: {label: {key: status, case: ill, control: well}}\n"
    )
    answer = call("fetch", str(tmp_path / "ours.yaml"))
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout == (
        f"ours: {tmp_path / 'beta.csv'} (17 bytes)\n1 file of 1 cohort: all there.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "-p", "sed=1"], "parameter 'sed' is not known"),
        (["run", "-p", "seed=one"], "parameter 'seed' is 'one'; expected an integer"),
        (["run", "-p", "profile=geo"], "given by --profile, not by -p"),
        (["run", "--profile", "nowhere.yaml"], "profile 'nowhere.yaml' was not found"),
        (["fetch"], "no cohort was named"),
        (["book", "--run-dir", "nowhere"], "holds no run.json"),
        (["info", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_a_non_zero_exit(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = call(*arguments)
    assert answer.exit_code == 1
    assert words in answer.stderr
    assert answer.stderr.startswith("miracle: ")
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def one_notebook(tmp_path, monkeypatch):
    """A run of a single notebook whose last cell is given by the test."""

    def make(source):
        cells = [
            nbformat.v4.new_code_cell("seed: int = 0  # seed", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(source),
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        kernel["language_info"] = {"name": "python"}
        folder = tmp_path / "notebooks"
        folder.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "a.ipynb")
        monkeypatch.setattr(module, "NOTEBOOKS", folder)
        monkeypatch.setattr(module, "STEPS_OF", {"a": ()})
        return open_profile_run("demo", str(tmp_path / "run"), {"seed": 4})

    return make


def test_a_notebook_gets_its_parameters_and_is_not_executed_twice(one_notebook, caplog):
    run = one_notebook("print(seed + 1)")
    execute_run(run)
    target = run.directory / "notebooks" / "a.ipynb"
    assert nbformat.read(target, as_version=4).cells[-1].outputs[0].text == "5\n"
    written = target.stat().st_mtime_ns
    caplog.set_level("INFO", "miracle_lib")
    execute_run(run)
    assert target.stat().st_mtime_ns == written
    assert "a: unchanged, not run again" in caplog.messages


def test_who_executes_a_notebook_keeps_its_figures(one_notebook):
    run = one_notebook(
        "from miracle_lib.pipeline import open_run\n"
        "from miracle_lib.plots import style\n"
        "open_run(seed=seed).figure(style.new_figure(1), 'line')"
    )
    execute_run(run)
    assert (run.directory / "figures" / "line.svg").read_text().startswith("<svg")


def test_a_failing_notebook_keeps_its_copy_with_the_error(one_notebook):
    run = one_notebook("raise ValueError('no such cohort')")
    with pytest.raises(MiracleError, match="a.ipynb: ValueError: no such cohort"):
        execute_run(run)
    text = (run.directory / "notebooks" / "a.ipynb").read_text()
    assert "no such cohort" in text


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small fitted model on disk with the samples it was fitted on."""
    folder = tmp_path_factory.mktemp("model")
    data = ml.simulate_cohorts({"MS": 40, "RA": 40}, n_sites=200)
    X, Y, obs = ml.merge_cohorts(list(data.cohorts.values()))
    hierarchy = ml.Hierarchy.from_tables(data.site_gene, data.gene_sets, sites=X.columns)
    model = ml.MiracleClassifier(hierarchy, training=ml.Training(epochs=(2, 2, 0), progress=False))
    model.fit(X, Y, cohort=obs["cohort"]).save(folder / "model")
    return folder / "model", model, X


def test_predict_writes_what_the_model_says(saved, tmp_path):
    path, model, X = saved
    X.to_csv(tmp_path / "new.csv")
    answer = call(
        "predict", str(tmp_path / "new.csv"), "--model", str(path), "-o", str(tmp_path / "p.csv")
    )
    assert answer.exit_code == 0, answer.stderr
    written = pd.read_csv(tmp_path / "p.csv", index_col=0)
    expected = model.predict_proba(X)
    for task in model.tasks_:
        own = written.index[written.index.str.startswith(task)]
        assert (written.loc[own, f"verdict[{task}]"] != "not to be used").all()
        np.testing.assert_allclose(
            written.loc[own, f"probability[{task}]"], expected.loc[own, task], atol=1e-5
        )


def test_predict_finds_the_model_of_a_run(saved, tmp_path, monkeypatch):
    path, _, X = saved
    X.iloc[:2].to_csv(tmp_path / "new.csv")
    monkeypatch.chdir(tmp_path)
    answer = call("predict", "new.csv", "--run-dir", str(path.parent))
    assert answer.exit_code in (0, 3), answer.stderr
    assert pd.read_csv("new.predictions.csv", index_col=0).index.tolist() == list(X.index[:2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected --run-dir FOLDER or --model FOLDER, one of the two"),
        (["--model", "a", "--run-dir", "b"], "one of the two"),
        (["--model", "a", "--prevalence", "RA"], "prevalence is 'RA'; expected TASK=SHARE"),
        (["--model", "a", "--factor", "0.5"], "limit factor is 0.5; expected at least 1"),
    ],
)
def test_predict_says_what_it_was_asked_wrongly(tmp_path, options, message):
    answer = call("predict", str(tmp_path / "new.csv"), *options)
    assert answer.exit_code == 1
    assert message in answer.stderr


def test_predict_keeps_the_first_sample_of_a_table_of_r(saved, tmp_path):
    path, _, X = saved
    text = X.T.rename_axis(None).to_csv(sep="\t", na_rep="NA").removeprefix("\t")
    (tmp_path / "new.txt").write_text(text)
    answer = call(
        "predict", str(tmp_path / "new.txt"), "--model", str(path), "-o", str(tmp_path / "p.csv")
    )
    assert answer.exit_code == 0, answer.stderr
    assert pd.read_csv(tmp_path / "p.csv", index_col=0).index.tolist() == X.index.tolist()


def test_predict_drops_names_that_are_no_probes_only_when_asked(saved, tmp_path):
    path, _, X = saved
    X.assign(status=1).to_csv(tmp_path / "new.csv")
    command = [
        "predict",
        str(tmp_path / "new.csv"),
        "--model",
        str(path),
        "-o",
        str(tmp_path / "p.csv"),
    ]
    answer = call(*command)
    assert answer.exit_code == 1
    assert "new.csv: column 'status' is no probe" in answer.stderr
    assert call(*command, "--drop-other").exit_code == 0


def test_predict_refuses_samples_with_too_few_sites_and_says_so(saved, tmp_path):
    path, _, X = saved
    X.iloc[:3, :20].to_csv(tmp_path / "few.csv")
    answer = call(
        "predict", str(tmp_path / "few.csv"), "--model", str(path), "-o", str(tmp_path / "p.csv")
    )
    assert answer.exit_code == 3
    assert "of the model's sites are measured" in answer.stderr
    written = pd.read_csv(tmp_path / "p.csv", index_col=0)
    assert (written.filter(like="verdict[") == "not to be used").all(axis=None)
    assert written.filter(like="probability[").isna().all(axis=None)


def test_predict_does_not_write_onto_what_it_reads(saved, tmp_path):
    path, _, X = saved
    X.iloc[:2].to_csv(tmp_path / "new.csv")
    before = (tmp_path / "new.csv").read_bytes()
    answer = call(
        "predict", str(tmp_path / "new.csv"), "--model", str(path), "-o", str(tmp_path / "new.csv")
    )
    assert answer.exit_code == 1
    assert "is the table itself" in answer.stderr
    assert (tmp_path / "new.csv").read_bytes() == before


def test_info_names_tasks_and_sizes(saved):
    answer = call("info", str(saved[0]))
    assert answer.exit_code == 0
    assert "MS: Simulated MS" in answer.stdout
    assert "For research use, not diagnosis." in answer.stdout
    assert "pathways" in answer.stdout


def test_predict_writes_a_report_with_the_controls_of_its_run(saved, tmp_path):
    path, model, X = saved
    run = tmp_path / "run"
    shutil.copytree(path, run / "model")
    explained = run / "tables" / "explained" / "tasks"
    explained.mkdir(parents=True)
    pathways = model.hierarchy_.pathways
    found = pd.DataFrame({"attribution": 0.2, "z": 5.0, "q_value": 0.5, "n_sites": 9}, pathways)
    found.loc[pathways[3], "q_value"] = 0.01
    found.to_csv(explained / "RA.csv")
    (run / "parameters.json").write_text('{"q_threshold": 0.05, "selection": "none"}')
    own = X.index[X.index.str.startswith("RA")][:3]
    X.loc[own].to_csv(tmp_path / "new.csv")
    words = ["predict", str(tmp_path / "new.csv"), "--run-dir", str(run), "--pages", "2"]
    words += ["-o", str(tmp_path / "p.csv"), "--report", str(tmp_path / "report")]
    answer = call(*words)
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == f"{tmp_path}/report/index.html"
    pages = [path.read_text() for path in (tmp_path / "report" / "samples").glob("*.html")]
    assert len(pages) == 2
    assert all(pathways[3] in page and pathways[2] not in page for page in pages)
    assert "new.csv" in (tmp_path / "report" / "index.html").read_text()
    (tmp_path / "p.csv").unlink()
    answer = call(*words, "--cells", str(tmp_path / "cells.csv"))
    assert answer.exit_code == 1
    assert "cells.csv" in answer.stderr
    (tmp_path / "report" / "index.html").unlink()
    answer = call(*words)
    assert answer.exit_code == 1
    assert "report holds 'samples' and no report; name another folder." in answer.stderr
    assert not (tmp_path / "p.csv").exists()
