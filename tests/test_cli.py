import nbformat
import pytest
from typer.testing import CliRunner

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


def test_a_failing_notebook_keeps_its_copy_with_the_error(one_notebook):
    run = one_notebook("raise ValueError('no such cohort')")
    with pytest.raises(MiracleError, match="a.ipynb: ValueError: no such cohort"):
        execute_run(run)
    text = (run.directory / "notebooks" / "a.ipynb").read_text()
    assert "no such cohort" in text
