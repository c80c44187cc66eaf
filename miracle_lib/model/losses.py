"""Reconstruction and Kullback-Leibler terms, with missing sites left out."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from miracle_lib.model.vae import Likelihood


def reconstruction_loss(
    reconstruction: Tensor,
    x: Tensor,
    observed: Tensor | None = None,
    *,
    likelihood: Likelihood = "gaussian",
    site_logvar: Tensor | None = None,
) -> Tensor:
    """Return the mean negative log-likelihood per observed value (squared error for ``"mse"``).

    Parameters
    ----------
    reconstruction : Tensor, shape (batch, n_sites)
        Expected input.
    x : Tensor, shape (batch, n_sites)
        Input; what stands in missing places has no influence, not even NaN.
    observed : Tensor of bool, shape (batch, n_sites), optional
        False where a site was not measured. None: all were.
    likelihood : {"gaussian", "bernoulli", "mse"}
    site_logvar : Tensor, shape (n_sites,), optional
        Log-variance of each site, Gaussian only; zero if None.

    Returns
    -------
    Tensor
        Scalar; zero if nothing was observed.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, float("nan")]])
    >>> reconstruction_loss(torch.zeros(1, 2), x, ~x.isnan(), likelihood="mse")
    tensor(1.)
    """
    if likelihood == "bernoulli":
        seen = _seen(x, observed)
        return _bernoulli(reconstruction, x, observed).sum() / seen.sum().clamp_min(1)
    losses, seen = site_losses(reconstruction, x, observed, site_logvar, likelihood)
    return losses.sum() / seen.sum().clamp_min(1)


def site_losses(
    reconstruction: Tensor,
    x: Tensor,
    observed: Tensor | None = None,
    site_logvar: Tensor | None = None,
    likelihood: Likelihood = "gaussian",
) -> tuple[Tensor, Tensor]:
    """Return each site's negative log-likelihood, summed over samples, and its observed values.

    Parameters
    ----------
    reconstruction, x, observed, site_logvar
        As in `reconstruction_loss`.
    likelihood : {"gaussian", "mse"}

    Returns
    -------
    losses, seen : Tensor, shape (n_sites,)

    Examples
    --------
    >>> import torch
    >>> site_losses(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [2.0, 0.0]]), likelihood="mse")
    (tensor([5., 0.]), tensor([2, 2], dtype=torch.int32))
    """
    seen = _seen(x, observed)
    squares, _ = _SiteSquares.apply(reconstruction, x, observed)
    if likelihood == "mse":
        return squares, seen
    site_logvar = torch.zeros_like(squares) if site_logvar is None else site_logvar
    constant = seen * (site_logvar + math.log(2 * math.pi))
    return 0.5 * (squares * torch.exp(-site_logvar) + constant), seen


def _seen(x: Tensor, observed: Tensor | None) -> Tensor:
    """Return the number of observed values of each site."""
    if observed is None:
        return torch.full(x.shape[1:], len(x), dtype=torch.int32, device=x.device)
    return observed.sum(0, dtype=torch.int32)


def _bernoulli(reconstruction: Tensor, x: Tensor, observed: Tensor | None) -> Tensor:
    """Return the cross-entropy of every value, zero where it is missing."""
    if observed is None:
        return functional.binary_cross_entropy(reconstruction, x, reduction="none")
    x = torch.where(observed, x, 0.0)
    loss = functional.binary_cross_entropy(reconstruction, x, reduction="none")
    return torch.where(observed, loss, 0.0)


class _SiteSquares(torch.autograd.Function):
    """Sum over samples of the squared error of each site, shape (n_sites,).

    Passes over the whole batch are kept to four: on the array the loss would otherwise take longer
    than the network.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        reconstruction: Tensor, x: Tensor, observed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        error = x - reconstruction
        if observed is not None:
            error.masked_fill_(~observed, 0.0)
        return torch.linalg.vector_norm(error, dim=0).square(), error

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx, grad: Tensor | None, _) -> tuple[Tensor | None, None, None]:
        (error,) = ctx.saved_tensors
        return None if grad is None else error * (-2 * grad), None, None


def kl_divergence(mean: Tensor, logvar: Tensor | None) -> Tensor:
    """Return KL(N(mean, exp(logvar)) || N(0, 1)) of each sample, summed over the pathways.

    Parameters
    ----------
    mean : Tensor, shape (batch, n_pathways)
    logvar : Tensor, shape (batch, n_pathways), or None
        None, as a plain autoencoder gives, counts as zero divergence.

    Returns
    -------
    Tensor, shape (batch,)

    Examples
    --------
    >>> import torch
    >>> kl_divergence(torch.ones(1, 2), torch.zeros(1, 2))
    tensor([1.])
    """
    if logvar is None:
        return mean.new_zeros(mean.shape[0])
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1)


def kl_warmup(epoch: int, n_warmup: int) -> float:
    """Return the weight of the KL term: rises linearly from 0, is 1 from epoch ``n_warmup`` on.

    Source: Sonderby et al. 2016, Ladder variational autoencoders, arXiv 1602.02282.

    Examples
    --------
    >>> [kl_warmup(epoch, 2) for epoch in range(4)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return min(1.0, epoch / n_warmup) if n_warmup > 0 else 1.0


def masked_task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each task's mean binary cross-entropy over the samples labelled for it.

    Parameters
    ----------
    logits : Tensor, shape (batch, n_tasks)
    labels : Tensor, shape (batch, n_tasks)
        0, 1, or NaN where a sample is not labelled for the task.

    Returns
    -------
    Tensor, shape (n_tasks,)
        Zero, with zero gradient, for a task without labels in the batch.

    Examples
    --------
    >>> import torch
    >>> labels = torch.tensor([[1.0, float("nan")], [0.0, float("nan")]])
    >>> masked_task_loss(torch.zeros(2, 2), labels)
    tensor([0.6931, 0.0000])
    """
    labelled = ~labels.isnan()
    target = torch.where(labelled, labels, 0.0)
    # An unlabelled logit is replaced, not multiplied by zero: not even an infinite one counts.
    logits = torch.where(labelled, logits, 0.0)
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return torch.where(labelled, loss, 0.0).sum(0) / labelled.sum(0).clamp_min(1)
