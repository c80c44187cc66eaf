"""One network of the ensemble: masked autoencoder and task heads on its nodes and the sites."""

from typing import cast

import numpy as np
import torch
from scipy.sparse import diags
from scipy.sparse.linalg import lsqr
from torch import Tensor, nn

from miracle_lib.model import MaskedLinear, MaskedVAE, TaskHeads, VAEOutput, by_feature
from miracle_lib.model.heads import SharedLinear
from miracle_lib.model.vae import Masks
from miracle_lib.training.read_ahead import read_ahead
from miracle_lib.training.settings import BLOCKS, Design

ENCODER = (
    "site_to_gene",
    "gene_to_gene",
    "gene_to_mean",
    "gene_to_logvar",
    "mean_to_mean",
    "logvar_to_logvar",
    "encoder_norm",
    "covariates_to_gene",
)
DAMPING = 0.1  # of what is credited to a node, relative to the length of its weights
CHUNK = 256  # samples per pass outside training
PASS_VALUES = 2**21  # values of the site layer per pass, in training too: bounds memory

Rows = Tensor | slice
ALL = slice(None)


def halves(network: MaskedVAE) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of the encoder and those of the decoder."""
    parts: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in network.named_parameters():
        parts[not name.startswith(ENCODER)].append(parameter)
    return parts


class Member(nn.Module):
    """Masked autoencoder with task heads on pathways, genes and sites.

    Parameters
    ----------
    hierarchy : Hierarchy
    n_outside : int
        Sites that the hierarchy does not reach; they follow its sites in the input.
    n_tasks : int
    n_covariates : int
    seed : int
        Of every starting weight.
    design : Design, optional

    Attributes
    ----------
    network : MaskedVAE
    heads : Heads
    reads : list of str
        Blocks that the heads read.
    """

    def __init__(
        self,
        hierarchy: Masks,
        n_outside: int,
        n_tasks: int,
        n_covariates: int,
        seed: int,
        design: Design | None = None,
    ) -> None:
        super().__init__()
        design = design or Design()
        self.network = MaskedVAE(hierarchy, n_covariates=n_covariates, seed=seed, **design.network)
        widths = {
            "pathways": self.network.n_pathways,
            "genes": self.network.n_genes,
            "sites": self.network.n_sites + n_outside,
        }
        widths = {name: width for name, width in widths.items() if name in design.reads and width}
        self.reads, self.sampled, self.linear = list(widths), design.sampled, design.linear
        self.heads = design.heads(widths, n_tasks, design.head_units, seed)

    @property
    def most_at_once(self) -> int:
        """Most samples that one pass may take."""
        return max(1, PASS_VALUES // self.network.n_sites)

    @property
    def least_at_once(self) -> int:
        """Fewest samples that a pass in training can take: one alone has no variance in a batch."""
        return 2 if any(isinstance(each, nn.BatchNorm1d) for each in self.modules()) else 1

    @property
    def chunk(self) -> int:
        """Samples per pass outside training."""
        return min(CHUNK, self.most_at_once)

    @torch.no_grad()
    def calibrate(self, x: Tensor, covariates: Tensor, rows: Tensor, encoder: bool = True) -> None:
        """Scale starting weights that are averages to some training samples: encoder, then decoder.

        Each site's starting reconstruction is multiplied by its least-squares slope on the data,
        so that training starts from better than the mean of each site.
        """
        network = self.network.eval()
        if network.start == "random":
            return
        if encoder:
            network.calibrate(self.sites(x, rows), covariates[rows])
        # Over measured values: reconstruction, its square, its product with the data, data squared.
        sums = torch.zeros(4, network.n_sites, device=x.device)
        number = torch.zeros(network.n_sites, device=x.device)
        for batch in rows.split(self.chunk):
            sites = self.sites(x, batch)
            expected = network(sites, covariates[batch], sample=False).reconstruction
            expected = expected.masked_fill(sites == 0, 0.0)
            number += (sites != 0).sum(0)
            sums[0] += expected.sum(0)
            sums[1] += torch.einsum("ij,ij->j", expected, expected)
            sums[2] += torch.einsum("ij,ij->j", expected, sites)
            sums[3] += torch.einsum("ij,ij->j", sites, sites)
        mean, square, product, total = sums / number.clamp_min(1)
        slope = product / (square - mean.square()).clamp_min(1e-6)
        network.gene_to_site.weight.mul_(slope[network.gene_to_site.edge_output])
        cast(Tensor, network.gene_to_site.bias).copy_(-slope * mean)
        if network.site_logvar is not None:
            left = torch.where(number > 0, total - slope * product, 1.0)
            network.site_logvar.copy_(left.clamp_min(0.05).log())

    def fix_activities(self) -> None:
        """Leave the layers from sites to pathway activities out of every training."""
        network = self.network
        for layer in (network.site_to_gene, network.covariates_to_gene, network.gene_to_mean):
            if layer is not None:
                layer.requires_grad_(False)

    def sites(self, x: Tensor, rows: Rows = ALL) -> Tensor:
        """Return the input of the autoencoder for some samples, in the layout it works in."""
        if isinstance(rows, Tensor):
            read_ahead(x, rows.cpu().numpy())
        return by_feature(x[:, : self.network.n_sites][rows]).t()

    def blocks(self, x: Tensor, covariates: Tensor, rows: Rows = ALL) -> dict[str, Tensor]:
        """Return what heads can read: pathways, gene activations, sites."""
        genes, mean, logvar = self.network.encode(self.sites(x, rows), covariates[rows])
        drawn = self.sampled and self.training
        latent = self.network.draw(mean, logvar) if drawn else mean
        return self.head_inputs(x, genes, latent, rows)

    def blocks_of(self, x: Tensor, output: VAEOutput, rows: Rows) -> dict[str, Tensor]:
        """Return what heads can read from what a pass of the network gave for some samples."""
        latent = output.latent if self.sampled else output.mean
        return self.head_inputs(x, output.genes, latent, rows)

    def head_inputs(
        self, x: Tensor, genes: Tensor, latent: Tensor, rows: Rows = ALL
    ) -> dict[str, Tensor]:
        """Return the inputs of the heads from what the encoder gave for some samples."""
        return {
            "pathways": latent[:, : self.network.n_pathways],
            "genes": genes,
            "sites": x[rows],
        }

    def forward(self, x: Tensor, covariates: Tensor) -> Tensor:
        """Return logits (batch, n_tasks)."""
        return self.heads(self.blocks(x, covariates))

    @torch.no_grad()
    def features(self, x: Tensor, covariates: Tensor) -> dict[str, Tensor]:
        """Return the blocks for many samples, in chunks; sites are the input itself."""
        self.eval()
        # Laid out beforehand: small results kept between large ones would scatter the memory.
        genes = x.new_empty(len(x), self.network.n_genes)
        mean = x.new_empty(len(x), self.network.n_pathways)
        for start in range(0, len(x), self.chunk):
            rows = slice(start, start + self.chunk)
            genes[rows], mean[rows], _ = self.network.encode(self.sites(x, rows), covariates[rows])
        return self.head_inputs(x, genes, mean)

    @torch.no_grad()
    def outputs(self, x: Tensor, covariates: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and pathway activities of some samples, in chunks."""
        self.eval()
        logits, pathways = [], []
        for batch in rows.split(self.chunk):
            blocks = self.blocks(x, covariates, batch)
            logits.append(self.heads(blocks))
            pathways.append(blocks["pathways"])
        return torch.cat(logits), torch.cat(pathways)

    @torch.no_grad()
    def credit_nodes(self) -> None:
        """Write what the site weights have in common on genes, and theirs on pathways.

        Where genes are linear, a weight on a gene is the same as weights on its sites: what a
        gene's average can say is moved to the gene, and of that what a pathway can say to the
        pathway, by damped least squares. Logits stay as they are, up to the biases of the layers
        and what covariates do to the genes, and the sites keep their deviations.
        """
        if not self.linear or set(self.reads) != set(BLOCKS):
            return
        of_block = cast(TaskHeads, self.heads).blocks
        pathways, genes, sites = (of_block[name].output for name in BLOCKS)
        _move(sites, genes, self.network.site_to_gene)
        _move(genes, pathways, self.network.gene_to_mean)


def _move(inputs: SharedLinear, nodes: SharedLinear, layer: MaskedLinear) -> None:
    """Move weights on the inputs of a layer to its outputs, as far as these can carry them."""
    edges = layer.csr_weight().astype(float)
    length = np.asarray(edges.multiply(edges).sum(0)).ravel() ** 0.5 + 1e-12
    scaled = edges @ diags(1 / length)
    for own, other in (
        (inputs.shared[0], nodes.shared[0]),
        *zip(inputs.specific[:, 0], nodes.specific[:, 0], strict=True),
    ):
        wanted = own[: layer.in_features].double().cpu().numpy()
        if not wanted.any():
            continue
        credit = lsqr(scaled, wanted, damp=DAMPING**0.5, atol=1e-9, btol=1e-9)[0] / length
        own[: layer.in_features] -= torch.from_numpy(edges @ credit).to(own)
        other += torch.from_numpy(credit).to(other)
