"""The masked autoencoder on hand-made graphs and planted signals."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from miracle_lib.errors import MiracleError
from miracle_lib.model import MaskedVAE, VAEOutput, kl_divergence, reconstruction_loss

# Sites 0, 1 in gene 0; site 1 in gene 1; sites 2, 3 in gene 2. Genes 0, 1 in pathway 0; gene 1 in
# pathway 1; gene 2 in none.
TOY = SimpleNamespace(
    site_gene=sp.csr_matrix([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]], dtype=bool),
    gene_pathway=sp.csr_matrix([[1, 0], [1, 1], [0, 0]], dtype=bool),
)


def random_hierarchy(n_sites: int, n_genes: int, n_pathways: int) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    site_gene = np.eye(n_genes, dtype=bool)[rng.integers(0, n_genes, n_sites)]
    return SimpleNamespace(
        site_gene=sp.csr_matrix(site_gene),
        gene_pathway=sp.csr_matrix(
            (rng.random((n_genes, n_pathways)) < 0.2) | np.eye(n_genes, n_pathways, dtype=bool)
        ),
    )


def reach(function, n_inputs: int) -> torch.Tensor:
    """Which inputs (rows) change which outputs (columns)."""
    return torch.autograd.functional.jacobian(function, torch.full((1, n_inputs), 0.3))[0, :, 0].T


def test_encoder_follows_the_edges():
    vae = MaskedVAE(TOY, seed=0)
    genes, mean, logvar = (reach(lambda x, k=k: vae.encode(x)[k], 4) != 0 for k in range(3))
    assert torch.equal(genes, torch.tensor(TOY.site_gene.toarray()))
    expected = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 0]], dtype=torch.bool)
    assert torch.equal(mean, expected)
    assert torch.equal(logvar, expected)


def test_decoder_follows_the_edges_backwards():
    vae = MaskedVAE(TOY, seed=0)
    expected = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    assert torch.equal(reach(vae.decode, 2) != 0, expected)


def test_latent_layers_are_linear_in_the_genes():
    """No activation on the mean; the log-variance is linear up to its smooth bound."""
    vae = MaskedVAE(TOY, seed=0)
    genes, mean, logvar = vae.encode(torch.tensor([[-2.0, -1.0, 0.5, 3.0]]))
    torch.testing.assert_close(mean, vae.gene_to_mean(genes))
    raw = vae.gene_to_logvar(genes)
    torch.testing.assert_close(logvar, raw, atol=0.1, rtol=0)
    with torch.no_grad():
        vae.gene_to_mean.bias.fill_(-5.0)
        vae.gene_to_logvar.bias.fill_(1e4)
    _, mean, logvar = vae.encode(torch.zeros(1, 4))
    assert torch.all(mean < -1)
    assert torch.all((logvar > 0) & (logvar <= 8))


def test_output_is_named_and_sampled_in_training_only():
    vae = MaskedVAE(TOY, seed=0)
    x = torch.randn(6, 4)
    drawn = vae.train()(x)
    assert isinstance(drawn, VAEOutput)
    assert drawn.reconstruction.shape == (6, 4)
    assert not torch.equal(drawn.latent, drawn.mean)
    assert torch.equal(vae(x, sample=False).latent, drawn.mean)
    vae.eval()
    assert torch.equal(vae(x).latent, drawn.mean)
    assert not torch.equal(vae(x, sample=True).latent, drawn.mean)


def test_latent_is_drawn_from_the_encoded_distribution():
    vae = MaskedVAE(TOY, seed=0)
    output = vae(torch.ones(20_000, 4), sample=True)
    torch.testing.assert_close(output.latent.mean(0), output.mean[0], atol=0.02, rtol=0)
    spread = (0.5 * output.logvar[0]).exp()
    torch.testing.assert_close(output.latent.std(0), spread, atol=0.02, rtol=0)


def test_plain_autoencoder_has_no_variance_and_never_samples():
    vae = MaskedVAE(TOY, variational=False, seed=0).train()
    output = vae(torch.randn(3, 4), sample=True)
    assert output.logvar is None
    assert torch.equal(output.latent, output.mean)
    assert not any("logvar" in name and "site" not in name for name in vae.state_dict())


def test_covariates_reach_genes_and_sites_and_none_is_the_average_sample():
    vae = MaskedVAE(TOY, n_covariates=3, seed=0).eval()
    x, covariates = torch.randn(5, 4), torch.randn(5, 3)
    assert torch.equal(vae(x, covariates).reconstruction, vae(x).reconstruction)
    vae(x, covariates).reconstruction.sum().backward()
    assert torch.all(vae.covariates_to_site.weight.grad.abs().sum(1) > 0)
    assert torch.all(vae.covariates_to_gene.weight.grad[:2].abs().sum(1) > 0)
    zeros = vae(x, torch.zeros(5, 3))
    assert torch.equal(zeros.reconstruction, vae(x).reconstruction)
    with pytest.raises(MiracleError, match="covariates have 2 columns; expected 3"):
        vae(x, torch.zeros(5, 2))


def test_bernoulli_reconstructs_probabilities():
    output = MaskedVAE(TOY, likelihood="bernoulli", seed=0)(10 * torch.randn(5, 4))
    assert torch.all((output.reconstruction > 0) & (output.reconstruction < 1))


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "elu", "identity"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_every_option_gives_finite_gradients_for_every_weight(activation, norm):
    hierarchy = random_hierarchy(40, 8, 4)
    vae = MaskedVAE(hierarchy, n_covariates=2, activation=activation, norm=norm, seed=0)
    x, covariates = torch.randn(16, 40), torch.randn(16, 2)
    output = vae(x, covariates)
    loss = reconstruction_loss(output.reconstruction, x, site_logvar=vae.site_logvar)
    (loss + kl_divergence(output.mean, output.logvar).mean()).backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_start_gives_genes_of_unit_spread_whatever_their_size():
    """Genes of 1, 10 and 100 independent sites, before the activation."""
    sizes = np.repeat([1, 10, 100], 20)
    site_gene = np.repeat(np.eye(60, dtype=bool), sizes, axis=0)
    hierarchy = SimpleNamespace(site_gene=sp.csr_matrix(site_gene), gene_pathway=np.ones((60, 2)))
    vae = MaskedVAE(hierarchy, seed=0)
    x = torch.randn(2000, len(site_gene), generator=torch.Generator().manual_seed(0))
    variance = vae.site_to_gene(x).var(0).view(3, 20).mean(1)
    torch.testing.assert_close(variance, torch.ones(3), atol=0.1, rtol=0)
    assert torch.all(vae.site_to_gene.weight > 0)


def test_units_of_a_full_layer_start_different():
    """As averages of the same inputs they would stay one unit for ever."""
    full = SimpleNamespace(site_gene=np.ones((50, 4)), gene_pathway=np.ones((4, 3)))
    vae = MaskedVAE(full, seed=0)
    correlation = torch.corrcoef(vae.site_to_gene(torch.randn(500, 50)).T)
    assert (correlation - torch.eye(4)).abs().max() < 0.7


def test_calibration_gives_unit_spread_on_correlated_data():
    hierarchy = random_hierarchy(400, 20, 5)
    x = torch.randn(300, 1) + 0.5 * torch.randn(300, 400)  # one factor moves every site
    x[:, hierarchy.site_gene[:, 0].toarray().ravel()] = 0  # a gene that no sample varies in
    vae = MaskedVAE(hierarchy, seed=0)
    assert vae.site_to_gene(x).std() > 3
    vae.calibrate(x)
    spread = vae.site_to_gene(x).std(0)
    torch.testing.assert_close(spread[1:], torch.ones(19), atol=1e-4, rtol=0)
    assert vae.site_to_gene.weight.abs().max() < 10
    torch.testing.assert_close(vae.encode(x)[1].std(0), torch.ones(5), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("error")
def test_calibration_on_one_sample_leaves_the_encoder_as_it_is_without_a_warning():
    vae = MaskedVAE(TOY, seed=0)
    before = vae.site_to_gene.weight.detach().clone()
    vae.calibrate(torch.randn(1, vae.n_sites))
    assert torch.equal(vae.site_to_gene.weight, before)


def test_seeds_draw_every_weight():
    same = [MaskedVAE(TOY, n_covariates=1, seed=seed).state_dict() for seed in (0, 0, 1)]
    for name, value in same[0].items():
        assert torch.equal(value, same[1][name])
        if name.endswith("weight") and "covariates" not in name:
            assert torch.all(value != same[2][name]), name


def test_reset_forgets_training():
    vae = MaskedVAE(TOY, n_covariates=1, norm="batch", seed=3)
    start = {name: value.clone() for name, value in vae.state_dict().items()}
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(1)
    vae.train()(torch.randn(8, 4), torch.randn(8, 1))
    vae.reset_parameters(3)
    for name, value in vae.state_dict().items():
        assert torch.equal(value, start[name]), name


def test_learns_a_planted_pathway():
    """One hidden factor moves the sites of one pathway: the latent finds it, held out as well."""
    hierarchy = random_hierarchy(120, 12, 4)
    generator = torch.Generator().manual_seed(0)
    sites = (hierarchy.site_gene @ hierarchy.gene_pathway.astype(int))[:, [1]].toarray().ravel() > 0
    factor = torch.randn(400, 1, generator=generator)
    noise = torch.randn(400, 120, generator=generator)
    x = torch.from_numpy(sites) * factor + 0.7 * noise
    train, test = x[:300], x[300:]
    torch.manual_seed(0)
    vae = MaskedVAE(hierarchy, seed=0)
    vae.calibrate(train)
    optimizer = torch.optim.Adam(vae.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        output = vae(train)
        loss = reconstruction_loss(output.reconstruction, train, site_logvar=vae.site_logvar)
        (loss + kl_divergence(output.mean, output.logvar).mean() / 120).backward()
        optimizer.step()
    vae.eval()
    output = vae(test)
    error = reconstruction_loss(output.reconstruction, test, likelihood="mse")
    mean_predictor = reconstruction_loss(train.mean(0).expand(100, -1), test, likelihood="mse")
    assert error < 0.8 * mean_predictor
    correlation = torch.corrcoef(torch.cat([output.mean, factor[300:]], 1).T)[-1, :-1].abs()
    assert correlation.argmax() == 1
    assert correlation[1] > 0.9


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"likelihood": "poisson"}, "likelihood is 'poisson'; expected one of gaussian, bernoulli"),
        ({"activation": "sine"}, "activation is 'sine'; expected one of tanh, relu"),
        ({"norm": "group"}, "norm is 'group'; expected one of none, batch, layer"),
    ],
)
def test_unknown_options_are_named(option, message):
    with pytest.raises(MiracleError, match=message):
        MaskedVAE(TOY, **option)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu():
    vae = MaskedVAE(TOY, n_covariates=1, seed=0).eval()
    x, covariates = torch.randn(5, 4), torch.randn(5, 1)
    expected = vae(x, covariates)
    for ours, reference in zip(vae.cuda()(x.cuda(), covariates.cuda()), expected, strict=True):
        torch.testing.assert_close(ours.cpu(), reference)


def test_relu_on_the_latent_keeps_mean_and_log_variance_from_falling_below_zero():
    masks = random_hierarchy(40, 12, 8)
    x = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    plain, relu = (
        MaskedVAE(masks, latent_activation=each, start="random", seed=0).encode(x)[1:]
        for each in ("identity", "relu")
    )
    for free, bounded in zip(plain, relu, strict=True):
        assert (free < 0).any()
        torch.testing.assert_close(bounded, free.clamp_min(0))


def test_dense_layers_let_every_site_reach_every_pathway():
    vae = MaskedVAE(TOY, dense_layers=True, activation="tanh", seed=0)
    assert (reach(lambda x: vae.encode(x)[1], 4) != 0).all()
    assert torch.equal(reach(vae.decode, 2) != 0, torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0]]) > 0)
    genes = vae.activation(vae.gene_to_gene(vae.activation(vae.site_to_gene(torch.ones(1, 4)))))
    expected = vae.mean_to_mean(vae.activation(vae.gene_to_mean(genes)))
    torch.testing.assert_close(vae.encode(torch.ones(1, 4))[1], expected)
    same = MaskedVAE(TOY, dense_layers=True, activation="tanh", seed=0)
    for ours, theirs in zip(vae.parameters(), same.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_random_start_is_no_average():
    masks = random_hierarchy(400, 5, 3)
    weights = {
        start: MaskedVAE(masks, start=start, seed=0).site_to_gene.weight.detach()
        for start in ("average", "random")
    }
    assert (weights["average"] > 0).float().mean() > 0.99
    assert 0.4 < (weights["random"] > 0).float().mean() < 0.6
