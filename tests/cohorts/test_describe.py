import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from miracle_lib.cohorts.describe import describe_cohorts


def test_a_cohort_counted_by_hand():
    obs = pd.DataFrame(
        {
            "cohort": "Lund",
            "task": "RA",
            "subject": ["a", "a", "b", "c"],
            "label": [1.0, 1.0, 0.0, np.nan],
            "age": [40.0, 42.0, 30.0, 99.0],
            "sex": ["F", "M", "F", np.nan],
        },
        index=list("wxyz"),
    )
    values = np.full((4, 5), 0.5, np.float32)
    values[0, 0] = np.nan
    table = describe_cohorts([AnnData(values, obs=obs)])
    row = table.loc["Lund"]
    assert (row["task"], row["samples"], row["subjects"]) == ("RA", 4, 3)
    assert (row["cases"], row["controls"], row["sites"]) == (2, 1, 5)
    assert row["missing %"] == pytest.approx(5.0)
    assert (row["age, cases"], row["age, controls"]) == (41.0, 30.0)
    assert (row["female % of cases"], row["female % of controls"]) == (50.0, 100.0)
    assert table.attrs["shared"] == 0
    again = AnnData(values[1:], obs=obs.iloc[1:].assign(cohort="Oslo", task="MS"))
    assert describe_cohorts([AnnData(values, obs=obs), again]).attrs["shared"] == 3


def test_what_is_unknown_stays_unknown():
    obs = pd.DataFrame({"cohort": "A", "task": "T", "subject": ["1", "2"], "label": [0.0, 1.0]})
    obs.index = obs.index.astype(str)
    row = describe_cohorts([AnnData(np.zeros((2, 1), np.float32), obs=obs)]).loc["A"]
    assert np.isnan(row["age, cases"])
    assert np.isnan(row["female % of controls"])
