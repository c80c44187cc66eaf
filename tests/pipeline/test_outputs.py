import pandas as pd
import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.pipeline import notebooks as module
from miracle_lib.pipeline.notebooks import execute_run, open_profile_run, parse_chapters
from miracle_lib.pipeline.outputs import publish
from miracle_lib.studies.another_hospital import OWN
from miracle_lib.studies.hospital_views import AS_IT_IS


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1", [1]), ("5,1-3", [1, 2, 3, 5]), (" 2 , 2", [2]), ("4-6", [4, 5, 6])],
)
def test_chapters_are_numbers_and_ranges(text, numbers):
    assert parse_chapters(text) == numbers


@pytest.mark.parametrize("text", ["", "0", "one", "1-", "2-1", "99", "1,,2"])
def test_other_chapters_are_refused(text):
    with pytest.raises(MiracleError, match="expected numbers from 1 to"):
        parse_chapters(text)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_notebook_tools", lambda: None)
    return open_profile_run("demo", str(tmp_path / "run"), {})


def test_only_the_chosen_chapters_are_executed(run, monkeypatch):
    executed = []
    monkeypatch.setattr(module, "_execute", lambda run, path: executed.append(path.stem))
    monkeypatch.setattr(run, "folder", lambda step: None)
    execute_run(run, [2, 5])
    assert executed == ["02_mask_construction", "05_enrichment_validation"]


def test_what_is_finished_lies_under_readable_names(run, tmp_path, monkeypatch):
    folders = {name: tmp_path / "steps" / name for name in ("samples", "model", "scores")}
    (folders["model"] / "model").mkdir(parents=True)
    (folders["model"] / "model" / "weights").write_text("w")
    pd.DataFrame({"loss": [1.0]}).to_csv(folders["model"] / "history.csv")
    folders["samples"].mkdir()
    (folders["samples"] / "samples.h5ad").write_bytes(b"values")
    monkeypatch.setattr(run, "done", lambda name: (tmp_path / "steps" / name).is_dir())
    monkeypatch.setattr(run, "folder", folders.__getitem__)
    run.directory.mkdir()
    places = publish(run)
    assert {name: path.relative_to(run.directory).as_posix() for name, path in places.items()} == {
        "samples": "samples.h5ad",
        "model": "model",
        "tables": "tables",
    }
    assert places["samples"].read_bytes() == b"values"
    assert (places["model"] / "weights").read_text() == "w"
    assert (places["tables"] / "model" / "history.csv").is_file()
    folders["scores"].mkdir()
    (folders["scores"] / "MIRACLE.csv").write_text("a\n1\n")
    (places["tables"] / "model" / "history.csv").write_text("changed by hand")
    publish(run)
    assert (run.directory / "tables" / "scores" / "MIRACLE.csv").is_file()
    assert "changed" not in (run.directory / "tables" / "model" / "history.csv").read_text()
    assert "changed" not in (folders["model"] / "history.csv").read_text()
    monkeypatch.setattr(run, "done", lambda name: False)
    assert publish(run) == {}  # nothing of earlier parameters stays


def test_scores_elsewhere_stand_on_the_card_beside_those_within(run, tmp_path, monkeypatch):
    folders = {name: tmp_path / "steps" / name for name in ("calibrated", "elsewhere")}
    (folders["calibrated"] / "model").mkdir(parents=True)
    within = pd.DataFrame({"task": ["RA"], "metric": "auroc", "estimate": 0.9, "low": 0.8})
    within = within.assign(high=0.95, where="held-out folds")
    within.to_csv(folders["calibrated"] / "model" / "scores.csv", index=False)
    folders["elsewhere"].mkdir()
    away = within.assign(train="A", test="B", method=OWN, view=AS_IT_IS, estimate=0.6)
    places = [away.assign(where="without"), away.assign(where="within")]
    others = away.assign(where="without", method="L2 logistic regression")
    pd.concat([*places, others]).to_csv(folders["elsewhere"] / "scores.csv")
    monkeypatch.setattr(run, "done", folders.__contains__)
    monkeypatch.setattr(run, "folder", folders.__getitem__)
    run.directory.mkdir()
    publish(run)
    card = pd.read_csv(run.directory / "model" / "scores.csv")
    assert card["where"].tolist() == ["held-out folds", "B, trained on A"]
    assert card["estimate"].tolist() == [0.9, 0.6]
    kept = pd.read_csv(folders["calibrated"] / "model" / "scores.csv")
    assert len(kept) == 1
