import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
import yaml

import miracle_lib
from miracle_lib.cli import app
from miracle_lib.config import ROOT
from miracle_lib.errors import MiracleError
from miracle_lib.pipeline.book import JUPYTER_BOOK, build_book
from miracle_lib.pipeline.notebooks import STEPS_OF


@pytest.fixture
def copy(tmp_path):
    """The book's sources alone: pages, configuration and notebooks."""
    for name in ("book", "notebooks"):
        ignore = shutil.ignore_patterns("_build", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    shutil.rmtree(tmp_path / "book" / "notebooks", ignore_errors=True)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    return tmp_path


def build(folder, **environment):
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", "book/", "-W", "-n", "--keep-going"]
    kept = {name: value for name, value in os.environ.items() if name != "MIRACLE_RUN"}
    return subprocess.run(
        command,
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_book_builds_without_a_warning_and_has_every_page(copy):
    answer = build(copy)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    html = copy / "_build" / "html"
    toc = yaml.safe_load((copy / "book" / "_toc.yml").read_text())
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            page = (html / f"{chapter['file']}.html").read_text()
            assert "The chapters of this copy show simulated data (six simulated cohorts)." in page
    for path in html.rglob("*.html"):
        page = path.read_text()
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]* src="(http[^"]*)|<link[^>]* href="(http[^"]*)', page
        )
        assert not loaded, f"{path.name} needs the network"
        assert r"\(" not in re.sub(r"<(script|pre|code).*?</\1>", "", page, flags=re.DOTALL)
    assert "<math" in (html / "method.html").read_text()
    gallery = (html / "gallery.html").read_text()
    for path in (copy / "book" / "gallery").glob("*.yaml"):
        for row in yaml.safe_load(path.read_text())["auroc"]:
            assert "{:.2f} ({:.2f} to {:.2f})".format(*row["MIRACLE"]) in gallery, path.name
    reference = "".join(page.read_text() for page in (html / "reference").glob("*.html"))
    for name in set(miracle_lib.__all__) - {"__version__"}:
        place = getattr(miracle_lib, name)
        assert f">{place.__name__}<" in reference, f"{name} is in no page of the reference"
    pages = {path.stem for path in (html / "reference" / "commands").glob("*.html")}
    assert pages == {info.name or info.callback.__name__ for info in app.registered_commands}
    for name in pages:
        page = (html / "reference" / "commands" / f"{name}.html").read_text()
        assert f"Usage: miracle {name}" in page


def test_a_missing_notebook_stops_the_build_and_is_named(copy):
    (copy / "notebooks" / "04_ablations.ipynb").unlink()
    answer = build(copy)
    assert answer.returncode != 0
    assert "pages without a file: notebooks/04_ablations" in answer.stdout + answer.stderr


def test_a_missing_section_stops_the_build_and_is_named(copy):
    (copy / "book" / "reference" / "data.md").unlink()
    answer = build(copy)
    assert answer.returncode != 0
    assert "pages without a file: reference/data" in answer.stdout + answer.stderr


def test_a_run_replaces_the_committed_notebooks(copy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(copy / "notebooks", run / "notebooks")
    path = run / "notebooks" / "01_preprocessing.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("The cohort of Uppsala"))
    injected = nbformat.v4.new_code_cell('run_dir = "/home/anna/run"')
    injected.metadata["tags"] = ["injected-parameters"]
    notebook.cells.insert(2, injected)
    nbformat.write(notebook, path)
    (run / "run.json").write_text(json.dumps({"title": "one real cohort", "simulated": False}))
    answer = build(copy, MIRACLE_RUN=str(run))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    html = copy / "_build" / "html" / "notebooks"
    page = (html / "01_preprocessing.html").read_text()
    assert "The cohort of Uppsala" in page
    assert not [
        p for p in (copy / "_build").rglob("*") if p.is_file() and b"/home/anna" in p.read_bytes()
    ]
    for chapter in html.glob("*.html"):  # two sections of the open questions are simulations
        text = chapter.read_text()
        assert "show real cohorts (one real cohort); sections on simulated data say so." in text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(MiracleError, match="holds no run.json; expected the folder of a run"):
        build_book(tmp_path)


def test_damaged_parameters_of_a_run_are_refused(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "parameters.json").write_text('{"seed": ')
    with pytest.raises(MiracleError, match=r"parameters.json is damaged: it is no table in JSON"):
        build_book(tmp_path)


def test_a_run_of_some_chapters_is_no_book_yet(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "parameters.json").write_text('{"seed": 1, "n_folds": 5}')
    (tmp_path / "notebooks").mkdir()
    for name in list(STEPS_OF)[4:]:
        finished = {"miracle": {"key": "k"}, "papermill": {"parameters": {"seed": 1}}}
        _write(tmp_path, name, finished)
    _, second, third, fourth, *_ = STEPS_OF
    _write(tmp_path, second, {"miracle": {"seal": "as committed"}, "papermill": {}})  # interrupted
    _write(tmp_path, third, finished | {"papermill": {"parameters": {"seed": 0}}})
    (tmp_path / "notebooks" / f"{fourth}.ipynb").write_text('{"metadata": {')
    names = "01_preprocessing, 02_mask_construction, 03_three_stage_training, 04_ablations"
    with pytest.raises(
        MiracleError, match=f"has no chapter {names} finished with its parameters; 'miracle run'"
    ):
        build_book(tmp_path)


def _write(folder, name, metadata):
    (folder / "notebooks" / f"{name}.ipynb").write_text(json.dumps({"metadata": metadata}))
