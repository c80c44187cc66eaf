"""One network of the ensemble: masked autoencoder, residual sites and task heads."""

import torch
from torch import Tensor, nn

from miracle_lib.model import MaskedVAE, TaskHeads
from miracle_lib.model.masked_linear import MaskedLinear
from miracle_lib.model.vae import Masks

CHUNK = 256  # samples per pass outside training: bounds memory


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
        self._vary_dense_layers(seed)

    def _vary_dense_layers(self, seed: int) -> None:
        """Draw fully connected layers at random: as averages of all inputs, units would be one."""
        generator = torch.Generator().manual_seed(seed + 1)
        for layer in self.network.children():
            if isinstance(layer, MaskedLinear):
                full = layer.weight.numel() == layer.in_features * layer.out_features
                if full and layer.out_features > 1:
                    layer.reset_parameters(generator)

    def sites(self, x: Tensor) -> Tensor:
        """Return the part of the input that enters the autoencoder."""
        return x[:, : self.network.n_sites]

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
        """Return the blocks for many samples, computed in chunks and without gradient."""
        self.eval()
        parts = [
            self.blocks(some, covariate)
            for some, covariate in zip(x.split(CHUNK), covariates.split(CHUNK), strict=True)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
