import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.metrics import average_precision_score

import miracle_lib as ml
from miracle_lib.evaluation import PerTaskBaseline
from miracle_lib.interpretation import attribute, weight_products
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.training import Trainer, TrainingData, make_settings
from miracle_lib.training.paths import PathHeads, common_direction, shares_of_pathways
from miracle_lib.training.settings import along_paths, list_stages
from miracle_lib.training.trainer import Common, MemberFit

QUIET = {"training": ml.Training(progress=False)}


@pytest.fixture(scope="module")
def world():
    simulated = ml.simulate_cohorts({"MS": 90, "RA": 90}, n_sites=800, effect=0.3, random_state=1)
    X, Y, obs = ml.merge_cohorts(list(simulated.cohorts.values()))
    mask = ml.Hierarchy.from_tables(simulated.site_gene, simulated.gene_sets)
    samples = ml.Samples(X, Y, cohort=obs["cohort"], subject=obs["subject"])
    return simulated, mask, samples


@pytest.fixture(scope="module")
def strict(world):
    return ml.MiracleClassifier(world[1], reads=("pathways",), **QUIET).fit(world[2])


def test_sites_that_disagree_keep_their_signs():
    """The mean of the effects of gene 0 is 0; task 1 has half of what task 0 has."""
    effects = np.array([[2.0, 1.0], [-2.0, -1.0], [0.0, 0.0]])
    weight, direction = common_direction(effects, np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(weight[:2, None] * direction[[0]], effects[:2], atol=1e-12)
    assert weight[2] == 0
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), 1)


def test_tasks_that_disagree_share_what_they_have_most_in_common():
    effects = np.array([[3.0, 0.0], [0.0, 1.0]])
    weight, direction = common_direction(effects, np.array([0, 0]), 1)
    np.testing.assert_allclose(weight, [3, 0], atol=1e-12)
    np.testing.assert_allclose(direction, [[1, 0]], atol=1e-12)


def test_a_gene_is_divided_by_what_its_pathways_explain():
    """Pathway 1 has genes of large associations alone, and of those of pathway 0 only gene 3."""
    gene_pathway = sp.csr_matrix([[1.0, 0], [1, 0], [1, 0], [1, 1], [0, 1], [0, 1]])
    association = np.array([[0.1], [-0.1], [0.2], [4], [-4], [5]])
    shares = shares_of_pathways(association, sp.identity(6, format="csr"), gene_pathway)
    assert shares.shape == (7, 1)
    np.testing.assert_allclose(shares[[0, 1, 2, 5, 6]], 1)
    np.testing.assert_allclose(shares[3] + shares[4], 1)
    assert shares[4] > 0.95
    silent = shares_of_pathways(association * np.nan, sp.identity(6, format="csr"), gene_pathway)
    np.testing.assert_allclose(silent[3:5], 0.5)


def fit_of(world, tasks):
    _, mask, samples = world
    if len(tasks) == 1:
        samples = samples.task(tasks[0])
    mask = mask.restrict(samples.sites)
    z = CohortStandardizer().fit_transform(samples.values, cohort=samples.cohort)[mask.sites]
    data = TrainingData(
        torch.from_numpy(z.to_numpy(np.float32)),
        torch.from_numpy(samples.labels[tasks].to_numpy(np.float32)),
        torch.randn(len(z), 2, generator=torch.Generator().manual_seed(0)),
        np.arange(len(z)),
    )
    settings = make_settings("default", (2, 2, 2), design={"reads": ("pathways",)})
    trainer = Trainer(mask, data, tasks, settings, sharing=0.5, progress=False)
    return MemberFit(trainer, Common(trainer, {}), 0)


@pytest.mark.parametrize("tasks", [["MS"], ["MS", "RA"]])
def test_effects_of_sites_pass_the_pathways(world, tasks):
    """Exactly for one task, and nearly for two; covariates have no say."""
    fit = fit_of(world, tasks)
    fit.calibrate()
    torch.nn.init.ones_(fit.member.network.covariates_to_gene.weight)
    heads = fit.convex_heads()
    assert isinstance(heads, PathHeads)
    assert list(heads.problem.blocks) == ["sites"]
    heads.run(0)
    heads.finish()
    data, pairs = fit.trainer.data, heads.problem.pairs
    logits = fit.member(data.x, data.covariates).detach().numpy()[pairs.row, pairs.task]
    wanted = heads.problem.logits(-1, heads.solutions[-1])
    if len(tasks) == 1:
        np.testing.assert_allclose(logits, wanted, atol=0.01)
    assert np.corrcoef(logits, wanted)[0, 1] > 0.97
    assert logits.mean() == pytest.approx(wanted.mean(), abs=1e-4)
    features = fit.member.features(data.x, data.covariates)
    for name in ("genes", "pathways"):
        spread = features[name].std(0).numpy()
        np.testing.assert_allclose(spread[spread > 0], 1, atol=1e-3)


def test_the_labels_come_first_and_the_autoencoder_leaves_what_they_wrote(world):
    fit = fit_of(world, ["MS", "RA"])
    settings = fit.trainer.settings
    assert [stage.name for stage in list_stages(settings)] == ["heads", "autoencoder"]
    assert not along_paths(settings, "joint")
    assert not along_paths(make_settings("default", design={"reads": ("pathways", "genes")}))
    curved = {"reads": ("pathways",), "activation": "tanh"}
    assert not along_paths(make_settings("default", design=curved))
    assert not along_paths(make_settings("paper"))
    trained = fit.trainer.fit()
    rows = [row["stage"] for row in trained.history]
    assert rows == sorted(rows, reverse=True)
    member, data = trained.members[0], fit.trainer.data
    spread = member.features(data.x, data.covariates)["pathways"].std(0)
    assert (spread - 1).abs().max() < 1e-3
    last = trained.history[-1]
    assert last["validation_kept"] <= last["validation_start"]


def test_planted_pathways_are_predicted_from_and_found(world, strict):
    """The network reads pathways alone and does no worse than a regression on their sites."""
    simulated, mask, samples = world
    inside = samples.replace(values=samples.values[mask.restrict(samples.sites).sites])
    ours = ml.cross_validate(clone(strict), inside, n_splits=2)["auroc"].mean()
    regression = ml.cross_validate(PerTaskBaseline("logistic_l2"), inside, n_splits=2)["auroc"]
    assert ours > regression.mean() - 0.01
    truth = simulated.truth.pathways
    for task in strict.tasks_:
        size = weight_products(strict, task)["pathway"].abs()
        planted = size.index.isin(truth.loc[truth["task"] == task, "pathway"])
        assert average_precision_score(planted, size) > 3 * planted.mean()


def test_contributions_of_paths_add_up_to_the_logit(world, strict):
    samples = world[2].task("MS").take(range(8))
    logits = strict.decision_function(samples)["MS"].to_numpy()
    at_mean = logits - attribute(strict, samples, "MS", "pathway").sum(axis=1)
    np.testing.assert_allclose(at_mean, at_mean.iloc[0], atol=1e-3)
    per_site = logits - attribute(strict, samples, "MS", "site").sum(axis=1)
    np.testing.assert_allclose(per_site, at_mean, atol=1e-3)
    assert set(strict.sites_) == set(world[1].restrict(samples.sites).sites)
