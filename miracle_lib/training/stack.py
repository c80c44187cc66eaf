"""Several networks as one, each with the steps that it would take alone.

Networks that share nothing are one network whose masks are block-diagonal. A step then costs one
call of each layer instead of one per network, which is what small networks spend their time on.
Every network keeps its own samples, batches, latent noise, task weights and early stopping; losses
are summed over the networks, and Adam treats every weight by itself.
"""

from collections.abc import Hashable, Sequence
from itertools import zip_longest
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import block_diag, csr_matrix
from torch import Tensor, nn
from torch.nn import functional

from miracle_lib.model import MaskedLinear, MaskedVAE, by_feature, kl_divergence
from miracle_lib.model.losses import site_losses
from miracle_lib.training.member import halves
from miracle_lib.training.stages import GradientStage, Row, Stage

MOST_EDGES = 3_000  # of a network's site layer: beyond, edges take the time and not calls
MOMENTS = ("exp_avg", "exp_avg_sq")


class StackedVAE(MaskedVAE):
    """Masked autoencoders side by side.

    Input is (batch, sum of n_sites), the samples of every network side by side, and so is all that
    comes out; covariates are (n_networks, batch, n_covariates).

    Parameters
    ----------
    networks : sequence of MaskedVAE
        Of any sizes, with the same options and no normalisation. Their weights are not taken over.
    """

    def __init__(self, networks: Sequence[MaskedVAE]) -> None:
        first = networks[0]
        masks = SimpleNamespace(
            site_gene=_diagonal([network.site_to_gene for network in networks]),
            gene_pathway=_diagonal([network.gene_to_mean for network in networks]),
        )
        super().__init__(masks, likelihood=first.likelihood, variational=first.variational, seed=0)
        self.activation = first.activation
        self.n_covariates = first.n_covariates
        if first.n_covariates:
            for name in ("covariates_to_gene", "covariates_to_site"):
                setattr(self, name, _StackedMap([getattr(each, name) for each in networks]))

    def _conditioned(
        self, values: Tensor, covariate_map: "_StackedMap | None", covariates: Tensor | None
    ) -> Tensor:
        """Add the effect of the covariates."""
        return values if covariate_map is None else covariate_map(values, covariates)


def _diagonal(layers: Sequence[MaskedLinear]) -> csr_matrix:
    """Masks of layers along a diagonal."""
    masks = []
    for layer in layers:
        start, output = (layer.pattern[i].cpu().numpy() for i in (0, 1))
        shape = (layer.in_features, layer.out_features)
        masks.append(csr_matrix((np.ones(len(output)), output, start), shape))
    return block_diag(masks, format="csr")


class _StackedMap(nn.Module):
    """Maps of the covariates of several networks, one below the other."""

    def __init__(self, maps: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.sizes = [each.out_features for each in maps]
        self.weight = nn.Parameter(torch.zeros(sum(self.sizes), maps[0].in_features))

    def forward(self, values: Tensor, covariates: Tensor) -> Tensor:
        """Add the effect of covariates (n_networks, batch, n) to values (batch, outputs)."""
        return _AddBlocks.apply(values.t(), self.weight, covariates.mT, self.sizes).t()


class _AddBlocks(torch.autograd.Function):
    """Add to each block of rows its part of the weight times its own matrix, in place."""

    @staticmethod
    def forward(ctx, values: Tensor, weight: Tensor, inputs: Tensor, sizes: list[int]) -> Tensor:
        blocks = zip(values.split(sizes), weight.split(sizes), inputs, strict=True)
        for block, part, own in blocks:
            block.addmm_(part, own)
        ctx.mark_dirty(values)
        ctx.save_for_backward(inputs)
        ctx.sizes = sizes
        return values

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        blocks = zip(grad.split(ctx.sizes), ctx.saved_tensors[0], strict=True)
        return grad, torch.cat([block @ own.t() for block, own in blocks]), None, None


class _Pass(NamedTuple):
    """What the encoder gives for some samples of every network."""

    rows: Sequence[Tensor]
    sites: Tensor
    observed: Tensor | None
    covariates: Tensor
    genes: Tensor
    mean: Tensor
    logvar: Tensor | None


class Stack:
    """Gradient stages of several members, run as one.

    Parameters
    ----------
    stages : sequence of GradientStage
        Of one `kind`.
    """

    def __init__(self, stages: Sequence[GradientStage]) -> None:
        self.stages = stages
        self.networks = [stage.member.network for stage in stages]
        self.device = stages[0].data.x.device
        self.network = StackedVAE(self.networks).to(self.device)
        self.n_sites = torch.tensor([each.n_sites for each in self.networks], device=self.device)
        self.n_pathways = torch.tensor([each.n_pathways for each in self.networks])
        # By site, as the layers read them.
        self.x = [
            by_feature(stage.data.x[:, : each.n_sites])
            for stage, each in zip(stages, self.networks, strict=True)
        ]
        self.complete = all(bool((x != 0).all()) for x in self.x)
        self.site_owner = torch.repeat_interleave(self.n_sites)
        self.pathway_owner = torch.repeat_interleave(self.n_pathways.to(self.device))
        # Edges are kept in row-major order, so that those of blocks on a diagonal are one block's
        # after the other's: every parameter of the stack is a concatenation.
        self.own = {
            shared: [network.get_parameter(name) for network in self.networks]
            for name, shared in self.network.named_parameters()
        }
        self._take_over()

    @torch.no_grad()
    def _take_over(self) -> None:
        """Join the weights of the networks, and what their optimisers know of them."""
        first, trained = self.stages[0], [*halves(self.network)]
        if first.classifies:
            heads = [stage.member.heads for stage in self.stages]
            trained.append([weight for each in heads for weight in each.parameters()])
        rates = [group["lr"] for group in first.optimizer.param_groups]
        groups = [{"params": p, "lr": rate} for p, rate in zip(trained, rates, strict=True)]
        self.optimizer = torch.optim.Adam(groups, fused=True)
        for shared, own in self.own.items():
            shared.copy_(torch.cat(own))
            known = [stage.optimizer.state[p] for stage, p in zip(self.stages, own, strict=True)]
            if known[0]:
                moments = {name: torch.cat([each[name] for each in known]) for name in MOMENTS}
                self.optimizer.state[shared] = moments | {"step": known[0]["step"].clone()}
        for stage in self.stages if first.classifies else ():
            for weight in stage.member.heads.parameters():
                self.optimizer.state[weight] = stage.optimizer.state[weight]

    @torch.no_grad()
    def _hand_back(self) -> None:
        """Copy what was joined to the networks and their optimisers."""
        for shared, own in self.own.items():
            sizes, state = [len(p) for p in own], self.optimizer.state[shared]
            joined = [shared, *(state[name] for name in MOMENTS)]
            parts = zip(*(values.split(sizes) for values in joined), strict=True)
            for stage, p, (weight, *moments) in zip(self.stages, own, parts, strict=True):
                p.copy_(weight)
                copies = (values.clone() for values in moments)
                known = dict(zip(MOMENTS, copies, strict=True))
                stage.optimizer.state[p] = known | {"step": state["step"].clone()}

    def run(self, epoch: int) -> list[Row]:
        """Train every network for one epoch and measure; return the row of each."""
        weights = self._task_weights(epoch)
        generators = [
            torch.Generator(self.device).manual_seed(stage.seed_of(epoch)) for stage in self.stages
        ]
        steps = list(zip(*(stage.batches(epoch) for stage in self.stages), strict=True))
        totals: list[dict[str, float]] = [{} for _ in self.stages]
        for rows in steps:
            parts = self._step(rows, epoch, weights, generators)
            for name, values in parts.items():
                for total, value in zip(totals, values, strict=True):
                    total[name] = total.get(name, 0.0) + value / len(steps)
        self._hand_back()
        measured = self._measure()
        return [
            stage.record(total | row, weight)
            for stage, total, row, weight in zip(
                self.stages, totals, measured, weights, strict=True
            )
        ]

    def _step(
        self,
        rows: Sequence[Tensor],
        epoch: int,
        weights: Sequence[Tensor | None],
        generators: Sequence[torch.Generator],
    ) -> dict[str, list[float]]:
        """Take one gradient step; return the parts of the loss, each with a value per network."""
        done = self._encoded(rows)
        parts = self._losses(done, self._latent(done, generators), epoch)
        if self.stages[0].classifies:
            losses = [
                stage.task_losses(logits, some, weight)
                for stage, logits, some, weight in zip(
                    self.stages, self._logits(done), rows, weights, strict=True
                )
            ]
            parts |= {name: torch.stack([each[name] for each in losses]) for name in losses[0]}
        loss = sum(parts.values())
        for stage, value in zip(self.stages, loss.tolist(), strict=True):
            stage.refuse_infinite(value, epoch)
        self.optimizer.zero_grad()
        loss.sum().backward()
        self.optimizer.step()
        return {name: value.tolist() for name, value in parts.items()}

    def _encoded(self, rows: Sequence[Tensor]) -> _Pass:
        """Encode some samples of every network."""
        covariates = [
            stage.data.covariates[some] for stage, some in zip(self.stages, rows, strict=True)
        ]
        known = torch.stack([part.T for part in _equally_long([c.T for c in covariates])])
        chosen = [x.index_select(1, some) for x, some in zip(self.x, rows, strict=True)]
        sites = torch.cat(_equally_long(chosen)).t()
        padded = len({len(some) for some in rows}) > 1
        observed = sites != 0 if padded or not self.complete else None
        return _Pass(rows, sites, observed, known, *self.network.encode(sites, known))

    def _latent(self, done: _Pass, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw the latent of every network."""
        if done.logvar is None:
            return done.mean
        return done.mean + self._noise(done.rows, generators) * torch.exp(0.5 * done.logvar)

    def _noise(self, rows: Sequence[Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        """Draw for every network what it would draw alone."""
        draws = []
        for network, some, generator in zip(self.networks, rows, generators, strict=True):
            shape = (len(some), network.n_pathways)
            # torch fills a transposed tensor in another order than a contiguous one.
            by_row = network.gene_to_mean.kernel == "dense"
            draw = torch.empty(shape if by_row else shape[::-1], device=self.device)
            draws.append((draw if by_row else draw.t()).normal_(generator=generator))
        return torch.cat(_equally_long([draw.t() for draw in draws])).t()

    def _losses(self, done: _Pass, latent: Tensor, epoch: int) -> dict[str, Tensor]:
        """Return the autoencoder's losses per value, one per network."""
        network, sizes = self.network, torch.tensor([len(some) for some in done.rows])
        losses, seen = site_losses(
            network.decode(latent, done.covariates),
            done.sites,
            done.observed,
            network.site_logvar,
            network.likelihood,
        )
        seen = self._by_network(seen, self.site_owner).clamp_min(1)
        reconstruction = self._by_network(losses, self.site_owner) / seen
        kl = torch.zeros_like(reconstruction)
        if done.logvar is not None:
            mean, logvar = done.mean, done.logvar
            if len(sizes.unique()) > 1:  # a padded sample has no divergence
                real = torch.arange(int(sizes.max()))[:, None] < sizes[None]
                real = real.to(self.device)[:, self.pathway_owner]
                mean, logvar = (torch.where(real, values, 0.0) for values in (mean, logvar))
            # Transposed, so that the sum is over samples and one value per pathway is left.
            kl = self._by_network(kl_divergence(mean.t(), logvar.t()), self.pathway_owner)
            kl = kl / sizes.to(self.device).clamp_min(1) / self.n_sites
        return self.stages[0].weighted(reconstruction, kl, epoch)

    def _by_network(self, values: Tensor, owner: Tensor) -> Tensor:
        """Sum the nodes of each network."""
        return values.new_zeros(len(self.stages)).index_add(0, owner, values)

    def _logits(self, done: _Pass) -> list[Tensor]:
        """Return the logits of every network."""
        return [
            stage.member.heads(blocks)
            for stage, blocks in zip(self.stages, self._head_inputs(done), strict=True)
        ]

    def _head_inputs(self, done: _Pass) -> list[dict[str, Tensor]]:
        """Return what the heads of every network read."""
        genes = done.genes.split([each.n_genes for each in self.networks], dim=1)
        means = done.mean.split([each.n_pathways for each in self.networks], dim=1)
        return [
            stage.member.head_inputs(stage.data.x, g[: len(some)], m[: len(some)], some)
            for stage, some, g, m in zip(self.stages, done.rows, genes, means, strict=True)
        ]

    @torch.no_grad()
    def _measure(self) -> list[Row]:
        """Return the losses of every network on its held-out samples."""
        first = self.stages[0]
        parts, logits = [], []
        for rows in self._chunks([stage.validation for stage in self.stages]):
            done = self._encoded(rows)
            losses = self._losses(done, done.mean, first.options.kl_warmup)
            losses = {name: values.tolist() for name, values in losses.items()}
            parts.append(
                [
                    {name: values[i] * len(some) for name, values in losses.items()}
                    for i, some in enumerate(rows)
                ]
            )
            logits.append(self._logits(done) if first.classifies else [None] * len(rows))
        return [
            stage.summary(part, each, stage.validation)
            for stage, part, each in zip(
                self.stages, zip(*parts, strict=True), zip(*logits, strict=True), strict=True
            )
        ]

    def _chunks(self, rows: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Split the rows of every network as it would alone; a network may run out of them."""
        none = torch.empty(0, dtype=torch.int64, device=self.device)
        return list(
            zip_longest(
                *(
                    some.split(stage.member.chunk)
                    for stage, some in zip(self.stages, rows, strict=True)
                ),
                fillvalue=none,
            )
        )

    @torch.no_grad()
    def _task_weights(self, epoch: int) -> list[Tensor | None]:
        """Ask the policy of every network for this epoch's weights."""
        weights: list[Tensor | None] = [None] * len(self.stages)
        if not self.stages[0].classifies:
            return weights
        done = self._encoded([torch.cat([each.train, each.validation]) for each in self.stages])
        inputs, logits = self._head_inputs(done), self._logits(done)
        for i, stage in enumerate(self.stages):
            n = len(stage.train)
            seen = logits[i][:n], inputs[i]["pathways"][:n]
            weights[i] = stage.task_weights(epoch, seen, logits[i][n:])
        return weights


def stackable(stage: Stage) -> bool:
    """Whether a stage trains an autoencoder that a stack can hold, and gains by it."""
    if not isinstance(stage, GradientStage) or not stage.reconstructs:
        return False
    network = stage.member.network
    plain = isinstance(network.encoder_norm, nn.Identity) and network.likelihood != "bernoulli"
    return plain and network.site_to_gene.weight.numel() <= MOST_EDGES


def kind(stage: GradientStage, epoch: int) -> Hashable:
    """What must agree between stages for an epoch of theirs to be run as one."""
    network = stage.member.network
    return (
        (stage.name, epoch, stage.settings, stage.options, len(stage.batches(epoch))),
        (stage.classifies, stage.data.x.device, type(network.activation)),
        (network.likelihood, network.variational, network.n_covariates),
    )


def _equally_long(tables: Sequence[Tensor]) -> Sequence[Tensor]:
    """Fill short rows with zeros."""
    n = max(table.shape[1] for table in tables)
    return [
        table if table.shape[1] == n else functional.pad(table, (0, n - table.shape[1]))
        for table in tables
    ]
