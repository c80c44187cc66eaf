"""The figures of cohorts show the numbers they are given."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from miracle_lib.cohorts.merge import merge_cohorts
from miracle_lib.cohorts.simulation import simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.plots import cohorts as plots
from miracle_lib.preprocessing import quality_control, survey_values


@pytest.fixture(scope="module")
def merged():
    cohorts = simulate_cohorts({"RA": 30, "MS": 40}, n_sites=300, missing=0.05).cohorts
    X, _, obs = merge_cohorts(list(cohorts.values()))
    return X, obs


def seen(X, obs):
    """What is to be seen of a table, read in two blocks."""
    values = X.to_numpy()
    return survey_values(
        [(slice(0, 90), values[:, :90]), (slice(90, None), values[:, 90:])], obs["cohort"]
    )


def drawn(figure):
    """Save the figure, as a notebook would; every axis must be labelled."""
    figure.savefig(io.BytesIO(), format="png", dpi=50)
    return figure


def test_densities(merged):
    figure = drawn(plots.beta_densities(seen(*merged)))
    before, after = figure.axes
    assert "beta value" in before.get_xlabel()
    assert "(SD)" in after.get_xlabel()
    assert [text.get_text() for text in figure.legends[0].texts] == ["Simulated RA", "Simulated MS"]
    for axis in (before, after):
        for line in axis.lines:
            x, y = line.get_data()
            assert np.trapezoid(y, x) == pytest.approx(1, abs=0.03)
    x, y = before.lines[0].get_data()
    assert x[y.argmax()] < 0.2  # unmethylated sites make the highest peak
    x, y = after.lines[0].get_data()
    assert abs(x[y.argmax()]) < 0.5
    # missing values are 0 after standardisation and must not make a spike there
    assert y.max() < 0.55


def test_pca_separates_cohorts_before_and_not_after(merged):
    _, obs = merged
    figure = drawn(plots.cohort_pca(seen(*merged), obs))
    gaps = []
    for axis in figure.axes[:2]:
        points = axis.collections[0]
        colours = np.array([to_hex(c) for c in points.get_facecolors()])
        where = np.asarray(points.get_offsets())
        groups = [where[colours == c] for c in np.unique(colours)]
        assert sorted(map(len, groups)) == [30, 40]
        gaps.append(np.abs(groups[0].mean(axis=0) - groups[1].mean(axis=0)).max() / where.std())
        assert "% of variance" in axis.get_xlabel()
    assert gaps[0] > 1
    assert gaps[1] < 0.5
    colours = [to_hex(c) for c in figure.axes[2].collections[0].get_facecolors()]
    assert pd.Series(colours).value_counts().tolist() == sorted(
        obs["label"].value_counts(), reverse=True
    )


def test_missingness(merged):
    X, obs = merged
    figure = drawn(plots.missingness(seen(X, obs)))
    samples, sites = figure.axes
    first = X[obs["cohort"] == "Simulated RA"].dropna(axis=1, how="all")
    shown = samples.collections[0].get_offsets()[:, 0]
    np.testing.assert_allclose(shown, first.isna().mean(axis=1))
    ranked = first.isna().mean().sort_values(ascending=False)
    np.testing.assert_allclose(sites.lines[0].get_ydata(), ranked)


def test_sites_of_another_array_are_not_missing(merged):
    X, obs = merged
    X = X.copy()
    X.iloc[:30, 100:] = np.nan  # what a union of sites makes of a cohort with fewer
    samples, _ = drawn(plots.missingness(seen(X, obs))).axes
    assert samples.collections[0].get_offsets()[:, 0].max() < 0.2
    n = X.iloc[:30].notna().any().sum()
    assert samples.get_yticklabels()[0].get_text() == f"Simulated RA\n{n} sites"


def test_ages_and_sexes(merged):
    _, obs = merged
    figure = drawn(plots.ages_and_sexes(obs))
    age, sex = figure.axes
    assert age.get_ylabel() == "age (years)"
    heights = sorted(patch.get_height() for patch in sex.patches)
    expected = obs["sex"].eq("F").groupby([obs["cohort"], obs["label"]]).mean()
    np.testing.assert_allclose(heights, sorted(expected))
    n = obs.groupby(["cohort", "label"]).size()["Simulated RA"]
    assert age.get_xticklabels()[0].get_text() == f"Simulated\nRA\n{n[0]} / {n[1]}"
    assert len(drawn(plots.ages_and_sexes(obs.drop(columns="age"))).axes) == 1
    with pytest.raises(MiracleError, match="Neither age nor sex"):
        plots.ages_and_sexes(obs.drop(columns=["age", "sex"]))


def test_cell_fractions(merged):
    _, obs = merged
    figure = drawn(plots.cell_fractions(obs))
    assert [axis.get_title() for axis in figure.axes] == [
        c.removeprefix("cell_") for c in obs.filter(like="cell_")
    ]
    partly = obs.copy()
    partly.loc[partly["cohort"] == "Simulated RA", obs.filter(like="cell_").columns] = np.nan
    ticks = drawn(plots.cell_fractions(partly)).axes[0].get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["Simulated MS"]
    with pytest.raises(MiracleError, match="No column cell_"):
        plots.cell_fractions(obs[["cohort", "label"]])


def test_quality_counts():
    cohorts = simulate_cohorts({"RA": 30, "MS": 30}, n_sites=300).cohorts
    cohorts["RA"].X[3, :200] = np.nan
    reports = pd.concat([quality_control(c)[1] for c in cohorts.values()], ignore_index=True)
    figure = drawn(plots.quality_counts(reports))
    axis = figure.axes[0]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    assert rows[0] == "dropped samples: call rate (0.9)"
    shown = [int(text.get_text()) for text in axis.texts]
    assert len(shown) == 2 * len(rows)
    assert shown[:2] == [1, 0]
    assert sorted(shown) == sorted(reports["n"])


def test_many_cohorts_are_told_apart():
    names = pd.Series([f"c{i}" for i in range(20)])
    styles = plots._cohort_styles(names)
    assert len(set(styles.values())) == 20
