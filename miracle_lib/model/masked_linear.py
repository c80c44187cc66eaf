"""A linear layer with one trained weight per edge of a given mask."""

import math
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from miracle_lib.errors import MiracleError
from miracle_lib.model.sparse_product import Pattern, by_feature, sparse_product

Kernel = Literal["auto", "sparse", "dense"]


class MaskedLinear(nn.Module):
    """Linear layer whose connections are the non-zero entries of a mask.

    Only the edges have weights, so nothing off the mask can be trained, decayed or perturbed, and
    memory grows with the number of edges, not with ``n_inputs * n_outputs``. Both kernels compute
    the same function from the same ``state_dict``.

    Parameters
    ----------
    mask : scipy sparse, array or Tensor, shape (n_inputs, n_outputs)
        Non-zero entries are the edges.
    bias : bool
        Add one offset per output.
    kernel : {"auto", "sparse", "dense"}
        ``"sparse"``: CSR product forward, sampled product backward. ``"dense"``: the weights are
        laid out as a matrix at each call; safe under ``torch.func.vmap``. ``"auto"`` takes the
        faster one for the mask's shape and density.

    Attributes
    ----------
    weight : Parameter, shape (n_edges,)
        In row-major order of the mask (by input, then by output).
    bias : Parameter, shape (n_outputs,), or None

    Raises
    ------
    MiracleError
        If the mask is not two-dimensional or has no edge, or the kernel is unknown.

    Notes
    -----
    Both kernels run under ``torch.compile`` without a graph break. Sparse products of half
    precisions are summed in float32. First derivatives only for the sparse kernel.

    Examples
    --------
    >>> import torch
    >>> layer = MaskedLinear([[1, 0], [1, 0], [0, 1]])
    >>> layer.weight.shape, layer(torch.ones(5, 3)).shape
    (torch.Size([3]), torch.Size([5, 2]))
    """

    _position: Tensor | None

    def __init__(
        self,
        mask: sp.spmatrix | sp.sparray | ArrayLike | Tensor,
        bias: bool = True,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        edges = _csr_mask(mask)
        self.in_features, self.out_features = edges.shape
        self.kernel = _faster_kernel(edges) if kernel == "auto" else kernel
        if self.kernel not in ("sparse", "dense"):
            raise MiracleError(f"kernel is '{kernel}'; expected 'auto', 'sparse' or 'dense'")
        for name, index in self._index(edges).items():
            self.register_buffer(f"_{name}", index, persistent=False)
        self.weight = nn.Parameter(torch.empty(edges.nnz))
        self.bias = nn.Parameter(torch.empty(self.out_features)) if bias else None
        self.reset_parameters()

    def _index(self, edges: sp.csr_matrix) -> dict[str, Tensor | None]:
        """Return what the kernel has to know of the edges: nothing of a dense one that has all."""
        if self.kernel == "sparse":
            return Pattern.from_mask(edges)._asdict()
        full = edges.nnz == math.prod(edges.shape)
        return {"position": None if full else _flat_position(edges)}

    @property
    def pattern(self) -> Pattern:
        """The edges as the sparse kernel reads them, on the device of the layer."""
        return Pattern(*(getattr(self, f"_{name}") for name in Pattern._fields))

    @property
    def position(self) -> Tensor:
        """Place of each edge in the flattened matrix, shape (n_edges,)."""
        if self.kernel == "sparse":
            start, output = self.pattern[:2]
            inputs = torch.arange(self.in_features, device=output.device)
            return inputs.repeat_interleave(start.diff()) * self.out_features + output
        if self._position is None:
            return torch.arange(self.weight.numel(), device=self.weight.device)
        return self._position

    @property
    def edge_output(self) -> Tensor:
        """Output of each edge, shape (n_edges,)."""
        return self.position % self.out_features

    @property
    def in_degree(self) -> Tensor:
        """Number of inputs of each output, shape (n_outputs,)."""
        return torch.bincount(self.edge_output, minlength=self.out_features)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw weights with variance 1 / in-degree of their own output; set the bias to zero.

        So every output has variance 1 for independent inputs of variance 1, whatever its degree.
        """
        draw = torch.randn(self.weight.shape, generator=generator)  # alike on every device
        self.weight.copy_(draw).mul_(self.edge_scale())
        if self.bias is not None:
            self.bias.zero_()

    def edge_scale(self) -> Tensor:
        """Return 1 / sqrt(in-degree of the edge's output), shape (n_edges,)."""
        return self.in_degree.to(self.weight).rsqrt()[self.edge_output]

    def dense_weight(self) -> Tensor:
        """Return the weights as a matrix (n_inputs, n_outputs), zero off the mask."""
        size = self.in_features * self.out_features
        if self.weight.numel() == size:
            return self.weight.view(self.in_features, self.out_features)
        flat = _LaidOut.apply(self.weight, self.position, size)
        return flat.view(self.in_features, self.out_features)

    def csr_weight(self) -> sp.csr_matrix:
        """Return a copy of the weights as a sparse matrix (n_inputs, n_outputs)."""
        place = divmod(self.position.cpu().numpy(), self.out_features)
        weight = self.weight.detach().cpu().numpy()
        return sp.csr_matrix((weight, place), (self.in_features, self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_inputs) to (batch, n_outputs).

        The sparse kernel reads ``x`` by feature: an ``x`` whose transpose is contiguous is used
        as it is, and the result is such a tensor too, so that stacked layers copy nothing.
        """
        if self.kernel == "dense":
            y = x @ self.dense_weight()
            return y if self.bias is None else y + self.bias
        columns = x.t() if x.t().is_contiguous() else by_feature(x)
        y = sparse_product(_wide(self.weight), _wide(columns), *self.pattern).to(x.dtype)
        return (y if self.bias is None else y.add_(self.bias[:, None])).t()

    def extra_repr(self) -> str:
        """Describe the layer in ``print(model)``."""
        return (
            f"{self.in_features}, {self.out_features}, edges={self.weight.numel()}, "
            f"bias={self.bias is not None}, kernel={self.kernel}"
        )


class _LaidOut(torch.autograd.Function):
    """Values at given positions of a vector of zeros; a third faster than indexed assignment."""

    @staticmethod
    def forward(values: Tensor, position: Tensor, size: int) -> Tensor:
        return values.new_zeros(size).index_copy_(0, position, values)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (position,) = ctx.saved_tensors
        return grad.index_select(0, position), None, None

    @staticmethod
    def vmap(info, in_dims, values: Tensor, position: Tensor, size: int) -> tuple[Tensor, int]:
        values = values.movedim(in_dims[0], 0)
        position = position if in_dims[1] is None else position.movedim(in_dims[1], 0)
        flat = values.new_zeros(len(values), size)
        return flat.scatter_(1, position.expand_as(values), values), 0


def _wide(x: Tensor) -> Tensor:
    """Half precisions are summed in float32: sparse products lack them on most devices."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _csr_mask(mask: sp.spmatrix | sp.sparray | ArrayLike | Tensor) -> sp.csr_matrix:
    """Turn any mask into canonical CSR of bool."""
    if isinstance(mask, Tensor):
        mask = mask.detach().cpu()
        mask = mask.to_dense().numpy() if mask.layout is torch.strided else _from_sparse(mask)
    given: Any = mask if sp.issparse(mask) else np.asarray(mask)
    if given.ndim != 2:
        raise MiracleError(f"mask has {given.ndim} dimensions; expected inputs x outputs")
    edges = sp.csr_matrix(given).astype(bool)
    edges.sum_duplicates()
    edges.eliminate_zeros()
    if edges.nnz == 0:
        raise MiracleError(f"mask of shape {edges.shape} has no edge; expected at least one")
    return edges


def _from_sparse(mask: Tensor) -> sp.csr_matrix:
    """Convert a torch sparse tensor of any layout."""
    mask = mask.to_sparse_coo().coalesce()
    values, (rows, columns) = mask.values().numpy(), mask.indices().numpy()
    return sp.csr_matrix((values, (rows, columns)), tuple(mask.shape))


def _flat_position(edges: sp.csr_matrix) -> Tensor:
    """Position of each edge in the flattened matrix."""
    rows = np.repeat(np.arange(edges.shape[0]), np.diff(edges.indptr))
    return torch.from_numpy(rows * edges.shape[1] + edges.indices.astype(np.int64))


def _faster_kernel(edges: sp.csr_matrix) -> Literal["sparse", "dense"]:
    """Compare the measured costs: an edge takes as long as 7 cells, a sparse call 100,000 more."""
    return "dense" if edges.nnz + 15_000 > 0.15 * math.prod(edges.shape) else "sparse"
