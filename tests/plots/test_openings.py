"""What a chapter opens with, of tables made by hand."""

import pandas as pd
import pytest

from miracle_lib.plots import openings

REPORT = pd.DataFrame(
    {
        "level": ["sample", "sample", "site"],
        "action": ["dropped", "flagged", "dropped"],
        "n": [1, 2, 70],
    }
)


def described(*tasks, older=5.0, shared=0):
    table = pd.DataFrame(
        {
            "task": tasks,
            "samples": 100,
            "cases": 40,
            "controls": 60,
            "age, cases": [50 + older] + [50.0] * (len(tasks) - 1),
            "age, controls": 50.0,
        },
        index=[f"GSE{k}" for k in range(len(tasks))],
    )
    table.attrs["shared"] = shared
    return table


def test_cohorts_are_counted_and_a_task_of_one_cohort_is_named():
    text = openings.cohorts(described("RA", "RA", "MS"), REPORT)
    assert "3 cohorts of 2 tasks bring 300 samples: 120 cases and 180 controls." in text
    assert (
        "dropped 1 sample and raised 2 flags; ages differ most in GSE0: cases 5.0 years older."
        in text
    )
    assert "*What it cannot show*: MS comes from one cohort, so a laboratory's mark" in text


def test_samples_of_several_cohorts_are_said():
    text = openings.cohorts(described("RA", "MS", shared=60), REPORT)
    assert "bring 200 samples, 60 of them in an earlier cohort, too: 80 cases and 120" in text


def test_one_cohort_without_ages_says_so():
    text = openings.cohorts(described("RA", older=float("nan")), REPORT)
    assert "1 cohort of 1 task brings 100 samples" in text
    assert "the ages of cases and controls are not known." in text


def test_cohorts_that_share_every_task_leave_another_doubt():
    text = openings.cohorts(described("RA, MS", "MS, RA"), REPORT)
    assert "2 cohorts of 2 tasks" in text
    assert text.endswith("what the several cohorts of a task share may still be a common bias.")


def test_the_mask_tells_what_falls_through():
    values = {
        "sites given": 200,
        "sites with a gene": 150,
        "share of sites with a gene": 0.75,
        "sites that reach a pathway": 80,
        "pathways": 9,
        "genes": 30,
        "pathways equal to another": 0,
        "pathways nested in another": 1,
        "genes per pathway, median": 7,
        "genes per pathway, most": 40,
    }
    text = openings.mask(pd.DataFrame({"what": values.keys(), "value": values.values()}))
    assert "Of 200 sites, 150 (75%) have a gene and 80 (40%) reach one of 9 pathways" in text
    assert "1 pathway equals another or lies within one." in text
    assert "120 sites (60%) reach no pathway" in text


def summary(*rows):
    return pd.DataFrame(rows, columns=["task", "estimate", "low", "high"]).assign(metric="auroc")


def compared(**differences):
    rows = [("all", name, *values) for name, values in differences.items()]
    return pd.DataFrame(rows, columns=["task", "method", "difference", "low", "high"])


def test_scores_stand_beside_their_references_by_the_interval():
    own = summary(("RA", 0.9, 0.8, 1), ("MS", 0.6, 0.5, 0.7), ("all", 0.75, 0.7, 0.8))
    text = openings.scores(
        {"MIRACLE": own},
        compared(
            logistic=(0.01, -0.02, 0.04), covariates=(-0.2, -0.3, -0.1), svm=(0.1, 0.05, 0.15)
        ),
        "MIRACLE",
    )
    assert "reaches 0.75 (95% interval 0.70 to 0.80), its mean AUROC over 2 tasks" in text
    assert "from 0.60 (MS) to 0.90 (RA)." in text
    assert "logistic no clear difference, +0.010 (−0.020 to +0.040)" in text
    assert "covariates lower, −0.200" in text
    assert "svm higher, +0.100" in text


def test_one_task_has_no_mean():
    own = summary(("RA", 0.5, 0.4, 0.6), ("all", 0.5, 0.4, 0.6))
    text = openings.scores({"MIRACLE": own}, compared(logistic=(0, -1, 1)), "MIRACLE")
    assert "MIRACLE reaches 0.50 (95% interval 0.40 to 0.60), its AUROC for RA." in text


def effects(*rows):
    columns = ["comparison", "level", "reference", "difference", "low", "high", "p_equivalent"]
    return pd.DataFrame(rows, columns=columns).assign(task="all")


SIGNS = pd.DataFrame({"sign": ["cohort leakage", "unstable"], "failed": [False, True]})


def test_ablations_say_what_is_decided_and_what_is_not():
    table = effects(
        ("baselines", "knn", "miracle", -0.3, -0.4, -0.2, 0.0),
        ("mask", "random", "biological", -0.1, -0.15, -0.05, 0.0),
        ("latent", "plain", "variational", 0.001, 0.0005, 0.0015, 1.0),
        ("tasks", "multi-task", "single-task", 0.02, -0.05, 0.09, 0.3),
        ("leak", "leaky", "nested", 0.05, 0.01, 0.09, 0.0),
    )
    text = openings.ablations(table, SIGNS)
    assert "Of 3 changes to the design, 1 makes no difference that matters" in text
    assert "1 a clear one (worse are random against biological)" in text
    assert "1 of 2 checks for failure warns (unstable)" in text
    assert "with the test labels in sight adds +0.050 (+0.010 to +0.090)." in text


def test_ablations_of_one_task_say_what_they_cannot_show():
    mean = effects(("tasks", "multi", "single", 0.0, 0.0, 0.0, 1.0))
    one = openings.ablations(pd.concat([mean, mean.assign(task="RA")]), SIGNS)
    assert "; with one task there is nothing to learn together" in one
    several = pd.concat([mean, mean.assign(task="RA"), mean.assign(task="MS")])
    assert "one task" not in openings.ablations(several, SIGNS)


def explained(*q_values):
    return pd.DataFrame({"q_value": q_values})


def test_nothing_found_is_said_plainly():
    recovery = pd.DataFrame({"named": [0]}, index=["RA"])
    text = openings.pathways({"RA": explained(0.4, 1.0)}, 0.05, recovery, None)
    assert "no pathway has evidence beyond shuffled labels, so this book names none." in text
    assert "With one task nothing can be common to several diseases." in text


@pytest.mark.parametrize(("p", "said"), [(0.001, "more than"), (0.4, "not clearly more than")])
def test_named_pathways_are_counted_beside_chance(p, said):
    recovery = pd.DataFrame({"named": [2, 1], "planted": [5, 5], "named and planted": [2, 0]})
    common = pd.DataFrame()
    common.attrs["overlap"] = {"observed": 1, "expected": 0.4, "p_value": p}
    tables = {"RA": explained(0.01, 0.02), "M*S": explained(0.03, 0.6)}
    text = openings.pathways(tables, 0.05, recovery, common)
    assert r"names pathways: RA 2 and M\*S 1; 2 of these 3 are among the 10" in text
    assert f"name 1 pathway in common, {said} the 0.4" in text


def test_open_questions_keep_simulations_and_the_run_apart():
    interval = {"mean": 0.02, "low": 0.01, "high": 0.03}
    sharing = pd.DataFrame(
        [{"share": 0.0, "n": 60, **interval, "mean": -0.01}, {"share": 1.0, "n": 60, **interval}]
    )
    hidden = pd.DataFrame(
        [{"outside": 1.0, "model": "masked + sites", "measure": "auroc", **interval}]
    )
    policies = pd.DataFrame(
        {"difference": [None, 0.1, 0.0], "low": [None, 0.05, -1], "high": [None, 0.2, 1]}
    )
    sites = pd.DataFrame(
        {"level": ["50", "all"], "auroc": [0.7, 0.8], "low": [0.6, 0.7], "high": [0.8, 0.9]}
    )
    text = openings.questions(sharing, hidden, policies, sites)
    assert "by +0.020 (+0.010 to +0.030) where diseases share 100% of their pathways" in text
    assert "and by −0.010 (+0.010 to +0.030) where they share 0%" in text
    assert "1 of 2 weighting policies differs from the paper's" in text
    assert "highest with all sites per task (0.80, 0.70 to 0.90)" in text
    alone = openings.questions(sharing, hidden, policies.assign(difference=[None, 0, 0]), sites)
    assert "all weighting policies score the same, and the AUROC" in alone
    few = openings.questions(sharing, hidden, policies, sites.iloc[:0])
    assert "and the data have too few sites to choose among. *What" in few


def test_the_paper_is_opened_with_its_scores_and_sentences():
    methods = ["paper, as described", "paper, as coded", "ours", "logistic regression, tuned"]
    protocols = pd.DataFrame(
        {
            "method": methods * 2,
            "protocol": ["ours"] * 4 + ["sites chosen on all samples"] * 4,
            "mean": [0.6, 0.5, 0.9, 0.85, 0.65, 0.5, 0.91, 0.95],
            "sd": [0.03, 0.02, 0.00009, 0.01, 0.1, 0.1, 0.1, 0.1],
        }
    )
    changes = pd.DataFrame(
        {
            "how": ["alone", "alone", "alone", "one after the other"],
            "change": ["paper, as described", "no ReLU", "linear heads", "ours"],
            "difference": [0.0, -0.1, 0.2, 0.3],
            "sd_difference": [0.0, 0.01, 0.02, 0.03],
        }
    )
    verdicts = pd.DataFrame({"verdict": ["holds", "does not hold", "holds", "by construction"]})
    text = openings.paper(protocols, changes, verdicts)
    assert (
        "an AUROC (SD over splits) of 0.60 (0.030) as described and 0.50 (0.020) as coded" in text
    )
    assert "tuned logistic regression 0.85 (0.010) and ours 0.90 (0.000)" in text
    assert "*linear heads* does most (+0.200, SD 0.020); of 4 sentences 2 hold, 1 do not" in text
    assert text.count("*What it cannot show*") == 1
