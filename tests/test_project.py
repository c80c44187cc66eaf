"""What the files around the library promise."""

import re
import subprocess
import tomllib

import pytest
import yaml

from miracle_lib.config import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def named(requirement):
    return re.split(r"[\s<>=!\[;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {named(line): line for line in lines if line and not line.startswith("#")}


def test_every_dependency_is_pinned():
    extras = PROJECT["optional-dependencies"].values()
    wanted = {named(item) for group in [PROJECT["dependencies"], *extras] for item in group}
    assert wanted - {PROJECT["name"]} <= set(pinned())


def test_the_book_tool_is_one_that_builds_the_book():
    """Version 2 of jupyter-book prints an error, builds nothing and exits with 0."""
    assert pinned()["jupyter-book"].split("==")[1].startswith("1.")
    extra = PROJECT["optional-dependencies"]["book"]
    (requirement,) = [item for item in extra if named(item) == "jupyter-book"]
    assert "<2" in requirement


def test_the_conda_environment_installs_the_project_with_its_extras():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [item["pip"] for item in content["dependencies"] if isinstance(item, dict)]
    assert pip == ["-c constraints.txt", "-e .[test,cluster]"]


def test_the_readme_shows_commands_that_exist():
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", readme, flags=re.MULTILINE)) <= set(targets)
    for path in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / path).exists(), path


def test_no_tracked_file_names_a_place_on_a_machine():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in {".png", ".ipynb"} or not path.is_file():
            continue
        assert f"{ROOT}/" not in path.read_text(encoding="utf-8"), name
