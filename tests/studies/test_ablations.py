import numpy as np
import pandas as pd
import pytest
import yaml

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation import PerTaskBaseline, cross_validate, ranking_stability
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.model.weighting import POLICIES
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.studies import (
    AblationGrid,
    Ablations,
    SingleTask,
    load_ablations,
    policy_table,
    run_ablations,
    site_curve,
)
from miracle_lib.studies.variants import Variant, build

QUICK = {"training__epochs": [2, 2, 1]}
GRID = AblationGrid(
    scales={"small": {"n_splits": 2, "model": QUICK}, "full": {"n_splits": 3}},
    comparisons={
        "tasks": {
            "question": "?",
            "reference": "single",
            "levels": {
                "single": {"tasks": "single"},
                "multi": {},
                "off": {"model": {"sharing": 0.0}, "small": False},
            },
        },
        "weighting": {
            "question": "?",
            "reference": "pwinval",
            "levels": {
                "pwinval": {"model": {"weighting": "pwinval"}},
                "uniform": {"model": {"weighting": "uniform"}},
            },
        },
        "sites": {
            "question": "?",
            "reference": "all",
            "levels": {"all": {}, "150": {"n_sites": 150}, "9999": {"n_sites": 9999}},
        },
        "baselines": {
            "question": "?",
            "reference": "miracle",
            "levels": {
                "miracle": {},
                "logistic_l2": {"baseline": "logistic_l2"},
                "covariates": {"baseline": "covariates"},
            },
        },
    },
)


@pytest.fixture(scope="module")
def data():
    simulation = simulate_cohorts({"RA": 60, "MS": 60}, n_sites=600, effect=0.4, random_state=1)
    X, Y, obs = merge_cohorts(list(simulation.cohorts.values()))
    return {
        "X": X,
        "Y": Y,
        "hierarchy": Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets),
        "groups": obs["subject"],
        "cohort": obs["cohort"],
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("cells")


@pytest.fixture(scope="module")
def ablations(data, store) -> Ablations:
    return run_ablations(GRID, store=store, **data)


def test_grid_runs_what_the_scale_and_the_data_allow(ablations, data, store):
    assert list(ablations.levels("tasks")) == ["single", "multi"]
    assert list(ablations.levels("sites")) == ["all", "150"]
    assert list(ablations.levels("baselines")) == ["miracle", "logistic_l2"]
    # single, default, uniform, 150 sites, logistic; two folds each: equal levels run once.
    assert len(list(store.glob("*.json"))) == 10
    mine = ablations.levels("baselines")["miracle"]
    pd.testing.assert_frame_equal(mine, ablations.levels("weighting")["pwinval"])


def test_scores_are_those_of_cross_validate(ablations, data):
    rest = {name: data[name] for name in ("X", "Y", "groups", "cohort")}
    expected = cross_validate(PerTaskBaseline("logistic_l2"), n_splits=2, **rest)
    found = ablations.levels("baselines")["logistic_l2"]
    pd.testing.assert_frame_equal(found, expected)


def test_effects_are_paired_differences_by_fold(ablations):
    effects = ablations.effects()
    levels = ablations.levels("tasks")
    row = effects.query("comparison == 'tasks' and level == 'multi' and task == 'RA'").iloc[0]
    by_fold = [
        levels[name].query("task == 'RA'").set_index("fold")["auroc"]
        for name in ("multi", "single")
    ]
    difference = by_fold[0] - by_fold[1]
    assert row["difference"] == pytest.approx(difference.mean())
    # two folds: variance factor 1/2 + 1, and the 97.5 % point of t on one degree of freedom
    half = 12.7062047 * np.sqrt(difference.var() * 1.5)
    assert row["high"] - row["difference"] == pytest.approx(half, rel=1e-6)
    assert "cannot support a claim" in effects.attrs["note"]


def test_results_are_read_as_they_were_written(ablations, tmp_path):
    ablations.save(tmp_path)
    read = Ablations.load(tmp_path)
    assert read.grid == ablations.grid
    assert list(read.scores) == list(ablations.scores)
    for owner, table in ablations.scores.items():
        pd.testing.assert_frame_equal(read.scores[owner], table, check_exact=True)
    pd.testing.assert_frame_equal(read.fits, ablations.fits, check_exact=True)
    pd.testing.assert_frame_equal(read.pathways, ablations.pathways, check_exact=True)


def test_policy_and_site_tables(ablations):
    policies = policy_table(ablations).set_index("level")
    assert policies["epochs"].between(1, 5).all()
    assert (policies["epochs_to_best"] <= policies["epochs"]).all()
    assert np.isnan(policies.loc["pwinval", "difference"])
    curve = site_curve(ablations)
    assert curve["level"].tolist() == ["150", "all"]
    assert (curve["low"] <= curve["auroc"]).all()
    assert curve["top_overlap"].between(0, 1).all()


def test_where_no_fewer_sites_can_be_chosen_their_curve_is_empty():
    nothing = pd.DataFrame()
    grid = load_ablations().at("small", 50)
    curve = site_curve(Ablations(grid, scores={}, fits=nothing, pathways=nothing))
    assert "sites" not in grid.comparisons
    assert curve.empty
    assert {"level", "n_sites", "auroc", "top_overlap"} <= set(curve)
    more = load_ablations().at("small", 51).comparisons["sites"]
    assert list(more.levels) == ["all", "50"]


def test_single_task_sees_no_other_task(data):
    X, Y, cohort = data["X"], data["Y"], data["cohort"]
    estimator = SingleTask(PerTaskBaseline("logistic_l2"))
    both = estimator.fit(X, Y, cohort).predict_proba(X)
    other = Y.copy()
    other["MS"] = 1 - other["MS"]
    alone = SingleTask(PerTaskBaseline("logistic_l2")).fit(X, other, cohort).predict_proba(X)
    assert both["RA"].equals(alone["RA"])
    assert not both["MS"].equals(alone["MS"])


def test_a_selector_is_fitted_in_each_fold_before_levels_that_leave_their_sites_open(
    data, tmp_path, fits
):
    levels = {
        "open": {},
        "single": {"tasks": "single"},
        "logistic": {"baseline": "logistic_l2"},
        "all": {"selection": "none"},
        "150": {"n_sites": 150},
    }
    comparison = {"question": "?", "reference": "open", "levels": levels}
    grid = AblationGrid(scales={"small": GRID.scales["small"]}, comparisons={"sites": comparison})
    run_ablations(grid, store=tmp_path, selector=SiteSelector("variance", k=40), **data)
    # Two folds of each level; a single-task level selects and fits once per task.
    selectors = [fit for fit in fits if fit.kind == "SiteSelector"]
    assert [fit.k for fit in selectors] == [40] * 8 + [150] * 2
    models = [fit for fit in fits if fit.kind != "SiteSelector"]
    widths = [fit.n_sites for fit in models]
    assert all(40 <= width <= 80 for width in widths[:2] + widths[6:8])
    assert widths[2:6] == [40] * 4
    assert widths[8:10] == [600, 600]
    assert all(150 <= width <= 300 for width in widths[10:])
    # A selector sees the samples that its model is trained on and no other: no test label.
    trained = models[:8] + models[10:]
    assert [fit.samples for fit in selectors] == [fit.samples for fit in trained]
    assert max(len(fit.samples) for fit in selectors) < len(data["X"])


def test_build_makes_the_model_that_the_variant_names(data):
    hierarchy = data["hierarchy"]
    permuted = build(Variant(mask="permuted"), hierarchy, seed=3)
    assert permuted.hierarchy.hash == hierarchy.permuted(3).hash != hierarchy.hash
    dense = build(Variant(baseline="dense_autoencoder"), hierarchy)
    assert dense.options["hidden"] == (len(hierarchy.genes), len(hierarchy.pathways))
    piped = build(Variant(n_sites=7, tasks="single", model={"variational": False}), hierarchy)
    assert piped.estimator[0].k == 7
    assert piped.estimator[-1].variational is False


def test_every_edge_is_made_between_what_the_chosen_sites_reach(data, monkeypatch):
    hierarchy = data["hierarchy"]
    n_all = len(hierarchy.genes) * (len(hierarchy.sites) + len(hierarchy.pathways))
    monkeypatch.setattr("miracle_lib.hierarchy.graph.MAX_DENSE_EDGES", n_all - 1)
    with pytest.raises(MiracleError, match="restrict it to fewer sites first"):
        hierarchy.fully_connected()
    variant = Variant(
        mask="fully_connected", n_sites=100, model={"training__epochs": [1, 1, 0], "n_members": 1}
    )
    fitted = build(variant, hierarchy).fit(data["X"], data["Y"])
    mask = hierarchy.restrict(fitted[0].sites_)
    dense = fitted[-1].hierarchy_
    assert [list(layer) for layer in dense.layers] == [list(layer) for layer in mask.layers]
    assert dense.site_gene.nnz == len(mask.sites) * len(mask.genes)


def test_shipped_grid_is_valid_and_names_every_policy():
    grid = load_ablations()
    named = {
        level.model.get("weighting", name)
        for name, level in grid.comparisons["weighting"].levels.items()
    }
    assert named == set(POLICIES)
    for comparison in grid.comparisons.values():
        for level in comparison.levels.values():
            MiracleClassifier(None).set_params(**level.model)
    assert set(grid.at("small", 2000).comparisons) == set(grid.comparisons)


def test_of_a_whole_array_no_level_sees_all_sites():
    narrow, wide = (load_ablations().at("small", n) for n in (50_000, 50_001))
    assert narrow.comparisons["sites"].reference == "all"
    assert wide.comparisons["sites"].reference == "500"
    assert list(wide.comparisons["sites"].levels) == ["50", "200", "500"]
    assert {k: v for k, v in wide.comparisons.items() if k != "sites"} == {
        k: v for k, v in narrow.comparisons.items() if k != "sites"
    }
    assert load_ablations().at("full", 50_001).comparisons["sites"].reference == "5000"


def test_choices_are_the_widest_of_each_method():
    levels = {"a": {}, "b": {"n_sites": 9}, "c": {"n_sites": 5, "selection": "variance"}}
    comparison = {"question": "?", "reference": "a", "levels": levels}
    grid = AblationGrid(scales=GRID.scales, comparisons={"x": comparison})

    def chosen(selector):
        return {each.method: each.k for each in grid.choices(selector)}

    assert chosen(SiteSelector("ttest", 7)) == {"ttest": 9, "variance": 5}
    assert chosen(SiteSelector("variance", 7)) == {"ttest": 9, "variance": 7}
    assert grid.choices(None) is None  # the first level sees all


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": "biologic"}, "levels.x.mask is 'biologic', but input should be 'biological'"),
        ({"n_site": 3}, "unknown key 'comparisons.c.levels.x.n_site'"),
        ({"baseline": "lasso"}, "unknown baseline 'lasso'"),
        ({"model": {"epoch": 3}}, "MiracleClassifier has no argument 'epoch'"),
        ({"protocol": "leaky"}, "a leaky protocol needs n_sites"),
        ({"selection": "variance"}, "selection 'variance' needs n_sites"),
        ({"selection": "none", "n_sites": 3}, "selection 'none' takes no n_sites"),
    ],
)
def test_bad_grid_is_named_with_its_place(tmp_path, change, message):
    path = tmp_path / "grid.yaml"
    comparison = {"question": "?", "reference": "x", "levels": {"x": change, "y": {}}}
    content = {"scales": {"small": {"n_splits": 2}}, "comparisons": {"c": comparison}}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(MiracleError, match=rf"^grid.yaml, line \d+: .*{message}"):
        load_ablations(path)


def test_unknown_scale_comparison_and_file(tmp_path):
    with pytest.raises(MiracleError, match="Unknown scale 'tiny'; expected one of small, full"):
        GRID.at("tiny", 100)
    with pytest.raises(MiracleError, match="Unknown comparison 'masks'; expected one of tasks"):
        GRID.at("small", 100, ["masks"])
    with pytest.raises(MiracleError, match="absent.yaml cannot be read: No such file"):
        load_ablations(tmp_path / "absent.yaml")


def test_ranking_stability_of_equal_and_unrelated_rankings():
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(100)]
    same = rng.normal(size=100)
    tables = [
        pd.DataFrame({"repeat": 0, "fold": fold, "task": task, "pathway": names, "score": score})
        for fold in range(6)
        for task, score in (("same", same * (-1) ** fold), ("noise", rng.normal(size=100)))
    ]
    table = ranking_stability(pd.concat(tables)).set_index("task")
    assert table.loc["same", ["spearman", "top_overlap"]].tolist() == pytest.approx([1, 1])
    assert abs(table.loc["noise", "spearman"]) < 0.15
    assert table.loc["noise", "top_overlap"] < 0.2
    assert table.loc["noise", "expected_overlap"] == pytest.approx(10 / 190)
    assert table.loc["noise", "n_pairs"] == 15
