"""One network of the ensemble: masked autoencoder, residual sites and task heads."""

import torch
from torch import Tensor, nn

from miracle_lib.model import MaskedVAE, TaskHeads, by_feature
from miracle_lib.model.vae import Masks

ENCODER = ("site_to_gene", "gene_to_mean", "gene_to_logvar", "encoder_norm", "covariates_to_gene")
CHUNK = 32  # samples per pass outside training
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
    """Masked autoencoder with task heads on pathways, genes and residual sites.

    Parameters
    ----------
    hierarchy : Hierarchy
    n_residual : int
        Sites that the hierarchy does not reach; they follow its sites in the input.
    n_tasks : int
    n_covariates : int
    seed : int
        Of every starting weight.
    head_units : int, optional
        Units of one hidden layer per head; None: linear heads.
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
        head_units: int | None = None,
        **options: object,
    ) -> None:
        super().__init__()
        self.network = MaskedVAE(hierarchy, n_covariates=n_covariates, seed=seed, **options)
        widths = {
            "pathways": self.network.n_pathways,
            "genes": self.network.n_genes,
            "residual": n_residual,
        }
        self.heads = TaskHeads(widths, n_tasks, head_units, seed)

    @property
    def most_at_once(self) -> int:
        """Most samples that one pass may take."""
        return max(1, PASS_VALUES // self.network.n_sites)

    @property
    def chunk(self) -> int:
        """Samples per pass outside training."""
        return min(CHUNK, self.most_at_once)

    @torch.no_grad()
    def calibrate(self, x: Tensor, covariates: Tensor, rows: Tensor) -> None:
        """Scale the starting weights to some training samples: encoder, then decoder.

        Each site's starting reconstruction is multiplied by its least-squares slope on the data,
        so that training starts from better than the mean of each site.
        """
        network = self.network.eval()
        network.calibrate(self.sites(x, rows), covariates[rows])
        # Sums over samples of reconstruction, its square, its product with the data, data squared.
        sums = torch.zeros(4, network.n_sites, device=x.device)
        for some in rows.split(self.chunk):
            sites = self.sites(x, some)
            expected = network(sites, covariates[some], sample=False).reconstruction
            sums[0] += expected.sum(0)
            sums[1] += torch.einsum("ij,ij->j", expected, expected)
            sums[2] += torch.einsum("ij,ij->j", expected, sites)
            sums[3] += torch.einsum("ij,ij->j", sites, sites)
        mean, square, product, total = sums / len(rows)
        slope = product / (square - mean.square()).clamp_min(1e-6)
        network.gene_to_site.weight.mul_(slope[network.gene_to_site.pattern.output])
        network.gene_to_site.bias.copy_(-slope * mean)
        if network.site_logvar is not None:
            network.site_logvar.copy_((total - slope * product).clamp_min(0.05).log())

    def sites(self, x: Tensor, rows: Rows = ALL) -> Tensor:
        """Return the input of the autoencoder for some samples, in the layout it works in."""
        return by_feature(x[:, : self.network.n_sites][rows]).t()

    def blocks(self, x: Tensor, covariates: Tensor, rows: Rows = ALL) -> dict[str, Tensor]:
        """Return what the heads read: pathway means, gene activations, residual sites."""
        genes, mean, _ = self.network.encode(self.sites(x, rows), covariates[rows])
        return self.head_inputs(x, genes, mean, rows)

    def head_inputs(
        self, x: Tensor, genes: Tensor, mean: Tensor, rows: Rows = ALL
    ) -> dict[str, Tensor]:
        """Return the inputs of the heads from what the encoder gave for some samples."""
        return {
            "pathways": mean[:, : self.network.n_pathways],
            "genes": genes,
            "residual": x[:, self.network.n_sites :][rows],
        }

    def forward(self, x: Tensor, covariates: Tensor) -> Tensor:
        """Return logits (batch, n_tasks)."""
        return self.heads(self.blocks(x, covariates))

    @torch.no_grad()
    def features(self, x: Tensor, covariates: Tensor) -> dict[str, Tensor]:
        """Return the blocks for many samples, in chunks; residual sites are a view of the input."""
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
        for some in rows.split(self.chunk):
            blocks = self.blocks(x, covariates, some)
            logits.append(self.heads(blocks))
            pathways.append(blocks["pathways"])
        return torch.cat(logits), torch.cat(pathways)
