import numpy as np
import pandas as pd
import pytest

from miracle_lib.cohorts import simulate_cohorts
from miracle_lib.preprocessing.sex import SexReference

REFERENCE = SexReference(
    sites=[f"cg{i}" for i in range(12)], female=[0.5] * 12, male=[0.1] * 12, sd=[0.05] * 12
)


def sample(value, n=12):
    return pd.DataFrame([[value] * n], ["anna"], REFERENCE.sites[:n])


@pytest.mark.parametrize(
    ("value", "n", "sex"),
    [(0.5, 12, "F"), (0.45, 12, "F"), (0.1, 10, "M"), (0.3, 12, "unclear"), (0.5, 9, "not known")],
)
def test_a_sample_is_told_by_its_own_sites(value, n, sex):
    assert REFERENCE.predict(sample(value, n)).item() == sex


def test_missing_values_take_no_side():
    values = sample(0.5)
    values.iloc[0, :2] = np.nan
    assert REFERENCE.predict(values).item() == "F"
    values.iloc[0, :3] = np.nan
    assert REFERENCE.predict(values).item() == "not known"


def test_a_cohort_teaches_another_one():
    cohorts = simulate_cohorts({"MS": 60, "RA": 60}, n_sites=600, random_state=1).cohorts
    reference = SexReference.learn([cohorts["MS"]], n_sites=15)
    assert len(reference.sites) == 15
    found = reference.predict(cohorts["RA"].to_df())
    told = found != "unclear"
    assert told.mean() > 0.9
    assert (found[told] == cohorts["RA"].obs["sex"][told]).all()


def test_women_alone_teach_nothing():
    cohort = simulate_cohorts({"RA": 60}, random_state=1).cohorts["RA"]
    assert SexReference.learn([cohort[cohort.obs["sex"] == "F"]]) is None
    assert SexReference.learn([cohort[:, cohort.var["chromosome"] == "1"]]) is None
