"""One network of the ensemble: masked autoencoder, residual sites and task heads."""

import torch
from torch import Tensor, nn

from miracle_lib.model import MaskedVAE, TaskHeads, by_feature
from miracle_lib.model.vae import Masks

CHUNK = 64  # samples per pass outside training: bounds memory


class Member(nn.Module):
    """Masked autoencoder with linear task heads on pathways, genes and residual sites.

    Parameters
    ----------
    hierarchy : Hierarchy
    n_residual : int
        Sites that the hierarchy does not reach; they follow its sites in the input.
    n_tasks : int
    n_covariates : int
    seed : int
        Of every starting weight.
    **options
        Passed on to `MaskedVAE`.
    """

    def __init__(
        self,
        hierarchy: Masks,
        n_residual: int,
        n_tasks: int,
        n_covariates: int,
        seed: int,
        **options: object,
    ) -> None:
        super().__init__()
        self.network = MaskedVAE(hierarchy, n_covariates=n_covariates, seed=seed, **options)
        widths = {
            "pathways": self.network.n_pathways,
            "genes": self.network.n_genes,
            "residual": n_residual,
        }
        self.heads = TaskHeads(widths, n_tasks, seed=seed)

    @torch.no_grad()
    def calibrate(self, x: Tensor, covariates: Tensor) -> None:
        """Scale the starting weights to training samples: encoder, then decoder.

        Each site's starting reconstruction is multiplied by its least-squares slope on the data,
        so that training starts from better than the mean of each site.
        """
        network, sites = self.network.eval(), self.sites(x)
        network.calibrate(sites, covariates)
        expected = network(sites, covariates, sample=False).reconstruction
        centred = expected - expected.mean(0)
        slope = (centred * sites).mean(0) / centred.square().mean(0).clamp_min(1e-6)
        network.gene_to_site.weight.mul_(slope[network.gene_to_site.pattern.output])
        network.gene_to_site.bias.copy_(-slope * expected.mean(0))
        if network.site_logvar is not None:
            error = sites - slope * centred
            network.site_logvar.copy_(error.square().mean(0).clamp_min(0.05).log())

    def sites(self, x: Tensor) -> Tensor:
        """Return the part of the input that enters the autoencoder, in the layout it works in."""
        return by_feature(x[:, : self.network.n_sites]).t()

    def blocks(self, x: Tensor, covariates: Tensor) -> dict[str, Tensor]:
        """Return what the heads read: pathway means, gene activations, residual sites."""
        genes, mean, _ = self.network.encode(self.sites(x), covariates)
        return self.head_inputs(x, genes, mean)

    def head_inputs(self, x: Tensor, genes: Tensor, mean: Tensor) -> dict[str, Tensor]:
        """Return the inputs of the heads from what the encoder gave."""
        return {
            "pathways": mean[:, : self.network.n_pathways],
            "genes": genes,
            "residual": x[:, self.network.n_sites :],
        }

    def forward(self, x: Tensor, covariates: Tensor) -> Tensor:
        """Return logits (batch, n_tasks)."""
        return self.heads(self.blocks(x, covariates))

    @torch.no_grad()
    def features(self, x: Tensor, covariates: Tensor) -> dict[str, Tensor]:
        """Return the blocks for many samples, in chunks; residual sites are a view of the input."""
        self.eval()
        genes, mean = [], []
        for some, known in zip(x.split(CHUNK), covariates.split(CHUNK), strict=True):
            part = self.network.encode(self.sites(some), known)
            genes.append(part[0])
            mean.append(part[1])
        return self.head_inputs(x, torch.cat(genes), torch.cat(mean))

    @torch.no_grad()
    def outputs(self, x: Tensor, covariates: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and pathway activities of some samples, in chunks."""
        self.eval()
        logits, pathways = [], []
        for some in rows.split(CHUNK):
            blocks = self.blocks(x[some], covariates[some])
            logits.append(self.heads(blocks))
            pathways.append(blocks["pathways"])
        return torch.cat(logits), torch.cat(pathways)
