import numpy as np
import pandas as pd
import pytest
from scipy import stats

import miracle_lib as ml
from miracle_lib import MiracleError


def table(effect, se, sites=("cg1",)):
    return pd.DataFrame({"effect": effect, "se": se}, index=list(sites))


def test_three_cohorts_by_hand():
    # Weights 1, 4, 4: mean (1 + 8 + 0) / 9 = 1; Q = 0 + 4 + 4 = 8; C = 9 - 33/9 = 16/3;
    # tau2 = (8 - 2) / (16/3) = 1.125.
    tables = [table([1.0], [1.0]), table([2.0], [0.5]), table([0.0], [0.5])]
    row = ml.meta_analysis(tables).loc["cg1"]
    assert row["n_cohorts"] == 3
    assert row["effect"] == pytest.approx(1)
    assert row["se"] == pytest.approx(1 / 3)
    assert row["p_value"] == pytest.approx(2 * stats.norm.sf(3))
    assert row["Q"] == pytest.approx(8)
    assert row["heterogeneity_p_value"] == pytest.approx(stats.chi2.sf(8, 2))
    assert row["I2"] == pytest.approx(0.75)
    assert row["tau2"] == pytest.approx(1.125)
    weights = np.array([1 / 2.125, 1 / 1.375, 1 / 1.375])
    assert row["random_effect"] == pytest.approx(weights @ [1, 2, 0] / weights.sum())
    assert row["random_se"] == pytest.approx(weights.sum() ** -0.5)


def test_agreement_less_scattered_than_chance_has_no_variance_between_cohorts():
    row = ml.meta_analysis({"A": table([0.3], [0.1]), "B": table([0.31], [0.1])}).loc["cg1"]
    assert (row["tau2"], row["I2"]) == (0, 0)
    assert row["random_effect"] == row["effect"]
    assert row["random_se"] == row["se"]


def test_sites_are_joined_by_name_and_absent_cohorts_left_out():
    one = table([1.0, 2.0, np.nan], [0.5, 0.5, np.nan], ["a", "b", "c"])
    two = table([3.0, 1.0], [0.5, 0.5], ["d", "a"])
    found = ml.meta_analysis([one, two])
    assert found.index.tolist() == ["a", "b", "c", "d"]
    assert found["n_cohorts"].tolist() == [2, 1, 0, 1]
    assert found["effect"].tolist()[:2] == [1, 2]
    assert found.loc["c"].drop("n_cohorts").isna().all()
    assert found.loc["b", ["Q", "I2", "tau2", "heterogeneity_p_value"]].isna().all()
    assert found.loc["b", "random_se"] == 0.5
    p = found["p_value"].dropna()
    np.testing.assert_allclose(found["q_value"].dropna(), stats.false_discovery_control(p))


def test_two_halves_give_what_the_whole_gives():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(0.3, 0.7, (400, 50))).add_prefix("cg")
    y = pd.Series(np.arange(400) % 2)
    X.loc[y == 1, "cg0"] += 0.1
    halves = ml.meta_analysis([ml.ewas(X[:200], y), ml.ewas(X[200:], y)])
    whole = ml.ewas(X, y)
    assert np.corrcoef(halves["effect"], whole["effect"])[0, 1] > 0.999
    np.testing.assert_allclose(halves["se"], whole["se"], rtol=0.05)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([], "There is no table"),
        ([table([1.0], [0.0])], "Table 1 has the standard error 0 at site 'cg1'"),
        ([table([1.0], [1.0]).drop(columns="se")], "Table 1 has no column 'se'"),
        ({"RA": table([1.0, 2.0], [1.0, 1.0], ["a", "a"])}, "Table 'RA' has site 'a' more than"),
    ],
)
def test_bad_tables_are_refused(tables, message):
    with pytest.raises(MiracleError, match=message):
        ml.meta_analysis(tables)
