"""Losses by name, on a hand-made graph: twelve sites on six genes, in three pathways."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from miracle_lib.training import PRESETS, Member, StageSettings, TrainingData, losses, member
from miracle_lib.training.losses import Loss
from miracle_lib.training.settings import AUTOENCODER, Stage
from miracle_lib.training.stages import GradientStage

GRAPH = SimpleNamespace(
    site_gene=sp.csr_matrix(np.kron(np.eye(6, dtype=bool), np.ones((2, 1), bool))),
    gene_pathway=sp.csr_matrix(np.kron(np.eye(3, dtype=bool), np.ones((2, 1), bool))),
)


def stage_of(*names):
    """A stage of the autoencoder with named losses: 30 samples to train on, 10 held out."""
    x = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40.0)[:, None] % 2
    data = TrainingData(x, labels, torch.zeros(40, 0), np.arange(40))
    stage = Stage("extra", StageSettings(2, 1e-2, batch_size=None), names, ("autoencoder",))
    rows = torch.arange(40).split([30, 10])
    network = Member(GRAPH, 0, 1, 0, seed=0)
    return GradientStage(stage, network, data, *rows, ["RA"], PRESETS["default"])


def from_one(seen):
    return seen.share * (seen.output.mean - 1).square().mean()


def test_a_loss_is_added_in_one_place(monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "from_one", Loss(from_one))
    stage = stage_of(*AUTOENCODER, "from_one")

    def by_hand(rows):
        pathways = stage.member.features(stage.data.x, stage.data.covariates)["pathways"]
        return float((pathways[rows] - 1).square().mean())

    before = by_hand(stage.train)
    row = stage.run(0)
    assert row["from_one"] == pytest.approx(before, rel=1e-5)
    assert row["validation_from_one"] == pytest.approx(by_hand(stage.validation), rel=1e-5)
    parts = [row[f"validation_{name}"] for name in (*AUTOENCODER, "from_one")]
    assert row["validation"] == pytest.approx(sum(parts))
    assert stage.run(1)["from_one"] < before


@pytest.mark.parametrize("most", [30, 7])
def test_the_gradient_of_an_added_loss_arrives(monkeypatch, most):
    monkeypatch.setitem(losses.LOSSES, "from_one", Loss(from_one))
    monkeypatch.setattr(member, "PASS_VALUES", most * 12)  # in one pass, or in parts
    stage = stage_of("from_one")
    network, data = stage.member.network, stage.data
    weights = network.site_to_gene.weight, network.gene_to_mean.weight
    _, mean, _ = network.encode(stage.member.sites(data.x, stage.train))
    expected = torch.autograd.grad((mean - 1).square().mean(), weights)
    stage._step(stage.train, 0, None)
    for weight, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)
        assert gradient.abs().min() > 0
    assert network.gene_to_site.weight.grad is None


def test_a_loss_of_the_weights_alone_is_not_measured_on_held_out_samples(monkeypatch):
    def far(seen):
        return seen.share * (seen.member.network.gene_to_site.bias + 2).square().sum()

    monkeypatch.setitem(losses.LOSSES, "far", Loss(far, on_samples=False))
    row = stage_of("reconstruction", "far").run(0)
    assert row["far"] == pytest.approx(4 * 12)
    assert "validation_far" not in row
    assert row["validation"] == row["validation_reconstruction"]
