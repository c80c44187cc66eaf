import pytest
import yaml

from miracle_lib.config import MANIFEST, check_parameters, load_profile, parse_parameters
from miracle_lib.errors import MiracleError

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
