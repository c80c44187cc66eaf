"""The paper's protocol and network beside ours, on small simulated cohorts."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.samples import Samples
from miracle_lib.studies import by_change, by_protocol, paper, paper_reproduced, verdicts
from miracle_lib.studies.paper import (
    CHANGES,
    CODED,
    DESCRIBED,
    OURS,
    PATH,
    PROTOCOLS,
    STRICT,
    _shared,
    absent_as_zero,
    filled,
    network,
    paper_cell,
    random_splits,
    tied_to_all,
    variants,
)


@pytest.fixture(scope="module")
def world():
    made = simulate_cohorts({"MS": 40, "RA": 40}, n_sites=200, effect=0.5, random_state=0)
    X, Y, obs = merge_cohorts(list(made.cohorts.values()))
    samples = Samples(X, Y, cohort=obs["cohort"], subject=obs["subject"])
    hierarchy = Hierarchy.from_tables(made.site_gene, made.gene_sets, sites=X.columns)
    return samples, hierarchy, made.site_gene


def noise(n_sites=400):
    """Samples whose labels say nothing of their sites."""
    rng = np.random.default_rng(0)
    names = [f"s{i:03d}" for i in range(60)]
    X = pd.DataFrame(rng.uniform(0.2, 0.8, (60, n_sites)), names)
    X.columns = [f"cg{i:04d}" for i in range(n_sites)]
    return Samples(X, pd.DataFrame({"RA": np.tile([0.0, 1.0], 30)}, names))


def cell(samples, hierarchy, site_gene, method, protocol, **changed):
    settings = {"split": 0, "n_splits": 2, "n_sites": 20, "epochs": 3, "random_state": 0} | changed
    data = {"samples": samples, "hierarchy": hierarchy, "site_gene": site_gene}
    return paper_cell(method, protocol, **settings, **data)["scores"]


def test_sites_chosen_on_all_samples_find_a_signal_where_there_is_none(world):
    samples, (_, hierarchy, site_gene) = noise(), world
    scores = {
        protocol: [
            cell(samples, hierarchy, site_gene, "logistic regression, untuned", protocol, split=k)[
                "auroc"
            ].mean()
            for k in range(2)
        ]
        for protocol in PROTOCOLS
    }
    nested, leaky = np.mean(scores["absent sites are 0"]), np.mean(scores[list(PROTOCOLS)[-1]])
    assert nested < 0.7
    assert leaky > 0.85


def test_each_protocol_adds_one_thing_to_the_one_before():
    parts = list(PROTOCOLS.values())
    assert [len(each) for each in parts] == [0, 1, 2, 3]
    assert all(set(a) < set(b) for a, b in pairwise(parts))


def test_only_sites_that_a_cohort_did_not_measure_are_zero():
    nan = np.nan
    values = pd.DataFrame(
        [[0.2, nan, 0.5], [nan, nan, 0.7], [0.6, 0.8, nan], [0.8, 0.4, nan]],
        list("abcd"),
        ["cg1", "cg2", "cg3"],
    )
    samples = Samples(values, cohort=pd.Series(list("AABB"), list("abcd")))
    zeroed = absent_as_zero(samples)
    expected = [[0.2, 0, 0.5], [nan, 0, 0.7], [0.6, 0.8, 0], [0.8, 0.4, 0]]
    np.testing.assert_array_equal(zeroed.values, expected)
    # The single missing value is the mean of its cohort in the training part under either protocol.
    expected[1][0] = 0.2
    train = [0, 1, 2]
    np.testing.assert_allclose(filled(zeroed, zeroed.take(train)).values, expected, atol=1e-6)
    ours = filled(samples, samples.take(train)).values
    assert ours.loc["b"].tolist() == pytest.approx([0.2, 0.8, 0.7])
    assert ours.loc["d", "cg3"] == pytest.approx(0.6)  # no one of its cohort: mean over all


def test_random_splits_are_three_quarters_and_know_no_subjects(world):
    samples = world[0]
    one, two = random_splits(samples, 2)
    assert sorted([*one.train, *one.test]) == list(range(len(samples)))
    assert len(one.test) == round(len(samples) / 4)
    assert set(one.test) != set(two.test)
    shuffled = samples.take(np.random.default_rng(0).permutation(len(samples)))
    again = next(random_splits(shuffled, 1))
    assert set(shuffled.names[again.test]) == set(samples.names[one.test])


def test_genes_without_a_set_are_tied_to_every_pathway():
    sites = [f"cg{i}" for i in range(5)]
    site_gene = pd.DataFrame({"site": sites, "gene": ["A", "B", "C", "D", None]})
    hierarchy = Hierarchy.from_tables(site_gene, {"P": ["A", "B"], "Q": ["B"]}, min_genes=1)
    tied = tied_to_all(hierarchy, site_gene, pd.Index(sites[:3] + sites[4:]))
    assert tied.gene_sets() == {"P": ["A", "B", "C"], "Q": ["B", "C"]}
    assert list(tied.sites) == sites[:3]


def test_fewer_epochs_come_with_as_much_higher_rates(world):
    model = network(variants()[DESCRIBED], world[1], 80, 3)
    assert model.training.epochs == (80, 80, 80)
    assert model.training.learning_rate == pytest.approx((1e-2, 1e-3, 1e-3))
    whole = network(variants()[CODED], world[1], 800, 3)
    assert whole.training.learning_rate == pytest.approx((1e-3, 1e-4, 1e-4))
    level = network(variants()["paper, but: one learning rate for all stages"], world[1], 800, 3)
    assert level.training.learning_rate == pytest.approx((1e-3, 1e-3, 1e-3))
    assert network(variants()[OURS], world[1], 80, 3).training.epochs is None
    assert network(variants()[STRICT], world[1], 80, 3).design.reads == ("pathways",)


def test_each_change_is_one_part_of_the_papers_network_and_the_path_adds_them_up(world):
    paper_design = network(variants()[DESCRIBED], world[1], 800, 0)
    for name in CHANGES:
        model = network(variants()[f"paper, but: {name}"], world[1], 800, 0)
        assert (model.design, model.training.get_params()) != (
            paper_design.design,
            paper_design.training.get_params(),
        )
    last = variants()[f"and: {PATH[-1]}"]
    assert last == {"preset": "paper"} | {k: v for name in PATH for k, v in CHANGES[name].items()}


def test_every_network_is_scored_and_finished_cells_are_kept(world, tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "CHANGES", {"no ReLU": CHANGES["no ReLU"]})
    monkeypatch.setattr(paper, "PATH", ("no ReLU",))
    ends = {name: PROTOCOLS[name] for name in ("ours", list(PROTOCOLS)[-1])}
    monkeypatch.setattr(paper, "PROTOCOLS", ends)
    monkeypatch.setattr(paper, "BASELINES", {"logistic regression, tuned": "logistic_l2"})
    settings = {"epochs": 2, "n_splits": 2, "n_sites": 20}
    scores = paper_reproduced(*world, tmp_path, **settings)
    assert set(scores["task"]) == {"MS", "RA"}
    assert scores.groupby(["method", "protocol"]).size().eq(4).all()
    monkeypatch.setattr(paper, "evaluate_fold", None)  # nothing is computed again
    pd.testing.assert_frame_equal(paper_reproduced(*world, tmp_path, **settings), scores)
    table = by_protocol(scores)
    assert len(table) == 5 * 2
    assert table["mean"].between(0, 1).all()
    changed = by_change(scores)
    assert list(changed["how"].unique()) == ["alone", "one after the other"]
    assert changed.loc[0, ["difference", "sd_difference"]].tolist() == [0, 0]


def table_of(**means):
    """Scores of methods under our protocol: two splits, two tasks."""
    rows = [
        (method, "ours", split, task, mean + 0.01 * split + 0.02 * (task == "RA"), 20)
        for method, mean in means.items()
        for split in (0, 1)
        for task in ("MS", "RA")
    ]
    return pd.DataFrame(rows, columns=["method", "protocol", "split", "task", "auroc", "n"])


def test_summaries_by_hand():
    scores = table_of(**{DESCRIBED: 0.6, OURS: 0.8, f"paper, but: {PATH[0]}": 0.7})
    table = by_protocol(scores).set_index(["method", "protocol"])
    row = table.loc[(OURS, "ours")]
    assert row["mean"] == pytest.approx(0.815)
    assert row["sd"] == pytest.approx(0.01 / np.sqrt(2))
    changed = by_change(scores).dropna(subset="mean").set_index("change")
    assert changed.loc[PATH[0], "difference"].tolist() == pytest.approx([0.1, 0.1])  # in both parts
    assert changed.loc[OURS, "difference"] == pytest.approx(0.2)
    assert changed.loc[OURS, "sd_difference"] == pytest.approx(0, abs=1e-9)


def test_a_sentence_holds_fails_or_cannot_be_told_as_its_interval_says():
    means = {DESCRIBED: 0.6, CODED: 0.9, OURS: 0.8, "logistic regression, tuned": 0.8}
    means |= {f"paper, but: {name}": 0.6 for name in CHANGES}
    means["paper, but: no Kullback-Leibler term"] = 0.5
    scores = table_of(**means)
    scores.loc[scores["method"] == OURS, "auroc"] += [0.1, -0.1, 0.05, -0.05]
    effects = pd.DataFrame(
        [
            ("tasks", "multi-task", "single-task", "all", 0.02, 0.01, 0.03),
            ("mask", "permuted", "biological", "all", 0.02, 0.01, 0.03),
            ("latent", "plain autoencoder", "variational", "all", -0.02, -0.03, -0.01),
        ],
        columns=["comparison", "level", "reference", "task", "difference", "low", "high"],
    )
    table = verdicts(scores, effects, named(["P1", "P2"], ["P1", "P2"])).set_index("sentence")
    found = table["verdict"]
    assert found.head(3).tolist() == ["does not hold", "holds", "cannot be told here"]
    assert found["Learning the tasks together improves prediction"] == "holds"
    assert found["The annotation is what predicts"] == "does not hold"
    assert found["Sampling and the Kullback-Leibler term prevent overfitting"] == "holds"
    assert found["... sampling, in the paper's network"] == "cannot be told here"
    assert found["... the Kullback-Leibler term, in the paper's network"] == "holds"
    assert "over 2 tasks x 2 folds of our protocol" in table["evidence"].iloc[0]


def named(*tasks):
    """Which of 40 pathways each task names."""
    names = pd.Index([f"P{i}" for i in range(40)])
    return pd.DataFrame({f"T{number}": names.isin(each) for number, each in enumerate(tasks)})


def test_common_functions_are_more_than_as_many_named_at_random():
    some = [f"P{i}" for i in range(6)]
    verdict, evidence = _shared(named(some, some))
    assert verdict == "holds"
    # 6 of 40 twice: 0.9 in common by chance
    assert evidence.startswith("6 of 6 pathways named are named in several tasks; 0.9 (95% 0 to")
    assert (
        _shared(named(some, ["P5", *(f"P{i}" for i in range(10, 15))]))[0] == "cannot be told here"
    )
    many = [f"P{i}" for i in range(20)]
    assert _shared(named(many, [f"P{i}" for i in range(20, 40)]))[0] == "does not hold"
    # one task has nothing to share
    assert _shared(named(some))[0] == "cannot be told here"
