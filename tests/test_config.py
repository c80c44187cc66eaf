import os

import pytest
import yaml

from miracle_lib.config import (
    MANIFEST,
    ROOT,
    check_parameters,
    load_profile,
    parse_parameters,
    run_folder,
)
from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import list_annotation_sources
from miracle_lib.pipeline.notebooks import open_profile_run

REAL = {
    "title": "ours",
    "cohorts": ["GSE42861"],
    "annotation": {"mask": "go_bp", "validation": {"Reactome": "reactome"}},
}


def write(folder, content):
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sed": 1}, ["'sed' is not known", "seed"]),
        ({"seed": "1"}, ["'seed' is '1'", "an integer", "at least 0"]),
        ({"seed": True}, ["'seed' is True", "an integer"]),
        ({"n_folds": 1}, ["'n_folds' is 1", "at least 2"]),
        ({"selection": "anova"}, ["'selection' is 'anova'", "none, ttest, variance"]),
        ({"q_threshold": "1e-4"}, ["'q_threshold' is '1e-4'", "a number"]),
        ({"device": "gpu"}, ["'device' is 'gpu'", "a text"]),
        ({"device": "cuda:99"}, ["'device' is 'cuda:99'", "a device of this machine: auto, cpu"]),
        ({"weighting": "foo"}, ["'weighting' is 'foo'", "one of accuracy", "pwinval, random"]),
        ({"min_genes": 600}, ["'min_genes' is 600", "at most 'max_genes', which is 500"]),
        ({"q_threshold": float("nan")}, ["'q_threshold' is nan"]),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(values, words):
    with pytest.raises(MiracleError) as raised:
        check_parameters(values)
    assert all(word in str(raised.value) for word in words)


def test_texts_of_a_command_line_become_typed_values():
    texts = ["seed=3", "q_threshold=1e-2", "weighting=uniform", "n_folds = 4"]
    expected = {"seed": 3, "q_threshold": 0.01, "weighting": "uniform", "n_folds": 4}
    assert parse_parameters(texts) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed", "key=value"),
        ("seed=a", "'seed' is 'a'; expected an integer"),
        ("seed=1.5", "'seed' is '1.5'; expected an integer"),
        ("folds=3", "'folds' is not known"),
        ("weighting=foo", "'weighting' is 'foo'; expected one of"),
        ("device=cuda:99", "'device' is 'cuda:99'; expected a device of this machine"),
    ],
)
def test_a_wrong_text_is_refused(text, words):
    with pytest.raises(MiracleError, match=words.replace("(", r"\(")):
        parse_parameters([text])


@pytest.mark.parametrize(
    "path", sorted((MANIFEST / "profiles").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_profile_is_valid(path):
    assert load_profile(path.stem).title


def test_the_demo_has_the_cohort_sizes_of_the_papers_code():
    sizes = {"IBD": 53, "MS": 88, "Psoriasis": 79, "RA": 49, "SLE": 160, "T1D": 118}
    assert load_profile("demo").simulation.sizes == sizes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cohort": ["GSE1"]}, "line 5: unknown key 'cohort'"),
        ({"cohorts": []}, "either 'simulation' or a list of 'cohorts'"),
        ({"annotation": None}, "need an 'annotation'"),
        ({"parameters": {"sed": 1}}, "profile.yaml: parameter 'sed' is not known"),
        ({"parameters": {"run_dir": "x"}}, "set by the command"),
        ({"annotation": {"mask": "go_bp", "validation": {}}}, "annotation.validation"),
    ],
)
def test_a_wrong_profile_is_one_sentence(tmp_path, change, words):
    with pytest.raises(MiracleError, match=words) as raised:
        load_profile(write(tmp_path, REAL | change))
    assert "\n" not in str(raised.value)


def test_an_unknown_profile_lists_the_known_ones():
    with pytest.raises(MiracleError, match="'dmeo' was not found.*demo, geo"):
        load_profile("dmeo")


def test_text_that_is_not_yaml_is_named(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("title: [a\ncohorts: b: c")
    with pytest.raises(MiracleError, match="broken.yaml, line 2: not valid YAML"):
        load_profile(str(path))


def test_sizes_of_gene_sets_are_compared_where_both_are_known(tmp_path):
    path = write(tmp_path, REAL | {"parameters": {"max_genes": 1000}})
    given = parse_parameters(["min_genes=600"])
    assert open_profile_run(path, "run", given).parameters.max_genes == 1000
    with pytest.raises(MiracleError, match="'min_genes' is 1200; expected at most .* 1000"):
        open_profile_run(path, "run", parse_parameters(["min_genes=1200"]))


def test_paths_in_a_profile_belong_to_its_folder(tmp_path, monkeypatch):
    """From wherever it is named, and in notebooks, which run in another folder."""
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        folder.mkdir()
    write(
        there,
        {
            "title": "ours",
            "cohorts": ["GSE42861", "cohorts/our_lupus.yaml", str(tmp_path / "other.yaml")],
            "annotation": {
                "array": "our_array.csv",
                "mask": "go_bp",
                "validation": {"Reactome": "reactome", "Ours": "sets/ours.gmt"},
            },
        },
    )
    monkeypatch.chdir(here)
    run = open_profile_run("../there/profile.yaml", "runs/ours", {})
    assert run.directory == here / "runs" / "ours"
    assert run.parameters.run_dir == str(run.directory)
    monkeypatch.chdir(tmp_path)
    profile = load_profile(run.parameters.profile)
    paths = [there / "cohorts" / "our_lupus.yaml", there / "our_array.csv", there / "sets/ours.gmt"]
    found = [profile.cohorts[1], profile.annotation.array, profile.annotation.validation["Ours"]]
    assert [os.path.normpath(path) for path in found] == list(map(str, paths))
    assert (profile.cohorts[0], profile.cohorts[2]) == ("GSE42861", str(tmp_path / "other.yaml"))
    assert profile.annotation.mask == "go_bp"
    assert profile.annotation.validation["Reactome"] == "reactome"
    assert profile.annotation.probe_masks is None


def test_no_name_of_a_source_looks_like_a_path():
    assert not [name for name in list_annotation_sources().index if "." in name or "/" in name]


def test_a_run_lies_in_the_clone_one_works_in_or_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    assert run_folder("runs/demo") == ROOT / "runs" / "demo"
    monkeypatch.chdir(tmp_path)
    assert run_folder("runs/demo") == tmp_path / "runs" / "demo"
    assert run_folder(tmp_path / "x") == tmp_path / "x"
