"""Many small masked autoencoders trained as one.

Networks that share nothing are one network whose masks are block-diagonal. A step then costs one
call of each layer instead of one per network, which is what small networks spend their time on.
Losses are summed over the networks and Adam treats every weight by itself, so each network takes
the steps that it would take alone.
"""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import torch
from scipy.sparse import block_diag, csr_matrix
from torch import Tensor, nn

from miracle_lib.errors import MiracleError
from miracle_lib.model import MaskedLinear, MaskedVAE, kl_divergence


def stack_networks(networks: Sequence[MaskedVAE]) -> MaskedVAE:
    """Make one network of several, side by side.

    Parameters
    ----------
    networks : sequence of MaskedVAE
        Of one shape; their masks and weights may differ. Without covariates and
        normalisation, with a Gaussian or squared-error likelihood.

    Returns
    -------
    MaskedVAE
        Input (batch, n_networks * n_sites): the samples of every network side by side.

    Raises
    ------
    MiracleError
        If the networks differ in shape or have parts that cannot be stacked.
    """
    first = networks[0]
    for network in networks:
        shape = (network.n_sites, network.n_pathways, network.likelihood, network.variational)
        if shape != (first.n_sites, first.n_pathways, first.likelihood, first.variational):
            raise MiracleError("The networks differ in shape or likelihood; expected one of each.")
        plain = isinstance(network.encoder_norm, nn.Identity) and not network.n_covariates
        if not plain or network.likelihood == "bernoulli":
            raise MiracleError(
                "Only networks without covariates and normalisation, of Gaussian or squared-error "
                "likelihood, can be stacked."
            )
    masks = SimpleNamespace(
        site_gene=_blocks([network.site_to_gene for network in networks]),
        gene_pathway=_blocks([network.gene_to_mean for network in networks]),
    )
    stacked = MaskedVAE(masks, likelihood=first.likelihood, variational=first.variational, seed=0)
    stacked.activation = first.activation
    # Edges are kept in row-major order, so that of blocks on a diagonal is one block's after the
    # other's: every parameter of the stack is a concatenation.
    parameters = dict(stacked.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parts = [dict(network.named_parameters())[name] for network in networks]
            parameter.copy_(torch.cat(parts))
    return stacked


def _blocks(layers: Sequence[MaskedLinear]) -> csr_matrix:
    """Masks of layers along a diagonal."""
    return block_diag([_mask(layer) for layer in layers], format="csr")


def _mask(layer: MaskedLinear) -> csr_matrix:
    """Mask of a layer, without its weights."""
    weight = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.fill_(1.0)
        mask = csr_matrix(layer.dense_weight().cpu().numpy())
        layer.weight.copy_(weight)
    return mask


def unstack_networks(stacked: MaskedVAE, networks: Sequence[MaskedVAE]) -> None:
    """Copy the weights of a stack back into the networks that it was made of."""
    with torch.no_grad():
        for name, parameter in stacked.named_parameters():
            parts = [dict(network.named_parameters())[name] for network in networks]
            for part, values in zip(parts, parameter.split([len(p) for p in parts]), strict=True):
                part.copy_(values)


def train_autoencoders(
    networks: Sequence[MaskedVAE],
    values: Sequence[Tensor],
    epochs: int = 20,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    kl_weight: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """Train masked autoencoders of one shape together; their weights are changed in place.

    Parameters
    ----------
    networks : sequence of MaskedVAE
        See :func:`stack_networks`.
    values : sequence of Tensor, each of shape (n_samples, n_sites)
        Standardised input of each network, 0 where missing; as many samples for each.
    epochs : int, default 20
    learning_rate : float, default 1e-3
        Of Adam.
    batch_size : int, default 64
        Samples of each network in a step.
    kl_weight : float, default 0.1
    seed : int, default 0
        Of the batches, the same rows for all, and of the latent draws.

    Returns
    -------
    Tensor of shape (epochs, n_networks)
        Mean training loss.
    """
    if len({tuple(x.shape) for x in values}) != 1 or len(values) != len(networks):
        raise MiracleError(
            f"{len(networks)} networks got {len(values)} tables of the shapes "
            f"{sorted({tuple(x.shape) for x in values})}; expected one of one shape for each."
        )
    stacked = stack_networks(networks).train()
    # By site, as the sparse layers read it: no step copies its batch into another order.
    by_site = torch.cat(list(values), dim=1).t().contiguous()
    observed = (by_site != 0) if (by_site == 0).any() else None
    optimiser = torch.optim.Adam(stacked.parameters(), lr=learning_rate)
    history = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(epochs):
            losses = []
            for rows in torch.randperm(by_site.shape[1]).split(batch_size):
                seen = None if observed is None else observed[:, rows]
                loss = _losses(stacked, by_site[:, rows], seen, len(networks), kl_weight)
                optimiser.zero_grad()
                loss.sum().backward()
                optimiser.step()
                losses.append(loss.detach())
            history.append(torch.stack(losses).mean(dim=0))
    unstack_networks(stacked, networks)
    return torch.stack(history)


def _losses(
    stacked: MaskedVAE, by_site: Tensor, seen: Tensor | None, n_networks: int, kl_weight: float
) -> Tensor:
    """Loss of every network of a stack, each averaged over its own observed values."""
    n_samples = by_site.shape[1]
    output = stacked(by_site.t())
    error = output.reconstruction.t() - by_site
    if seen is None:
        counts = torch.full(by_site.shape[:1], n_samples)
    else:
        error, counts = error * seen, seen.sum(dim=1)
    squares = error.square().sum(dim=1)
    if stacked.site_logvar is not None:
        spread = counts * (stacked.site_logvar + math.log(2 * math.pi))
        squares = 0.5 * (squares * torch.exp(-stacked.site_logvar) + spread)
    loss = _by_network(squares, n_networks) / _by_network(counts, n_networks).clamp_min(1)
    if output.logvar is None:
        return loss
    # Transposed, so that the sum is over samples and one divergence per pathway is left.
    kl = _by_network(kl_divergence(output.mean.t(), output.logvar.t()), n_networks) / n_samples
    return loss + kl_weight * kl * n_networks / stacked.n_sites


def _by_network(values: Tensor, n_networks: int) -> Tensor:
    """Sum the nodes of each network."""
    return values.view(n_networks, -1).sum(dim=1)
