import numpy as np
import pandas as pd
import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation import (
    compare_across_tasks,
    compare_methods,
    comparison,
    correlated_t,
    permutation_test,
    scores_of,
    shuffle_labels,
)


def test_correlated_t_equals_the_sum_by_hand():
    # d = 1..5 hundredths: mean 0.03, variance 0.00025; 5 folds: 1/5 + (1/5) / (4/5) = 0.45.
    # scale = sqrt(0.00025 * 0.45) = 0.0106066, t = 2.828427 on 4 degrees of freedom.
    # For 4 degrees of freedom the distribution function has a closed form:
    # F(t) = 1/2 + 3/8 (x - x^3 / 3) ... with x = t / sqrt(t^2 / 4 + 1) and
    # F(t) = 1/2 + (3/8) x (1 - x^2 / 12).
    def F(t):
        x = t / np.sqrt(1 + t**2 / 4)
        return 0.5 + 3 / 8 * x * (1 - x**2 / 12)

    found = correlated_t(np.array([0.01, 0.02, 0.03, 0.04, 0.05]), test_share=0.2, rope=0.01)
    scale = np.sqrt(0.00025 * 0.45)
    assert found["t"] == pytest.approx(2.8284271)
    assert found["p_value"] == pytest.approx(2 * (1 - F(2.8284271)), rel=1e-6)
    assert found["p_better"] == pytest.approx(1 - F((0.01 - 0.03) / scale), rel=1e-6)
    assert found["p_worse"] == pytest.approx(F((-0.01 - 0.03) / scale), rel=1e-6)
    assert found["p_worse"] + found["p_equivalent"] + found["p_better"] == pytest.approx(1)
    # 2.776445 is the 97.5 % point of t on 4 degrees of freedom, from any printed table.
    assert found["low"] == pytest.approx(0.03 - 2.776445 * scale, abs=1e-7)
    assert found["high"] == pytest.approx(0.03 + 2.776445 * scale, abs=1e-7)


def test_more_repeats_cannot_shrink_the_interval_below_the_fold_overlap():
    once = np.array([0.01, 0.05, 0.03, 0.02, 0.04])
    many = correlated_t(np.tile(once, 1000), 0.2)
    floor = np.std(once) * np.sqrt(0.25)  # only the term 1 / (k - 1) remains
    assert (many["high"] - many["low"]) / 2 == pytest.approx(1.96 * floor, rel=0.01)


def test_equal_differences_give_no_false_certainty():
    found = correlated_t(np.full(5, 0.1), 0.2)
    assert found["difference"] == pytest.approx(0.1)
    assert np.isnan(found["p_value"])
    assert np.isnan(correlated_t(np.array([0.1]), 0.2)["low"])


def scores(shift, seed=0, tasks=("RA", "MS"), n=60):
    rng = np.random.default_rng(seed)
    parts = []
    for number, task in enumerate(tasks):
        label = np.arange(n) % 2
        noise = np.random.default_rng(number).normal(size=n)
        score = 1 / (1 + np.exp(-(shift * label + noise + 0.1 * rng.normal(size=n))))
        parts.append(
            pd.DataFrame(
                {
                    "sample": [f"{task}{i}" for i in range(n)],
                    "group": [f"{task}{i}" for i in range(n)],
                    "task": task,
                    "repeat": 0,
                    "fold": np.arange(n) // 2 % 5,
                    "label": label,
                    "score": score,
                }
            )
        )
    return scores_of(pd.concat(parts, ignore_index=True))


def test_a_better_method_is_called_better_and_a_copy_equivalent():
    table = compare_methods(
        {"weak": scores(0.3), "same": scores(0.3, seed=1), "strong": scores(4)}, "weak"
    )
    overall = table[table["task"] == "all"].set_index("method")
    assert overall.loc["strong", "low"] > 0
    assert overall.loc["strong", "p_better"] > 0.95
    assert abs(overall.loc["same", "difference"]) < 0.02
    assert overall.loc["same", "p_value"] > 0.05
    mean = table[(table["method"] == "strong") & (table["task"] != "all")]["difference"].mean()
    assert overall.loc["strong", "difference"] == pytest.approx(mean)
    assert set(table["n_folds"]) == {5}


def test_six_tasks_reach_no_less_than_0_031():
    tasks = ("IBD", "MS", "Psoriasis", "RA", "SLE", "T1D")
    table = compare_methods(
        {"weak": scores(0.3, tasks=tasks), "strong": scores(4, tasks=tasks)}, "weak"
    )
    row = compare_across_tasks(table).iloc[0]
    assert row["n_better"] == 6
    assert row["p_value"] == pytest.approx(0.03125)
    assert row["smallest_p"] == 0.03125
    assert "cannot go below p = 0.0312" in table.attrs["note"]
    assert "can only just support" in row["note"]
    two = compare_methods({"a": scores(0.3), "b": scores(4)}, "a")
    assert "it cannot support a claim" in two.attrs["note"]


def test_refuses_methods_scored_on_other_folds():
    other = scores(0.3)
    predictions = other.attrs["predictions"].assign(fold=lambda t: (t["fold"] + 1) % 5)
    with pytest.raises(MiracleError, match="'b' and 'a' were scored on different folds"):
        compare_methods({"a": other, "b": scores_of(predictions)}, "a")
    with pytest.raises(MiracleError, match="The reference 'c' is not among"):
        compare_methods({"a": other}, "c")


def test_shuffling_keeps_the_pattern_of_labels_cohorts_and_groups():
    Y = pd.DataFrame(np.nan, index=range(40), columns=["RA", "MS"])
    Y.iloc[:30, 0] = (np.arange(30) % 3 == 0).astype(float)
    Y.iloc[20:, 1] = (np.arange(20) % 2 == 0).astype(float)
    cohort = np.repeat(["a", "b"], 20)
    groups = np.arange(40) // 2
    rng = np.random.default_rng(0)
    shuffled = shuffle_labels(Y, rng, cohort=cohort)
    assert shuffled.isna().equals(Y.isna())
    assert not shuffled.equals(Y)
    for name in "ab":
        assert shuffled[cohort == name].sum().equals(Y[cohort == name].sum())
    pairs = shuffle_labels(Y, rng, groups=groups)
    for task in Y:
        assert pairs_of(pairs[[task]]) == pairs_of(Y[[task]])


def pairs_of(Y):
    """Labels of each pair of rows, whatever the order of the pairs and within them."""
    rows = [str(tuple(row)) for row in Y.to_numpy(float).tolist()]
    return sorted(sorted(pair) for pair in zip(rows[::2], rows[1::2], strict=True))


def test_labels_of_a_sample_move_together_where_all_have_them():
    ill = np.arange(40) % 4 < 2
    Y = pd.DataFrame({"RA": ill, "MS": ill & (np.arange(40) % 3 == 0)}).astype(float)
    rng = np.random.default_rng(0)
    alone, pairs = shuffle_labels(Y, rng), shuffle_labels(Y, rng, groups=np.arange(40) // 2)
    assert alone.value_counts().equals(Y.value_counts())
    assert pairs_of(pairs) == pairs_of(Y)
    assert not alone.equals(Y)
    assert not pairs.equals(Y)


def test_diseases_that_share_their_controls_are_shuffled_each_by_itself():
    Y = pd.DataFrame(np.nan, index=range(60), columns=["RA", "MS"])
    Y.iloc[:20, 0], Y.iloc[20:40, 1], Y.iloc[40:] = 1, 1, 0
    rng = np.random.default_rng(0)
    draws = [shuffle_labels(Y, rng) for _ in range(50)]
    assert all(draw.isna().equals(Y.isna()) for draw in draws)
    assert all(draw.sum().equals(Y.sum()) for draw in draws)
    still = np.mean([[draw["RA"][:20].mean(), draw["MS"][20:40].mean()] for draw in draws], axis=0)
    np.testing.assert_allclose(still, 0.5, atol=0.06)  # cases that stay cases, SD 0.011


def test_discordant_pairs_are_turned_around_each_by_the_toss_of_a_coin():
    Y = pd.DataFrame({"RA": [1, 0] * 3}, index=["p1a", "p1b", "p2a", "p2b", "p3a", "p3b"])
    rng = np.random.default_rng(0)
    draws = [shuffle_labels(Y, rng, groups=[1, 1, 2, 2, 3, 3])["RA"] for _ in range(400)]
    table = np.stack([draw.to_numpy().reshape(3, 2) for draw in draws])
    assert (table.sum(axis=2) == 1).all()
    turned = pd.Series(["".join("01"[int(first)] for first in pairs[:, 0]) for pairs in table])
    counts = turned.value_counts()
    assert len(counts) == 8  # each of 2 ** 3, 50 times +- 7
    assert counts.between(25, 75).all()


def test_samples_of_a_group_change_places_only_where_they_are_labelled_alike():
    index = ["a1", "a2", "a3", "b1", "b2", "b3"]
    Y = pd.DataFrame({"RA": [1, 0, None] * 2, "MS": [None, None, 1, None, None, 0]}, index=index)
    rng = np.random.default_rng(0)
    draws = [shuffle_labels(Y, rng, groups=list("AAABBB")) for _ in range(50)]
    assert all(draw.isna().equals(Y.isna()) for draw in draws)
    assert {tuple(draw["MS"].dropna()) for draw in draws} == {(1, 0), (0, 1)}
    assert len({tuple(draw["RA"].dropna()) for draw in draws}) == 4


@pytest.mark.parametrize(
    "parts",
    [
        {"cohort": ["a", "a", "a", "a", "b", "b"]},
        {"groups": [1, 1, 2, 2, 3, 4]},  # the cases in pairs, the controls alone
    ],
)
def test_labels_that_cannot_be_shuffled_are_refused(parts):
    Y = pd.DataFrame({"RA": [1, 1, 1, 1, 0, 0], "MS": [1, 0, 1, 0, 1, 0]})
    with pytest.raises(MiracleError, match="the labels of RA cannot be shuffled: within a cohort"):
        shuffle_labels(Y, np.random.default_rng(0), **parts)


@pytest.mark.parametrize(("metric", "good", "bad"), [("auroc", 0.9, 0.5), ("brier", 0.1, 0.3)])
def test_a_score_that_is_absent_is_no_evidence(monkeypatch, metric, good, bad):
    columns = ["RA", "MS", "SLE"]
    scores = [[np.nan, good, good], [bad, np.nan, bad], [bad, bad, bad], [bad, bad, good]]
    found = iter([pd.Series(row, columns) for row in scores])
    monkeypatch.setattr(comparison, "_mean_score", lambda *_: next(found))
    Y = pd.DataFrame({task: [0, 1] * 4 for task in columns})
    X = pd.DataFrame({"cg1": np.linspace(0, 1, 8)})
    table = permutation_test(None, X, Y, metric=metric, n_permutations=3).set_index("task")
    assert np.isnan(table.loc["RA", "p_value"])
    assert table.loc["MS", "p_value"] == 0.5
    assert table.loc["SLE", "p_value"] == 0.5
