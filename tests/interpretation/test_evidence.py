import numpy as np
import pytest
from scipy import sparse
from scipy.stats import kstest

from miracle_lib.interpretation.evidence import Problem, evidence, shuffled_labels


def make(rng, n=60, planted=None, blocks=None):
    """Sites of 40 overlapping pathways of 4 to 30 sites, with a factor per pathway."""
    sizes = np.linspace(4, 30, 40).astype(int)
    member = np.zeros((300, 40))
    for column, size in enumerate(sizes):
        member[rng.choice(300, size, replace=False), column] = 1
    label = rng.permutation(np.repeat([0.0, 1.0], n // 2))
    if blocks is not None:
        label = label[blocks]
    factors = rng.normal(size=(n, 40))
    sites = rng.normal(size=(n, 300)) + 0.3 * factors @ member.T
    if planted is not None:
        sites += 0.9 * label[:, None] * member[:, planted]
    latent = sites @ member
    latent = (latent - latent.mean(axis=0)) / latent.std(axis=0)
    return Problem(
        sites=sites,
        latent=latent,
        covariance=latent @ latent.T / 40,
        member=sparse.csr_array(member),
        label=label,
        block=np.arange(n) if blocks is None else blocks,
        stratum=np.zeros(n),
        covariates=rng.normal(size=(n, 2)),
    )


def test_null_p_values_are_uniform_and_nothing_is_named():
    rng = np.random.default_rng(0)
    p, named = [], 0
    for run in range(40):
        found = evidence(make(rng), 200, run)
        p.append(rng.choice(found["p_value"]))  # one per run: nodes of a run depend on each other
        named += (found["q_value"] <= 0.05).any()
    assert kstest(p, "uniform").pvalue > 0.01
    assert named <= 5  # 2 expected; 6 or more have probability 0.014


def test_evidence_does_not_follow_degree():
    rng = np.random.default_rng(1)
    z = np.mean([evidence(make(rng), 100, run)["z"] for run in range(20)], axis=0)
    assert abs(np.corrcoef(z, np.linspace(4, 30, 40))[0, 1]) < 0.4


@pytest.mark.parametrize("planted", [3, 35])
def test_a_planted_pathway_is_first_whether_small_or_large(planted):
    found = evidence(make(np.random.default_rng(2), planted=planted), 200)
    assert found["z"].idxmax() == planted
    assert found.loc[planted, "q_value"] < 0.01
    assert found.loc[planted, "directed"] > 3


def test_samples_of_one_subject_keep_one_label():
    blocks = np.repeat(np.arange(30), 2)
    problem = make(np.random.default_rng(3), blocks=blocks)
    labels = shuffled_labels(problem, 20, 0)
    assert (labels[::2] == labels[1::2]).all()
    assert (labels.sum(axis=0) == labels[:, 0].sum()).all()
    assert len(np.unique(labels.T, axis=0)) == 21


def test_twins_of_whom_one_is_ill_change_places_and_name_what_was_planted():
    problem = make(np.random.default_rng(7), planted=35)
    cases, controls = (np.flatnonzero(problem.label == value) for value in (1, 0))
    problem.block = np.arange(60)
    problem.block[cases[:25]] = problem.block[controls[:25]]  # five of each are no twins
    labels = shuffled_labels(problem, 20, 0)
    assert (labels[:, 0] == problem.label).all()
    assert (labels[cases[:25]] + labels[controls[:25]] == 1).all()
    assert (labels[[*cases[25:], *controls[25:]]].sum(axis=0) == 5).all()
    assert len(np.unique(labels.T, axis=0)) == 21
    found = evidence(problem, 200)
    assert found["z"].idxmax() == 35
    assert found.loc[35, "q_value"] < 0.05


def test_labels_are_shuffled_within_strata():
    problem = make(np.random.default_rng(4))
    problem.stratum = np.repeat([0, 1], 30)
    labels = shuffled_labels(problem, 20, 0)
    assert (labels[:30].sum(axis=0) == labels[:30, 0].sum()).all()


def test_twins_change_places_only_within_a_stratum():
    problem = make(np.random.default_rng(8))
    problem.label = np.tile([1.0, 0.0], 30)
    problem.block = np.repeat(np.arange(30), 2)
    problem.stratum = np.where(np.arange(60) < 20, np.arange(60) % 2, 2)
    labels = shuffled_labels(problem, 20, 0)
    assert (labels[:20] == labels[:20, :1]).all()  # one twin of each pair in either cohort
    assert len(np.unique(labels.T, axis=0)) == 21


def test_labels_that_cannot_be_shuffled_are_pointed_out():
    problem = make(np.random.default_rng(9), planted=35)
    problem.stratum = problem.label  # a cohort of cases, and one of controls
    with pytest.warns(UserWarning, match="The labels cannot be shuffled: no two subjects of a coh"):
        found = evidence(problem, 20)
    assert (found[["p_value", "q_value"]] == 1).all(axis=None)


def test_a_covariate_that_explains_the_pathway_removes_it():
    problem = make(np.random.default_rng(5), planted=20)
    problem.covariates = problem.label[:, None] + np.random.default_rng(6).normal(0, 0.1, (60, 1))
    found = evidence(problem, 200)
    assert found.loc[20, "p_value"] > 0.01
