"""Residuals: covariate effects go, disease effects and unseen samples are left alone."""

import numpy as np
import pandas as pd
import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing import CovariateResidualizer


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    n = 200
    index = [f"s{i}" for i in range(n)]
    cohort = np.repeat(["A", "B"], n // 2)
    covariates = pd.DataFrame(
        {
            "age": rng.normal(50, 10, n) + 20 * (cohort == "B"),
            "sex": rng.choice(["F", "M"], n),
            "empty": np.nan,
        },
        index=index,
    )
    # values centred within cohorts, as after standardisation; sites 0 and 1 follow age and sex
    age = covariates["age"] - covariates["age"].groupby(cohort).transform("mean")
    X = pd.DataFrame(rng.normal(0, 1, (n, 5)), index).add_prefix("cg")
    X["cg0"] += 0.2 * age
    X["cg1"] += 3.0 * (covariates["sex"] == "M")
    X -= X.groupby(cohort).transform("mean")
    return X, covariates, cohort


def test_covariates_are_gone_and_the_rest_stays(data):
    X, covariates, cohort = data
    fitted = CovariateResidualizer().fit(X, covariates=covariates, cohort=cohort)
    rest = fitted.transform(X, covariates, cohort)
    age = covariates["age"] - covariates["age"].groupby(cohort).transform("mean")
    assert abs(np.corrcoef(X["cg0"], age)[0, 1]) > 0.8
    assert abs(np.corrcoef(rest["cg0"], age)[0, 1]) < 0.05
    gap = rest["cg1"].groupby(covariates["sex"]).mean().diff().iloc[-1]
    assert abs(gap) < 0.1
    assert np.corrcoef(rest["cg4"], X["cg4"])[0, 1] > 0.98
    assert fitted.coef_.index.tolist() == ["age", "sex=M"]
    assert rest.dtypes.unique().tolist() == [np.dtype(np.float32)]


def test_no_shift_between_cohorts_is_made(data):
    X, covariates, cohort = data
    rest = CovariateResidualizer().fit_transform(X, None, covariates, cohort)
    assert rest.groupby(cohort).mean().abs().max().max() < 1e-5
    # without cohorts the difference in age between them would leak into the values
    mixed = CovariateResidualizer().fit_transform(X, None, covariates)
    assert mixed["cg0"].groupby(cohort).mean().abs().max() > 0.5


def test_equals_least_squares(data):
    X, covariates, _ = data
    age = covariates[["age"]]
    rest = CovariateResidualizer(ridge=0).fit_transform(X, None, age)
    design = age - age.mean()
    expected = X - design.to_numpy() @ np.linalg.lstsq(design.to_numpy(), X, rcond=None)[0]
    np.testing.assert_allclose(rest, expected, atol=1e-5)


def test_test_samples_do_not_touch_the_fit(data):
    X, covariates, cohort = data
    train = np.arange(len(X)) % 4 > 0
    fitted = CovariateResidualizer().fit(X[train], None, covariates[train], cohort[train])
    whole = fitted.transform(X, covariates, cohort)
    alone = fitted.transform(X[~train], covariates[~train], cohort[~train])
    pd.testing.assert_frame_equal(whole[~train], alone)


def test_missing_and_new_values_change_nothing_by_that_covariate(data):
    X, covariates, cohort = data
    fitted = CovariateResidualizer().fit(X, None, covariates, cohort)
    unknown = covariates.assign(age=np.nan, sex="other")
    pd.testing.assert_frame_equal(
        fitted.transform(X, unknown, cohort), X.astype(np.float32), atol=1e-6
    )


def test_refuses(data):
    X, covariates, cohort = data
    fitted = CovariateResidualizer().fit(X, None, covariates, cohort)
    with pytest.raises(MiracleError, match="No covariates are given"):
        CovariateResidualizer().fit(X)
    with pytest.raises(MiracleError, match="no entry for sample 's0'"):
        fitted.transform(X, covariates.iloc[1:], cohort)
    with pytest.raises(MiracleError, match="lack the column 'age'"):
        fitted.transform(X, covariates[["sex"]], cohort)
    with pytest.raises(MiracleError, match="several cohorts were fitted"):
        fitted.transform(X, covariates)
    with pytest.raises(MiracleError, match="'C' was not fitted; known cohorts are A, B"):
        fitted.transform(X, covariates, "C")
    with pytest.raises(MiracleError, match="Sample 's3' has nan at site 'cg2'"):
        X.iloc[3, 2] = np.nan
        fitted.transform(X, covariates, cohort)
    with pytest.raises(MiracleError, match="ridge is -1"):
        CovariateResidualizer(ridge=-1).fit(X, None, covariates)
