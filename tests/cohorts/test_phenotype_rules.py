"""Rules for phenotypes against an independent reader: from the text of a file to each value."""

import fnmatch
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miracle_lib.cohorts import read_phenotypes, read_series_matrix
from miracle_lib.cohorts.manifest import CohortManifest
from miracle_lib.errors import MiracleError

UNKNOWN = ["NA", "unknown", "-", "None", "n/a"]
LABELS = ["ill", "ILL", "ill, treated", "well", "Well", "fit", *UNKNOWN]
AGES = ["40", "61.5", "61,5 years", "6 months", "52 weeks", "3y", *UNKNOWN]
SEXES = ["F", "male", "Female", "m", "other", *UNKNOWN]
NUMBERS = ["24.1", "1e2", "-3", "0", *UNKNOWN]
PLACES = ["01", "1e5", "A", *UNKNOWN]
PATTERNS = ["ill", "ill*", "well", "w?ll", "fit", "None", "-"]
RULES = {
    "age": {"key": ["age"], "optional": True},
    "sex": {"key": ["Sex"], "optional": True},
    "covariates": {
        "bmi": {"key": ["bmi"], "kind": "number", "optional": True},
        "plate": {"key": ["plate"], "kind": "category", "optional": True},
    },
}


def cells(values):
    return st.one_of(st.none(), st.sampled_from(values))


people = st.lists(
    st.fixed_dictionaries(
        {
            "Status": cells(LABELS),
            "age": cells(AGES),
            "Sex": cells(SEXES),
            "bmi": cells(NUMBERS),
            "plate": cells(PLACES),
        }
    ),
    min_size=1,
    max_size=8,
)
patterns = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True)


def read(as_series, people, case, control):
    """Through a file in which every gap moves the later characteristics of a sample up."""
    given = [[f"{k}: {v}" for k, v in person.items() if v is not None] for person in people]
    rows = [[own[i] if i < len(own) else "" for own in given] for i in range(5)]
    path = Path(tempfile.mkdtemp()) / "GSE1_series_matrix.txt"
    path.write_text(as_series(np.zeros((1, len(people))), characteristics=rows))
    label = {"key": "status", "case": case, "control": control}
    samples = read_series_matrix(path, samples=[]).samples
    return read_phenotypes(samples, manifest({"label": label} | RULES))


def manifest(phenotypes):
    content = {"name": "GSE1", "task": "Disease", "platform": "450K", "tissue": "blood"}
    content |= {"files": [{"url": "a.txt"}], "phenotypes": phenotypes}
    return CohortManifest.model_validate(content)


def known(text):
    return text is not None and text not in UNKNOWN


def is_one_of(text, patterns):
    """Exact names go before what stands for a missing value; wildcards do not."""
    if text is None:
        return False
    exact = text.lower() in [p.lower() for p in patterns if not set(p) & set("*?")]
    return exact or (
        known(text) and any(fnmatch.fnmatchcase(text.lower(), p.lower()) for p in patterns)
    )


def years(text):
    if not known(text):
        return np.nan
    number = float(re.match(r"[\d.,]+", text)[0].replace(",", "."))
    return number / 12 if "month" in text else number * 7 / 365.25 if "week" in text else number


@settings(max_examples=150, deadline=None)
@given(people=people, case=patterns, control=patterns)
def test_each_value_is_what_an_independent_reader_finds(as_series, people, case, control):
    cases = [is_one_of(person["Status"], case) for person in people]
    controls = [is_one_of(person["Status"], control) for person in people]
    sexes = {person["Sex"] for person in people if known(person["Sex"])}
    if any(a and b for a, b in zip(cases, controls, strict=True)):
        problem = "into two classes"
    elif all(person["Status"] is None for person in people):
        problem = "looks for 'status'"
    elif not (any(cases) and any(controls)):
        problem = "matches no sample|both classes are needed"
    elif sexes and not sexes - {"other"}:
        problem = "the rule for sex matches no sample"
    else:
        problem = ""
    if problem:
        with pytest.raises(MiracleError, match=problem):
            read(as_series, people, case, control)
        return
    obs = read(as_series, people, case, control)
    used = [i for i in range(len(people)) if cases[i] or controls[i]]
    assert obs.index.tolist() == [f"GSM{i}" for i in used]
    assert obs["label"].tolist() == [float(cases[i]) for i in used]
    np.testing.assert_allclose(obs["age"], [years(people[i]["age"]) for i in used])
    classes = {"f": "F", "female": "F", "m": "M", "male": "M"}
    expected = [classes.get((people[i]["Sex"] or "").lower()) for i in used]
    assert obs["sex"].astype(object).where(obs["sex"].notna(), None).tolist() == expected
    bmi = [float(people[i]["bmi"]) if known(people[i]["bmi"]) else np.nan for i in used]
    np.testing.assert_array_equal(obs["bmi"].astype(float), bmi)
    plates = [people[i]["plate"] if known(people[i]["plate"]) else None for i in used]
    assert obs["plate"].astype(object).where(obs["plate"].notna(), None).tolist() == plates


@settings(max_examples=100, deadline=None)
@given(text=st.text(min_size=1, max_size=12))
def test_any_text_is_an_age_or_is_refused_by_name(text):
    samples = pd.DataFrame(
        {"status": ["ill", "well"], "age": [text, np.nan]}, index=["GSM0", "GSM1"]
    )
    label = {"key": "status", "case": "ill", "control": "well"}
    message, age = "", np.nan
    try:
        obs = read_phenotypes(samples, manifest({"label": label, "age": {"key": "age"}}))
        age = obs.loc["GSM0", "age"]
    except MiracleError as error:
        message = str(error)
    assert np.isnan(age) or 0 <= age <= 120
    assert not message or ("age of sample 'GSM0' is" in message and "\n" not in message)
