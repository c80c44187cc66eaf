"""Losses against torch.distributions, and against what they must ignore."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal
from torch.distributions import kl_divergence as exact_kl
from torch.func import grad, vmap

from miracle_lib.model import (
    kl_divergence,
    kl_warmup,
    masked_task_loss,
    reconstruction_loss,
)

NAN = float("nan")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_kl_is_that_of_the_distributions(generator):
    mean, logvar = torch.randn(2, 6, 4, generator=generator, dtype=torch.double)
    exact = exact_kl(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_divergence(mean, logvar), exact)


def test_kl_is_zero_at_the_prior_and_without_a_variance():
    zeros = torch.zeros(3, 4)
    assert kl_divergence(zeros, zeros).tolist() == [0, 0, 0]
    assert kl_divergence(torch.ones(3, 4), None).tolist() == [0, 0, 0]


def test_gaussian_likelihood_with_missing_sites(generator):
    x, mean = torch.randn(2, 5, 3, generator=generator, dtype=torch.double)
    logvar = torch.randn(3, generator=generator, dtype=torch.double)
    observed = torch.rand(5, 3, generator=generator) > 0.3
    exact = -Normal(mean, (0.5 * logvar).exp()).log_prob(x)
    for mask, expected in ((None, exact.mean()), (observed, exact[observed].mean())):
        loss = reconstruction_loss(mean, x, mask, likelihood="gaussian", site_logvar=logvar)
        torch.testing.assert_close(loss, expected)


def test_bernoulli_likelihood_with_missing_sites(generator):
    x, p = torch.rand(2, 5, 3, generator=generator, dtype=torch.double)
    observed = torch.rand(5, 3, generator=generator) > 0.3
    exact = -Bernoulli(p, validate_args=False).log_prob(x)
    loss = reconstruction_loss(p, x, observed, likelihood="bernoulli")
    torch.testing.assert_close(loss, exact[observed].mean())


def test_mse_with_missing_sites(generator):
    x, mean = torch.randn(2, 5, 3, generator=generator)
    observed = torch.rand(5, 3, generator=generator) > 0.3
    loss = reconstruction_loss(mean, x, observed, likelihood="mse")
    torch.testing.assert_close(loss, (x - mean)[observed].square().mean())


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "mse"])
@pytest.mark.parametrize("filler", [0.0, 0.7, 1e30, NAN, float("inf")])
def test_missing_sites_change_neither_loss_nor_gradient(likelihood, filler):
    mean = torch.tensor([[0.2, 0.4], [0.6, 0.8]], requires_grad=True)
    observed = torch.tensor([[True, False], [True, True]])
    results = []
    for value in (0.5, filler):
        x = torch.tensor([[0.1, value], [0.3, 0.9]])
        loss = reconstruction_loss(mean, x, observed, likelihood=likelihood)
        results.append((loss, *torch.autograd.grad(loss, mean)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert results[1][1][0, 1] == 0
    assert results[1][1].isfinite().all()


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "mse"])
@pytest.mark.parametrize("by_feature", [False, True])
def test_gradients_of_the_reconstruction_loss(likelihood, by_feature, generator):
    x, mean = torch.rand(2, 4, 5, generator=generator, dtype=torch.double)
    mean = mean.t().contiguous().t() if by_feature else mean
    logvar = torch.randn(5, generator=generator, dtype=torch.double, requires_grad=True)
    observed = torch.rand(4, 5, generator=generator) > 0.3

    def loss(mean, logvar):
        return reconstruction_loss(mean, x, observed, likelihood=likelihood, site_logvar=logvar)

    assert torch.autograd.gradcheck(loss, (mean.requires_grad_(), logvar))


def test_reconstruction_loss_of_a_stack_of_models(generator):
    x, *means = torch.randn(4, 5, 3, generator=generator)
    observed = torch.rand(5, 3, generator=generator) > 0.3
    stacked = vmap(grad(lambda mean: reconstruction_loss(mean, x, observed)))(torch.stack(means))
    for mean, gradient in zip(means, stacked, strict=True):
        mean.requires_grad_()
        alone = torch.autograd.grad(reconstruction_loss(mean, x, observed), mean)[0]
        torch.testing.assert_close(gradient, alone)


def test_nothing_observed_is_a_loss_of_zero():
    mean = torch.ones(2, 2, requires_grad=True)
    loss = reconstruction_loss(mean, torch.full((2, 2), NAN), torch.zeros(2, 2, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert torch.count_nonzero(mean.grad) == 0


def test_warmup_rises_linearly_to_one():
    assert [kl_warmup(epoch, 4) for epoch in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert kl_warmup(0, 0) == 1


def test_task_loss_is_the_mean_over_labelled_samples():
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.5], [-0.7, 4.0]])
    labels = torch.tensor([[1.0, NAN], [NAN, 0.0], [0.0, NAN]])
    exact = -Bernoulli(logits=logits).log_prob(labels.nan_to_num())
    expected = torch.stack([(exact[0, 0] + exact[2, 0]) / 2, exact[1, 1]])
    torch.testing.assert_close(masked_task_loss(logits, labels), expected)


@pytest.mark.parametrize("hidden_value", [0.0, 1.0, -3.0, 1e38, float("inf"), NAN])
def test_unlabelled_samples_change_neither_loss_nor_gradient(hidden_value):
    """Neither what the head says of an unlabelled sample nor what stood in its label counts."""
    labels = torch.tensor([[1.0, NAN], [0.0, 1.0]])
    results = []
    for value in (0.5, hidden_value):
        logits = torch.tensor([[0.2, value], [0.1, -0.4]], requires_grad=True)
        loss = masked_task_loss(logits, labels)
        results.append((loss, *torch.autograd.grad(loss.sum(), logits)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert results[1][1][0, 1] == 0
    assert results[1][1].isfinite().all()


def test_a_task_absent_from_the_batch_has_no_loss_and_no_gradient():
    logits = torch.randn(3, 2, requires_grad=True)
    labels = torch.tensor([[1.0, NAN], [0.0, NAN], [1.0, NAN]])
    loss = masked_task_loss(logits, labels)
    loss.sum().backward()
    assert loss[1] == 0
    assert torch.count_nonzero(logits.grad[:, 1]) == 0
    assert torch.count_nonzero(logits.grad[:, 0]) == 3


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[500.0], [-500.0]], requires_grad=True)
    loss = masked_task_loss(logits, torch.tensor([[0.0], [1.0]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()
