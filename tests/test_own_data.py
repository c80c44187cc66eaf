"""The page on a user's own data runs as it stands, in an empty folder."""

import re
import shlex

import pytest
from typer.testing import CliRunner

import miracle_lib as ml
from miracle_lib.cli import app
from miracle_lib.config import ROOT, load_profile

PAGE = (ROOT / "book" / "own_data.md").read_text()
FENCE = re.compile(r"```(\{code-block\} text|\w+)\n(?::caption: (\S+)\n\n)?(.*?)```", re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Everything on the page, done in order; what commands print is what the page prints."""
    monkeypatch.chdir(tmp_path)
    printed = None
    for kind, file, content in FENCE.findall(PAGE):
        if file:
            (tmp_path / file).write_text(content)
        elif kind == "python":
            exec(content, {})
        elif kind == "bash":
            program, *words = shlex.split(content)
            assert program == "miracle"
            answer = CliRunner().invoke(app, words)
            assert answer.exit_code == 0, answer.stderr
            printed = answer.stdout
        elif kind == "text":
            assert content == printed
        elif kind == "yaml":
            assert content == (tmp_path / "betas.profile.yaml").read_text()
    return tmp_path


def test_the_page_runs_word_for_word_and_its_files_load(folder):
    adata = ml.load_cohort(folder / "betas.cohort.yaml")
    assert adata.shape == (8, 5)
    assert adata.obs["label"].sum() == 4
    assert adata.obs["bmi"].max() == 28.1
    adata = ml.load_cohort(folder / "arrays.cohort.yaml")
    assert adata.shape == (12, 5)
    assert adata.obs["subject"].nunique() == 6
    for name in ("betas", "arrays"):
        profile = load_profile(str(folder / f"{name}.profile.yaml"))
        assert len(profile.cohorts) == 1


def test_the_readme_starts_from_the_same_two_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _, file, content in FENCE.findall(PAGE):
        if file:
            (tmp_path / file).write_text(content)
    section = (ROOT / "README.md").read_text().split("## Your own data")[1].split("```")[1]
    first, second, *_ = [line for line in section.splitlines() if line.startswith("miracle")]
    answer = CliRunner().invoke(app, shlex.split(first)[1:])
    assert answer.exit_code == 0, answer.stderr
    made = second.split()[-1]
    assert load_profile(made).cohorts
    assert f"miracle run --profile {made} --run-dir runs/betas" in section


def test_the_page_is_in_the_book():
    assert "file: own_data" in (ROOT / "book" / "_toc.yml").read_text()
