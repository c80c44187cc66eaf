import os
import subprocess
import sys
import textwrap
from functools import partialmethod

import numpy as np
import pytest
import torch

from miracle_lib import training
from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.model import MaskedLinear
from miracle_lib.model.weighting import POLICIES
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.training import PRESETS, Checkpoint, Trainer, TrainingData, make_settings
from miracle_lib.training.convex import HeadProblem
from miracle_lib.training.penalty import head_penalty
from miracle_lib.training.prior import Prior
from miracle_lib.training.settings import list_stages
from miracle_lib.training.stages import GradientStage, task_gradients
from miracle_lib.training.trainer import Common, MemberFit

TASKS = ["MS", "RA"]


def make_trainer(**options):
    simulated = simulate_cohorts({"MS": 40, "RA": 50}, n_sites=300, random_state=0)
    X, Y, obs = merge_cohorts(list(simulated.cohorts.values()))
    hierarchy = Hierarchy.from_tables(simulated.site_gene, simulated.gene_sets).restrict(X.columns)
    order = hierarchy.sites.append(X.columns[~X.columns.isin(hierarchy.sites)])
    z = CohortStandardizer().fit_transform(X, cohort=obs["cohort"])[order]
    data = TrainingData(
        torch.from_numpy(z.to_numpy()),
        torch.from_numpy(Y[TASKS].to_numpy(np.float32)),
        torch.zeros(len(X), 0),
        np.arange(len(X)),
    )
    settings = make_settings("default", (3, 3, 3), None, 32)
    options = {"tasks": TASKS, "progress": False} | options
    return Trainer(hierarchy, data, settings=settings, **options)


def gradient_settings(epochs, learning_rate=None, preset="paper", **design):
    """The paper's schedule for the network of the default preset."""
    design = vars(PRESETS["default"].design) | design
    return make_settings(preset, epochs, learning_rate, design=design)


def first_fit(trainer):
    """The training of the first member, not begun."""
    return MemberFit(trainer, Common(trainer, {}), 0)


def weights(trained):
    return [value for member in trained.members for value in member.state_dict().values()]


# Trains once per moment, in a child that is killed right after the state of that epoch is written.
KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_trainer import MOMENTS, make_trainer
    from miracle_lib.training import Checkpoint

    class Killing(Checkpoint):
        def save(self, state):
            super().save(state)
            last = state["history"][-1]
            if (last["member"], last["stage"], last["epoch"]) == self.moment:
                os.kill(os.getpid(), signal.SIGKILL)

    for moment in MOMENTS:
        if not os.fork():
            checkpoint = Killing(Path({folder!r}) / f"{{moment[1]}}.pt")
            checkpoint.moment = moment
            make_trainer(n_members=2, weighting="famo", checkpoint=checkpoint).fit()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
"""
MOMENTS = [(0, "autoencoder", 2), (1, "heads", 1), (0, "finetune", 1)]


@pytest.fixture(scope="module")
def uninterrupted():
    return make_trainer(n_members=2, weighting="famo").fit()


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Folder with the states that the killed trainings left."""
    folder = tmp_path_factory.mktemp("states")
    code = KILLED.format(tests=os.path.dirname(__file__), folder=str(folder))
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return folder


@pytest.mark.parametrize("stage", [moment[1] for moment in MOMENTS])
def test_killed_training_continues_to_the_same_weights(states, uninterrupted, stage):
    path = states / f"{stage}.pt"
    assert path.exists()
    resumed = make_trainer(n_members=2, weighting="famo", checkpoint=Checkpoint(path)).fit()
    assert resumed.history == uninterrupted.history
    for ours, theirs in zip(weights(resumed), weights(uninterrupted), strict=True):
        assert torch.equal(ours, theirs)
    assert not path.exists()


class Interrupted(Checkpoint):
    """Stops the training once, after a number of states."""

    left = 2

    def save(self, state):
        super().save(state)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


OTHER_WAYS = {
    "joint": {},
    "paper": {},
    "hidden heads": {"head_units": 3},
    "heads from the start": {"preset": "paper_code"},
    "batch normalisation": {"norm": "batch"},
}


@pytest.mark.parametrize("kind", OTHER_WAYS)
def test_other_ways_of_training_continue_too(tmp_path, kind):
    """Heads that are trained from the start see an encoder that then changes."""

    def trainer(checkpoint):
        made = make_trainer(
            checkpoint=checkpoint,
            stages="joint" if kind == "joint" else "three",
        )
        if kind != "joint":
            made.settings = gradient_settings((1, 3, 2), **OTHER_WAYS[kind])
        return made

    straight = trainer(Checkpoint()).fit()
    interrupted = Interrupted(tmp_path / "state.pt")
    if kind == "batch normalisation":
        interrupted.left = 5
    with pytest.raises(KeyboardInterrupt):
        trainer(interrupted).fit()
    resumed = trainer(Checkpoint(tmp_path / "state.pt")).fit()
    assert resumed.history == straight.history
    for ours, theirs in zip(weights(resumed), weights(straight), strict=True):
        assert torch.equal(ours, theirs)


def test_a_trainer_keeps_nothing_of_its_fits():
    trainer = make_trainer(weighting="pwinval")
    before = dict(vars(trainer))
    first = trainer.fit()
    assert vars(trainer) == before
    second = trainer.fit()
    assert first.history == second.history
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_same_seed_same_weights_and_another_seed_other_weights():
    one, same, other = (make_trainer(seed=seed).fit() for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(same), strict=True))
    assert not torch.equal(weights(one)[0], weights(other)[0])


def test_every_member_starts_from_weights_of_its_own():
    trainer = make_trainer()
    first, second = trainer.new_member(0), trainer.new_member(1)
    drawn = 0
    for (name, ours), theirs in zip(first.named_parameters(), second.parameters(), strict=True):
        if name.endswith("weight") and "covariates" not in name:
            assert (ours != theirs).all(), name
            drawn += ours.numel()
    layers = [each for each in first.modules() if isinstance(each, MaskedLinear)]
    assert drawn == sum(layer.weight.numel() for layer in layers) > 500


def test_what_is_missing_does_not_make_a_site_precise():
    fit = first_fit(make_trainer())
    x, network = fit.trainer.data.x, fit.member.network
    fit.calibrate()
    before = network.site_logvar.clone()
    site, never = before.topk(2).indices
    x[:, never] = 0
    x[::2, site] = 0
    fit = first_fit(fit.trainer)
    fit.calibrate()
    after = fit.member.network.site_logvar
    assert after[never] == 0  # a standardised value has variance 1
    assert after[site] > before[site] - 0.2  # half of the values: log 2 less, were zeros counted


def test_stages_are_a_list_of_what_counts_and_what_is_trained():
    stages = list_stages(make_settings("paper", (1, 0, 1), None, None))
    assert [(stage.name, stage.losses, stage.on_trial) for stage in stages] == [
        ("autoencoder", ("reconstruction", "kl"), False),
        ("finetune", ("reconstruction", "kl", "task", "penalty"), False),
    ]
    exact = list_stages(make_settings("default", None, None, None))
    assert [stage.solver for stage in exact] == ["adam", "convex", "adam"]
    assert exact[-1].on_trial
    assert not list_stages(make_settings("default", (1, 0, 1), None, None))[-1].on_trial
    (joint,) = list_stages(make_settings("default", (2, 9, 3), None, None), "joint")
    assert (joint.settings.epochs, joint.trains) == (5, ("autoencoder", "heads"))


def test_the_codes_heads_are_trained_from_the_first_stage_on():
    described, coded = (list_stages(make_settings(preset)) for preset in ("paper", "paper_code"))
    assert described[1:] == coded[1:]
    assert described[0].trains == ("autoencoder",)
    assert coded[0].trains == ("autoencoder", "heads")
    assert coded[0].losses == ("reconstruction", "kl", "task", "penalty")
    assert [stage.settings.epochs for stage in coded] == [800, 800, 800]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_stage_keeps_its_best_or_its_last_weights(keep):
    trainer = make_trainer()
    trainer.settings = make_settings("default", (0, 0, 4), (1, 1, 0.5), 32, keep=keep)
    fit = first_fit(trainer)
    heads = fit.convex_heads()
    stage = fit.gradient(trainer.list_stages()[-1], heads)
    start = stage.best_score
    for epoch in range(4):
        row = stage.run(epoch)
    last = row["validation"]
    assert last > start  # so large a rate does harm
    stage.finish()
    expected = {"best": stage.best_score, "last": last}[keep]
    assert (row["validation_start"], row["validation_kept"]) == (start, expected)
    assert stage.measure(stage.validation)["validation"] == pytest.approx(expected)


def test_heads_read_a_draw_of_the_latent_while_they_are_trained():
    trainer = make_trainer()
    trainer.settings = make_settings("default", design={"sampled": True})
    member = trainer.new_member(0)
    x, covariates = trainer.data.x, trainer.data.covariates
    training, again = (member.train().blocks(x, covariates) for _ in range(2))
    rest = member.eval().blocks(x, covariates)
    mean = member.features(x, covariates)["pathways"]
    torch.testing.assert_close(rest["pathways"], mean)
    assert (training["pathways"] != again["pathways"]).all()
    assert torch.equal(training["genes"], rest["genes"])
    sd = (training["pathways"] - mean).detach().std()
    assert float(sd) == pytest.approx(np.exp(-1), rel=0.1)  # the log-variance starts at -2


def test_stages_run_in_order_and_train_what_they_should():
    trainer = make_trainer()
    history = trainer.fit().history
    assert list(dict.fromkeys(row["stage"] for row in history)) == [
        "autoencoder",
        "heads",
        "finetune",
    ]
    fit = first_fit(trainer)
    before = fit.member
    started = {name: value.clone() for name, value in before.state_dict().items()}
    heads = fit.convex_heads()
    heads.run(0)
    heads.finish()
    changed = {
        name for name, value in before.state_dict().items() if not torch.equal(value, started[name])
    }
    assert {name.split(".")[0] for name in changed} == {"heads"}
    assert "heads.blocks.sites.output.specific" in changed


@pytest.mark.parametrize("weighting", ["uniform", "pwinval", "mgda", "gradnorm"])
def test_weights_of_every_epoch_are_recorded(weighting):
    trained = make_trainer(weighting=weighting).fit()
    rows = [row for row in trained.history if row["stage"] != "autoencoder"]
    recorded = np.array([[row[f"weight[{task}]"] for task in TASKS] for row in rows])
    np.testing.assert_allclose(recorded.mean(1), 1)
    if weighting != "uniform":
        assert np.abs(recorded - 1).max() > 0.01


def test_joint_training_is_one_stage_of_everything():
    trained = make_trainer(stages="joint").fit()
    assert {row["stage"] for row in trained.history} == {"joint"}
    assert {"reconstruction", "kl", "task", "penalty"} <= set(trained.history[0])
    losses = [row["validation_task"] for row in trained.history]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_single_gradient_epoch_leaves_the_encoder_alone_where_it_is_frozen(norm):
    trainer = make_trainer()
    trainer.settings = gradient_settings((0, 2, 0), (1e-3, 1e-2, 1e-4), norm=norm)
    trained = trainer.fit()
    fresh = first_fit(trainer)
    fresh.calibrate()
    expected = fresh.member.network.state_dict()
    for name, value in trained.members[0].network.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert trained.members[0].heads.blocks["genes"].output.weight.abs().max() > 0


def test_a_batch_taken_in_parts_has_the_gradient_of_the_whole(monkeypatch):
    trainer = make_trainer()
    trainer.settings = make_settings("default", (3, 3, 3), None, 32, design={"variational": False})
    trainer.data.x[trainer.data.x == 0] = 0.1  # with missing sites the parts weigh by samples
    found = []
    for most in (90, 11):  # parts of 11 hold samples of one task, or of both
        fit = first_fit(trainer)
        member = fit.member
        monkeypatch.setattr(training.member, "PASS_VALUES", most * member.network.n_sites)
        assert member.most_at_once == most
        heads = fit.convex_heads()
        heads.solve_under(np.ones(2))
        heads.finish()
        stage = fit.gradient(trainer.list_stages()[-1], heads)
        losses = stage._step(torch.arange(90), 0, torch.tensor([0.5, 1.5], dtype=torch.float64))
        found.append((losses, [each.grad for each in member.parameters()]))
    (whole, expected), (parts, gradients) = found
    assert parts == pytest.approx(whole, rel=1e-5)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("alone", ["in a batch", "in a pass"])
def test_no_sample_is_normalised_alone(monkeypatch, alone):
    trainer = make_trainer(tasks=["MS"])
    data, of_task = trainer.data, ~trainer.data.labels[:, 0].isnan()
    parts = data.x[of_task], data.labels[of_task, :1], data.covariates[of_task]
    trainer.data = TrainingData(*parts, np.arange(len(parts[0])))
    size = 1 if alone == "in a batch" else None
    trainer.settings = make_settings("default", (2, 0, 0), None, size, design={"norm": "batch"})
    fit = first_fit(trainer)
    n_trained = int((fit.common.folds != fit.fold).sum())
    if alone == "in a pass":
        values = (n_trained - 1) * fit.member.network.n_sites
        monkeypatch.setattr(training.member, "PASS_VALUES", values)
    losses = [row["reconstruction"] for row in trainer.fit().history]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


def test_several_processes_refuse_statistics_that_each_would_have_of_its_own(monkeypatch):
    trainer = make_trainer()
    monkeypatch.setenv("WORLD_SIZE", "2")
    trainer.new_member(0)
    trainer.settings = make_settings("default", design={"norm": "batch"})
    with pytest.raises(MiracleError, match="batch normalisation cannot be trained by several proc"):
        trainer.new_member(0)


def test_loss_that_is_not_finite_is_named_with_stage_and_epoch():
    trainer = make_trainer()
    trainer.settings = make_settings("default", (3, 3, 3), (1e30, 1e-3, 1e-4), 32)
    with pytest.raises(MiracleError, match=r"loss became .* in stage 'autoencoder', epoch \d"):
        trainer.fit()


@pytest.mark.parametrize("scale", [[0.0, 0.0, 4.0], [2.0, 2.0, 3.0]])
@pytest.mark.parametrize("sharing", [0.0, 0.9])
def test_finetuning_starts_from_the_penalty_of_the_exact_solution(scale, sharing):
    """What is credited to genes and pathways would be far from where the prior has it."""
    trainer = make_trainer()
    fit = first_fit(trainer)
    fit.calibrate()
    fit.common.prior = Prior(np.tile(scale, (2, 1)), sharing)
    heads = fit.convex_heads()
    heads.run(0)
    heads.finish()
    heads.write(without_fold=fit.fold)
    problem, subset = heads.problem, heads.problem.folds.index(fit.fold)
    a = heads.solutions[subset][: len(problem.pairs)]
    got = head_penalty(fit.member.heads, problem.prior, problem.blocks, subset)
    assert got.item() == pytest.approx(0.5 * a @ a, rel=1e-3)
    assert (problem.blocks["sites"].variances[subset] == 0).any()


def test_unlabelled_samples_have_no_gradient_whatever_their_logit():
    labels = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    shared = torch.randn(2, 3)
    logits = torch.tensor([[0.3, 1.0], [-0.2, 2.0]])
    wild = logits.clone()
    wild[0, 1] = float("inf")
    assert torch.equal(task_gradients(logits, labels, shared), task_gradients(wild, labels, shared))


def test_task_gradients_equal_autograd():
    torch.manual_seed(0)
    labels = torch.tensor([[1.0, float("nan")], [0.0, 1.0], [float("nan"), 0.0], [1.0, 0.0]])
    shared = torch.randn(4, 3)
    weight = torch.randn(3, requires_grad=True)
    logits = (shared @ weight)[:, None].expand(-1, 2)
    found = task_gradients(logits.detach(), labels, shared)
    for task in range(2):
        seen = ~labels[:, task].isnan()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits[seen, task], labels[seen, task]
        )
        expected = torch.autograd.grad(loss, weight, retain_graph=True)[0]
        torch.testing.assert_close(found[task], expected)


def test_finetune_improves_what_it_watches_or_keeps_the_start():
    trainer = make_trainer()
    fit = first_fit(trainer)
    heads = fit.convex_heads()
    heads.solve_under(np.ones(2))
    heads.write(without_fold=0)
    stage = fit.gradient(trainer.list_stages()[-1], heads)
    assert isinstance(stage, GradientStage)
    start = stage.best_score
    for epoch in range(3):
        stage.run(epoch)
    stage.finish()
    assert stage.measure(stage.validation)["validation"] == pytest.approx(stage.best_score)
    assert stage.best_score <= start


def test_no_encoder_gains_where_the_prior_has_single_sites_alone():
    fit = first_fit(make_trainer())
    fit.common.prior = Prior(np.array([[0.0, 0.0, 4.0]] * 2), 0.5)
    heads = fit.convex_heads()
    heads.run(0)
    with torch.no_grad():
        fit.member.network.site_to_gene.weight.normal_()
    again = fit.convex_heads()
    again.solve_under(heads.weights)
    np.testing.assert_allclose(heads.held_out_losses(fit.fold), again.held_out_losses(fit.fold))
    assert not fit._encoder_gained(heads)


def head_rows(policy):
    """Rows of the heads' stage, the trainer and the trained member."""
    trainer = make_trainer(weighting=policy)
    trainer.settings = make_settings("default", (1, 5, 0), None, 32)
    trained = trainer.fit()
    rows = [row for row in trained.history if row["stage"] == "heads"]
    return rows, trainer, trained.members[0]


def solved_under(trainer, member, task_weights):
    """Logits of heads solved for on the encoder of a member."""
    fit = first_fit(trainer)
    fit.member.load_state_dict(member.state_dict())
    heads = fit.convex_heads()
    heads.solve_under(task_weights)
    heads.finish()
    return fit.member(trainer.data.x, trainer.data.covariates).detach()


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"uniform", "first-only"}))
def test_every_policy_moves_the_weights_of_the_heads(policy, monkeypatch):
    # Solved to the end, so that what is left between two solutions is their weights.
    monkeypatch.setattr(HeadProblem, "solve", partialmethod(HeadProblem.solve, tolerance=1e-15))
    rows, trainer, member = head_rows(policy)
    # Two policies follow how far the losses fall, which exact solutions leave little of.
    least = 1e-4 if policy in ("dwa", "uncertainty") else 0.01
    assert max(abs(row["weight[MS]"] - row["weight[RA]"]) for row in rows) > least
    found = member(trainer.data.x, trainer.data.covariates).detach()
    last = np.array([rows[-1][f"weight[{task}]"] for task in TASKS])
    from_last, from_equal = (
        float((solved_under(trainer, member, each) - found).abs().max())
        for each in (last, np.ones(len(TASKS)))
    )
    assert from_last < 1e-3  # of logits of several units: solved for under the last weights
    assert from_equal > (3 if least < 0.01 else 10) * from_last


def test_uniform_weights_solve_once():
    rows, _, _ = head_rows("uniform")
    assert {row["validation_task"] for row in rows} == {rows[0]["validation_task"]}
    assert {row["weight[MS]"] for row in rows} == {1.0}
