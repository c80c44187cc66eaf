import numpy as np
import pandas as pd
import pytest

from miracle_lib import MiracleClassifier, MiracleError, Samples, Training
from miracle_lib.interpretation import against_controls, refit_attributions, top_overlap


def test_overlap_of_top_nodes_beside_chance():
    first = pd.Series(range(20, 0, -1), index=list("abcdefghijklmnopqrst"), dtype=float)
    second = first.copy()
    second["a"] = -1
    found = top_overlap({0: first, 1: second}, k=5)
    assert found.loc[0, ["overlap", "chance"]].tolist() == [0.8, 0.25]
    with pytest.raises(MiracleError, match="at least k = 30"):
        top_overlap({0: first, 1: second}, k=30)
    with pytest.raises(MiracleError, match="1 ranking"):
        top_overlap({0: first})


def test_controls_take_the_planted_pathways_away(study):
    def make(mask, seed):
        return MiracleClassifier(
            mask,
            random_state=seed,
            device="cpu",
            training=Training(epochs=(3, 5, 0), progress=False),
        )

    refits = refit_attributions(
        make, study.mask, study.X, study.Y, n_seeds=4, cohort=study.obs["cohort"]
    )
    assert len(refits) == 4 * 4 * 2 * len(study.mask.pathways)
    for task in ("RA", "SLE"):
        planted = study.simulation.truth.pathways.query("task == @task")["pathway"]
        found = against_controls(refits, task)
        assert found.loc[planted, "rank"].mean() < 6
        assert found.loc[planted, ["permuted mask", "shuffled labels"]].mean().min() > 8
    real = refits.query("kind == 'real' and task == 'SLE'")
    rankings = {s: t.set_index("pathway")["attribution"] for s, t in real.groupby("seed")}
    assert top_overlap(rankings, k=3)["overlap"].mean() >= 2 / 3


def test_every_site_predictive_leaves_only_the_shape(study):
    from miracle_lib.interpretation.stability import _control, _mask

    samples = _control("every site predictive", Samples(study.X, study.Y), 0)
    case, X = samples.labels.max(axis=1) == 1, samples.values
    assert X.shape == study.X.shape
    assert ((X[case].mean() - X[~case].mean()) > 0.15).all()
    assert _mask("every site predictive", study.mask, 0) is study.mask
    with pytest.raises(MiracleError, match="no control 'noise'"):
        _mask("noise", study.mask, 0)


def test_shuffled_control_keeps_the_number_of_cases(study):
    from miracle_lib.interpretation.stability import _control

    samples = Samples(study.X, study.Y, cohort=study.obs["cohort"], subject=study.obs["subject"])
    Y = _control("shuffled labels", samples, 0).labels
    pd.testing.assert_series_equal(Y.sum(), study.Y.sum())
    assert (Y.isna() == study.Y.isna()).all(axis=None)
    assert not np.array_equal(Y.fillna(-1), study.Y.fillna(-1))
