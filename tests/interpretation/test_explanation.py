import numpy as np
import pandas as pd
import pytest

import miracle_lib as ml
from miracle_lib import MiracleError
from miracle_lib.interpretation import attribute, explain, path_contributions


@pytest.fixture(scope="module")
def tables(study):
    return {
        task: explain(
            study.model, study.X, task, study.Y,
            cohort=study.obs["cohort"], groups=study.obs["subject"], n_permutations=200,
        )
        for task in ("RA", "SLE")
    }  # fmt: skip


def test_planted_pathways_are_named_and_directed(study, tables):
    for task, table in tables.items():
        truth = study.simulation.truth.pathways
        planted = truth[truth["task"] == task].set_index("pathway")
        found = table.loc[planted.index]
        assert (found["q_value"] <= 0.05).all()
        assert (found["rank"] <= 4).all()
        assert (np.sign(found["directed"]) == planted["direction"]).all()
        assert (found["direction"] == "hyper").tolist() == (planted["direction"] > 0).tolist()
        assert (found["attribution"] > 0).all()


def test_most_of_what_is_named_is_planted(study, tables):
    for task, table in tables.items():
        truth = study.simulation.truth.pathways
        planted = truth.loc[truth["task"] == task, "pathway"]
        assert table.index[table["q_value"] <= 0.05].isin(planted).mean() >= 0.5


def test_table_follows_the_hierarchy(study, tables):
    table, h = tables["RA"], study.model.hierarchy_
    assert ml.explain is explain
    assert list(table["rank"]) == sorted(table["rank"])
    degree = pd.Series(np.asarray(h.gene_pathway.sum(axis=0)).ravel(), h.pathways)
    assert (table["degree"] == degree[table.index]).all()
    first = table["degree_rank"].idxmin()
    assert table.loc[first, "degree"] == degree.max()


def test_a_strict_bottleneck_is_explained_too(study):
    model = ml.MiracleClassifier(
        study.mask, reads=("pathways",), training=ml.Training(epochs=(2, 2, 0), progress=False)
    )
    model.fit(study.X, study.Y, cohort=study.obs["cohort"])
    table = explain(model, study.X, "RA", study.Y, n_permutations=20)
    planted = study.simulation.truth.pathways.query("task == 'RA'")["pathway"]
    assert set(table.index) == set(model.hierarchy_.pathways)
    assert (table.loc[planted, "rank"] <= 10).all()


def test_an_encoder_made_from_the_labels_is_no_evidence():
    """Labels without meaning: what was fitted to them would stand out among shuffled ones."""
    null = ml.simulate_cohorts({"RA": 80}, n_sites=600, null=True, random_state=0)
    X, Y, obs = ml.merge_cohorts(list(null.cohorts.values()))
    mask = ml.Hierarchy.from_tables(null.site_gene, null.gene_sets)
    training = ml.Training(epochs=(0, 2, 0), progress=False)
    model = ml.MiracleClassifier(mask, reads=("pathways",), training=training).fit(X, Y)
    assert model.encoder_is_from_labels
    fitted = np.abs(np.corrcoef(model.transform(X), Y["RA"], rowvar=False)[-1, :-1])
    table = explain(model, X, "RA", Y, groups=obs["subject"], n_permutations=100)
    assert np.median(fitted) > 0.3
    assert table["network"].abs().median() < 1.3  # 1.8 on the activities of the model


def test_the_table_says_what_comes_from_pathways_genes_and_sites(study, tables):
    for task, table in tables.items():
        shares = study.model.block_share_.loc[task]
        assert table.attrs["block_share"] == shares.to_dict()
        assert list(shares.index) == ["pathways", "genes", "sites"]
        assert sum(table.attrs["block_share"].values()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_table(study, tables):
    again = explain(
        study.model, study.X, "RA", study.Y["RA"],
        cohort=study.obs["cohort"], groups=study.obs["subject"], n_permutations=200,
    )  # fmt: skip
    pd.testing.assert_frame_equal(again, tables["RA"])


def test_tables_in_another_order_explain_the_same(study, tables):
    def mixed(table):
        return table.sample(frac=1, random_state=1)

    again = explain(
        study.model, mixed(study.X), "RA", mixed(study.Y), cohort=mixed(study.obs["cohort"]),
        groups=mixed(study.obs["subject"]), n_permutations=200,
    )  # fmt: skip
    pd.testing.assert_frame_equal(again, tables["RA"])


def test_a_samples_explains_itself(study, tables):
    samples = ml.Samples(study.X, study.Y, cohort=study.obs["cohort"], subject=study.obs["subject"])
    again = explain(study.model, samples, "RA", n_permutations=200)
    pd.testing.assert_frame_equal(again, tables["RA"])


def test_shuffled_labels_name_nothing(study):
    rng = np.random.default_rng(0)
    label = study.Y["SLE"].dropna()
    named = 0
    for run in range(10):
        shuffled = pd.Series(rng.permutation(label), label.index).reindex(study.X.index)
        table = explain(study.model, study.X, "SLE", shuffled, n_permutations=100, random_state=run)
        named += (table["q_value"] <= 0.05).any()
    assert named <= 2


def test_without_labels_there_is_attribution_but_no_control(study):
    table = explain(study.model, study.X, "RA")
    assert table[["z", "p_value", "q_value"]].isna().all(axis=None)
    assert table["attribution"].is_monotonic_decreasing


def test_sites_selected_by_their_labels_are_pointed_out(study):
    from miracle_lib.hierarchy import Hierarchy

    rows = study.Y["SLE"].notna()
    case = study.Y.loc[rows, "SLE"] == 1
    t = (study.X[rows][case].mean() - study.X[rows][~case].mean()) / study.X[rows].std()
    chosen = t.abs().nlargest(120).index
    hierarchy = Hierarchy.from_tables(
        study.simulation.site_gene, study.simulation.gene_sets, sites=chosen, min_genes=2
    )
    model = ml.MiracleClassifier(
        hierarchy, device="cpu", training=ml.Training(epochs=(1, 2, 0), progress=False)
    )
    model.fit(study.X.loc[rows, chosen], study.Y.loc[rows, ["SLE"]])
    with pytest.warns(UserWarning, match="selected by these labels"):
        explain(model, study.X.loc[rows, chosen], "SLE", study.Y, n_permutations=20)


def test_refused_input(study):
    with pytest.raises(MiracleError, match="no task 'MS'; the model has: RA, SLE"):
        explain(study.model, study.X, "MS", study.Y)
    few = study.Y["RA"].where(study.Y["RA"] != 1)
    with pytest.raises(MiracleError, match="0 cases and 4. controls"):
        explain(study.model, study.X, "RA", few)


def test_paths_of_a_sample_add_up_to_its_pathway(study):
    """Also in a sample with missing sites, which contribute nothing."""
    model, X = study.model, study.X.iloc[:3].copy()
    pathway = model.hierarchy_.pathways[0]
    paths = path_contributions(model, X, model.tasks_[0], pathway)
    whole = attribute(model, X, model.tasks_[0])[pathway]
    np.testing.assert_allclose(paths.sum(axis=1), whole, atol=1e-4)
    site = paths.abs().sum().idxmax()[1]
    X.loc[X.index[0], site] = np.nan
    again = path_contributions(model, X, model.tasks_[0], pathway)
    assert (again.iloc[0].xs(site, level="site") == 0).all()
    np.testing.assert_array_equal(again.iloc[1:], paths.iloc[1:])
