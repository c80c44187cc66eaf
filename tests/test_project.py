"""What the files around the library promise."""

import csv
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import date

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


def git(folder, *words):
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def version_in(folder):
    command = [sys.executable, "-m", "setuptools_scm"]
    answer = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return answer.stdout.strip()


def test_the_version_is_that_of_the_last_tag(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert version_in(tmp_path) == "0.1.0"  # sources without their history
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    assert ".dev" in version_in(tmp_path)  # a clone without tags
    git(tmp_path, "tag", "v1.2.3")
    assert version_in(tmp_path) == "1.2.3"


def test_every_pinned_package_is_listed_with_the_licence_it_states():
    """``python .ci/licences.py`` writes the list."""
    spec = importlib.util.spec_from_file_location("licences", ROOT / ".ci" / "licences.py")
    licences = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(licences)
    with licences.LISTED.open(encoding="utf-8") as file:
        listed = dict(csv.reader(file))
    found = {name: licences.installed(name) for name in licences.pinned()}
    stated = {name: licences.licence_of(package) for name, package in found.items() if package}
    assert len(stated) > 50
    assert stated.items() <= listed.items()
    assert "not stated" not in listed.values()
    assert set(listed) <= {"package", *licences.pinned()}


def test_the_citation_names_the_last_release():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    releases = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == releases[0]


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


def test_the_scores_of_the_readme_are_those_of_the_gallery():
    readme = " ".join((ROOT / "README.md").read_text().split())
    blood = yaml.safe_load((ROOT / "book" / "gallery" / "blood.yaml").read_text())
    assert blood["data"] == "real"
    assert f"`{blood['command']}`" in readme
    assert date.fromisoformat(blood["date"]).strftime("%d %B %Y") in readme
    for row in blood["auroc"][:-1]:
        said = "{:.2f} ({:.2f} to {:.2f}) for".format(*row["MIRACLE"])
        assert f"{said} {row['task'].lower()}" in readme.lower()


def test_no_committed_picture_is_large():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "book" / "images").iterdir()}
    assert sizes
    assert max(sizes.values()) <= 150_000, sizes


def test_the_workflow_tests_every_python_that_is_promised_on_both_systems():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    promised = [c.split(" :: ")[-1] for c in PROJECT["classifiers"] if "Python :: 3." in c]
    assert matrix["python"] == promised
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}
    assert {"test", "book", "wheel", "newest"} <= set(jobs)


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
