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

import pandas as pd
import pytest
from packaging.requirements import Requirement

import miracle_lib as ml
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
    templates = (ROOT / "miracle_lib" / "reports" / "templates").iterdir()
    assert {f"miracle_lib/reports/templates/{path.name}" for path in templates} <= carried
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
        if not {"plots", "reports", "_share"} & set(path.parts) and not path.name.startswith("__")
    ]
    answer = call(bin_ / "python", "-c", "\n".join(f"import {m}" for m in modules), cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("code", "what", "extra"),
    [
        ("import miracle_lib.plots", "A figure needs the package 'matplotlib'", "book"),
        ("import miracle_lib.reports", "A report needs the package 'matplotlib'", "book"),
        (
            "from miracle_lib.interpretation import prerank; import pandas as pd;"
            "prerank(pd.Series({'A': 1.0, 'B': 0.0}), {'S': ['A']}, min_genes=1)",
            "Ranked enrichment needs the package 'gseapy'",
            "interpret",
        ),
        (
            "from miracle_lib.parallel import cluster; cluster('x').__enter__()",
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


def gmt(sets):
    return "".join("\t".join([name, "", *genes]) + "\n" for name, genes in sets.items())


def write_cohort(folder, adata, case, prefix=""):
    """Two tables as a hospital has them."""
    adata.to_df().rename_axis("sample").to_csv(folder / f"{prefix}betas.csv")
    samples = adata.obs[["age", "sex"]].rename_axis("sample")
    samples["diagnosis"] = adata.obs["label"].map({1: case, 0: "healthy"})
    samples.to_csv(folder / f"{prefix}samples.csv")


def write_mirror(folder, simulation):
    """Annotation under the names by which a mirror is searched."""
    folder.mkdir()
    table = simulation.site_gene.astype(str).groupby("site").agg(";".join)
    var = next(iter(simulation.cohorts.values())).var
    array = pd.DataFrame(
        {
            "IlmnID": var.index,
            "Name": var.index,
            "CHR": var["chromosome"].astype(str).str.removeprefix("chr").to_numpy(),
            "MAPINFO": var["position"].to_numpy(),
            "UCSC_RefGene_Name": table["gene"].reindex(var.index).to_numpy(),
            "UCSC_RefGene_Group": table["group"].reindex(var.index).to_numpy(),
        }
    )
    array.to_csv(folder / "HumanMethylation450_15017482_v1-2.csv.gz", index=False)
    kegg, reactome = simulation.validation_sets.values()
    (folder / "GO_Biological_Process_2021.gmt").write_text(gmt(simulation.gene_sets))
    (folder / "KEGG_2016.gmt").write_text(gmt(kegg))
    with zipfile.ZipFile(folder / "ReactomePathways.gmt.zip", "w") as packed:
        packed.writestr("ReactomePathways.gmt", gmt(reactome))


def test_the_own_cohorts_of_the_readme_run_from_an_empty_folder(install, tmp_path):
    """Word for word: both files, and the commands, of the section on one's own cohorts."""
    section = (ROOT / "README.md").read_text().split("## Your own cohorts")[1].split("\n## ")[0]
    (tmp_path / "cohorts").mkdir()
    for name, text in re.findall(r"```yaml\n# (\S+)\n(.*?)```", section, flags=re.DOTALL):
        (tmp_path / name).write_text(text)
    lupus = (tmp_path / "cohorts" / "our_lupus.yaml").read_text()
    arthritis = lupus.replace("our_lupus", "our_arthritis").replace("Lupus", "Arthritis")
    arthritis = re.sub(r"url: (\w+)", r"url: ra_\1", arthritis).replace("SLE", "RA")
    (tmp_path / "cohorts" / "our_arthritis.yaml").write_text(arthritis)
    simulation = ml.simulate_cohorts({"SLE": 40, "RA": 40}, n_sites=200)
    write_cohort(tmp_path / "cohorts", simulation.cohorts["SLE"], "SLE")
    write_cohort(tmp_path / "cohorts", simulation.cohorts["RA"], "RA", "ra_")
    write_mirror(tmp_path / "mirror", simulation)
    site = install(tmp_path / ".venv", "book")
    before = files_of(site / "miracle_lib")
    (commands,) = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    (tmp_path / "home").mkdir()
    # Chapter 6 simulates whatever the cohorts are: what the demo has made is not made again.
    simulated = Path("steps", "open_questions")
    if (ROOT / "runs" / "demo" / simulated).is_dir():
        shutil.copytree(ROOT / "runs" / "demo" / simulated, tmp_path / "runs" / "ours" / simulated)
    places = {"MIRACLE_MIRROR": str(tmp_path / "mirror"), "HOME": str(tmp_path / "home")}
    answer = call("bash", "-e", "-c", commands, cwd=tmp_path, **places)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]
    index = tmp_path / "runs" / "ours" / "book" / "_build" / "html" / "index.html"
    assert answer.stdout.split()[-1] == str(index)
    assert index.is_file()
    assert files_of(site / "miracle_lib") == before
    expected = {".venv", "cohorts", "home", "mirror", "our.yaml", "runs"}
    assert {path.name for path in tmp_path.iterdir()} == expected
