from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation import PerTaskBaseline, cross_validate, permutation_test, summarise
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.samples import Samples


class Spy(BaseEstimator):
    """Remember what fit was given; predict each task's share of cases in training."""

    seen: ClassVar[list] = []

    def fit(self, X, Y, cohort=None, covariates=None):
        Spy.seen.append((list(X.index), cohort, covariates))
        self.rate_ = Y.mean()
        return self

    def predict_proba(self, X):
        return pd.DataFrame(self.rate_.to_dict(), X.index)


def noise(n=60, sites=1500, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"s{i}" for i in range(n)]
    X = pd.DataFrame(
        rng.uniform(0.3, 0.7, (n, sites)), names, [f"cg{i}" for i in range(sites)]
    ).astype("float32")
    Y = pd.DataFrame({"RA": rng.permutation(np.arange(n) % 2).astype(float)}, names)
    return X, Y


def test_training_rows_of_cohort_and_covariates_reach_the_last_step():
    X, Y = noise(sites=20)
    cohort = pd.Series(np.arange(60) % 3, X.index).astype(str)
    covariates = pd.DataFrame({"age": np.arange(60.0)}, X.index)
    for estimator in (Spy(), make_pipeline(SiteSelector(k=5), Spy())):
        Spy.seen = []
        scores = cross_validate(estimator, X, Y, None, cohort, covariates, n_splits=3)
        assert len(Spy.seen) == 3
        for names, seen_cohort, seen_covariates in Spy.seen:
            assert len(names) == 40
            assert list(seen_cohort.index) == names
            assert list(seen_covariates.index) == names
        tested = scores.attrs["predictions"]
        assert sorted(tested["sample"]) == sorted(X.index)
        assert list(tested) == [
            *("sample", "group", "cohort", "task", "repeat", "fold", "label", "score")
        ]


def test_unlabelled_samples_are_trained_on_but_not_scored():
    X, Y = noise(sites=20)
    Y.iloc[:10] = np.nan
    Spy.seen = []
    scores = cross_validate(Spy(), X, Y, n_splits=2)
    assert scores["n"].sum() == 50
    assert sum(len(names) for names, _, _ in Spy.seen) == 60


def test_scores_can_be_printed_joined_and_copied():
    X, Y = noise(sites=20)
    first, second = (cross_validate(Spy(), X, Y, random_state=seed) for seed in (0, 1))
    joined = pd.concat({"first": first, "second": second})
    assert len(repr(joined)) > 0
    assert len(joined) == 10
    assert first.copy().attrs["predictions"] is first.attrs["predictions"]


def test_same_seed_same_scores_and_parallel_folds_change_nothing():
    X, Y = noise(sites=40)
    estimator = make_pipeline(SiteSelector(k=10), PerTaskBaseline("logistic_l2"))
    one = cross_validate(estimator, X, Y, n_splits=3)
    two = cross_validate(estimator, X, Y, n_splits=3, n_jobs=2)
    pd.testing.assert_frame_equal(one, two)


def test_tables_in_another_order_are_aligned_by_name():
    X, Y = noise(sites=5)
    tables = {
        "groups": pd.Series(np.arange(60) // 2, X.index).astype(str),
        "cohort": pd.Series(np.where(np.arange(60) % 3, "A", "B"), X.index),
        "covariates": pd.DataFrame({"age": Y["RA"] * 10 + np.arange(60) % 7}),
    }
    mixed = {name: table.sample(frac=1, random_state=1) for name, table in tables.items()}
    baseline = PerTaskBaseline("covariates")
    straight = cross_validate(baseline, X, Y, n_splits=3, **tables)
    again = cross_validate(baseline, X, Y.iloc[::-1], n_splits=3, **mixed)
    pd.testing.assert_frame_equal(straight, again)
    assert straight["auroc"].min() > 0.9
    subjects = again.attrs["predictions"].groupby("group")["fold"].nunique()
    assert (subjects == 1).all()


@pytest.mark.parametrize("name", ["logistic_l2", "random_forest", "rbf_svm", "dense_autoencoder"])
def test_the_order_of_the_rows_changes_no_score(name):
    X, Y = noise(n=40, sites=30)
    X.loc[Y["RA"] == 1, X.columns[:5]] += 0.1
    estimator = make_pipeline(SiteSelector(k=10), PerTaskBaseline(name, 2))
    rows = np.random.default_rng(0).permutation(40)
    straight = cross_validate(estimator, X, Y, n_splits=2).attrs["predictions"]
    mixed = cross_validate(estimator, X.iloc[rows], Y, n_splits=2).attrs["predictions"]
    pd.testing.assert_frame_equal(straight, mixed)
    first, other = (
        clone(estimator).fit(X.iloc[order], Y.iloc[order]) for order in (slice(None), rows)
    )
    pd.testing.assert_frame_equal(first.predict_proba(X), other.predict_proba(X))


def test_a_samples_gives_the_scores_of_its_tables():
    X, Y = noise(sites=5)
    age = pd.DataFrame({"age": Y["RA"] + np.arange(60) % 5})
    samples = Samples(X, Y, covariates=age)
    pd.testing.assert_frame_equal(
        cross_validate(PerTaskBaseline("covariates"), samples, n_splits=2),
        cross_validate(PerTaskBaseline("covariates"), X, Y, covariates=age, n_splits=2),
    )


def test_copies_that_count_as_two_subjects_are_pointed_out(recwarn):
    X, Y = noise(n=40, sites=300)
    twice = {name: pd.concat([table, table.rename("{}b".format)]) for name, table in
             (("X", X), ("Y", Y))}  # fmt: skip
    with pytest.warns(UserWarning, match=r"40 pairs .* 's0' and 's0b', correlate at 1\.0000"):
        leaky = cross_validate(PerTaskBaseline("knn", 2), **twice, n_splits=3)
    assert leaky["auroc"].mean() > 0.8  # no label can be learned: what the warning is for
    recwarn.clear()
    subject = pd.Series(twice["X"].index.str.removesuffix("b"), twice["X"].index)
    honest = cross_validate(PerTaskBaseline("knn", 2), **twice, groups=subject, n_splits=3)
    cross_validate(PerTaskBaseline("knn", 2), X, Y, n_splits=3)
    assert honest["auroc"].mean() < 0.7
    assert not recwarn.list


def test_leak_probe_honest_interval_covers_half_and_the_leaky_one_does_not():
    estimator = make_pipeline(SiteSelector(k=20), PerTaskBaseline("logistic_l2", n_inner=2))
    honest, leaky = [], []
    for seed in range(4):
        X, Y = noise(sites=1000, seed=seed)
        for protocol, rows in (("nested", honest), ("leaky", leaky)):
            scores = cross_validate(estimator, X, Y, protocol=protocol, random_state=seed)
            rows.append(summarise(scores, ("auroc",)).iloc[-1])
    assert all(row["low"] > 0.5 for row in leaky)
    assert min(row["estimate"] for row in leaky) > 0.8
    assert sum(row["low"] <= 0.5 <= row["high"] for row in honest) >= 3
    assert abs(np.mean([row["estimate"] for row in honest]) - 0.5) < 0.1


def test_no_protocol_step_sees_the_test_rows():
    # Test rows are made absurd after the split: the honest fit must not notice.
    X, Y = noise(n=40, sites=60)
    X.loc[Y["RA"] == 1, "cg3"] = (X.loc[Y["RA"] == 1, "cg3"] + 0.25).clip(upper=0.99)
    estimator = make_pipeline(SiteSelector(k=3), PerTaskBaseline("logistic_l2"))
    clean = cross_validate(estimator, X, Y, n_splits=2)
    predictions = clean.attrs["predictions"]
    test = predictions.loc[predictions["fold"] == 0, "sample"].iloc[:5]
    damaged = X.copy()
    damaged.loc[test] = 0.5
    after = cross_validate(estimator, damaged, Y, n_splits=2).attrs["predictions"]
    same = (predictions["fold"] == 0) & ~predictions["sample"].isin(test)
    assert predictions[same].equals(after[same])


def test_permutation_test_sees_a_signal_and_not_its_absence():
    X, Y = noise(n=40, sites=20)
    estimator = PerTaskBaseline("logistic_l2", n_inner=2)
    nothing = permutation_test(estimator, X, Y, n_permutations=19, n_splits=2)
    X.loc[Y["RA"] == 1, X.columns[:10]] += 0.15
    something = permutation_test(estimator, X, Y, n_permutations=19, n_splits=2)
    assert something.set_index("task").loc["RA", "p_value"] == 0.05
    assert nothing.set_index("task").loc["RA", "p_value"] > 0.05
    assert something.attrs["null"].shape == (19, 2)
    assert abs(something.attrs["null"]["RA"].mean() - 0.5) < 0.1


def test_refuses_what_cannot_be_scored():
    X, Y = noise(sites=10)
    with pytest.raises(MiracleError, match="protocol is 'honest'; expected 'nested' or 'leaky'"):
        cross_validate(Spy(), X, Y, protocol="honest")
    with pytest.raises(MiracleError, match="needs a Pipeline whose first step selects"):
        cross_validate(Spy(), X, Y, protocol="leaky")
    with pytest.raises(MiracleError, match="labels has no entry for sample 's3'"):
        cross_validate(Spy(), X, Y.drop("s3"))
    twice = [*X.index[:-1], X.index[0]]
    with pytest.raises(MiracleError, match="values has sample 's0' more than once"):
        cross_validate(Spy(), X.set_axis(twice), Y.set_axis(twice))
    with pytest.raises(MiracleError, match="NaNSpy predicted NaN for task 'RA'"):
        cross_validate(NaNSpy(), X, Y)


class NaNSpy(Spy):
    def predict_proba(self, X):
        return super().predict_proba(X) * np.nan
