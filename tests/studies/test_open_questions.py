import numpy as np
import pandas as pd
import pytest

from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation.validation import fitted
from miracle_lib.studies import hidden_effects, mean_interval, sharing_effects
from miracle_lib.studies.open_questions import (
    edges_cell,
    false_edges,
    hidden_cell,
    site_attributions,
)
from miracle_lib.studies.replicates import held_out_scores, make_replicate
from miracle_lib.studies.sharing import sharing_cell

QUICK = {"training__epochs": [4, 5, 2]}


def test_replicate_separates_subjects_and_balances_the_parts():
    data = make_replicate(30, 50, 0, n_sites=600)
    assert not set(data.train.subject) & set(data.test.subject)
    assert len(data.train) + len(data.test) == sum(map(len, data.simulation.cohorts.values()))
    assert data.train.labels.notna().sum().between(27, 36).all()
    assert data.train.labels.mean().between(0.4, 0.6).all()
    assert data.test.labels.notna().sum().between(44, 53).all()


def test_attributions_are_the_effect_of_one_standard_deviation():
    data = make_replicate(30, 20, 0, n_sites=600)
    model = MiracleClassifier(data.hierarchy, training=Training(epochs=(2, 3, 1), progress=False))
    model = fitted(model, data.train)
    X = data.train.task("RA").values
    found = site_attributions(model, X, "RA")
    site = found.abs().idxmax()
    z = model.standardized(X, "RA")
    moved = z.clone()
    column = model.sites_.get_loc(site)
    moved[:, column] += z[:, column].std()
    logit = model.logit_module("RA")
    assert (logit(moved) - logit(z)).mean().item() == pytest.approx(found[site], rel=1e-3)


def test_what_lies_outside_the_mask_is_seen_through_the_site_block_only():
    arguments = {"outside": 1.0, "n": 40, "n_test": 100, "n_sites": 1000, "seed": 0}
    scores = {
        name: hidden_cell(name=name, model=QUICK, **arguments)["scores"].mean(numeric_only=True)
        for name in ("masked", "masked + sites")
    }
    assert scores["masked"]["found_outside"] == 0.5  # every attribution there is zero
    assert scores["masked + sites"]["found_outside"] > 0.7
    assert scores["masked + sites"]["auroc"] > scores["masked"]["auroc"] + 0.1


def test_false_edges_keep_degrees_and_are_not_annotated():
    hierarchy = make_replicate(10, 10, 0, n_sites=800).hierarchy
    _, held = hierarchy.hold_out(0.1, 0)
    false = false_edges(held, hierarchy, 0)
    known = {(gene, name) for name, genes in hierarchy.gene_sets().items() for gene in genes}
    assert not false & known
    assert len(false) > 0.7 * len(held)
    assert {gene for gene, _ in false} <= set(held["child"])
    assert {name for _, name in false} <= set(held["parent"])


def test_held_out_edges_show_in_correlations():
    found = edges_cell(30, 800, 0, 0.1, QUICK)["found"].iloc[0]
    assert found["correlation"] > 0.58
    assert 0 <= found["weight"] <= 1


def test_sharing_cell_scores_both_ways_of_learning():
    table = sharing_cell(1.0, 30, 0, 600, 60, 0.3, QUICK)["scores"]
    wide = table.pivot(index="task", columns="method", values="auroc")
    assert wide.shape == (6, 2)
    assert wide["multi"].mean() > 0.7


def test_intervals_over_replicates_by_hand():
    # 1, 2, 3: mean 2, SD 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt 3
    found = mean_interval(pd.Series([1.0, 2.0, 3.0, np.nan]))
    assert found["mean"] == 2
    assert found["high"] - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert found["n_replicates"] == 3
    sweep = pd.DataFrame(
        {"share": 0.5, "n": 40, "seed": range(3), "multi": 0.8, "single": [0.7, 0.6, 0.5]}
    )
    sweep["difference"] = sweep["multi"] - sweep["single"]
    row = sharing_effects(sweep).iloc[0]
    assert row["mean"] == pytest.approx(0.2)
    assert row["low"] == pytest.approx(0.2 - 0.1 * 4.302653 / np.sqrt(3))
    assert row["single"] == pytest.approx(0.6)


def test_hidden_effects_are_paired_by_replicate():
    patterns = pd.DataFrame(
        {
            "outside": 0.5,
            "model": ["masked"] * 3 + ["dense"] * 3,
            "seed": [0, 1, 2] * 2,
            "auroc": [0.5, 0.7, 0.9, 0.6, 0.8, 1.0],
            "found_outside": [0.5] * 3 + [0.6, 0.7, 0.8],
        }
    )
    effects = hidden_effects(patterns).set_index(["model", "measure"])
    row = effects.loc[("dense", "auroc")]
    assert row["mean"] == pytest.approx(0.1)
    assert row["high"] - row["low"] == pytest.approx(0, abs=1e-9)
    assert effects.loc[("dense", "found_outside"), "mean"] == pytest.approx(0.2)


def test_held_out_scores_use_labelled_samples_only():
    Y = pd.DataFrame({"RA": [0, 1, np.nan]})
    assert held_out_scores(pd.DataFrame({"RA": [0.1, 0.9, 0.0]}), Y) == {"RA": 1.0}
