import numpy as np
import pandas as pd
import pytest
import torch

from miracle_lib import MiracleClassifier, MiracleError, Training
from miracle_lib.interpretation import (
    agreement,
    attribute,
    explain,
    explain_paths,
    task_attributions,
    weight_products,
)
from miracle_lib.interpretation.attribution import _rank_correlation, _rounded


@pytest.mark.parametrize("method", ["integrated_gradients", "deeplift"])
def test_site_contributions_add_up_to_the_logit(study, method):
    X = study.X[study.Y["RA"].notna()]
    module, z = study.model.logit_module("RA"), study.model.standardized(X, "RA")
    with torch.no_grad():
        expected = (module(z) - module(torch.zeros_like(z[:1]))).numpy()
    got = attribute(study.model, X, "RA", "site", method)
    assert list(got.columns) == list(study.model.sites_)
    np.testing.assert_allclose(got.sum(axis=1), expected, atol=1e-4)


def test_pathway_contribution_is_weight_times_activity(study):
    model, X = study.model, study.X[study.Y["RA"].notna()]
    got = attribute(model, X, "RA")
    activity = model.transform(X, cohort=study.obs.loc[X.index, "cohort"])
    weight = weight_products(model, "RA")["pathway"]
    slope = got.std() / activity.std()
    np.testing.assert_allclose(slope, weight.abs(), rtol=2e-3, atol=1e-7)


def test_methods_agree_where_the_network_is_linear(study):
    X = study.X[study.Y["SLE"].notna()]
    assert (agreement(study.model, X, "SLE") > 0.99).to_numpy().all()
    z = study.model.standardized(X, "SLE").numpy()
    expected = z * weight_products(study.model, "SLE")["site"].to_numpy()
    for method in ("integrated_gradients", "deeplift"):
        got = attribute(study.model, X, "SLE", "site", method)
        np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


def test_methods_need_not_agree_where_the_network_is_not_linear(study):
    X = study.X[study.Y["SLE"].notna()]
    model = MiracleClassifier(
        study.mask,
        preset="paper",
        device="cpu",
        training=Training(epochs=(5, 50, 5), learning_rate=(1e-2, 1e-2, 1e-3), progress=False),
    ).fit(study.X, study.Y)
    found = agreement(model, X, "SLE")
    assert list(found) == ["integrated gradients ~ DeepLIFT"]  # no node has one weight
    assert (found < 0.9999).all(axis=None)
    one, other = (
        attribute(model, X, "SLE", "site", method)
        for method in ("integrated_gradients", "deeplift")
    )
    assert (one - other).abs().max(axis=None) > 0.05 * one.abs().max(axis=None)


def test_only_what_is_there_by_rounding_has_no_rank():
    sizes = pd.Series([1.0, 2e-5, 1.5e-5, 9e-6, 1e-8])
    assert _rounded(sizes).tolist() == [1.0, 2e-5, 1.5e-5, 0, 0]


@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_paths_add_up_to_the_pathway(study, activation):
    model = MiracleClassifier(
        study.mask,
        activation=activation,
        device="cpu",
        training=Training(epochs=(2, 5, 0), progress=False),
    ).fit(study.X, study.Y, cohort=study.obs["cohort"])
    pathway = model.hierarchy_.pathways[4]
    rows = study.Y["SLE"].notna()
    paths = explain_paths(model, study.X, "SLE", pathway, study.Y)
    case = study.Y.loc[rows, "SLE"] == 1
    whole = attribute(model, study.X[rows], "SLE", method="deeplift")[pathway]
    expected = whole[case].mean() - whole[~case].mean()
    assert paths["contribution"].sum() == pytest.approx(expected, rel=1e-3, abs=1e-7)
    members = set(study.simulation.gene_sets[pathway])
    assert set(paths["gene"]) <= members
    pairs = study.simulation.site_gene
    known = set(zip(pairs["site"], pairs["gene"], strict=True))
    assert set(zip(paths["site"], paths["gene"], strict=True)) <= known


def test_shared_attribution_is_the_mean_over_scaled_tasks(study):
    table = task_attributions(study.model, study.X, study.Y)
    scaled = table[["RA", "SLE"]] / np.sqrt((table[["RA", "SLE"]] ** 2).mean())
    pd.testing.assert_series_equal(table["shared"], scaled.mean(axis=1), check_names=False)


@pytest.fixture(scope="module")
def hidden(study):
    model = MiracleClassifier(
        study.mask, head_units=3, device="cpu", training=Training(epochs=(2, 20, 0), progress=False)
    )
    return model.fit(study.X, study.Y, cohort=study.obs["cohort"])


@pytest.mark.parametrize("method", ["integrated_gradients", "deeplift"])
def test_contributions_add_up_through_heads_with_a_hidden_layer(study, hidden, method):
    X = study.X[study.Y["RA"].notna()]
    module, z = hidden.logit_module("RA"), hidden.standardized(X, "RA")
    with torch.no_grad():
        expected = (module(z) - module(torch.zeros_like(z[:1]))).numpy()
    got = attribute(hidden, X, "RA", "site", method).sum(axis=1)
    assert expected.std() > 0.1
    np.testing.assert_allclose(got, expected, atol=0.01 * expected.std())


def test_heads_with_a_hidden_layer_are_explained(study, hidden):
    table = explain(hidden, study.X, "RA", study.Y, n_permutations=20)
    assert set(table.index) == set(hidden.hierarchy_.pathways)
    assert table["attribution"].abs().max() > 0
    assert table["p_value"].between(0, 1).all()


def test_single_weights_of_heads_with_a_hidden_layer_are_refused(study, hidden):
    with pytest.raises(MiracleError, match="hidden layer of 3 units, so that no node has one"):
        weight_products(hidden, "RA")
    with pytest.raises(MiracleError, match="expected linear heads"):
        explain_paths(hidden, study.X, "RA", study.mask.pathways[0])


def test_refused_input(study):
    with pytest.raises(MiracleError, match="level is 'edge'"):
        attribute(study.model, study.X, "RA", "edge")
    with pytest.raises(MiracleError, match="method is 'magic'"):
        attribute(study.model, study.X, "RA", method="magic")
    with pytest.raises(MiracleError, match="no pathway 'x'"):
        explain_paths(study.model, study.X, "RA", "x")


@pytest.mark.filterwarnings("error")
def test_nodes_that_all_say_the_same_have_no_correlation():
    one, flat = pd.Series([1.0, 2.0, 3.0]), pd.Series([0.0, 0.0, 0.0])
    assert np.isnan(_rank_correlation(one, flat))
    assert np.isnan(_rank_correlation(flat, one))
    assert _rank_correlation(one, -one) == -1
