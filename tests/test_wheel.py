"""The wheel in an environment of its own: what it carries, needs and writes."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from miracle_lib.resources import INSTALLED, ROOT

pytestmark = pytest.mark.skipif(INSTALLED, reason="the sources of a wheel are those of a clone")
SOURCES = ("miracle_lib", "data_manifest", "notebooks", "book", "_config.yml", "setup.py")
SOURCES += ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


def call(*command, cwd, **environment):
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    kept |= {"PATH": os.defpath, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this working tree, built from a copy: a build leaves files behind."""
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns("__pycache__", "_build")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    answer = call(*command, "--wheel-dir", out, copy, cwd=out)
    assert answer.returncode == 0, answer.stderr
    (path,) = out.glob("*.whl")
    return path


def requirements(name, extras=frozenset(), seen=None):
    """Names of all distributions that one needs with some of its extras, without itself."""
    seen = {} if seen is None else seen
    for text in distribution(name).requires or []:
        needed = Requirement(text)
        wanted = [{"extra": extra} for extra in (*extras, "")]
        if needed.marker and not any(needed.marker.evaluate(each) for each in wanted):
            continue
        found = needed.name.lower().replace("_", "-").replace(".", "-")
        if needed.extras <= seen.get(found, frozenset()) and found in seen:
            continue
        seen[found] = seen.get(found, frozenset()) | needed.extras
        requirements(needed.name, frozenset(needed.extras), seen)
    return seen


def link(site, name):
    """Put an installed distribution into another folder of packages, without a copy."""
    package = distribution(name)
    for top in {file.parts[0] for file in package.files or [] if file.parts[0] != ".."}:
        if top != "__pycache__" and not (site / top).exists():
            (site / top).symlink_to(Path(package.locate_file(top)))


@pytest.fixture(scope="module")
def install(wheel, tmp_path_factory):
    """Function that makes an environment of the wheel, some extras and what they declare."""

    def make(folder, *extras):
        venv.create(folder, with_pip=False)
        home = {"base": str(folder), "platbase": str(folder)}
        site = Path(sysconfig.get_path("purelib", vars=home))
        install = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
        answer = call(*install, "--quiet", "--no-deps", wheel, cwd=folder)
        assert answer.returncode == 0, answer.stderr
        metadata = next(site.glob("miracle_lib-*.dist-info"))
        sys.path.insert(0, str(site))  # what the wheel declares, not what the clone once did
        try:
            assert Path(distribution("miracle-lib").locate_file("")) == site, metadata
            needed = requirements("miracle-lib", frozenset(extras))
        finally:
            sys.path.remove(str(site))
        for name in needed.keys() - {"miracle-lib"}:
            link(site, name)
        return site

    return make


@pytest.fixture(scope="module")
def core(install, tmp_path_factory):
    """An environment without any extra."""
    folder = tmp_path_factory.mktemp("core")
    return folder / "bin", install(folder)


def files_of(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if "__pycache__" not in str(path)
    }


def test_the_wheel_carries_manifests_notebooks_and_book(wheel):
    carried = set(zipfile.ZipFile(wheel).namelist())
    for folder, pattern in [("data_manifest", "*.yaml"), ("notebooks", "*.ipynb"), ("book", "*.*")]:
        for path in (ROOT / folder).rglob(pattern):
            name = path.relative_to(ROOT).as_posix()
            made = (
                "__pycache__" in name or "checkpoints" in name or name.startswith("book/notebooks")
            )
            assert (f"miracle_lib/_share/{name}" in carried) != made, name
    assert "miracle_lib/_share/_config.yml" in carried
    assert "miracle_lib/py.typed" in carried
    assert not [name for name in carried if not name.startswith(("miracle_lib/", "miracle_lib-"))]


def test_the_core_needs_no_extra(core, tmp_path):
    """Only declared packages are there, so whatever imports another one fails here."""
    bin_, site = core
    assert not {"matplotlib", "papermill", "captum", "gseapy"} & {
        path.name for path in site.iterdir()
    }
    modules = [
        ".".join(path.relative_to(site).with_suffix("").parts)
        for path in sorted((site / "miracle_lib").rglob("*.py"))
        if not {"plots", "_share"} & set(path.parts) and not path.name.startswith("__")
    ]
    answer = call(bin_ / "python", "-c", "\n".join(f"import {m}" for m in modules), cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("code", "what", "extra"),
    [
        ("import miracle_lib.plots", "A figure needs the package 'matplotlib'", "book"),
        (
            "from miracle_lib.interpretation import prerank; import pandas as pd;"
            "prerank(pd.Series({'A': 1.0, 'B': 0.0}), {'S': ['A']}, min_genes=1)",
            "Ranked enrichment needs the package 'gseapy'",
            "interpret",
        ),
        (
            "from miracle_lib.evaluation.grid import _backend; _backend('x', []).__enter__()",
            "A scheduler needs the package 'distributed'",
            "cluster",
        ),
    ],
)
def test_a_missing_extra_is_one_sentence_with_the_command(core, tmp_path, code, what, extra):
    answer = call(core[0] / "python", "-c", code, cwd=tmp_path)
    last = answer.stderr.strip().splitlines()[-1]
    assert what in last, answer.stderr
    assert last.endswith(f'install it with: pip install "miracle_lib[{extra}]"')


def test_a_run_without_its_tools_is_refused_before_any_work(core, tmp_path):
    answer = call(core[0] / "miracle", "run", "--profile", "demo", cwd=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("miracle: A run needs the package"), answer.stderr
    assert not list(tmp_path.iterdir())


def test_commands_that_need_only_the_core_run_from_an_empty_folder(core, tmp_path):
    answer = call(core[0] / "miracle", "fetch", "--list", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "GSE42861" in answer.stdout


def test_the_python_of_the_readme_runs_from_an_empty_folder(install, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    site = install(tmp_path / "env", "interpret")
    (tmp_path / "work").mkdir()
    before = files_of(site / "miracle_lib")
    answer = call(tmp_path / "env" / "bin" / "python", "-c", code, cwd=tmp_path / "work")
    assert answer.returncode == 0, answer.stderr
    assert not list((tmp_path / "work").iterdir())
    assert files_of(site / "miracle_lib") == before
