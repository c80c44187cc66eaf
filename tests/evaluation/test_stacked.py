import copy
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation.stacked import stack_networks, train_autoencoders, unstack_networks
from miracle_lib.model import MaskedVAE


def network(seed, shape=(30, 8, 4), **options):
    rng = np.random.default_rng(seed)
    sites, genes, pathways = shape
    masks = SimpleNamespace(
        site_gene=sp.csr_matrix(rng.random((sites, genes)) < 0.3),
        gene_pathway=sp.csr_matrix(rng.random((genes, pathways)) < 0.5),
    )
    return MaskedVAE(masks, seed=seed, **options)


def table(seed, n=50):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator) @ torch.randn(2, 30, generator=generator)
    x[x.abs() < 0.05] = 0  # missing
    return x


@pytest.mark.parametrize("likelihood", ["gaussian", "mse"])
def test_stack_computes_what_its_networks_compute(likelihood):
    networks = [network(seed, likelihood=likelihood).eval() for seed in range(3)]
    tables = [table(seed) for seed in range(3)]
    together = stack_networks(networks).eval()(torch.cat(tables, dim=1))
    for i, (alone, x) in enumerate(zip(networks, tables, strict=True)):
        output = alone(x)
        assert torch.allclose(together.reconstruction[:, 30 * i : 30 * (i + 1)], output[0])
        assert torch.allclose(together.mean[:, 4 * i : 4 * (i + 1)], output.mean)


def test_training_together_is_training_alone():
    # A plain autoencoder draws nothing, so that both ways see the same batches and no noise.
    networks = [network(seed, variational=False) for seed in range(3)]
    alone = copy.deepcopy(networks)
    tables = [table(seed) for seed in range(3)]
    history = train_autoencoders(networks, tables, 5, 1e-2, batch_size=16)
    for i in range(3):
        single = train_autoencoders([alone[i]], [tables[i]], 5, 1e-2, batch_size=16)
        assert torch.allclose(history[:, i], single[:, 0], atol=1e-5)
        for name, value in networks[i].state_dict().items():
            assert torch.allclose(value, alone[i].state_dict()[name], atol=1e-4), name
    assert (history[-1] < history[0]).all()


def test_variational_networks_learn_too():
    networks = [network(seed) for seed in range(2)]
    history = train_autoencoders(networks, [table(0), table(1)], epochs=15)
    assert (history[-1] < history[0]).all()


def test_unstacking_restores_every_weight():
    networks = [network(seed) for seed in range(2)]
    before = [copy.deepcopy(n.state_dict()) for n in networks]
    stacked = stack_networks(networks)
    for n in networks:
        n.reset_parameters(99)
    unstack_networks(stacked, networks)
    for n, state in zip(networks, before, strict=True):
        assert all(torch.equal(n.state_dict()[name], value) for name, value in state.items())


def test_what_cannot_be_stacked_is_refused():
    with pytest.raises(MiracleError, match="differ in shape"):
        stack_networks([network(0), network(1, shape=(31, 8, 4))])
    with pytest.raises(MiracleError, match="Only networks without covariates"):
        stack_networks([network(0, n_covariates=2)])
    with pytest.raises(MiracleError, match="2 networks got 1 tables"):
        train_autoencoders([network(0), network(1)], [table(0)])
