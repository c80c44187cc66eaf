from copy import copy

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import miracle_lib as ml
from miracle_lib.errors import MiracleError
from miracle_lib.estimator import Limits, predict_table
from miracle_lib.estimator.reliability import site_weights
from miracle_lib.preprocessing.sex import SexReference


@pytest.fixture(scope="module")
def cohorts():
    """Training and held-out samples of two cohorts, and a model of the first."""
    data = ml.simulate_cohorts({"MS": 100, "RA": 500}, n_sites=400, missing=0.01, random_state=3)
    X, Y, obs = ml.merge_cohorts(list(data.cohorts.values()))
    subject = pd.factorize(obs["subject"])[0]
    new = np.random.default_rng(0).permutation(subject.max() + 1)[subject] % 2 == 1
    hierarchy = ml.Hierarchy.from_tables(data.site_gene, data.gene_sets, sites=X.columns)
    model = ml.MiracleClassifier(hierarchy, training=ml.Training(epochs=(1, 5, 0), progress=False))
    model.fit(X[~new], Y[~new], cohort=obs["cohort"][~new])
    return model, X[new & Y["RA"].notna().to_numpy()], X[~new]


def verdicts(model, X, task="RA"):
    return ml.predict(model, X)[f"verdict[{task}]"]


def test_new_samples_of_the_cohort_are_believed(cohorts):
    model, X, _ = cohorts
    result = ml.predict(model, X)
    assert (result["verdict[RA]"] == "reliable").mean() >= 0.95
    expected = model.predict_proba(X)["RA"]
    kept = result["probability[RA]"].dropna()
    np.testing.assert_allclose(kept, expected[kept.index], atol=1e-5)
    assert result["distance[Simulated RA]"].mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("what", ["noise", "zeros", "inverted", "shuffled", "empty"])
def test_what_is_no_blood_of_the_cohort_is_flagged(cohorts, what):
    model, X, _ = cohorts
    rng = np.random.default_rng(0)
    wrong = {
        "noise": rng.random(X.shape),
        "zeros": np.zeros(X.shape),
        "inverted": 1 - X.to_numpy(),
        "shuffled": rng.permuted(X.to_numpy(), axis=1),
        "empty": np.full(X.shape, np.nan),
    }[what]
    result = ml.predict(model, pd.DataFrame(wrong, X.index, X.columns))
    assert (result["verdict[RA]"] == "not to be used").mean() >= 0.99
    assert (result["warning"] != "").all()
    assert result[["probability[RA]", "score[RA]"]].notna().mean().max() <= 0.01


def test_one_bad_sample_does_not_stop_the_others(cohorts):
    model, X, _ = cohorts
    X = X.iloc[:4].copy()
    X.iloc[0] = np.log2(X.iloc[0] / (1 - X.iloc[0]))
    X.iloc[1] *= 100
    X.iloc[3] = X.iloc[2]
    result = ml.predict(model, X)
    assert "M-values?" in result["warning"].iloc[0]
    assert "percents?" in result["warning"].iloc[1]
    assert result["probability[RA]"].isna().tolist()[:2] == [True, True]
    assert result["probability[RA]"].notna().iloc[2]
    assert result["warning"].iloc[3].startswith("the same values as sample")


def test_a_sample_gets_the_same_row_alone_and_in_a_batch(cohorts):
    model, X, _ = cohorts
    batch = ml.predict(model, X.iloc[:6])
    alone = pd.concat([ml.predict(model, X.iloc[[row]]) for row in range(6)])
    pd.testing.assert_frame_equal(alone, batch, atol=1e-5)


def test_weight_counts_and_not_the_number_of_sites(cohorts):
    """Twenty sites that carry the weight are gone: most sites are there, the prediction is not."""
    model, X, _ = cohorts
    weight = site_weights(model, "RA").sort_values(ascending=False)
    gone = weight.index[: int((weight.cumsum() < 0.55).sum()) + 1]
    result = ml.predict(model, X.drop(columns=gone), Limits(sites=0.1))
    assert (result["weight_present[RA]"] < 0.5).all()
    assert (result["verdict[RA]"] == "not to be used").all()
    assert (
        result["reason[RA]"]
        .str.endswith("of the model's weight is on measured sites, below 50%")
        .all()
    )
    both = result["weight_present[MS]"] < 0.5
    assert (result["warning"] == "what the model leans on is not measured").equals(both)
    half = ml.predict(model, X.drop(columns=weight.index[:20]), Limits(sites=0.1))
    assert half["weight_present[RA]"].mean() == pytest.approx(1 - weight[:20].sum(), abs=0.02)


def test_weights_are_the_slopes_of_the_logit(cohorts):
    model, X, _ = cohorts
    z = model.standardized(X.iloc[:1], "RA")
    module = model.logit_module("RA")
    moved = z.repeat(len(model.sites_), 1)
    moved[range(len(moved)), range(len(moved))] += 1
    slopes = (module(moved) - module(z)).abs().detach().numpy()
    np.testing.assert_allclose(site_weights(model, "RA"), slopes / slopes.sum(), atol=1e-4)


def test_a_saved_model_knows_its_cohorts(cohorts, tmp_path):
    model, X, _ = cohorts
    model.save(tmp_path / "model")
    loaded = ml.MiracleClassifier.load(tmp_path / "model")
    pd.testing.assert_frame_equal(ml.predict(loaded, X), ml.predict(model, X), atol=1e-5)
    X.iloc[:3].to_csv(tmp_path / "new.csv")
    written = predict_table(tmp_path / "model", tmp_path / "new.csv", tmp_path / "out.csv")
    assert list(written.index) == list(X.index[:3])


@pytest.fixture(scope="module")
def calibrated(cohorts):
    """The model, with scores as if every second held-out sample had been scored by a fold."""
    model, X, _ = cohorts
    label = labels_of(X.iloc[::2])
    scores = pd.DataFrame({"task": "RA", "cohort": "Simulated RA", "label": label})
    scores["score"] = model.predict_proba(X.iloc[::2])["RA"]
    return copy(model).keep_held_out(scores), X.iloc[1::2], label.mean()


def labels_of(X):
    """Truth of the simulated samples."""
    data = ml.simulate_cohorts({"MS": 100, "RA": 500}, n_sites=400, missing=0.01, random_state=3)
    return data.cohorts["RA"].obs["label"].astype(int).loc[X.index]


def test_held_out_scores_give_an_interval_around_each_probability(calibrated):
    model, X, _ = calibrated
    result = ml.predict(model, X)
    kept = result["probability[RA]"].notna()
    low, middle, high = (result.loc[kept, f"{n}[RA]"] for n in ("low", "probability", "high"))
    assert kept.mean() > 0.9
    assert ((low <= middle) & (middle <= high) & (low < high)).all()
    assert result.loc[~kept, ["low[RA]", "high[RA]"]].isna().all(axis=None)
    # Brier score no worse than that of the raw score, up to the noise of so few samples.
    label = labels_of(X)[kept]
    brier = [
        np.square(result.loc[kept, f"{n}[RA]"] - label).mean() for n in ("probability", "score")
    ]
    assert brier[0] < brier[1] + 0.02
    assert result["low[MS]"].isna().all()
    assert (result["classes[MS]"] == "not known").all()


def test_named_classes_hold_the_truth_as_often_as_asked_for(calibrated):
    model, X, _ = calibrated
    named = ml.predict(model, X, Limits(coverage=0.9))["classes[RA]"]
    named = named[named != "not known"]
    words = labels_of(named.to_frame()).map({1: "case", 0: "control"})
    right = [word in text.split(" or ") for word, text in zip(words, named, strict=True)]
    assert 0.84 < np.mean(right) < 0.96  # 125 samples: three standard errors
    wider = ml.predict(model, X, Limits(coverage=0.99))["classes[RA]"]
    assert (wider == "case or control").mean() > (named == "case or control").mean()


def test_another_prevalence_moves_probability_and_interval(calibrated):
    model, X, known = calibrated
    here, there = (ml.predict(model, X, prevalence=p) for p in ({"RA": known}, {"RA": 0.01}))
    pd.testing.assert_frame_equal(here, ml.predict(model, X))
    for name in ("low", "probability", "high"):
        odds = [(r[f"{name}[RA]"] / (1 - r[f"{name}[RA]"])).dropna() for r in (here, there)]
        ratio = (0.01 / 0.99) / (known / (1 - known))
        np.testing.assert_allclose(odds[1], odds[0] * ratio, rtol=1e-6)
    pd.testing.assert_series_equal(here["classes[RA]"], there["classes[RA]"])
    with pytest.raises(MiracleError, match="task 'MS' has no held-out scores"):
        ml.predict(model, X, prevalence={"MS": 0.1})
    with pytest.raises(MiracleError, match="there is no task 'SLE'"):
        ml.predict(model, X, prevalence={"SLE": 0.1})


def test_scores_that_cannot_calibrate_are_refused(cohorts):
    model, _, _ = cohorts
    scores = pd.DataFrame({"task": ["RA"], "cohort": "a", "label": 1, "score": 0.5})
    with pytest.raises(MiracleError, match="scores of task 'RA' have one class; expected both"):
        model.keep_held_out(scores)
    with pytest.raises(MiracleError, match="the scores have no column 'score'"):
        model.keep_held_out(scores.drop(columns="score"))
    for wrong in ({"score": [0.5, -2.0, 0.5]}, {"label": [1, 0, np.nan]}):
        both = pd.DataFrame({"task": ["RA"] * 3, "cohort": "a", "label": [1, 0, 1], "score": 0.5})
        with pytest.raises(MiracleError, match="expected probabilities, as predict_proba gives"):
            model.keep_held_out(both.assign(**wrong))


def test_the_latent_and_the_reconstruction_know_their_cohort(cohorts):
    model, X, _ = cohorts
    result = ml.predict(model, X)
    for kind in ("latent", "reconstruction"):
        near, far = result[f"{kind}[Simulated RA]"], result[f"{kind}[Simulated MS]"]
        assert near.median() < far.median(), kind
        held_out = model.familiarity_.held_out[kind]["Simulated RA"]
        assert near.median() == pytest.approx(np.median(held_out), rel=0.15), kind
    assert len(held_out) < len(model.familiarity_.held_out["distance"]["Simulated RA"])


def test_sex_is_predicted_and_compared(cohorts):
    model, X, _ = cohorts
    data = ml.simulate_cohorts({"MS": 100, "RA": 500}, n_sites=400, missing=0.01, random_state=3)
    adata = data.cohorts["RA"][X.index].copy()
    assert (ml.predict(model, adata)["sex_predicted"] == "not known").all()
    knowing = copy(model)
    knowing.sex_ = SexReference.learn(list(data.cohorts.values()))
    given = adata.obs["sex"].astype(object).copy()
    swapped = {"F": "male", "M": "female"}[given.iloc[0]]
    adata.obs["sex"] = [swapped, *given.iloc[1:]]
    result = ml.predict(knowing, adata)
    assert (result["sex_predicted"] == given).mean() > 0.99
    words = f"sex is given as {swapped[0].upper()} and predicted as {given.iloc[0]}"
    assert words in result["warning"].iloc[0]
    assert not result["warning"].iloc[1:].str.contains("sex").any()
    assert result["verdict[RA]"].iloc[0] == "uncertain"
    assert result["reason[RA]"].iloc[0] == f"perhaps another person's: {words}"
    lacking = X.drop(columns=knowing.sex_.sites)
    without = ml.predict(knowing, lacking, covariates=given.to_frame("sex"))
    assert (without["sex_predicted"] == "not known").all()


@pytest.mark.parametrize("words", [("female", "male"), ("F", "M"), (0.0, 1.0)])
def test_sex_is_read_as_the_training_wrote_it(cohorts, words):
    _, X, _ = cohorts
    sex = pd.DataFrame({"sex": [words[row % 2] for row in range(len(X))]}, X.index)
    training = ml.Training(epochs=(2, 3, 0), keep="last", progress=False)
    model = ml.MiracleClassifier(cohorts[0].hierarchy, training=training)
    model.fit(X, labels_of(X).to_frame("RA"), covariates=sex)
    plain = model.predict_proba(X, covariates=sex)["RA"]
    given = ml.predict(model, X, covariates=sex)["score[RA]"].dropna()
    assert len(given) > len(X) / 2
    np.testing.assert_allclose(given, plain[given.index], rtol=0, atol=1e-12)
    assert (plain - model.predict_proba(X)["RA"]).abs().max() > 1e-6


def test_covariates_that_the_model_was_conditioned_on_are_used(cohorts):
    """As text of a file, in another order, with one that the model does not know."""
    _, X, _ = cohorts
    obs = pd.DataFrame({"age": np.linspace(20, 80, len(X))}, X.index)
    hierarchy = cohorts[0].hierarchy
    model = ml.MiracleClassifier(hierarchy, training=ml.Training(epochs=(1, 3, 0), progress=False))
    model.fit(X, labels_of(X).to_frame("RA"), covariates=obs)
    new = obs.astype(str).iloc[::-1].assign(date="2026-01-01")
    known = ml.predict(model, X, covariates=new)["score[RA]"]
    expected = model.predict_proba(X, covariates=obs)["RA"]
    np.testing.assert_allclose(known.dropna(), expected[known.notna()], atol=1e-5)
    unknown = ml.predict(model, X)["score[RA]"]
    assert not np.allclose(unknown.dropna(), known.dropna(), atol=1e-3)


def test_an_anndata_gets_its_predictions(calibrated, tmp_path):
    model, X, _ = calibrated
    adata = AnnData(X.iloc[:5])
    adata.X[1] = 0
    result = ml.predict(model, adata, prevalence={"RA": 0.2})
    adata.write_h5ad(tmp_path / "new.h5ad")
    read = anndata.read_h5ad(tmp_path / "new.h5ad")
    written = read.obsm["miracle"]
    pd.testing.assert_series_equal(
        written["probability[RA]"], result["probability[RA]"], check_names=False, check_index=False
    )
    assert written["verdict[RA]"].tolist() == result["verdict[RA]"].tolist()
    assert read.uns["miracle"]["limits"]["coverage"] == Limits.coverage
    assert read.uns["miracle"]["prevalence"] == {"RA": 0.2}


def test_names_that_occur_twice_are_refused(cohorts):
    model, X, _ = cohorts
    with pytest.raises(MiracleError, match="X names sample"):
        ml.predict(model, pd.concat([X.iloc[:1], X.iloc[:1]]))


def test_limits_are_checked():
    with pytest.raises(MiracleError, match="limit factor is 0.5; expected at least 1"):
        Limits(factor=0.5)
    with pytest.raises(MiracleError, match="limit sites is 2; expected 0 to 1"):
        Limits(sites=2)
