from pathlib import Path

import numpy as np
import pytest
import torch

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.model import masked_linear
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.training import Checkpoint, Trainer, TrainingData, make_settings, train_together
from miracle_lib.training.stack import Stack
from miracle_lib.training.stages import GradientStage

TASKS = ["MS", "RA"]


@pytest.fixture(scope="module")
def cohorts():
    simulated = simulate_cohorts({"MS": 45, "RA": 50}, n_sites=250, random_state=0)
    X, Y, obs = merge_cohorts(list(simulated.cohorts.values()))
    return X, Y[TASKS], obs, Hierarchy.from_tables(simulated.site_gene, simulated.gene_sets)


@pytest.fixture
def trainers(cohorts):
    """Makes trainers of networks that differ in sites, samples, masks and seed."""
    X, Y, obs, hierarchy = cohorts

    def one(seed, epochs=(3, 3, 3), rates=None, preset="default", n_covariates=2, **options):
        rows = np.arange(seed, len(X) - 2 * seed)
        sites = X.columns[: len(X.columns) - 7 * seed]
        mask = (hierarchy.permuted(seed) if seed else hierarchy).restrict(sites)
        order = mask.sites.append(sites[~sites.isin(mask.sites)])
        z = CohortStandardizer().fit_transform(X.iloc[rows], cohort=obs["cohort"].iloc[rows])
        known = torch.stack([torch.linspace(-1, 1, len(rows)) ** (i + 1) for i in range(8)], dim=1)
        data = TrainingData(
            torch.from_numpy(z[order].to_numpy()),
            torch.from_numpy(Y.iloc[rows].to_numpy(np.float32)),
            known[:, :n_covariates],
            np.arange(len(rows)),
        )
        settings = make_settings(preset, epochs, rates, "preset" if preset == "paper" else 32)
        return Trainer(mask, data, TASKS, settings, seed=seed, progress=False, **options)

    return lambda n=3, **options: [one(seed, **options) for seed in range(n)]


@pytest.fixture
def epochs_run(monkeypatch):
    """Counts the gradient epochs run alone and those run in a stack."""
    count = {"alone": 0, "stacked": 0}
    for kind, name in ((GradientStage, "alone"), (Stack, "stacked")):

        def run(self, epoch, name=name, run=kind.run):
            count[name] += 1
            return run(self, epoch)

        monkeypatch.setattr(kind, "run", run)
    return count


def assert_alike(ours, theirs, tolerance=1e-4):
    assert ours.fine_tuned == theirs.fine_tuned
    assert len(ours.history) == len(theirs.history)
    for row, other in zip(ours.history, theirs.history, strict=True):
        assert row["stage"] == other["stage"]
        numbers, expected = ({k: v for k, v in r.items() if k != "stage"} for r in (row, other))
        assert numbers == pytest.approx(expected, rel=tolerance, abs=tolerance)
    for member, other in zip(ours.members, theirs.members, strict=True):
        for name, value in member.state_dict().items():
            expected = other.state_dict()[name]
            assert torch.allclose(value, expected, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ("dense", {}),
        ("sparse", {}),
        ("sparse", {"n_covariates": 0, "network_options": {"variational": False}}),
        ("dense", {"network_options": {"activation": "relu", "likelihood": "mse"}}),
        ("dense", {"stages": "joint", "weighting": "gradnorm"}),
        ("dense", {"n_members": 2, "weighting": "pwinval", "epochs": (2, 2, 2)}),
        ("dense", {"preset": "paper", "epochs": (2, 2, 2)}),
    ],
    ids=["default", "sparse", "plain", "mse", "joint", "members", "paper"],
)
def test_training_together_is_training_alone(trainers, epochs_run, monkeypatch, kernel, options):
    monkeypatch.setattr(masked_linear, "_faster_kernel", lambda edges: kernel)
    alone = [trainer.fit() for trainer in trainers(**options)]
    epochs_run["alone"] = 0
    together = train_together(trainers(**options))
    assert epochs_run["stacked"] > 0
    heads_alone = 3 * 2 if options.get("preset") == "paper" else 0
    assert epochs_run["alone"] == heads_alone
    for ours, theirs in zip(together, alone, strict=True):
        assert_alike(ours, theirs)


def test_a_network_that_stops_early_leaves_the_others_as_they_are(trainers):
    options = {"epochs": (30, 2, 12), "rates": (5e-2, 1e-3, 5e-3)}
    alone = [trainer.fit() for trainer in trainers(**options)]
    lengths = {
        stage: {sum(row["stage"] == stage for row in each.history) for each in alone}
        for stage in ("autoencoder", "finetune")
    }
    assert all(len(found) > 1 for found in lengths.values()), lengths
    for ours, theirs in zip(train_together(trainers(**options)), alone, strict=True):
        assert_alike(ours, theirs, tolerance=1e-3)


@pytest.mark.parametrize(
    "different",
    [
        {"network_options": {"activation": "relu"}},
        {"epochs": (4, 3, 3)},
        {"n_covariates": 3},
    ],
)
def test_different_kinds_are_trained_alone(trainers, epochs_run, different):
    def both():
        return [trainers(1)[0], trainers(2, **different)[1]]

    alone = [trainer.fit() for trainer in both()]
    together = train_together(both())
    assert epochs_run["stacked"] == 0
    assert [each.history for each in together] == [each.history for each in alone]


def test_normalised_networks_are_trained_alone(trainers, epochs_run):
    options = {"network_options": {"norm": "layer"}}
    alone = [trainer.fit() for trainer in trainers(2, **options)]
    together = train_together(trainers(2, **options))
    assert epochs_run["stacked"] == 0
    assert [each.history for each in together] == [each.history for each in alone]


def test_interrupted_together_continues_alone(trainers, tmp_path):
    class Interrupted(Checkpoint):
        def save(self, state):
            super().save(state)
            last = state["history"][-1]
            if (last["stage"], last["epoch"]) == ("autoencoder", 2):
                raise KeyboardInterrupt

    straight = trainers(2)[1].fit()
    stopped = trainers(2)
    stopped[1].checkpoint = Interrupted(Path(tmp_path / "state.pt"))
    with pytest.raises(KeyboardInterrupt):
        train_together(stopped)
    resumed = trainers(2)[1]
    resumed.checkpoint = Checkpoint(tmp_path / "state.pt")
    assert_alike(resumed.fit(), straight)


def test_loss_that_is_not_finite_is_named(trainers):
    with pytest.raises(MiracleError, match=r"loss became .* in stage 'autoencoder', epoch \d"):
        train_together(trainers(2, rates=(1e30, 1e-3, 1e-4)))
