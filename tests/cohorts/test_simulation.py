"""The simulation has the shape of array data, holds what its truth says, and nothing under null."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from miracle_lib.cohorts.simulated_hospital import Hospital
from miracle_lib.cohorts.simulation import PAPER_SIZES, simulate_cohorts
from miracle_lib.errors import MiracleError


@pytest.fixture(scope="module")
def simulation():
    return simulate_cohorts()


@pytest.fixture(scope="module")
def annotation():
    sites = [f"cg{number:08d}" for number in range(1000)]
    genes = [f"G{number:03d}" for number in range(100)]
    pairs = pd.DataFrame({"site": sites[:900], "gene": [genes[i % 100] for i in range(900)]})
    bare = pd.DataFrame({"site": sites[900:], "gene": None})
    sets = {f"set {i}": genes[5 * i : 5 * i + 10] for i in range(15)}
    return pd.concat([pairs, bare], ignore_index=True), sets


def m_values(cohort):
    beta = cohort.X.astype(float)
    return np.log2(beta / (1 - beta))


def shifts(cohort):
    """Case minus control mean M-value per site, and its standard error."""
    m, case = m_values(cohort), cohort.obs["label"].to_numpy() == 1
    difference = np.nanmean(m[case], axis=0) - np.nanmean(m[~case], axis=0)
    error = np.sqrt(
        np.nanvar(m[case], axis=0) / case.sum() + np.nanvar(m[~case], axis=0) / (~case).sum()
    )
    return pd.Series(difference, cohort.var_names), pd.Series(error, cohort.var_names)


def test_default_has_the_papers_cohorts(simulation):
    assert {task: c.n_obs for task, c in simulation.cohorts.items()} == PAPER_SIZES
    for task, cohort in simulation.cohorts.items():
        assert cohort.X.dtype == np.float32
        assert cohort.shape[1] == 2000
        assert cohort.var_names.str.fullmatch(r"cg\d{8}").all()
        assert set(cohort.obs["task"]) == {task}
        assert set(cohort.obs["cohort"]) == {f"Simulated {task}"}
        assert abs(cohort.obs["label"].mean() - 0.5) < 0.1
        assert np.allclose(cohort.obs.filter(like="cell_").sum(axis=1), 1)
        assert cohort.obs["age"].between(18, 90).all()
        assert cohort.obs["subject"].nunique() < cohort.n_obs
        assert cohort.uns["provenance"]["source"] == "simulated"
        same = cohort.obs.groupby("subject")[["label", "sex"]].nunique()
        assert (same == 1).all().all()


def test_values_are_bimodal_and_partly_missing(simulation):
    beta = np.concatenate([c.X.ravel() for c in simulation.cohorts.values()])
    assert 0.005 < np.isnan(beta).mean() < 0.02
    beta = beta[~np.isnan(beta)]
    assert ((beta > 0) & (beta < 1)).all()
    assert (beta < 0.2).mean() > 0.3
    assert (beta > 0.75).mean() > 0.25
    assert 0.1 < ((beta > 0.3) & (beta < 0.7)).mean() < 0.35


def test_annotation_is_shaped_like_the_array(simulation):
    annotated = set(simulation.site_gene["site"])
    assert len(annotated) == 1500
    per_gene = simulation.site_gene.groupby("gene").size()
    assert per_gene.max() > 5 * per_gene.median()
    members = {gene for genes in simulation.gene_sets.values() for gene in genes}
    reached = simulation.site_gene.loc[simulation.site_gene["gene"].isin(members), "site"]
    assert 0.4 < reached.nunique() / 2000 < 0.75
    sizes = [len(genes) for genes in simulation.gene_sets.values()]
    assert min(sizes) >= 5
    assert 25 < max(sizes) <= 60
    times = pd.Series([g for genes in simulation.gene_sets.values() for g in genes]).value_counts()
    assert times.max() > 3
    some = simulation.cohorts["RA"].var
    expected = simulation.site_gene.groupby("site")["gene"].agg(";".join)
    assert some["genes"].equals(expected.reindex(some.index).fillna("").rename("genes"))
    assert set(simulation.site_gene["group"]) >= {"TSS200", "Body"}


def test_sites_of_a_gene_vary_together(simulation):
    cohort = simulation.cohorts["SLE"]
    m = m_values(cohort[cohort.obs["label"] == 0])
    correlation = np.ma.corrcoef(np.ma.masked_invalid(m), rowvar=False).filled(np.nan)
    gene = cohort.var["genes"].to_numpy()
    same = (gene[:, None] == gene) & (gene != "")[:, None]
    np.fill_diagonal(same, False)
    other = (gene[:, None] != gene) & (gene != "")[:, None]
    assert np.nanmean(correlation[same]) > np.nanmean(correlation[other]) + 0.15


def test_truth_is_in_the_values():
    simulation = simulate_cohorts({"A": 300, "B": 300}, effect=1.0, cohort_effect=0.1)
    for task, cohort in simulation.cohorts.items():
        difference, error = shifts(cohort)
        truth = simulation.truth.sites
        planted = truth[truth["task"] == task].set_index("site")["effect"]
        assert len(planted) > 30
        z = (difference[planted.index] - planted) / error[planted.index]
        assert abs(z.mean()) < 1
        assert np.corrcoef(difference[planted.index], planted)[0, 1] > 0.9
        rest = difference.drop(planted.index)
        assert rest.abs().mean() < 0.15


def test_shared_pathways_and_directions_are_common_to_all_tasks(simulation):
    pathways = simulation.truth.pathways
    assert pathways.groupby("task").size().eq(5).all()
    shared = pathways[pathways["shared"]]
    assert (shared.groupby("pathway")["task"].nunique() == 6).all()
    assert (shared.groupby("pathway")["direction"].nunique() == 1).all()
    assert shared.groupby("task").size().eq(2).all()
    specific = pathways[~pathways["shared"]]
    assert specific["pathway"].is_unique
    assert not set(specific["pathway"]) & set(shared["pathway"])
    assert set(pathways["pathway"]) <= set(simulation.gene_sets)


def test_a_planted_pathway_shifts_most_of_its_sites_one_way(simulation):
    for row in simulation.truth.pathways.itertuples():
        genes = simulation.gene_sets[row.pathway]
        sites = set(simulation.site_gene.loc[simulation.site_gene["gene"].isin(genes), "site"])
        planted = simulation.truth.sites.query("task == @row.task").set_index("site")["effect"]
        planted = planted[planted.index.isin(sites)]
        assert len(planted) > 0.4 * len(sites)
        assert (np.sign(planted) == row.direction).mean() > 0.5


@pytest.mark.parametrize(("share", "n_shared"), [(0.0, 0), (1.0, 4)])
def test_share_of_common_pathways_at_its_ends(share, n_shared):
    simulation = simulate_cohorts({"A": 20, "B": 20}, n_planted=4, shared=share)
    assert simulation.truth.pathways.groupby("task")["shared"].sum().eq(n_shared).all()
    a, b = (set(g["site"]) for _, g in simulation.truth.sites.groupby("task"))
    if share == 1:
        assert a == b
    else:
        assert len(a & b) < 0.2 * len(a)


def test_effects_outside_of_pathways_are_in_genes_no_pathway_has():
    simulation = simulate_cohorts(outside=1.0)
    assert simulation.truth.pathways.empty
    assert simulation.truth.sites.groupby("task").size().min() > 20
    members = {gene for genes in simulation.gene_sets.values() for gene in genes}
    table = simulation.site_gene[simulation.site_gene["site"].isin(simulation.truth.sites["site"])]
    assert len(table) > 50
    assert not table["gene"].isin(members).any()
    half = simulate_cohorts({"A": 20, "B": 20}, n_planted=4, outside=0.5)
    assert half.truth.pathways.groupby("task").size().eq(2).all()


def test_null_has_no_truth_and_uniform_p_values():
    simulation = simulate_cohorts({"A": 200}, null=True, missing=0)
    for table in (simulation.truth.pathways, simulation.truth.genes, simulation.truth.sites):
        assert table.empty
    assert list(simulation.truth.sites.columns) == ["task", "site", "effect"]
    cohort = simulation.cohorts["A"]
    m, case = m_values(cohort), cohort.obs["label"].to_numpy() == 1
    p = stats.ttest_ind(m[case], m[~case]).pvalue
    assert (p < 0.05).mean() < 0.15
    assert p.min() > 1e-6


def test_default_difficulty_leaves_room_above_and_below(simulation):
    scores, covariates = [], []
    for cohort in simulation.cohorts.values():
        autosomal = ~cohort.var["chromosome"].isin(["X", "Y"])
        m = m_values(cohort[:, autosomal])
        m = np.where(np.isnan(m), np.nanmean(m, axis=0), m)
        design = cohort.obs[["age"]].join(cohort.obs.filter(like="cell_"))
        labels, groups = cohort.obs["label"].to_numpy(), cohort.obs["subject"]
        for X, C, out in ((m, 1e-3, scores), (design.to_numpy(), 0.1, covariates)):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=500))
            folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
            out.append(
                roc_auc_score(
                    labels,
                    cross_val_predict(
                        model, X, labels, groups=groups, cv=folds, method="predict_proba"
                    )[:, 1],
                )
            )
    assert 0.7 < np.mean(scores) < 0.9
    assert max(scores) < 0.97
    assert 0.5 < np.mean(covariates) < np.mean(scores) - 0.1


def test_cohorts_differ_in_level(simulation):
    autosomal = ~simulation.cohorts["RA"].var["chromosome"].isin(["X", "Y"])
    m = np.concatenate([m_values(c[:, autosomal]) for c in simulation.cohorts.values()])
    cohort = np.concatenate([c.obs["cohort"] for c in simulation.cohorts.values()])
    m = np.where(np.isnan(m), np.nanmean(m, axis=0), m)
    axes = PCA(5, random_state=0).fit_transform(m - m.mean(axis=0))
    means = pd.DataFrame(axes).groupby(cohort).transform("mean").to_numpy()
    explained = 1 - ((axes - means) ** 2).sum(axis=0) / (axes**2).sum(axis=0)
    assert explained[:3].min() > 0.8


def test_sex_shows_on_x_and_y(simulation):
    cohort = simulation.cohorts["SLE"]
    female = (cohort.obs["sex"] == "F").to_numpy()
    for chromosome in "XY":
        beta = cohort[:, cohort.var["chromosome"] == chromosome].X
        gap = np.abs(np.nanmean(beta[female], axis=0) - np.nanmean(beta[~female], axis=0))
        assert gap.max() > 0.25


def test_validation_sets_overlap_with_other_boundaries(simulation):
    assert list(simulation.validation_sets) == ["Simulated library A", "Simulated library B"]
    for library in simulation.validation_sets.values():
        overlaps = []
        for (name, genes), (other_name, other) in zip(
            simulation.gene_sets.items(), library.items(), strict=True
        ):
            assert other_name.startswith(name)
            overlaps.append(len({*genes} & {*other}) / len({*genes} | {*other}))
        assert 0.3 < np.mean(overlaps) < 0.9


def test_same_seed_same_values():
    first, again, other = (
        simulate_cohorts({"A": 30}, n_sites=300, random_state=s) for s in (5, 5, 6)
    )
    assert np.array_equal(first.cohorts["A"].X, again.cohorts["A"].X, equal_nan=True)
    assert first.truth.sites.equals(again.truth.sites)
    assert first.gene_sets == again.gene_sets
    assert not np.array_equal(first.cohorts["A"].X, other.cohorts["A"].X, equal_nan=True)


def test_simulates_on_a_given_annotation(annotation):
    table, sets = annotation
    simulation = simulate_cohorts({"A": 40}, annotation=annotation, n_planted=3)
    cohort = simulation.cohorts["A"]
    assert cohort.var_names.tolist() == sorted(table["site"])
    assert simulation.gene_sets.keys() == sets.keys()
    assert (cohort.var["genes"] == "").sum() == 100
    assert set(simulation.truth.pathways["pathway"]) <= set(sets)


@pytest.mark.parametrize("n_sites", [200, 1000, 1500])
def test_fits_an_annotation_to_a_number_of_sites(annotation, n_sites):
    simulation = simulate_cohorts({"A": 10}, annotation=annotation, n_sites=n_sites, n_planted=1)
    cohort = simulation.cohorts["A"]
    assert cohort.n_vars == n_sites
    assert cohort.var_names.is_unique
    genic = (cohort.var["genes"] != "").sum()
    assert genic == min(900, round(0.75 * n_sites))
    assert cohort.var_names.isin(annotation[0]["site"]).sum() == genic + min(100, n_sites - genic)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": {}}, "sizes is empty"),
        ({"sizes": {"RA": 4}}, r"sizes\['RA'\] is 4"),
        ({"shared": 1.5}, "shared is 1.5"),
        ({"missing": -0.1}, "missing is -0.1"),
        ({"effect": float("nan")}, "effect is nan"),
        ({"n_sites": 5}, "n_sites is 5"),
        ({"n_planted": 40}, "lower n_planted"),
        ({"annotation": (None, {}), "n_genes": 50}, "cannot be given with an annotation"),
        ({"n_sites": 300, "n_pathways": 0}, "n_pathways is 0"),
        ({"annotation": (pd.DataFrame({"cpg": []}), {})}, "no column 'site'; found cpg"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(MiracleError, match=message):
        simulate_cohorts(**arguments)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(8, 40),
    n_sites=st.integers(250, 400),
    missing=st.sampled_from([0.0, 0.1, 1.0]),
    shared=st.floats(0, 1),
    outside=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_any_size_gives_valid_cohorts(n, n_sites, missing, shared, outside, seed):
    simulation = simulate_cohorts(
        {"A": n, "B": n + 1},
        n_sites=n_sites,
        n_planted=1,
        shared=shared,
        outside=outside,
        missing=missing,
        random_state=seed,
    )
    for size, cohort in zip((n, n + 1), simulation.cohorts.values(), strict=True):
        assert cohort.shape == (size, n_sites)
        assert cohort.obs_names.is_unique
        beta = cohort.X[~np.isnan(cohort.X)]
        assert ((beta > 0) & (beta < 1)).all()
        assert set(simulation.truth.sites["site"]) <= set(cohort.var_names)


def test_another_hospital_has_the_same_disease_and_differs_as_told():
    sizes = {"A": 120, "B": 60}
    told = Hospital(200, cases=0.25, granulocytes=2, absent=0.3)
    data = simulate_cohorts(sizes, n_sites=600, hospitals={"A": [told]}, cohort_effect=0)
    alone = simulate_cohorts(sizes, n_sites=600, cohort_effect=0)
    np.testing.assert_array_equal(data.cohorts["A"].X, alone.cohorts["A"].X)
    (other,) = data.hospitals
    assert set(other.obs["cohort"]) == {"Simulated A (hospital 2)"}
    assert other.obs["label"].mean() == pytest.approx(0.25, abs=0.02)
    assert other.n_vars == pytest.approx(0.7 * 600, abs=40)
    granulocytes = [
        cohort.obs.query("label == 0")["cell_Gran"].mean() for cohort in (data.cohorts["A"], other)
    ]
    assert granulocytes[1] - granulocytes[0] > 0.07
    planted = data.truth.sites.query("task == 'A'").set_index("site")["effect"]
    found, _ = shifts(other)
    planted = planted[planted.index.isin(found.index)]
    assert np.corrcoef(planted, found[planted.index])[0, 1] > 0.8


def test_a_hospital_of_an_unknown_task_or_with_impossible_numbers_is_refused():
    with pytest.raises(MiracleError, match="hospitals names 'B', which is not a task of sizes"):
        simulate_cohorts({"A": 40}, n_sites=400, hospitals={"B": [Hospital(40)]})
    with pytest.raises(MiracleError, match="cases of a hospital is 0; it must lie within 0 and 1"):
        Hospital(40, cases=0)
