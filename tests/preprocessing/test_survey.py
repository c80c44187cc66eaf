import numpy as np
import pandas as pd
import pytest

from miracle_lib.preprocessing import CohortStandardizer, Survey, beta_to_m, survey_values


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(0.01, 0.99, (30, 70)).astype(np.float32)).add_prefix("cg")
    X = X.mask(rng.random(X.shape) < 0.1)
    X.iloc[:12, 50:] = np.nan  # the first cohort lacks these sites
    return X, pd.Series(["B"] * 12 + ["A"] * 18)


def surveyed(X, cohort, width):
    starts = range(0, X.shape[1], width)
    return survey_values(
        ((slice(a, a + width), X.to_numpy()[:, a : a + width]) for a in starts), cohort
    )


def components(values):
    centred = (values - values.mean()).fillna(0).to_numpy(float)
    u, s, _ = np.linalg.svd(centred)
    return u[:, :2] * s[:2], s[:2] ** 2 / (s**2).sum()


@pytest.mark.parametrize("width", [1, 16, 70])
def test_blocks_of_sites_add_up_to_what_the_whole_table_says(table, width):
    X, cohort = table
    seen = surveyed(X, cohort, width)
    B, A = X[cohort == "B"], X[cohort == "A"]
    np.testing.assert_allclose(seen.absent, [B.isna().mean(), A.isna().mean()])
    shares = [*B.iloc[:, :50].isna().mean(axis=1), *A.isna().mean(axis=1)]
    np.testing.assert_allclose(seen.missing, shares)
    z = CohortStandardizer().fit_transform(X, cohort=cohort)
    assert seen.beta.sum(axis=1).tolist() == [B.notna().sum().sum(), A.notna().sum().sum()]
    below = (z[cohort == "A"][A.notna()] < 0).sum().sum()
    assert seen.standardized[1, :50].sum() == below
    for found, share, values in (
        (seen.before, seen.shares[0], beta_to_m(X)),
        (seen.after, seen.shares[1], z),
    ):
        scores, expected = components(values)
        np.testing.assert_allclose(share, expected, rtol=1e-4)
        np.testing.assert_allclose(np.abs(found), np.abs(scores), atol=1e-3)


def test_a_survey_comes_back_as_it_was_written(table, tmp_path):
    X, cohort = table
    seen = surveyed(X, cohort, 16)
    seen.save(tmp_path / "survey.npz")
    again = Survey.load(tmp_path / "survey.npz", cohort)
    for name, part in vars(seen).items():
        np.testing.assert_array_equal(getattr(again, name), part)
