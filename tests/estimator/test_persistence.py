import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.estimator import MiracleClassifier, Training, describe_model
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.model import TaskHeads
from miracle_lib.preprocessing.sex import SexReference
from miracle_lib.training.storage import Card, CohortCard


@pytest.fixture(scope="module")
def data():
    simulated = simulate_cohorts(
        {"MS": 60, "RA": 60}, n_sites=300, effect=0.5, missing=0.01, random_state=0
    )
    X, Y, obs = merge_cohorts(list(simulated.cohorts.values()))
    return X, Y, obs, Hierarchy.from_tables(simulated.site_gene, simulated.gene_sets)


@pytest.fixture(scope="module")
def model(data):
    """Two networks, with all that a run adds to a model."""
    X, Y, obs, hierarchy = data
    model = MiracleClassifier(
        hierarchy, n_members=2, training=Training(epochs=(2, 3, 1), progress=False)
    )
    model.fit(X.iloc[:, 20:], Y, covariates=obs[["age", "sex"]], groups=obs["subject"])
    scores = {"task": "RA", "cohort": "ours", "label": [0, 1, 1], "score": [0.1, 0.123456789, 0.9]}
    model.keep_held_out(pd.DataFrame(scores))
    model.sex_ = SexReference(sites=["cg1"], female=[0.5], male=[0.1], sd=[0.05])
    cohort = CohortCard(
        name="ours", task="RA", tissue="blood", platform="450K", cases=30, controls=30
    )
    model.card_ = Card(simulated=True, cohorts=[cohort])
    return model


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "model"
    model.save(path)
    return path


@pytest.fixture
def folder(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "model"))


def assert_same(one, two):
    """Every attribute of two models is the same."""
    mine, theirs = (vars(each) | each.get_params() for each in (one, two))
    mine.pop("training", None), theirs.pop("training", None)
    assert {name: mine[name] for name in one.get_params() if name in mine} == {
        name: theirs[name] for name in two.get_params() if name in theirs
    }
    assert sorted(vars(one)) == sorted(vars(two))
    for name, value in vars(one).items():
        other = vars(two)[name]
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, other, check_exact=name != "history_")
        elif isinstance(value, pd.Series):
            pd.testing.assert_series_equal(value, other)
        elif isinstance(value, np.ndarray | pd.Index):
            np.testing.assert_array_equal(value, other)
            assert value.dtype == other.dtype
        elif name == "members_":
            for mine, theirs in zip(value, other, strict=True):
                state = theirs.state_dict()
                assert all(torch.equal(part, state[k]) for k, part in mine.state_dict().items())
        elif name == "standardizer_":
            assert_same(value, other)
        elif name == "familiarity_":
            pd.testing.assert_frame_equal(value.mean, other.mean)
            pd.testing.assert_frame_equal(value.sd, other.sd)
            assert value.held_out.keys() == other.held_out.keys()
            for kind, by_cohort in value.held_out.items():
                assert by_cohort.keys() == other.held_out[kind].keys()
                assert all((by_cohort[c] == other.held_out[kind][c]).all() for c in by_cohort)
        elif name == "training":
            assert type(value) is type(other)
        elif name == "prior_":
            np.testing.assert_array_equal(value.scale, other.scale)
            assert value.sharing == other.sharing
        else:
            assert value == other, name


def test_saved_model_is_the_same_and_holds_no_pickle(data, model, folder):
    X = data[0].iloc[:20]
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["hierarchy.npz", "model.json", "weights.safetensors"]
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1
    loaded = MiracleClassifier.load(folder)
    assert_same(model, loaded)
    for method in ("predict_proba", "transform", "reconstruct"):
        pd.testing.assert_frame_equal(getattr(loaded, method)(X), getattr(model, method)(X))
    loaded.save(folder)
    assert len(list(folder.parent.iterdir())) == 1
    assert_same(model, MiracleClassifier.load(folder))


@pytest.mark.parametrize("how", ["bottleneck", "vector", "array", "options"])
def test_what_was_fitted_comes_back(data, tmp_path, how):
    X, Y, _, hierarchy = data
    X, y = X[Y["RA"].notna()], Y["RA"].dropna().map({0: "no", 1: "yes"})
    options = {"training__epochs": (1, 1, 0), "training__progress": False}
    if how == "bottleneck":
        options["reads"] = ("pathways",)
    if how == "array":
        X, y = X[hierarchy.sites].to_numpy(), y.to_numpy()
    if how == "options":
        options |= {
            "ceiling": {"RA": 0.9},
            "training__learning_rate": (1e-3, 1e-3, 1e-4),
            "random_state": np.int64(3),
            "head_units": 2,
        }
    model = MiracleClassifier(hierarchy).set_params(**options).fit(X, y)
    model.save(tmp_path / "model")
    loaded = MiracleClassifier.load(tmp_path / "model")
    assert_same(model, loaded)
    assert hasattr(loaded, "feature_names_in_") == (how != "array")
    assert (loaded.predict(X) == model.predict(X)).all()
    again = clone(loaded).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


class OwnHeads(TaskHeads):
    """Heads whose class is not the library's."""


class OtherHeads(TaskHeads):
    """Another such class."""


def test_a_model_with_heads_of_its_own_is_loaded_with_their_class_only(data, tmp_path):
    X, Y, _, hierarchy = data
    training = Training(epochs=(1, 1, 0), progress=False)
    model = MiracleClassifier(hierarchy, head=OwnHeads, training=training).fit(X, Y)
    model.save(tmp_path / "model")
    for wrong in ({}, {"head": OtherHeads}):
        with pytest.raises(MiracleError, match=r"has heads of the class .*\.OwnHeads; give it"):
            MiracleClassifier.load(tmp_path / "model", **wrong)
    loaded = MiracleClassifier.load(tmp_path / "model", head=OwnHeads)
    assert_same(model, loaded)
    assert loaded.head is OwnHeads
    pd.testing.assert_frame_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert "of the class" in describe_model(tmp_path / "model")


def test_the_papers_network_comes_back(data, tmp_path):
    X, Y, _, hierarchy = data
    training = Training(epochs=(1, 1, 1), keep="best", kl_weight=0.5, patience=3, progress=False)
    model = MiracleClassifier(hierarchy, preset="paper_code", training=training).fit(X, Y)
    model.save(tmp_path / "model")
    loaded = MiracleClassifier.load(tmp_path / "model")
    assert_same(model, loaded)
    pd.testing.assert_frame_equal(loaded.reconstruct(X), model.reconstruct(X))
    assert "four layers" in describe_model(tmp_path / "model")


def test_a_model_of_a_machine_with_a_gpu_loads_without_one(data, model, folder, caplog):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    about = json.loads((folder / "model.json").read_text())
    about["parameters"]["device"] = "cuda"
    (folder / "model.json").write_text(json.dumps(about))
    with caplog.at_level(logging.WARNING):
        loaded = MiracleClassifier.load(folder)
    assert "device is 'cuda', which this machine does not have; the model is put" in caplog.text
    assert loaded.device == "cuda"
    X, Y = data[0].iloc[:9], data[1]
    pd.testing.assert_frame_equal(loaded.predict_proba(X), model.predict_proba(X))
    with pytest.raises(MiracleError, match="device is 'cuda', which this machine does not have"):
        loaded.fit(data[0], Y)


def test_a_folder_without_a_model_or_of_another_version_is_refused(folder, tmp_path):
    with pytest.raises(MiracleError, match=r"holds no saved model"):
        MiracleClassifier.load(tmp_path)
    file = folder / "model.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps(about | {"version": 99}))
    with pytest.raises(MiracleError, match=r"version 99; this program reads version 3"):
        MiracleClassifier.load(folder)
    for text in ("[1]", "{", "{}", json.dumps(about | {"format": "other"})):
        file.write_text(text)
        with pytest.raises(MiracleError, match=r"model\.json is damaged: it"):
            MiracleClassifier.load(folder)


def edit(about, path, value):
    *parents, last = path.split(".")
    for name in parents:
        about = about[int(name) if isinstance(about, list) else name]
    if value is None:
        del about[last]
    elif isinstance(about, list):
        about[int(last)] = value
    else:
        about[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks", ["MS"], "cohorts_of does not name the tasks"),
        ("tasks", ["MS", "MS"], "tasks are not unique names"),
        ("tasks", "MS", "tasks: Input should be a valid list"),
        ("columns", ["x1"], "none of the"),
        ("columns.0", 5, None),
        ("cohorts_of.MS", [], "a task has no cohort"),
        ("cohorts_of.MS", ["IBD"], "a task has no cohort"),
        ("covariates.sd", {}, "covariates have not both"),
        ("covariates.mean", "x", "covariates.mean: Input should be"),
        ("classes", ["a", "b"], "classes are not two, or there are several tasks"),
        ("history", [1], "history.0: Input should be"),
        ("fine_tuned", None, "fine_tuned: Field required"),
        ("sharing", "much", "sharing: Input should be a valid number"),
        ("held_out.score.0", 2, "held_out.score.0: Input should be less than or equal to 1"),
        ("held_out.label", [1], "held_out: Value error, not as many tasks, cohorts, labels"),
        ("sex.sites", "x", "sex.sites: Input should be a valid list"),
        ("more", 1, "more: Extra inputs are not permitted"),
        ("parameters.n_members", 3, "damaged"),
        ("parameters.n_members", "x", "n_members is 'x'"),
        ("parameters.head_units", 4, "damaged"),
        ("parameters.training.stages", "two", "stages is 'two'"),
        ("parameters.unknown", 1, "unexpected keyword argument 'unknown'"),
        ("parameters.reads", ["genes"], "damaged"),
    ],
)
def test_an_edited_description_is_one_sentence(folder, path, value, message):
    file = folder / "model.json"
    about = json.loads(file.read_text())
    edit(about, path, value)
    file.write_text(json.dumps(about))
    with pytest.raises(MiracleError, match=message) as caught:
        MiracleClassifier.load(folder)
    assert "damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("0.heads", lambda t: t * np.nan, "holds numbers that are not finite"),
        ("0.heads", lambda t: t[..., :-1], "size mismatch|shape"),
        ("0.heads", None, "Missing key|is absent"),
        ("1.network", lambda t: torch.full_like(t, np.inf), "not finite"),
        ("mean", lambda t: t[:, 1:], r"mean has shape .*, expected"),
        ("mean", lambda t: t * np.inf, "mean holds numbers that are not finite"),
        ("sd", lambda t: t * 0, "sd holds a number that is not positive"),
        ("sd", None, "sd is absent"),
        ("block_share", lambda t: t[:1], r"block_share has shape \(1, 3\), expected \(2, 3\)"),
        ("held_out.latent.0", lambda t: t * np.nan, "held_out.latent.0 holds numbers"),
        ("activity_sd", lambda t: -t, "activity_sd holds a number that is not positive"),
        ("prior_scale", lambda t: t * np.nan, "prior_scale holds numbers"),
    ],
)
def test_edited_weights_are_one_sentence(folder, name, change, message):
    file = folder / "weights.safetensors"
    tensors = load_file(file)
    key = next(key for key in tensors if key.startswith(name) and tensors[key].numel() > 1)
    tensors[key] = change(tensors[key]).contiguous() if change else None
    save_file({k: t for k, t in tensors.items() if t is not None}, file)
    with pytest.raises(MiracleError, match=message) as caught:
        MiracleClassifier.load(folder)
    assert "damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_bytes_is_refused(folder):
    (folder / "weights.safetensors").write_bytes(b"none")
    with pytest.raises(MiracleError, match=r"weights\.safetensors cannot be read"):
        MiracleClassifier.load(folder)
    (folder / "hierarchy.npz").write_bytes(b"none")
