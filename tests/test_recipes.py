"""The Python of every recipe runs as it stands, in an empty folder."""

import re
from unittest import mock

import pytest

from miracle_lib.config import ROOT
from miracle_lib.model.weighting import POLICIES

RECIPES = sorted((ROOT / "book" / "recipes").glob("*.md"))


def blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_word_for_word(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    with mock.patch.dict(POLICIES):  # what a recipe registers is gone after it
        for code in blocks(path):
            exec(code, names)
    if blocks(path):
        assert capsys.readouterr().out


def test_every_recipe_is_listed_and_in_the_book():
    listed = re.findall(r"\{doc\}`(\w+)`", (ROOT / "book" / "recipes" / "index.md").read_text())
    assert sorted(listed) == [path.stem for path in RECIPES if path.stem != "index"]
    toc = (ROOT / "book" / "_toc.yml").read_text()
    assert all(f"recipes/{name}" in toc for name in listed)
