import numpy as np
import pandas as pd
import pytest

from miracle_lib.cohorts import (
    covariate_names,
    load_manifest,
    read_phenotypes,
    simulate_cohorts,
)
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing import quality_control

SAMPLES = pd.DataFrame(
    {
        "title": ["ill one, visit 1", "ill one, visit 2", "well two", "well three", "other four"],
        "disease state": ["Ill ", "ILL", "well", "Well", "tired"],
        "age": ["61", "61.5 years", "40y", "NA", "33"],
        "gender": ["F", "female", "M", "Male", "?"],
        "smoke": ["ex", "Never", "current", "pipe", "never"],
        "cell": ["CD4", "CD4", "CD4", "CD14", "CD4"],
    },
    index=["s1", "s2", "s3", "s4", "s5"],
)
RULES = {
    "label": {"key": "Disease State", "case": "ill", "control": "well"},
    "age": {"key": ["years", "age"]},
    "sex": {"key": "gender"},
    "smoking": {"key": "smoke"},
    "subject": {"key": "title", "pattern": r"(one|two|three|four)"},
    "tissue": {"key": "cell"},
}


def read(write_manifest, samples=SAMPLES, allow_subset=False, **changes):
    manifest = load_manifest(write_manifest(**{"phenotypes": RULES, **changes}))
    return read_phenotypes(samples, manifest, allow_subset)


def test_labels_and_covariates(write_manifest):
    obs = read(write_manifest)
    assert obs.index.tolist() == ["s1", "s2", "s3", "s4"]  # s5 is neither ill nor well
    assert obs["label"].tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(obs["age"], [61, 61.5, 40, np.nan])
    assert obs["sex"].tolist() == ["F", "F", "M", "M"]
    assert obs["smoking"].fillna("").tolist() == ["former", "never", "current", ""]
    assert obs["subject"].tolist() == ["one", "one", "two", "three"]
    assert obs["tissue"].tolist() == ["CD4", "CD4", "CD4", "CD14"]
    assert obs["cohort"].unique().tolist() == ["GSE1"]
    assert obs["task"].unique().tolist() == ["Disease"]


def test_without_rules_covariates_are_missing_and_every_sample_is_a_subject(write_manifest):
    obs = read(write_manifest, phenotypes={"label": RULES["label"]})
    assert obs["subject"].tolist() == obs.index.tolist()
    assert obs[["age", "sex", "smoking"]].isna().all(axis=None)
    assert obs["tissue"].unique().tolist() == ["blood"]


def test_keep_restricts_samples(write_manifest):
    obs = read(write_manifest, keep={"Cell": "cd4", "title": ["ill*", "well*"]})
    assert obs.index.tolist() == ["s1", "s2", "s3"]


def test_keep_finds_what_else_would_stand_for_a_missing_value(write_manifest):
    samples = SAMPLES.assign(drug=["None", "MTX", "none", "none", "MTX"])
    assert read(write_manifest, samples, keep={"drug": "none"}).index.tolist() == ["s1", "s3", "s4"]


@pytest.mark.parametrize("pattern", ["(?i)ONE|two|three", "ill (one)|well (?:two|three)"])
def test_a_pattern_may_be_any_regular_expression(write_manifest, pattern):
    rules = RULES | {"subject": {"key": "title", "pattern": pattern}}
    subject = read(write_manifest, phenotypes=rules)["subject"]
    assert subject.tolist()[:2] == ["one", "one"]
    assert subject.nunique() == 3


def test_wildcards_match_titles(write_manifest):
    rule = {"key": "title", "case": "ill *", "control": "well ????*"}
    obs = read(write_manifest, phenotypes={"label": rule})
    assert obs["label"].to_dict() == {"s1": 1, "s2": 1, "s4": 0}


def described(**columns):
    n = len(next(iter(columns.values())))
    status = {"status": ["ill", "well"] * (n // 2)}
    return pd.DataFrame(status | columns, index=[f"s{i}" for i in range(n)])


def rules(**rules):
    label = {"key": "status", "case": "ill", "control": "well"}
    return {"phenotypes": {"label": label} | rules}


def test_any_covariates(write_manifest):
    samples = described(bmi=["24,5", "NA"], plate=["01", "1e5"], sentrix=["123456789_R01C02"] * 2)
    covariates = {
        "bmi": {"key": "bmi", "kind": "number"},
        "batch": {"key": "plate", "kind": "category"},
    }
    obs = read(write_manifest, samples, **rules(covariates=covariates))
    np.testing.assert_array_equal(obs["bmi"], [24.5, np.nan])
    assert obs["batch"].tolist() == ["01", "1e5"]  # text stays text
    assert obs["slide"].tolist() == ["123456789"] * 2
    assert obs["position"].tolist() == ["R01C02"] * 2
    samples["sentrix"] = ["123456789", "nan"]  # a slide without a position, and a name without both
    found = read(write_manifest, samples, **rules(covariates=covariates))
    assert found["slide"].tolist() == ["123456789", np.nan]
    assert found["position"].isna().all()
    assert covariate_names(obs) == ["bmi", "batch"]
    samples["bmi"] = ["24", "thin"]
    with pytest.raises(MiracleError, match="bmi of sample 's1' is 'thin', not a number"):
        read(write_manifest, samples, **rules(covariates=covariates))


def test_what_quality_control_adds_is_no_covariate():
    (cohort,) = simulate_cohorts({"RA": 40}, n_sites=300).cohorts.values()
    controlled, _ = quality_control(cohort)
    assert len(controlled.obs.columns) > len(cohort.obs.columns)
    assert covariate_names(controlled.obs) == covariate_names(cohort.obs)


def test_deposited_cell_fractions(write_manifest, caplog):
    cells = {"CD8T": ["cd8t", "cellcount-cd8t"], "Gran": ["gran", "cellcount-gran"]}
    samples = described(**{"cellcount-cd8t": ["0.1", "0"], "cellcount-gran": ["0.6", "NA"]})
    obs = read(write_manifest, samples, **rules(cells=cells))
    np.testing.assert_array_equal(obs[["cell_CD8T", "cell_Gran"]], [[0.1, 0.6], [0, np.nan]])
    assert "cell_CD8T" not in read(write_manifest, described(age=["1", "2"]), **rules(cells=cells))
    assert "no deposited cell fractions (CD8T, Gran)" in caplog.text
    samples["cellcount-gran"] = ["60", "70"]
    with pytest.raises(MiracleError, match="cell_Gran of sample 's0' is 60; expected a fraction"):
        read(write_manifest, samples, **rules(cells=cells))
    with pytest.raises(MiracleError, match="cell_Gran looks for 'gran'"):
        read(write_manifest, samples[["status", "cellcount-cd8t"]], **rules(cells=cells))


def test_ages_in_other_units_are_converted(write_manifest):
    samples = described(age=["6 months", "40 weeks", "730.5 days", "3.5 yrs", "61,5 Years", "9"])
    obs = read(write_manifest, samples, **rules(age={"key": "age"}))
    np.testing.assert_allclose(obs["age"], [0.5, 40 * 7 / 365.25, 2, 3.5, 61.5, 9])
    obs = read(write_manifest, samples, **rules(age={"key": "age", "unit": "months"}))
    np.testing.assert_allclose(obs["age"].iloc[[0, 3, 5]], [0.5, 3.5, 0.75])


@pytest.mark.parametrize(
    ("age", "message"),
    [
        ("999", "'999', more than 120 years; .*'missing'"),
        ("-9", "'-9', not a number of years"),
        ("6 m", "'6 m', not a number of years, months"),
        ("20-30", "'20-30', not a number"),
    ],
)
def test_ages_that_are_none(write_manifest, age, message):
    samples = described(age=["40", age])
    with pytest.raises(MiracleError, match=f"age of sample 's1' is {message}"):
        read(write_manifest, samples, **rules(age={"key": "age"}))
    obs = read(write_manifest, samples, **rules(age={"key": "age", "missing": age}))
    np.testing.assert_array_equal(obs["age"], [40, np.nan])


@pytest.mark.parametrize("control", ["None", "-", "na", "unknown"])
def test_a_label_that_looks_like_a_missing_value_is_the_label(write_manifest, control):
    samples = described(group=["PD", control])
    rule = {"key": "group", "case": "PD", "control": control}
    assert read(write_manifest, samples, phenotypes={"label": rule})["label"].tolist() == [1, 0]


def test_a_wildcard_does_not_turn_what_is_missing_into_a_class(write_manifest):
    samples = described(group=["PD", "HC", "-", "NA"])
    rule = {"key": "group", "case": "PD", "control": ["H*", "?", "NA?*", "??A"]}
    assert read(write_manifest, samples, phenotypes={"label": rule})["label"].tolist() == [1, 0]


def with_rule(name, **rule):
    return {"phenotypes": RULES | {name: RULES[name] | rule}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_rule("label", key="diagnosis"), "label looks for 'diagnosis', .*'disease state'"),
        (with_rule("label", case="sick", control="fit"), r"label matches no .*'tired' x 1"),
        (with_rule("label", case="sick"), r"0 cases and 2 controls, but both .*'well' x 1"),
        (with_rule("age", key="years"), "the rule for age looks for 'years'"),
        (with_rule("age", key="cell"), "age of sample 's1' is 'CD4', not a number"),
        (with_rule("sex", female="W", male="X"), r"sex matches no sample; .*'F' x 1"),
        (with_rule("subject", pattern="patient (.)"), "pattern .* for subject matches no value"),
        ({"keep": {"cell": "CD8"}}, r"keep.cell = \['CD8'\] matches no sample; .*'CD4' x 4"),
        ({"keep": {"organ": "skin"}}, "keep.organ looks for 'organ'"),
        (
            {"expected": {"cases": 3, "controls": 2}},
            r"2 cases and 2 controls \(3 subjects\), expected 3 cases; .*'well' x 1",
        ),
        ({"expected": {"subjects": 4}}, r"\(3 subjects\), expected 4 subjects"),
        ({"expected": {"samples": 5}}, "expected 5 samples"),
        (with_rule("label", case="*l"), "label puts 'well' into two classes"),
        ({"expected": {"cases": 2, "controls": 1}}, "expected 1 controls"),
    ],
)
def test_a_rule_that_does_not_fit_shows_what_is_there(write_manifest, changes, message):
    with pytest.raises(MiracleError, match=message) as error:
        read(write_manifest, **changes)
    assert "cohort.yaml" in str(error.value)


def test_a_subset_is_accepted_only_when_allowed_and_never_a_superset(write_manifest):
    full = {"expected": {"cases": 3, "controls": 2}}
    assert len(read(write_manifest, allow_subset=True, **full)) == 4
    with pytest.raises(MiracleError, match="expected at most 1 cases"):
        read(write_manifest, allow_subset=True, expected={"cases": 1, "controls": 2})
    with pytest.raises(MiracleError, match="both classes are needed"):
        read(write_manifest, samples=SAMPLES[:2], allow_subset=True, **full)


def test_an_optional_rule_may_find_nothing(write_manifest):
    obs = read(write_manifest, **with_rule("age", key="years", optional=True))
    assert obs["age"].isna().all()
    assert obs["age"].dtype == float
