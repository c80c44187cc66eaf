"""A product with a fixed sparsity pattern whose backward pass never forms a dense gradient.

Everything is features x batch: each edge then reads one contiguous row, which is what makes the
product run at memory speed.
"""

import warnings
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

with warnings.catch_warnings():  # torch announces once per process that CSR tensors are in beta
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(
        torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), (1, 1), check_invariants=False
    )

LARGE = 2**20  # values from which a copy is worth two calls


class Pattern(NamedTuple):
    """Edges of a mask (inputs x outputs), by input and by output.

    ``input_start`` (n_inputs + 1) and ``output`` (n_edges) are its CSR arrays; ``output_start``
    (n_outputs + 1) and ``input`` (n_edges) those of its transpose, whose k-th edge is edge
    ``order[k]`` of the former.
    """

    input_start: Tensor
    output: Tensor
    output_start: Tensor
    input: Tensor
    order: Tensor

    @classmethod
    def from_mask(cls, mask: sp.csr_matrix) -> "Pattern":
        """Index the edges of a CSR mask with sorted indices, no duplicates, no stored zeros."""
        numbered = sp.csr_matrix((np.arange(mask.nnz), mask.indices, mask.indptr), mask.shape)
        by_output = numbered.T.tocsr()
        arrays = (mask.indptr, mask.indices, by_output.indptr, by_output.indices, by_output.data)
        return cls(*(torch.from_numpy(a.astype(np.int32)) for a in arrays))


def _csr(start: Tensor, index: Tensor, values: Tensor, n_columns: int) -> Tensor:
    """Wrap CSR arrays without copying or checking them."""
    shape = (start.numel() - 1, n_columns)
    return torch.sparse_csr_tensor(start, index, values, shape, check_invariants=False)


def _spmm(start: Tensor, index: Tensor, values: Tensor, dense: Tensor) -> Tensor:
    """Sparse (rows x columns) times dense (columns x batch)."""
    matrix = _csr(start, index, values, dense.shape[0])
    if dense.is_cuda or start.numel() <= dense.shape[0]:
        return matrix @ dense
    # Many short rows: torch's own loop over rows is twice as fast as MKL's.
    return torch.sparse.mm(matrix, dense, "sum")


@torch.library.custom_op("miracle::sparse_product", mutates_args=())
def sparse_product(
    weight: Tensor,
    x: Tensor,
    input_start: Tensor,
    output: Tensor,
    output_start: Tensor,
    input: Tensor,
    order: Tensor,
) -> Tensor:
    """Return y[o] = sum over edges e = (i, o) of weight[e] * x[i].

    Parameters
    ----------
    weight : Tensor, shape (n_edges,)
        One value per edge, in the order of `Pattern.output`.
    x : Tensor, shape (n_inputs, batch)
        Contiguous.
    input_start, output, output_start, input, order : Tensor of int32
        The fields of a `Pattern`.

    Returns
    -------
    Tensor, shape (n_outputs, batch)
        With exact gradients for ``weight`` and ``x``.

    Examples
    --------
    >>> import scipy.sparse as sp, torch
    >>> pattern = Pattern.from_mask(sp.csr_matrix([[1, 0], [1, 1]]))
    >>> sparse_product(torch.tensor([1.0, 2.0, 3.0]), torch.eye(2), *pattern)
    tensor([[1., 2.],
            [0., 3.]])
    """
    return _spmm(output_start, input, weight[order], x)


@sparse_product.register_fake
def _(weight, x, input_start, output, output_start, input, order):
    return x.new_empty(output_start.numel() - 1, x.shape[1])


@torch.library.custom_op("miracle::sparse_product_input_gradient", mutates_args=())
def _input_gradient(weight: Tensor, grad: Tensor, input_start: Tensor, output: Tensor) -> Tensor:
    """Gradient for ``x``: the transposed product."""
    return _spmm(input_start, output, weight, grad)


@_input_gradient.register_fake
def _(weight, grad, input_start, output):
    return grad.new_empty(input_start.numel() - 1, grad.shape[1])


@torch.library.custom_op("miracle::sparse_product_weight_gradient", mutates_args=())
def _weight_gradient(x: Tensor, grad: Tensor, input_start: Tensor, output: Tensor) -> Tensor:
    """Gradient for ``weight``: x @ grad.T, computed at the edges only."""
    pattern = _csr(input_start, output, x.new_zeros(output.numel()), grad.shape[0])
    return torch.sparse.sampled_addmm(pattern, x, grad.t(), beta=0).values()


@_weight_gradient.register_fake
def _(x, grad, input_start, output):
    return x.new_empty(output.numel())


def _setup_context(ctx, inputs, output) -> None:
    """Keep what the backward pass reads."""
    weight, x, input_start, edge_output, *_ = inputs
    ctx.save_for_backward(weight, x, input_start, edge_output)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Compute only the gradients that are asked for."""
    weight, x, input_start, output = ctx.saved_tensors
    grad = grad.contiguous()
    need_weight, need_x = ctx.needs_input_grad[:2]
    grad_weight = _weight_gradient(x, grad, input_start, output) if need_weight else None
    grad_x = _input_gradient(weight, grad, input_start, output) if need_x else None
    return grad_weight, grad_x, None, None, None, None, None


sparse_product.register_autograd(_backward, setup_context=_setup_context)


def by_feature(x: Tensor) -> Tensor:
    """Return the transpose of ``x`` (batch, n_features) as a contiguous copy.

    Examples
    --------
    >>> import torch
    >>> by_feature(torch.arange(6).view(2, 3))
    tensor([[0, 3],
            [1, 4],
            [2, 5]])
    """
    return x.t().contiguous() if x.numel() < LARGE else _transposed_in_halves(x)


@torch.library.custom_op("miracle::transposed_in_halves", mutates_args=())
def _transposed_in_halves(x: Tensor) -> Tensor:
    """Transpose: torch does a whole matrix on one thread, a part of one on all of them."""
    columns = x.new_empty(x.shape[::-1])
    for target, source in zip(columns.chunk(2), x.chunk(2, dim=1), strict=True):
        target.copy_(source.t())
    return columns


@_transposed_in_halves.register_fake
def _(x):
    return x.new_empty(x.shape[::-1])


_transposed_in_halves.register_autograd(lambda _ctx, grad: grad.t())
