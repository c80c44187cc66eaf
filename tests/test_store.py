"""What a result depends on, and whether it is whole."""

import json
import shutil
import subprocess
import sys
import textwrap

import pytest

from miracle_lib import code
from miracle_lib.code import digest
from miracle_lib.config import Parameters
from miracle_lib.errors import MiracleError
from miracle_lib.pipeline import inputs
from miracle_lib.pipeline.run import STEPS, Run
from miracle_lib.store import Store, only_one


def write(text):
    def fill(folder):
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "a.txt").write_text(text)

    return fill


def test_a_result_is_made_once(tmp_path):
    store = Store(tmp_path)
    place = store.make("a", "key", write("one"))
    assert store.make("a", "key", write("two")) == place
    assert (place / "deep" / "a.txt").read_text() == "one"
    assert "torch" in store.receipt("a", "key")["environment"]


HARMS = ["flip", "cut", "delete", "stray", "receipt", "edited receipt", "no receipt"]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_result_is_noticed_said_and_made_again(tmp_path, caplog, harm):
    store = Store(tmp_path)
    place = store.make("a", "key", write("content"))
    file = place / "deep" / "a.txt"
    {
        "flip": lambda: file.write_text("contenT"),
        "cut": lambda: file.write_text("con"),
        "delete": file.unlink,
        "stray": lambda: (place / "other.h5ad").write_text("from elsewhere"),
        "edited receipt": lambda: edit(place / "receipt.json"),
        "receipt": lambda: (place / "receipt.json").write_text("{"),
        "no receipt": (place / "receipt.json").unlink,
    }[harm]()
    assert store.find("a", "key") is None
    assert len(caplog.messages) == 1
    assert "it is made again" in caplog.messages[0]
    again = store.make("a", "key", write("content"))
    assert (again / "deep" / "a.txt").read_text() == "content"
    assert store.find("a", "key") == again


def edit(receipt):
    content = json.loads(receipt.read_text())
    content["files"] = {}
    receipt.write_text(json.dumps(content))


def test_what_is_sound_of_a_damaged_result_is_left_to_its_maker(tmp_path):
    store = Store(tmp_path)

    def fill(folder):
        seen.append(sorted(path.name for path in folder.iterdir()))
        for name in "abc":
            (folder / name).write_text(name)

    seen = []
    place = store.make("cells", "key", fill)
    (place / "b").write_text("x")
    (place / ".DS_Store").write_text("no part of it")
    store.make("cells", "key", fill)
    assert seen == [[], [".DS_Store", "a", "c"]]
    assert (place / "b").read_text() == "b"


def test_looking_for_a_result_writes_nothing(tmp_path):
    store = Store(tmp_path / "runs")
    assert store.find("a", "key") is None
    assert not (tmp_path / "runs").exists()


def test_unfinished_work_is_found_and_leaves_no_result(tmp_path):
    store = Store(tmp_path)

    def killed(folder):
        write("half")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.make("a", "key", killed)
    assert store.find("a", "key") is None
    seen = []
    store.make("a", "key", lambda folder: seen.extend(p.name for p in folder.rglob("*.txt")))
    assert seen == ["a.txt"]


def test_clean_keeps_what_is_needed_and_its_unfinished_work(tmp_path):
    store = Store(tmp_path)
    for key in ("old", "new"):
        store.make("a", key, write(key))
    (tmp_path / "a" / "other.part").mkdir()
    (tmp_path / "a" / "new.part").mkdir()
    removed = store.clean([("a", "new")])
    assert sorted(path.name for path in removed) == ["old", "other.part"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["new", "new.part"]


def test_a_second_run_in_a_folder_is_refused_in_one_sentence(tmp_path):
    program = f"""
        from pathlib import Path
        from miracle_lib.store import only_one
        with only_one(Path({str(tmp_path)!r})):
            print("in", flush=True)
            input()
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(MiracleError, match="is in use by another run"), only_one(tmp_path):
            pass
    finally:
        other.communicate("\n")
    with only_one(tmp_path):
        pass


def keys(tmp_path, profile, **values):
    run = Run(Parameters(run_dir=str(tmp_path), profile=str(profile), **values))
    return {name: run.key(name) for name in STEPS}


EVERY = set(STEPS)
AFTER_SAMPLES = EVERY - {"cohorts", "external_cohorts", "annotation", "open_questions"}
FITTED = {"model", "scores", "calibrated", "experiments", "signs"}
FITTED |= {"explained", "enriched", "stability"}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"seed": 1}, EVERY),
        ({"weighting": "uniform"}, FITTED),
        ({"n_folds": 3}, {"scores", "calibrated", "experiments", "signs"}),
        ({"top_sites": 7}, {"enriched"}),
        ({"grid": "full"}, {"ablations", "signs", "explained", "enriched", "stability"}
         | {"open_questions"}),
        ({"min_genes": 4}, AFTER_SAMPLES - {"samples"}),
    ],
)  # fmt: skip
def test_a_parameter_makes_again_what_uses_it(tmp_path, change, again):
    before, after = keys(tmp_path, "demo"), keys(tmp_path, "demo", **change)
    changed = {name for name in STEPS if before[name] != after[name]}
    assert changed & EVERY_KNOWN == again & EVERY_KNOWN


EVERY_KNOWN = EVERY & (FITTED | {"cohorts", "annotation", "samples", "hierarchy", "ablations"}
                       | {"open_questions"})  # fmt: skip


@pytest.fixture
def real(tmp_path):
    """A profile of two own cohorts whose tables have the same name, and its files."""
    rows = "\n".join(f"cg{k:08d},0.1,0.9,0.4,0.6" for k in range(8))
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        ids = [f"{name}{k}" for k in range(4)]
        (folder / "beta.csv").write_text(f"site,{','.join(ids)}\n{rows}\n")
        people = "\n".join(f"{i},{'ill' if k % 2 else 'well'}" for k, i in enumerate(ids))
        (folder / "people.csv").write_text(f"id,state\n{people}\n")
        (tmp_path / f"{name}.yaml").write_text(
            f"name: {name}\ntask: {name}\nplatform: 450K\ntissue: blood\n"
            f"files:\n  - {{url: {name}/beta.csv, layout: table}}\n"
            f"  - {{url: {name}/people.csv, layout: samples}}\n"
            "phenotypes:\n  label: {key: state, case: ill, control: well}\n"
        )
    (tmp_path / "array.csv").write_text("site,gene\ncg00000000,A\n")
    for name in ("mask", "check", "other"):
        (tmp_path / f"{name}.gmt").write_text("One\t\tA\tB\n")
    (tmp_path / "profile.yaml").write_text(
        "title: two\ncohorts: [a.yaml, b.yaml]\n"
        "annotation: {array: array.csv, mask: mask.gmt, validation: {Check: check.gmt}}\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "again"),
    [
        ("a.yaml", "case: ill, control: well", "case: well, control: ill", "cohorts"),
        ("a.yaml", "task: a", "task: c", "cohorts"),
        ("a.yaml", "tissue: blood", "tissue: skin", "cohorts"),
        ("a.yaml", "name: a", "# a remark\nname: a", None),
        ("a/beta.csv", "0.9", "0.8", "cohorts"),
        ("b/beta.csv", "0.9", "0.8", "cohorts"),
        ("b/people.csv", "ill", "gone", "cohorts"),
        ("array.csv", "A", "B", "annotation"),
        ("mask.gmt", "B", "C", "annotation"),
        ("profile.yaml", "Check:", "Library:", "annotation"),
        ("profile.yaml", "check.gmt", "other.gmt", "annotation"),
        ("profile.yaml", "title: two", "title: three", None),
    ],
)
def test_each_kind_of_change_outside_makes_again_what_reads_it(real, file, old, new, again):
    def current():
        return keys(real / "run", real / "profile.yaml")

    before = current()
    text = (real / file).read_text()
    (real / file).write_text(text.replace(old, new))
    after = current()
    changed = {name for name in STEPS if before[name] != after[name]}
    if again is None:
        assert not changed
    else:
        assert again in changed
        assert "model" in changed
        assert "open_questions" not in changed


@pytest.mark.parametrize(
    ("kind", "again"), [("ablations", "ablations"), ("merging", "samples"), ("quality", "samples")]
)
def test_each_manifest_is_part_of_the_key_of_who_reads_it(tmp_path, monkeypatch, kind, again):
    before = keys(tmp_path, "demo")
    monkeypatch.setitem(inputs.READERS, kind, lambda *_: "other")
    after = keys(tmp_path, "demo")
    assert before[again] != after[again]
    assert before["cohorts"] == after["cohorts"]


def test_newer_packages_make_everything_again(tmp_path, monkeypatch):
    before = keys(tmp_path, "demo")
    from miracle_lib.pipeline import run

    monkeypatch.setattr(run, "environment", lambda: {"torch": "99"})
    assert all(before[name] != key for name, key in keys(tmp_path, "demo").items())


@pytest.fixture
def edit_code(monkeypatch):
    """Replace code of a module, as if its file had been edited."""

    def edit(module, old, new):
        text = code._text
        assert text(module).count(old) == 1
        edited = text(module).replace(old, new)
        monkeypatch.setattr(code, "_text", lambda name: edited if name == module else text(name))

    return edit


INTERPRETED = {"explained", "enriched"}
TRAINED = {"ablations", "attributions", "calibrated", "elsewhere", "open_questions", "paper",
           "small_cohorts"}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "old", "new", "again"),
    [
        ("cohorts.simulation", "def simulate_cohorts(", "async def simulate_cohorts(", EVERY),
        ("preprocessing.quality", "def quality_control(", "async def quality_control(",
         AFTER_SAMPLES),
        ("training.trainer", "class Trainer:", "class Trainer(object):",
         FITTED | TRAINED),
        ("studies.sharing", "def sharing_sweep(", "async def sharing_sweep(", {"open_questions"}),
        ("studies.ablations", "def run_cell(", "async def run_cell(", {"ablations", "signs"}),
        ("studies.first_experiments", "def two_cohorts(", "async def two_cohorts(",
         {"experiments"}),
        ("interpretation.explanation", "def explain(", "async def explain(", INTERPRETED),
        ("interpretation.stability", "def refit_attributions(", "async def refit_attributions(",
         {"stability"}),
        ("interpretation.association", "def ewas(", "async def ewas(", {"ewas"}),
        ("interpretation.markers", "def marker_audit(", "async def marker_audit(", set()),
        ("plots.style", "def styled(", "async def styled(", set()),
        ("cli.common", "def main(", "async def main(", set()),
        ("training.trainer", "class Trainer:", "# a remark\nclass Trainer:", set()),
    ],
)  # fmt: skip
def test_code_makes_again_the_steps_that_use_it(tmp_path, edit_code, module, old, new, again):
    before = keys(tmp_path, "demo")
    edit_code(f"miracle_lib.{module}", old, new)
    after = keys(tmp_path, "demo")
    changed = {name for name in STEPS if before[name] != after[name]}
    assert changed == again


VALUES = {"ablations": ("n_splits: 3", "n_splits: 4"), "markers": ("cg05575921", "cg00000029")}


@pytest.mark.parametrize("name", VALUES)
def test_a_remark_in_a_manifest_changes_no_key_and_a_value_does(tmp_path, monkeypatch, name):
    source = inputs.MANIFEST / f"{name}.yaml"
    copy = tmp_path / source.name
    shutil.copyfile(source, copy)
    monkeypatch.setattr(inputs, "MANIFEST", tmp_path)

    def content():
        return digest(inputs.READERS[name](None, None))

    before = content()
    copy.write_text("# a remark\n" + copy.read_text())
    assert content() == before
    copy.write_text(copy.read_text().replace(*VALUES[name]))
    assert content() != before
