import logging
import struct
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.estimator import (
    MiracleClassifier,
    Training,
    describe_model,
    predict_table,
)
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.interpretation.attribution import weight_products
from miracle_lib.model import DeepHeads, Heads
from miracle_lib.model.weighting import POLICIES
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.training import PRESETS, TrainingData

QUICK = {"training__epochs": (2, 3, 1), "training__progress": False}


@pytest.fixture(scope="module")
def data():
    simulated = simulate_cohorts(
        {"MS": 120, "RA": 120}, n_sites=400, effect=0.5, missing=0.01, random_state=0
    )
    X, Y, obs = merge_cohorts(list(simulated.cohorts.values()))
    return X, Y, obs, Hierarchy.from_tables(simulated.site_gene, simulated.gene_sets)


@pytest.fixture(scope="module")
def halves(data):
    """Rows of two halves without a subject in common."""
    subjects = pd.factorize(data[2]["subject"])[0]
    return np.flatnonzero(subjects % 2 == 0), np.flatnonzero(subjects % 2 == 1)


@pytest.fixture(scope="module")
def fitted(data, halves):
    X, Y, obs, hierarchy = data
    rows = halves[0]
    model = MiracleClassifier(hierarchy, n_members=2).set_params(**QUICK)
    return model.fit(
        X.iloc[rows], Y.iloc[rows], covariates=obs[["age", "sex"]], groups=obs["subject"]
    )


def test_planted_signal_is_predicted_in_new_samples(data, halves, fitted):
    X, Y, _, _ = data
    rows = halves[1]
    proba = fitted.predict_proba(X.iloc[rows])
    assert proba.index.equals(X.index[rows])
    for task in Y:
        seen = Y[task].iloc[rows].notna().to_numpy()
        assert roc_auc_score(Y[task].iloc[rows][seen], proba[task][seen]) > 0.8
    assert fitted.score(X.iloc[rows], Y.iloc[rows]) > 0.8
    assert ((proba > 0.5) == (fitted.predict(X.iloc[rows]) == 1)).all(axis=None)


def test_nothing_planted_gives_chance_in_new_samples():
    scores = []
    for seed in range(4):
        simulated = simulate_cohorts(
            {"MS": 120, "RA": 120}, n_sites=400, null=True, random_state=seed
        )
        X, Y, obs = merge_cohorts(list(simulated.cohorts.values()))
        hierarchy = Hierarchy.from_tables(simulated.site_gene, simulated.gene_sets)
        odd = pd.factorize(obs["subject"])[0] % 2 == 1
        model = MiracleClassifier(hierarchy).set_params(**QUICK)
        model.fit(X[~odd], Y[~odd], groups=obs["subject"])
        scores.append(model.score(X[odd], Y[odd]))
    # Eight AUROCs of 60 samples: the standard error of their mean is 0.027.
    assert abs(np.mean(scores) - 0.5) < 0.08


def test_labels_shuffled_everywhere_give_chance(data, halves):
    X, Y, obs, hierarchy = data
    train, test = halves
    scores = []
    for seed in range(6):
        shuffled = Y.copy()
        rng = np.random.default_rng(seed)
        for task in Y:
            seen = Y[task].notna()
            shuffled.loc[seen, task] = rng.permutation(Y.loc[seen, task])
        model = MiracleClassifier(hierarchy).set_params(**QUICK)
        model.fit(X.iloc[train], shuffled.iloc[train], groups=obs["subject"].iloc[train])
        scores.append(model.score(X.iloc[test], shuffled.iloc[test]))
    # Given the predictions, shuffled test labels are exchangeable: mean 0.5, whatever was learned.
    assert abs(np.mean(scores) - 0.5) < 0.08


@pytest.mark.parametrize("units", [None, 4])
def test_bits_behind_nan_labels_change_nothing(data, units):
    X, Y, _, hierarchy = data
    X, Y = X.iloc[::3], Y.iloc[::3]
    other = struct.unpack("<d", struct.pack("<Q", 0xFFF8DEADBEEF0001))[0]
    changed = Y.map(lambda value: other if np.isnan(value) else value)
    options = QUICK | {"head_units": units}
    one, two = (
        MiracleClassifier(hierarchy).set_params(**options).fit(X, each) for each in (Y, changed)
    )
    assert one.predict_proba(X).equals(two.predict_proba(X))


def test_task_is_predicted_with_its_own_cohort(data, fitted):
    X = data[0].iloc[:5]
    both = {name: fitted.predict_proba(X, cohort=name) for name in ("MS", "RA")}
    proba = fitted.predict_proba(X)
    for task in ("MS", "RA"):
        assert proba[task].equals(both[task][task])
    assert not np.allclose(both["MS"], both["RA"])


def test_nearest_cohort_is_the_own_one(data, halves, fitted):
    X, Y, _, _ = data
    rows = halves[1]
    own = Y.iloc[rows].notna().idxmax(axis=1)
    by_default = fitted.transform(X.iloc[rows])
    by_name = fitted.transform(X.iloc[rows], cohort=own)
    assert np.isclose(by_default, by_name).all(axis=1).mean() > 0.95


def test_nearest_cohort_is_the_own_one_where_cohorts_measure_different_sites(data):
    X, Y, _, hierarchy = data
    own = Y.notna().idxmax(axis=1)
    X = X.copy()
    X.loc[own == "MS", X.columns[:250]] = np.nan
    X.loc[own == "RA", X.columns[270:]] = np.nan
    model = MiracleClassifier(hierarchy).set_params(**QUICK).fit(X, Y)
    np.testing.assert_allclose(model.transform(X), model.transform(X, cohort=own), atol=1e-6)


def test_row_order_and_batch_of_prediction_do_not_matter(data, fitted):
    X = data[0]
    whole, reverse = fitted.predict_proba(X), fitted.predict_proba(X.iloc[::-1])
    np.testing.assert_allclose(reverse.loc[X.index], whole, atol=1e-5)
    np.testing.assert_allclose(fitted.predict_proba(X.iloc[[7]]), whole.iloc[[7]], atol=1e-5)


def test_absent_sites_take_the_training_mean_and_are_counted(data, fitted, caplog):
    X = data[0].iloc[:6]
    absent = fitted.sites_[[3, 50, -1]]
    blank = X.copy()
    blank[absent] = np.nan
    with caplog.at_level(logging.WARNING):
        proba = fitted.predict_proba(X.drop(columns=absent))
    assert "3 of the model's" in caplog.text
    pd.testing.assert_frame_equal(proba, fitted.predict_proba(blank))
    extra = X.assign(cg99999999=0.5)
    pd.testing.assert_frame_equal(fitted.predict_proba(extra), fitted.predict_proba(X))


def test_too_few_sites_are_refused_with_their_share(data, fitted):
    X = data[0]
    few = X[fitted.sites_[: len(fitted.sites_) // 4]]
    with pytest.raises(MiracleError, match=r"a share of 0\.25; at least 0\.50 is expected"):
        fitted.predict_proba(few)


@pytest.mark.parametrize(
    "reads", [("pathways",), ("genes", "pathways"), ("sites",), ("pathways", "genes", "sites")]
)
def test_heads_read_what_they_are_asked_to_and_nothing_else(data, reads, tmp_path):
    X, Y, _, hierarchy = data
    model = MiracleClassifier(hierarchy, reads=reads).set_params(**QUICK).fit(X, Y)
    assert set(model.block_share_) == set(reads) == set(model.members_[0].heads.blocks)
    outside = (~X.columns.isin(hierarchy.sites)).sum()
    assert len(model.residual_sites_) == (outside if "sites" in reads else 0)
    np.testing.assert_allclose(model.block_share_.sum(axis=1), 1, atol=1e-5)
    model.save(tmp_path / "model")
    loaded = MiracleClassifier.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict_proba(X[:9]), model.predict_proba(X[:9]))


def test_unknown_inputs_of_the_heads_are_refused(data):
    X, Y, _, hierarchy = data
    with pytest.raises(
        MiracleError, match=r"reads is .*expected None or one or more of pathways, genes"
    ):
        MiracleClassifier(hierarchy, reads=("pathway",)).fit(X, Y)


def test_strict_bottleneck_sees_pathway_activities_only(data):
    """Any two samples with the same activities have the same logits."""
    X, Y, _, hierarchy = data
    model = MiracleClassifier(hierarchy, reads=("pathways",)).set_params(**QUICK).fit(X, Y)
    member = model.members_[0]
    block = {"pathways": torch.randn(4, len(hierarchy.pathways))}
    assert member.heads(block).shape == (4, Y.shape[1])


def test_what_is_credited_to_genes_and_pathways_changes_no_logit(data):
    X, Y, _, hierarchy = data
    model = MiracleClassifier(hierarchy, condition_on_cohort=False).set_params(**QUICK).fit(X, Y)
    member = model.members_[0]
    assert (model.block_share_ > 0.01).all(axis=None)
    before = model.decision_function(X)
    with torch.no_grad():
        member.credit_nodes()  # again: what is left on the sites moves, the logits do not
    after = model.decision_function(X)
    pd.testing.assert_frame_equal(before - before.mean(), after - after.mean(), atol=1e-3)


def test_table_of_a_user_is_predicted(data, fitted, tmp_path):
    X = data[0].iloc[:4]
    fitted.save(tmp_path / "model")
    X.T.to_csv(tmp_path / "beta.csv")
    predict_table(tmp_path / "model", tmp_path / "beta.csv", tmp_path / "out.csv")
    columns = ["probability[MS]", "probability[RA]"]
    written = pd.read_csv(tmp_path / "out.csv", index_col="sample")[columns]
    believed = pd.read_csv(tmp_path / "out.csv", index_col="sample")["verdict[MS]"]
    assert believed.isin(["reliable", "uncertain", "not to be used"]).all()
    expected = fitted.predict_proba(X).to_numpy()
    np.testing.assert_allclose(
        written.loc[X.index], np.where(written.isna(), np.nan, expected), atol=1e-4
    )
    twice = pd.concat([X.add_suffix("_TC11", axis=1), X.add_suffix("_TC12", axis=1)], axis=1)
    twice.to_csv(tmp_path / "epic_v2.csv")
    again = predict_table(tmp_path / "model", tmp_path / "epic_v2.csv", tmp_path / "out.csv")[
        columns
    ]
    np.testing.assert_allclose(again, written, atol=1e-6)
    text = describe_model(tmp_path / "model")
    assert f"{len(fitted.hierarchy_.pathways)}" in text
    assert "Trained on\n  MS: MS\n  RA: RA\n" in text


def test_logit_module_is_the_decision_function_and_differentiable(data, fitted):
    X = data[0].iloc[:8]
    z = fitted.standardized(X, "RA").requires_grad_()
    logits = fitted.logit_module("RA")(z)
    # Covariates are left at their average, as in a prediction without them.
    np.testing.assert_allclose(logits.detach(), fitted.decision_function(X)["RA"], atol=1e-5)
    logits.sum().backward()
    assert z.shape == (8, len(fitted.sites_))
    # The network is linear: one slope per site, the sum over its paths, the same for every sample.
    expected = weight_products(fitted, "RA")["site"].to_numpy(np.float32)
    size = np.abs(expected).max()
    np.testing.assert_allclose(z.grad, np.tile(expected, (8, 1)), atol=1e-5 * size, rtol=1e-3)
    assert 0.2 < (np.abs(expected) > 1e-5 * size).mean() < 0.8  # the prior is sparse
    with pytest.raises(MiracleError, match=r"no task 'IBD'"):
        fitted.logit_module("IBD")


def test_reconstruction_beats_the_mean_of_each_site(data, halves):
    X, Y, _, hierarchy = data
    train, test = halves
    model = MiracleClassifier(hierarchy, training=Training(epochs=(30, 1, 0), progress=False))
    model.fit(X.iloc[train], Y.iloc[train])
    sites = model.hierarchy_.sites
    truth = X.iloc[test][sites]
    cohort = np.where(Y["MS"].notna(), "MS", "RA")
    error = (model.reconstruct(X.iloc[test]) - truth).pow(2)
    mean = X.iloc[train][sites].groupby(cohort[train]).transform("mean")
    mean = mean.groupby(cohort[train]).first().loc[cohort[test]].set_axis(truth.index)
    assert np.nanmean(error) < 0.97 * np.nanmean((mean - truth).pow(2))


def test_stages_can_be_left_out(data, tmp_path):
    X, Y, _, hierarchy = data
    X, Y = X.iloc[::4], Y.iloc[::4]
    only = MiracleClassifier(hierarchy, training=Training(epochs=(2, 0, 0), progress=False)).fit(
        X, Y
    )
    assert set(only.history_["stage"]) == {"autoencoder"}
    assert (only.predict_proba(X) == 0.5).all(axis=None)
    only.save(tmp_path / "model")
    pd.testing.assert_frame_equal(
        MiracleClassifier.load(tmp_path / "model").reconstruct(X), only.reconstruct(X)
    )
    tuned = MiracleClassifier(hierarchy, training=Training(epochs=(0, 0, 2), progress=False)).fit(
        X, Y
    )
    assert set(tuned.history_["stage"]) == {"finetune"}
    assert tuned.fine_tuned_ == [True]
    assert (tuned.predict_proba(X).std() > 0).all()


def test_repeated_measures_of_one_case_are_one_case(data):
    X, Y, obs, hierarchy = data
    subject = obs["subject"].astype(object).mask(Y["MS"] == 1, "one")
    words = r"task 'MS' has 1 cases and \d+ controls of different subjects; at least 2 of each"
    with pytest.raises(MiracleError, match=words):
        MiracleClassifier(hierarchy).fit(X, Y, groups=subject)


def test_a_fit_that_fails_leaves_the_model_as_it_was(data):
    X, Y, _, hierarchy = data
    model = MiracleClassifier(hierarchy).set_params(**QUICK).fit(X.iloc[::4], Y.iloc[::4])
    before = model.predict_proba(X)
    renamed = Y.iloc[::4].rename(columns={"MS": "SLE"})
    with pytest.raises(MiracleError, match="ceiling has no entry for task 'SLE'"):
        model.set_params(ceiling={"RA": 0.9}).fit(X.iloc[::4, 50:], renamed)
    pd.testing.assert_frame_equal(model.predict_proba(X), before)


def test_history_has_stages_losses_and_one_weight_per_task(fitted):
    history = fitted.history_
    assert set(history["stage"]) == {"autoencoder", "heads", "finetune"}
    assert set(history["member"]) == {0, 1}
    heads = history[history["stage"] != "autoencoder"]
    assert heads[["weight[MS]", "weight[RA]"]].notna().all(axis=None)


def test_clone_and_parameters():
    model = MiracleClassifier("hierarchy", weighting="mgda", n_members=3)
    assert clone(model).get_params() == model.get_params()


def test_pipeline_and_grid_search_with_groups(data):
    X, Y, obs, hierarchy = data
    rows = np.arange(0, len(X), 2)
    model = MiracleClassifier(hierarchy, training=Training(epochs=(1, 1, 0), progress=False))
    search = GridSearchCV(
        make_pipeline(SiteSelector(k=50), model),
        {"siteselector__k": [20, 100], "miracleclassifier__sharing": [0.0, "auto"]},
        cv=GroupKFold(2),
    )
    search.fit(X.iloc[rows], Y.iloc[rows], groups=obs["subject"].iloc[rows])
    assert search.best_score_ > 0.7
    assert search.predict_proba(X).shape == (len(X), 2)


def test_cross_val_predict_covers_every_sample(data):
    X, Y, obs, hierarchy = data
    rows = Y["MS"].notna().to_numpy()
    calls = cross_val_predict(
        MiracleClassifier(hierarchy, training=Training(epochs=(1, 1, 0), progress=False)),
        X[rows],
        Y.loc[rows, ["MS"]],
        groups=obs.loc[rows, "subject"],
        cv=GroupKFold(3),
    )
    assert (calls[:, 0] == Y.loc[rows, "MS"]).mean() > 0.7


@pytest.mark.parametrize(
    "options",
    [
        {"variational": False},
        {"condition_on_cohort": False},
        {"training__stages": "joint"},
        {"activation": "tanh", "norm": "layer"},
        {"scale": "beta"},
        {"likelihood": "mse"},
        {"head_units": 4, "training__epochs": (2, 60, 2)},
        {"head_units": 4, "training__stages": "joint", "training__epochs": (10, 0, 10)},
        {"sharing": 0.5},
        {"weighting": "pcgrad"},
        {"ceiling": {"MS": 0.9, "RA": 0.8}},
    ],
    ids=str,
)
def test_options_fit_and_predict(data, options):
    X, Y, _, hierarchy = data
    X, Y = X.iloc[::2], Y.iloc[::2]
    model = MiracleClassifier(hierarchy).set_params(**QUICK | options).fit(X, Y)
    assert model.score(X, Y) > 0.8
    if "sharing" in options:
        assert model.prior_.sharing == 0.5
    if "ceiling" in options:
        assert model.ceiling_.to_dict() == options["ceiling"]


def interacting(n=500):
    """Beta values of four pathways; cases are where exactly one of the first two is raised."""
    rng = np.random.default_rng(0)
    activity = rng.normal(size=(n, 4))
    names = [(pathway, gene, site) for pathway in range(4) for gene in range(5) for site in (0, 1)]
    values = np.stack([activity[:, p] + rng.normal(size=n) for p, _, _ in names], axis=1)
    site_gene = pd.DataFrame(
        [(f"cg{p}{g}{s}", f"G{p}{g}") for p, g, s in names], columns=["site", "gene"]
    )
    gene_sets = {f"P{p}": [f"G{p}{g}" for g in range(5)] for p in range(4)}
    X = pd.DataFrame(1 / (1 + np.exp2(-values / 2)), columns=site_gene["site"].to_list())
    label = (activity[:, 0] > 0) ^ (activity[:, 1] > 0)
    return X, pd.DataFrame({"T": label.astype(float)}), Hierarchy.from_tables(site_gene, gene_sets)


def test_heads_with_a_hidden_layer_recover_an_interaction_of_two_pathways(tmp_path):
    X, Y, hierarchy = interacting()
    scores = {}
    for units in (None, 8):
        model = MiracleClassifier(
            hierarchy, head_units=units, training=Training(epochs=(5, 300, 0), progress=False)
        )
        scores[units] = model.fit(X[:400], Y[:400]).score(X[400:], Y[400:])
    assert scores[None] < 0.65
    assert scores[8] > 0.8
    model.save(tmp_path / "model")
    loaded = MiracleClassifier.load(tmp_path / "model")
    assert loaded.predict_proba(X[:20]).equals(model.predict_proba(X[:20]))
    assert "one hidden layer of 8 units" in describe_model(tmp_path / "model")


def test_controls_of_the_mask_fit(data):
    X, Y, _, hierarchy = data
    for mask in (hierarchy.permuted(0), hierarchy.random(0), hierarchy.fully_connected()):
        model = MiracleClassifier(mask).set_params(**QUICK).fit(X.iloc[::2], Y.iloc[::2])
        assert model.score(X.iloc[1::2], Y.iloc[1::2]) > 0.7


@pytest.mark.parametrize("preset", ["paper", "paper_code"])
def test_the_papers_network_is_made_of_the_same_parts(data, preset):
    X, Y, _, hierarchy = data
    training = Training(epochs=(2, 40, 2), learning_rate=(1e-3, 1e-2, 1e-4), progress=False)
    model = MiracleClassifier(hierarchy, preset=preset, training=training).fit(X, Y)
    member = model.members_[0]
    assert isinstance(member.heads, DeepHeads)
    assert member.reads == ["pathways"]
    assert isinstance(member.network.activation, torch.nn.ReLU)
    history = model.history_.set_index("stage")
    assert len(history.loc["heads"]) == 40
    assert history.loc["heads", "task"].iloc[-1] < history.loc["heads", "task"].iloc[0]
    assert ("task" in history.columns[history.loc["autoencoder"].notna().all()]) == (
        preset == "paper_code"
    )
    assert (history.loc["finetune", "kl"] == 0).all() == (preset == "paper_code")
    z = model.standardized(X[:5], "RA")
    expected = torch.from_numpy(X.iloc[:5][model.sites_].fillna(0).to_numpy(np.float32))
    assert torch.equal(z, expected)  # beta values as they are
    rebuilt = model.reconstruct(X[:5])
    assert ((rebuilt > 0) & (rebuilt < 1)).all(axis=None)
    if preset == "paper_code":
        assert (model.transform(X[:5]) >= 0).all(axis=None)


def test_a_part_of_a_preset_is_replaced_by_what_is_given(data):
    hierarchy = data[3]
    plain = MiracleClassifier(hierarchy, preset="paper").design
    changed = MiracleClassifier(hierarchy, preset="paper", activation="tanh").design
    assert (plain.activation, changed.activation) == ("relu", "tanh")
    assert replace(changed, activation="relu") == plain
    assert MiracleClassifier(hierarchy).design == PRESETS["default"].design


class Mean(Heads):
    """The mean of the sites, with a weight per task."""

    def __init__(self, n_features, n_tasks, hidden=None, seed=None):
        super().__init__()
        self.n_features, self.hidden = n_features, hidden
        self.weight = torch.nn.Parameter(torch.zeros(n_tasks))

    def forward(self, blocks):
        return blocks["sites"].mean(1, keepdim=True) * self.weight

    def regularisation(self):
        return 1e6 * (self.weight - 1).square().sum()


def test_heads_of_ones_own_are_trained_with_what_they_add_to_the_loss(data):
    X, Y, _, hierarchy = data
    X, Y = X.iloc[::4], Y.iloc[::4]
    model = MiracleClassifier(hierarchy, head=Mean, head_units=7, reads=("sites", "genes"))
    model.training = Training(
        epochs=(1, 200, 0),
        learning_rate=(1e-3, 0.05, 0),
        keep="last",
        patience=None,
        progress=False,
    )
    model.fit(X, Y)
    heads = model.members_[0].heads
    widths = {"genes": len(hierarchy.genes), "sites": X.shape[1]}
    assert (heads.n_features, heads.hidden) == (widths, 7)
    torch.testing.assert_close(heads.weight, torch.ones(2), atol=0.03, rtol=0)
    z = model.standardized(X, "RA")
    logits = model.logit_module("RA")(z).detach()
    torch.testing.assert_close(logits, z.mean(1), atol=0.01, rtol=0.03)
    shares = model.block_share_[["genes", "sites"]]
    np.testing.assert_allclose(shares, [[0, 1], [0, 1]], atol=1e-9)  # the genes are not used
    assert clone(model).head is Mean


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("units", [None, 4])
def test_training_on_a_gpu_predicts_as_training_on_a_cpu_does(data, tmp_path, units):
    X, Y, _, hierarchy = data
    options = {"variational": False, "head_units": units} | QUICK
    on_cpu, on_gpu = (
        MiracleClassifier(hierarchy, device=device).set_params(**options).fit(X, Y)
        for device in ("cpu", "cuda")
    )
    assert next(on_gpu.members_[0].parameters()).is_cuda
    np.testing.assert_allclose(on_gpu.predict_proba(X), on_cpu.predict_proba(X), atol=0.02)
    on_gpu.set_params(device="cpu").save(tmp_path / "model")
    loaded = MiracleClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(X), on_gpu.predict_proba(X), atol=1e-4)


def bad(data, what):
    X, Y = data[0].iloc[::2].copy(), data[1].iloc[::2].copy()
    if what == "label":
        Y.iloc[0, 0] = 2
    elif what == "class":
        Y["MS"] = Y["MS"].where(Y["MS"].isna(), 1.0)
    elif what == "sites":
        X.columns = [f"x{i}" for i in range(X.shape[1])]
    elif what == "beta":
        X.iloc[0, 0] = 3.0
    elif what == "sample":
        Y.index = [*Y.index[:-1], "unknown"]
    return X, Y


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "label",
            r"Task 'MS' has the label 2\.0 for sample 'MS-001'; expected 1 \(case\), 0 \(control\)",
        ),
        ("class", r"task 'MS' has \d+ cases and 0 controls"),
        ("sites", r"none of the 400 sites .* is among"),
        ("beta", r"\[0, 1\]"),
        ("sample", r"labels has no entry for sample"),
    ],
)
def test_bad_input_is_named(data, what, message):
    with pytest.raises(MiracleError, match=message) as caught:
        MiracleClassifier(data[3]).set_params(**QUICK).fit(*bad(data, what))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "best"}, r"weighting is 'best'"),
        ({"preset": "fast"}, r"preset is 'fast'"),
        ({"training__stages": "two"}, r"stages is 'two'"),
        ({"sharing": 2.0}, r"sharing is 2\.0"),
        ({"n_members": 0}, r"n_members is 0"),
        (
            {"training__batch_size": 0},
            r"batch_size is 0; expected None, 'preset' or a",
        ),
        ({"training__batch_size": -3}, r"batch_size is -3"),
        (
            {"training__learning_rate": (1, np.nan, 1)},
            r"learning_rate is .*; expected None",
        ),
        ({"training__checkpoint_every": 0}, r"checkpoint_every is 0"),
        ({"random_state": -1}, r"random_state is -1; expected None or a whole number from 0 to"),
        ({"random_state": "now"}, r"random_state is 'now'"),
        ({"device": "gpu"}, r"device is 'gpu', which this machine does not have"),
        ({"hierarchy": None}, r"hierarchy is None; expected Hierarchy"),
        ({"ceiling": {"MS": 0.9, "RA": 90}}, r"ceiling of task 'RA' is 90"),
        ({"ceiling": {"MS": 0.9}}, r"ceiling has no entry for task 'RA'"),
        (
            {"training__epochs": (1, 2)},
            r"epochs is \(1, 2\); expected None or three whole numbers",
        ),
        ({"activation": "sine"}, r"activation is 'sine'"),
        ({"head_units": 0}, r"head_units is 0; expected None or a whole number of at least 1"),
        (
            {"likelihood": "bernoulli"},
            r"likelihood is 'bernoulli' and scale 'm'; expected scale 'raw'",
        ),
        (
            {"head": "linear"},
            r"head is 'linear'; expected None, 'additive' or 'deep' or a subclass",
        ),
        ({"head": torch.nn.Linear}, r"head is .*Linear.*; expected .* a subclass of .*Heads"),
    ],
)
def test_unknown_options_are_named(data, options, message):
    X, Y, _, hierarchy = data
    with pytest.raises(MiracleError, match=message):
        MiracleClassifier(hierarchy).set_params(**QUICK | options).fit(X.iloc[::4], Y.iloc[::4])


def test_a_policy_of_ones_own_is_known_once_it_is_registered(data, monkeypatch):
    X, Y, _, hierarchy = data
    monkeypatch.setitem(POLICIES, "mine", POLICIES["uniform"])
    model = MiracleClassifier(hierarchy, weighting="mine").set_params(**QUICK)
    assert model.fit(X.iloc[::4], Y.iloc[::4]).score(X, Y) > 0.5


def test_something_else_than_a_training_is_refused(data):
    X, Y, _, hierarchy = data
    with pytest.raises(MiracleError, match=r"training is 'fast'; expected None or Training"):
        MiracleClassifier(hierarchy, training="fast").fit(X, Y)


def test_checkpoint_of_other_data_is_not_continued(data, tmp_path):
    X, Y, _, hierarchy = data
    X, Y = X.iloc[::4], Y.iloc[::4]
    model = MiracleClassifier(hierarchy).set_params(**QUICK, training__checkpoint_dir=tmp_path)
    plain = MiracleClassifier(hierarchy).set_params(**QUICK).fit(X, Y)
    (tmp_path / "0123456789abcdef.pt").write_bytes(b"state of another training")
    assert model.fit(X, Y).predict_proba(X).equals(plain.predict_proba(X))
    assert [file.name for file in tmp_path.iterdir()] == ["0123456789abcdef.pt"]


def test_trainings_with_other_heads_or_likelihood_keep_states_of_their_own(fitted):
    samples = TrainingData(
        torch.zeros(2, 3), torch.zeros(2, 2), torch.zeros(2, 0), groups=np.arange(2)
    )
    names = set()
    for options in ({}, {"head_units": 4}, {"head_units": 5}, {"likelihood": "mse"}):
        model = MiracleClassifier(fitted.hierarchy_).set_params(**options)
        model.hierarchy_, model.tasks_ = fitted.hierarchy_, fitted.tasks_
        names.add(model._fingerprint(samples, 0))
    assert len(names) == 4


@pytest.mark.mirror
def test_real_cohort_is_predicted_as_well_as_by_logistic_regression(mirror):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    from miracle_lib.cohorts import load_cohort
    from miracle_lib.hierarchy import read_gene_sets, read_illumina_manifest
    from miracle_lib.preprocessing import CohortStandardizer

    cohort = load_cohort("GSE42861", mirror=mirror, allow_subset=True)
    X, y = cohort.to_df(), cohort.obs["label"].to_numpy()
    manifest = read_illumina_manifest(mirror / "HumanMethylation450_15017482_v1-2.csv.gz")
    sets = read_gene_sets(mirror / "GO_Biological_Process_2021.gmt")
    hierarchy = Hierarchy.from_tables(manifest.site_gene, sets).restrict(X.columns)
    ours, theirs = np.empty(len(y)), np.empty(len(y))
    aucs = []
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        scaler = CohortStandardizer().fit(X.iloc[train])
        z = scaler.transform(X).to_numpy()
        reference = LogisticRegression(C=0.01, max_iter=2000).fit(z[train], y[train])
        theirs[test] = reference.decision_function(z[test])
        model = MiracleClassifier(hierarchy, training=Training(progress=False)).fit(
            X.iloc[train], pd.DataFrame({"RA": y[train]}, X.index[train])
        )
        ours[test] = model.decision_function(X.iloc[test])["RA"]
        aucs.append([roc_auc_score(y[test], s[test]) for s in (ours, theirs)])
    mine, reference = np.mean(aucs, axis=0)
    assert mine > reference - 0.03  # one split of 100 samples; the benchmark repeats it
    assert torch.isfinite(torch.from_numpy(ours)).all()
