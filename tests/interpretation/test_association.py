import anndata
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import special, stats
from scipy.optimize import brentq

import miracle_lib as ml
from miracle_lib import MiracleError
from miracle_lib.interpretation import association, least_squares, moderated
from miracle_lib.interpretation.association import (
    genomic_control,
    inflation,
    separable_covariates,
)
from miracle_lib.interpretation.moderated import fit_prior
from miracle_lib.preprocessing.scale import beta_to_m, m_to_beta


def simulated(n=40, n_sites=300, seed=0, changed=20):
    """Sites whose variances differ, the first of them changed in cases."""
    rng = np.random.default_rng(seed)
    y = pd.Series(np.arange(n) % 2, [f"S{i}" for i in range(n)], dtype=float)
    covariates = pd.DataFrame(
        {"age": rng.normal(50, 10, n), "sex": rng.choice(["F", "M"], n)}, index=y.index
    )
    sd = np.sqrt(0.05 / rng.chisquare(6, n_sites) * 6)
    m = rng.normal(0, 1, n_sites) + rng.normal(size=(n, n_sites)) * sd
    m[:, :changed] += 0.5 * y.to_numpy()[:, None]
    m += 0.01 * covariates[["age"]].to_numpy() * (np.arange(n_sites) % 3 == 0)
    X = pd.DataFrame(m_to_beta(m), y.index, [f"cg{i}" for i in range(n_sites)])
    return X, y, covariates


def dense_reference(X, y, covariates):
    """Moderated t written site by site from the formulas, with general-purpose routines."""
    design = pd.DataFrame({"one": 1.0, "age": covariates["age"], "M": covariates["sex"] == "M"})
    design["y"] = y
    rows = []
    for site in X:
        used = X[site].notna() & y.notna()
        A = design[used].astype(float).to_numpy()
        m = np.log2(X.loc[used, site] / (1 - X.loc[used, site])).to_numpy()
        inverse = np.linalg.inv(A.T @ A)
        coefficients = inverse @ A.T @ m
        df = len(A) - 4
        rows.append(
            (coefficients[3], inverse[3, 3] ** 0.5, ((m - A @ coefficients) ** 2).sum() / df, df)
        )
    effect, unscaled, s2, df = np.array(rows).T
    e = np.log(s2) - special.digamma(df / 2) + np.log(df / 2)
    excess = e.var(ddof=1) - special.polygamma(1, df / 2).mean()
    d0 = 2 * brentq(lambda x: special.polygamma(1, x) - excess, 1e-3, 1e6, xtol=1e-14)
    s0 = np.exp(e.mean() + special.digamma(d0 / 2) - np.log(d0 / 2))
    posterior = (d0 * s0 + df * s2) / (d0 + df)
    t = effect / unscaled / np.sqrt(posterior)
    return pd.DataFrame({"t": t, "p": 2 * stats.t.sf(np.abs(t), d0 + df)}, X.columns), d0, s0


@pytest.mark.parametrize("gaps", [False, True])
def test_equals_a_dense_reference_of_the_formulas(gaps):
    X, y, covariates = simulated()
    if gaps:
        X = X.mask(np.random.default_rng(1).random(X.shape) < 0.05)
        X.iloc[:14, 7:9] = np.nan
        X.iloc[3:25, 30] = np.nan
        y.iloc[[5, 8]] = np.nan
    expected, d0, s0 = dense_reference(X, y, covariates)
    shuffled = np.random.default_rng(2).permutation(len(y))
    table = ml.ewas(X, y.iloc[shuffled], covariates.iloc[shuffled[::-1]])
    assert table.index.equals(X.columns)
    assert table.attrs["prior_df"] == pytest.approx(d0, rel=1e-8)
    assert table.attrs["prior_variance"] == pytest.approx(s0, rel=1e-8)
    np.testing.assert_allclose(table["t"], expected["t"], rtol=1e-8)
    np.testing.assert_allclose(np.log10(table["p_value"]), np.log10(expected["p"]), rtol=1e-7)
    np.testing.assert_allclose(table["q_value"], stats.false_discovery_control(expected["p"]))
    np.testing.assert_allclose(table["effect"] / table["se"], table["t"])


def test_the_unmoderated_part_is_ordinary_least_squares():
    X, y, covariates = simulated(n_sites=5)
    design = association._design(y, X.index, covariates)
    fit = least_squares.fit_block(design, beta_to_m(X.to_numpy()))
    A = sm.add_constant(
        pd.DataFrame({"age": covariates["age"], "M": (covariates["sex"] == "M") * 1.0, "y": y})
    )
    for place, site in enumerate(X):
        model = sm.OLS(beta_to_m(X[site]), A).fit()
        assert fit.effect[place] == pytest.approx(model.params["y"])
        assert fit.unscaled[place] * fit.variance[place] ** 0.5 == pytest.approx(model.bse["y"])
        assert (fit.variance[place], fit.df[place]) == (pytest.approx(model.mse_resid), 36)


def test_two_sites_by_hand():
    # M-values 0 0 1 1 against 2 2 3 3 (and 0 2 0 2, the same twice): effect 2 and 0.
    m = np.array([[0.0, 0, 1, 1, 2, 2, 3, 3], [0, 2, 0, 2, 0, 2, 0, 2]]).T
    X = pd.DataFrame(m_to_beta(m), columns=["a", "b"])
    table = ml.ewas(X, [0] * 4 + [1] * 4)
    # Residual sums of squares 2 and 8 on 6 df: log variances differ by log 4, their variance is
    # (log 4)^2 / 2 = 0.961; trigamma(3) = pi^2 / 6 - 1 - 1/4.
    excess = np.log(4) ** 2 / 2 - (np.pi**2 / 6 - 1.25)
    d0 = table.attrs["prior_df"]
    assert special.polygamma(1, d0 / 2) == pytest.approx(excess)
    s0 = table.attrs["prior_variance"]
    mean = np.log(1 / 3 * 4 / 3) / 2 - special.digamma(3) + np.log(3)
    assert np.log(s0) == pytest.approx(mean + special.digamma(d0 / 2) - np.log(d0 / 2))
    assert table["effect"].tolist() == pytest.approx([2, 0])
    se = np.sqrt((d0 * s0 + np.array([2, 8])) / (d0 + 6) / 2)
    np.testing.assert_allclose(table["se"], se)
    assert table["p_value"]["a"] == pytest.approx(2 * stats.t.sf(2 / se[0], 6 + d0))
    assert table["p_value"]["b"] == pytest.approx(1)


@pytest.mark.parametrize(("d0", "s0", "df"), [(4.0, 0.03, 10), (15.0, 2.0, 5), (60.0, 0.2, 200)])
def test_the_prior_of_scaled_f_variances_is_found(d0, s0, df):
    variance = s0 * np.random.default_rng(0).f(df, d0, 200_000)
    found_df, found_variance = fit_prior(variance, np.full(len(variance), float(df)))
    assert found_df == pytest.approx(d0, rel=0.04)
    assert found_variance == pytest.approx(s0, rel=0.01)


def test_equal_variances_are_pooled():
    rng = np.random.default_rng(0)
    variance = rng.chisquare(8, 40) / 8 * 0.1 + 0.05  # less scattered than chance
    df, pooled = fit_prior(variance, np.full(40, 8.0))
    assert df == np.inf
    assert pooled == pytest.approx(variance.mean())
    X = pd.DataFrame(m_to_beta(np.tile([[0.0], [1], [3], [4]], (1, 3))))
    table = ml.ewas(X, [0, 0, 1, 1])
    assert table["df"].tolist() == [6, 6, 6]  # the pooled residual df, not infinite
    assert table["p_value"][0] == pytest.approx(2 * stats.t.sf(3 / np.sqrt(0.5), 6))


@pytest.mark.parametrize("value", [1e-8, 1e-3, 0.4, 20.0, 1e5, 1e9])
def test_trigamma_is_inverted(value):
    x = moderated._trigamma_inverse(value)
    assert special.polygamma(1, x) == pytest.approx(value, rel=1e-6)


def test_a_site_that_only_cases_have_is_nan_and_others_are_untouched():
    X, y, covariates = simulated()
    X.loc[y == 0, "cg3"] = np.nan
    X["cg4"] = np.nan
    table = ml.ewas(X, y, covariates)
    assert table.loc[["cg3", "cg4"]].isna().all(axis=None)
    rest = ml.ewas(X.drop(columns=["cg3", "cg4"]), y, covariates)
    pd.testing.assert_frame_equal(table.drop(["cg3", "cg4"]), rest)


def test_a_site_that_one_cohort_lacks_is_fitted_without_its_indicator():
    X, y, _ = simulated()
    cohort = pd.DataFrame({"cohort": ["A"] * 20 + ["B"] * 20}, X.index)
    X.iloc[:20, 0] = np.nan
    table = ml.ewas(X, y, cohort)
    own = sm.OLS(beta_to_m(X.iloc[20:, 0]), sm.add_constant(y.iloc[20:].to_frame("y"))).fit()
    assert table["effect"].iloc[0] == pytest.approx(own.params["y"])
    assert table["df"].iloc[0] == pytest.approx(18 + table.attrs["prior_df"])


def test_blocks_and_ways_to_pass_values_change_nothing(monkeypatch, tmp_path):
    X, y, covariates = simulated()
    X = X.mask(np.random.default_rng(1).random(X.shape) < 0.01)
    whole = ml.ewas(X, y, covariates)
    monkeypatch.setattr(association, "_BLOCK", 7)
    pd.testing.assert_frame_equal(ml.ewas(X, y, covariates), whole)
    adata = anndata.AnnData(X)
    pd.testing.assert_frame_equal(ml.ewas(adata, y, covariates), whole)
    adata.write_h5ad(tmp_path / "x.h5ad")
    backed = anndata.read_h5ad(tmp_path / "x.h5ad", backed="r")
    pd.testing.assert_frame_equal(ml.ewas(backed, y, covariates), whole)
    pd.testing.assert_frame_equal(ml.ewas(ml.Samples(X, y), y, covariates), whole)


def test_samples_without_a_covariate_are_left_out_and_counted(caplog):
    X, y, covariates = simulated()
    covariates.iloc[:3, 0] = np.nan
    table = ml.ewas(X, y, covariates)
    assert "3 of 40 samples lack a covariate" in caplog.text
    assert (table.attrs["n_cases"], table.attrs["n_controls"]) == (19, 18)
    pd.testing.assert_frame_equal(table, ml.ewas(X.iloc[3:], y, covariates))


def test_shuffled_labels_are_not_inflated_and_a_hidden_covariate_is():
    X, y, covariates = simulated(n=100, n_sites=3000, changed=0)
    assert ml.ewas(X, y, covariates).attrs["inflation"] == pytest.approx(1, abs=0.1)
    hidden = 2 * y + np.random.default_rng(9).normal(0, 0.5, 100)
    shifted = m_to_beta(beta_to_m(X).add(0.03 * hidden, axis=0))
    confounded = ml.ewas(shifted, y, covariates)
    assert confounded.attrs["inflation"] > 1.5
    adjusted = ml.ewas(shifted, y, covariates.assign(hidden=hidden))
    assert adjusted.attrs["inflation"] == pytest.approx(1, abs=0.1)
    corrected = genomic_control(confounded)
    assert inflation(corrected["p_value"]) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(corrected["effect"] / corrected["se"], corrected["t"])


def test_far_tails_do_not_become_zero():
    assert moderated.two_sided(60.0, 500.0) == pytest.approx(2 * stats.t.sf(60.0, 500.0), rel=1e-9)
    assert moderated.two_sided(30.0, np.inf) == pytest.approx(2 * stats.norm.sf(30.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y, c: (X, y * 0, c), "y has 0 cases and 40 controls"),
        (lambda X, y, c: (X, y * 2, c), "'y' has the label 2.0 for sample 'S1'"),
        (lambda X, y, c: (X, y.iloc[1:], c), "y has no entry for sample 'S0'"),
        (lambda X, y, c: (X, y.to_numpy()[1:], c), r"y has shape \(39,\); expected 40"),
        (lambda X, y, c: (X * 3, y, c), r"site 'cg\d+'; expected beta values in \[0, 1\]"),
        (lambda X, y, c: (X, y, c.assign(age2=2 * c["age"])), "Covariate 'age2' follows from"),
        (lambda X, y, c: (X, y, c.assign(sick=y)), "y follows from the covariates before it"),
        (lambda X, y, c: (X, y, c.assign(site="A")), "Covariate 'site' is A in all 40 samples"),
        (lambda X, y, c: (X, y, c.assign(bmi=np.nan)), "Covariate 'bmi' is missing in all 40"),
        (lambda X, y, c: (X.iloc[:4], y, c), "4 samples are labelled .* more than the 4 coeff"),
        (lambda X, y, c: (X, y, c.where(y == 1)), "have all covariates, has 20 cases and 0 con"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(MiracleError, match=message):
        ml.ewas(*change(*simulated()))


def test_the_functions_stay_functions_once_their_modules_are_imported():
    assert callable(ml.ewas)
    assert callable(ml.meta_analysis)


def test_a_cell_type_is_left_out_only_where_it_follows_from_the_others():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([6, 3, 2], 40)
    cells = pd.DataFrame(shares, columns=["cell_Gran", "cell_T", "cell_B"])
    assert list(separable_covariates(cells)) == ["cell_T", "cell_B"]
    assert list(separable_covariates(cells[["cell_Gran"]])) == ["cell_Gran"]
    assert list(separable_covariates(cells[["cell_T", "cell_B"]])) == ["cell_T", "cell_B"]
