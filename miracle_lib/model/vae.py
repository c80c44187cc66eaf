"""The masked variational autoencoder: sites, genes and pathways, connected as annotated."""

from typing import Literal, NamedTuple, Protocol, cast

import scipy.sparse as sp
import torch
from torch import Tensor, nn

from miracle_lib.errors import MiracleError
from miracle_lib.model.masked_linear import MaskedLinear

Likelihood = Literal["gaussian", "bernoulli", "mse"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "identity": nn.Identity,
}
NORMS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}
LOGVAR_BOUND = 8.0
INITIAL_LOGVAR = -2.0
NOISE = 0.1
CHUNK = 64  # samples calibrated at a time: bounds memory


class Masks(Protocol):
    """What the network reads of a hierarchy."""

    @property
    def site_gene(self) -> sp.csr_matrix:
        """Sites x genes."""

    @property
    def gene_pathway(self) -> sp.csr_matrix:
        """Genes x pathways."""


class VAEOutput(NamedTuple):
    """What one pass through the network gives.

    ``reconstruction`` (batch, n_sites) on the scale of the input; ``mean``, ``logvar`` and
    ``latent`` (batch, n_pathways), ``logvar`` None for a plain autoencoder; ``genes``
    (batch, n_genes).
    """

    reconstruction: Tensor
    mean: Tensor
    logvar: Tensor | None
    latent: Tensor
    genes: Tensor


class MaskedVAE(nn.Module):
    """Variational autoencoder whose connections are those of a hierarchy.

    Site -> gene -> pathway in the encoder, pathway -> gene -> site in the decoder, with one
    weight per annotated edge. The latent variable of a pathway is a distribution: mean and
    log-variance are masked linear functions of the gene activations, with no activation on either
    unless asked for.
    Covariates enter both halves, so that the latent need not carry them.

    Parameters
    ----------
    hierarchy : Hierarchy
        Anything with CSR matrices ``site_gene`` (n_sites, n_genes) and ``gene_pathway``
        (n_genes, n_pathways).
    n_covariates : int
        Width of the covariate table (cohort indicators, age, sex, cell fractions), each column
        centred.
    likelihood : {"gaussian", "bernoulli", "mse"}
        ``"gaussian"``: real-valued input, one learned variance per site. ``"mse"``: the same with
        variance one. ``"bernoulli"``: input in [0, 1], such as beta values.
    activation : {"tanh", "relu", "gelu", "elu", "identity"}
        Applied to the gene layers.
    norm : {"none", "batch", "layer"}
        Normalisation of the gene layers, before the activation.
    latent_activation : str
        Applied to latent mean and log-variance; as ``activation``.
    dense_layers : bool
        Put a layer from every gene to every gene behind the gene layer of the encoder, and from
        every pathway to every pathway behind mean and log-variance, as the paper's code does.
    start : {"average", "random"}
        Each node starts as a noisy average of its inputs, or from random weights.
    variational : bool
        False gives a plain autoencoder: no log-variance, no sampling.
    seed : int, optional
        Of the initial weights; the global torch generator if None.

    Attributes
    ----------
    n_sites, n_genes, n_pathways : int

    References
    ----------
    Kingma and Welling 2014, Auto-encoding variational Bayes, arXiv 1312.6114. Sohn et al. 2015,
    Learning structured output representation using deep conditional generative models.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import scipy.sparse as sp, torch
    >>> masks = SimpleNamespace(
    ...     site_gene=sp.csr_matrix([[1, 0], [1, 0], [0, 1]]),
    ...     gene_pathway=sp.csr_matrix([[1], [1]]),
    ... )
    >>> output = MaskedVAE(masks, seed=0).eval()(torch.zeros(4, 3))
    >>> output.reconstruction.shape, output.mean.shape
    (torch.Size([4, 3]), torch.Size([4, 1]))
    """

    def __init__(
        self,
        hierarchy: Masks,
        *,
        n_covariates: int = 0,
        likelihood: Likelihood = "gaussian",
        activation: str = "tanh",
        latent_activation: str = "identity",
        norm: str = "none",
        dense_layers: bool = False,
        start: Literal["average", "random"] = "average",
        variational: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        _check("likelihood", likelihood, ("gaussian", "bernoulli", "mse"))
        _check("activation", activation, ACTIVATIONS)
        _check("latent_activation", latent_activation, ACTIVATIONS)
        _check("norm", norm, NORMS)
        _check("start", start, ("average", "random"))
        site_gene = sp.csr_matrix(hierarchy.site_gene)
        gene_pathway = sp.csr_matrix(hierarchy.gene_pathway)
        self.n_sites, self.n_genes = site_gene.shape
        self.n_pathways = gene_pathway.shape[1]
        self.n_covariates, self.likelihood = n_covariates, likelihood
        self.variational, self.start, self.dense_layers = variational, start, dense_layers

        self.site_to_gene = MaskedLinear(site_gene)
        self.gene_to_mean = MaskedLinear(gene_pathway)
        self.gene_to_logvar = MaskedLinear(gene_pathway) if variational else None
        self.latent_to_gene = MaskedLinear(gene_pathway.T)
        self.gene_to_site = MaskedLinear(site_gene.T)
        self.encoder_norm, self.decoder_norm = (NORMS[norm](self.n_genes) for _ in range(2))
        self.activation = ACTIVATIONS[activation]()
        self.latent_activation = ACTIVATIONS[latent_activation]()
        self.gene_to_gene = _within(self.n_genes, dense_layers)
        self.mean_to_mean = _within(self.n_pathways, dense_layers)
        self.logvar_to_logvar = _within(self.n_pathways, dense_layers and variational)
        self.covariates_to_gene = _covariate_map(n_covariates, self.n_genes)
        self.covariates_to_site = _covariate_map(n_covariates, self.n_sites)
        self.site_logvar = (
            nn.Parameter(torch.zeros(self.n_sites)) if likelihood == "gaussian" else None
        )
        self.reset_parameters(seed)

    @torch.no_grad()
    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw every weight anew."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        begin = _start_as_average if self.start == "average" else MaskedLinear.reset_parameters
        for layer in (
            self.site_to_gene,
            self.gene_to_mean,
            self.latent_to_gene,
            self.gene_to_site,
        ):
            begin(layer, generator)
        if self.gene_to_logvar is not None:
            self.gene_to_logvar.reset_parameters(generator)
            if self.start == "average":
                self.gene_to_logvar.weight.mul_(NOISE)
                nn.init.constant_(cast(Tensor, self.gene_to_logvar.bias), INITIAL_LOGVAR)
        for within in (self.gene_to_gene, self.mean_to_mean, self.logvar_to_logvar):
            for parameter in within.parameters():
                bound = len(parameter) ** -0.5
                parameter.uniform_(-bound, bound, generator=generator)
        for norm in (self.encoder_norm, self.decoder_norm):
            if isinstance(norm, nn.BatchNorm1d | nn.LayerNorm):
                norm.reset_parameters()
        for covariate_map in (self.covariates_to_gene, self.covariates_to_site):
            if covariate_map is not None:
                covariate_map.weight.zero_()
        if self.site_logvar is not None:
            self.site_logvar.zero_()

    @torch.no_grad()
    def calibrate(self, x: Tensor, covariates: Tensor | None = None) -> None:
        """Rescale the encoder's starting weights so that genes and pathways vary by 1 on ``x``.

        Sites of a gene, and genes of a pathway, are correlated to an unknown degree; without this
        large nodes start saturated (Mishkin and Matas 2016, arXiv 1511.06422). Call it once,
        before training, with training samples only.

        Parameters
        ----------
        x : Tensor, shape (n_samples, n_sites)
            Model input; some hundred samples are enough.
        covariates : Tensor, shape (n_samples, n_covariates), optional
        """
        chunks = x.split(CHUNK)
        _scale_outputs(self.site_to_gene, torch.cat([self.site_to_gene(part) for part in chunks]))
        conditions = [None] * len(chunks) if covariates is None else covariates.split(CHUNK)
        genes = [self.encode(part, c)[0] for part, c in zip(chunks, conditions, strict=True)]
        _scale_outputs(self.gene_to_mean, self.gene_to_mean(torch.cat(genes)))

    def encode(
        self, x: Tensor, covariates: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return gene activations, latent means and log-variances.

        Parameters
        ----------
        x : Tensor, shape (batch, n_sites)
            No NaN: a missing site is 0 in standardised input.
        covariates : Tensor, shape (batch, n_covariates), optional
            None stands for an average sample (all zeros).

        Returns
        -------
        genes : Tensor, shape (batch, n_genes)
        mean : Tensor, shape (batch, n_pathways)
        logvar : Tensor, shape (batch, n_pathways), or None for a plain autoencoder
            Bounded smoothly within +-8.
        """
        genes = self._conditioned(self.site_to_gene(x), self.covariates_to_gene, covariates)
        genes = self.activation(self.encoder_norm(genes))
        if self.dense_layers:
            genes = self.activation(self.gene_to_gene(genes))
        logvar = None
        if self.gene_to_logvar is not None:
            logvar = self._latent(self.gene_to_logvar, self.logvar_to_logvar, genes)
            logvar = LOGVAR_BOUND * torch.tanh(logvar / LOGVAR_BOUND)
        return genes, self._latent(self.gene_to_mean, self.mean_to_mean, genes), logvar

    def _latent(self, masked: MaskedLinear, within: nn.Module, genes: Tensor) -> Tensor:
        """Return latent means or log-variances."""
        values = masked(genes)
        if self.dense_layers:
            values = within(self.activation(values))
        return self.latent_activation(values)

    def draw(self, mean: Tensor, logvar: Tensor | None) -> Tensor:
        """Return a latent drawn from its distribution; the mean for a plain autoencoder."""
        if logvar is None:
            return mean
        return mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)

    def skip(self, n: int) -> None:
        """Draw the noise of some samples and drop it: those after them get what they would get."""
        width, device = self.latent_to_gene.in_features, self.gene_to_mean.weight.device
        # In the layout that the layer gives: noise is drawn in the order of the memory.
        by_feature = self.gene_to_mean.kernel == "sparse" and not self.dense_layers
        shape = (width, n) if by_feature else (n, width)
        mean = torch.empty(shape, device=device)
        mean = mean.t() if by_feature else mean
        self.draw(mean, None if self.gene_to_logvar is None else mean)

    def decode(self, latent: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Return the expected input, shape (batch, n_sites), for a latent (batch, n_pathways)."""
        genes = self.activation(self.decoder_norm(self.latent_to_gene(latent)))
        sites = self._conditioned(self.gene_to_site(genes), self.covariates_to_site, covariates)
        return sites.sigmoid() if self.likelihood == "bernoulli" else sites

    def forward(
        self, x: Tensor, covariates: Tensor | None = None, sample: bool | None = None
    ) -> VAEOutput:
        """Encode, draw a latent, decode.

        Parameters
        ----------
        x : Tensor, shape (batch, n_sites)
        covariates : Tensor, shape (batch, n_covariates), optional
        sample : bool, optional
            Draw the latent from its distribution rather than take its mean. None: only in
            training mode.

        Returns
        -------
        VAEOutput
        """
        genes, mean, logvar = self.encode(x, covariates)
        sample = self.training if sample is None else sample
        latent = self.draw(mean, logvar) if sample else mean
        return VAEOutput(self.decode(latent, covariates), mean, logvar, latent, genes)

    def _conditioned(
        self, values: Tensor, covariate_map: nn.Linear | None, covariates: Tensor | None
    ) -> Tensor:
        """Add the effect of the covariates, in the memory layout of ``values``."""
        width = 0 if covariates is None else covariates.shape[1]
        if covariates is not None and width != self.n_covariates:
            raise MiracleError(f"covariates have {width} columns; expected {self.n_covariates}")
        if covariates is None or covariate_map is None:
            return values
        return torch.addmm(values.t(), covariate_map.weight, covariates.t()).t()


def _check(name: str, value: str, allowed: dict | tuple) -> None:
    """Refuse an unknown option, naming the known ones."""
    if value not in allowed:
        raise MiracleError(f"{name} is '{value}'; expected one of {', '.join(allowed)}")


def _covariate_map(n_covariates: int, n_outputs: int) -> nn.Linear | None:
    """Return a dense map without bias, or None when there is nothing to map."""
    return nn.Linear(n_covariates, n_outputs, bias=False) if n_covariates else None


def _within(n: int, wanted: bool) -> nn.Module:
    """Return a dense map of a layer to itself, or what passes it on."""
    return nn.Linear(n, n) if wanted else nn.Identity()


def _start_as_average(layer: MaskedLinear, generator: torch.Generator | None) -> None:
    """Set each node to the sum of its inputs over the root of their number, with small noise.

    A fully connected layer keeps its random start: all its averages would be the same.
    """
    layer.reset_parameters(generator)
    if layer.out_features == 1 or layer.weight.numel() < layer.in_features * layer.out_features:
        layer.weight.mul_(NOISE).add_(layer.edge_scale())


def _scale_outputs(layer: MaskedLinear, outputs: Tensor) -> None:
    """Divide each output's weights by the SD that the output has on a sample of data."""
    spread = outputs.std(dim=0, correction=min(1, len(outputs) - 1))  # one sample has none
    scale = torch.where(spread > 1e-3, spread, 1.0).reciprocal()
    layer.weight.mul_(scale[layer.edge_output])
