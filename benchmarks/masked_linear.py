"""Speed and memory of MaskedLinear beside what one would otherwise run.

Forward and backward with input gradient, one layer, 2 threads, best of several steps; every kernel
runs in a fresh process, so that its peak memory is its own. On the GPU where there is one, unless
``CUDA_VISIBLE_DEVICES`` is empty.
"""

import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import psutil
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from miracle_lib.model import MaskedLinear

T = TypeVar("T")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
THREADS = 2
SECONDS = 10  # per kernel: long enough to find the machine quiet
BATCH = 64


class Shape(NamedTuple):
    """A mask to draw at random: inputs x outputs and number of edges."""

    n_inputs: int
    n_outputs: int
    n_edges: int

    def mask(self) -> sp.csr_matrix:
        rng = np.random.default_rng(0)
        cells = rng.choice(self.n_inputs * self.n_outputs, self.n_edges, replace=False)
        rows, columns = np.divmod(cells, self.n_outputs)
        return sp.csr_matrix((np.ones(self.n_edges, bool), (rows, columns)), self[:2])


class Result(NamedTuple):
    """Best step in seconds and peak memory of the device in GB, or why there is none."""

    seconds: float
    peak: float
    failure: str = ""


class GatherIndexAdd(nn.Module):
    """One row of ``x`` per edge, times its weight, added to the edge's output."""

    def __init__(self, mask: sp.csr_matrix, by_feature: bool) -> None:
        super().__init__()
        edges = mask.tocoo()
        for name, index in zip(("rows", "columns"), edges.coords, strict=True):
            self.register_buffer(name, torch.from_numpy(index.astype(np.int64)))
        self.n_outputs, self.by_feature = mask.shape[1], by_feature
        self.weight = nn.Parameter(torch.randn(mask.nnz))

    def forward(self, x: Tensor) -> Tensor:
        if self.by_feature:
            edges = x.t()[self.rows] * self.weight[:, None]
            return x.new_zeros(self.n_outputs, len(x)).index_add(0, self.columns, edges).t()
        edges = x[:, self.rows] * self.weight
        return x.new_zeros(len(x), self.n_outputs).index_add(1, self.columns, edges)


class SparseMM(nn.Module):
    """``torch.sparse.mm`` on a COO matrix of the weights."""

    def __init__(self, mask: sp.csr_matrix) -> None:
        super().__init__()
        edges = mask.T.tocoo()
        self.register_buffer("index", torch.from_numpy(np.stack(edges.coords)))
        self.shape = edges.shape
        self.weight = nn.Parameter(torch.randn(mask.nnz))

    def forward(self, x: Tensor) -> Tensor:
        matrix = torch.sparse_coo_tensor(
            self.index, self.weight, self.shape, is_coalesced=True, check_invariants=False
        )
        return torch.sparse.mm(matrix, x.t()).t()


class DenseTimesMask(nn.Module):
    """``linear(x, weight * mask)``, the usual masked layer."""

    def __init__(self, mask: sp.csr_matrix) -> None:
        super().__init__()
        full = torch.zeros(mask.shape[::-1])
        full[mask.indices, mask.tocoo().row] = 1
        self.register_buffer("mask", full)
        self.weight = nn.Parameter(torch.randn(mask.shape[::-1]))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * self.mask)


KERNELS: dict[str, Callable[[sp.csr_matrix], nn.Module]] = {
    "MaskedLinear": lambda mask: MaskedLinear(mask, bias=False),
    "MaskedLinear, input by feature": lambda mask: MaskedLinear(mask, bias=False),
    "gather + index_add, by sample": lambda mask: GatherIndexAdd(mask, by_feature=False),
    "gather + index_add, by feature": lambda mask: GatherIndexAdd(mask, by_feature=True),
    "torch.sparse.mm": SparseMM,
    "dense weight * mask": DenseTimesMask,
}


def _measure(kernel: str, shape: Shape) -> Result:
    """Time one kernel in a process that may use the machine's memory at most."""
    if DEVICE == "cpu":  # CUDA reserves more addresses than that by itself
        physical = psutil.virtual_memory().total
        resource.setrlimit(resource.RLIMIT_AS, (physical, physical))
    try:
        layer = KERNELS[kernel](shape.mask()).to(DEVICE)
        seconds = _best_step(layer, shape, "by feature" in kernel)
    except (RuntimeError, MemoryError) as error:
        wanted = str(error).split("tried to allocate ")[-1].split(" bytes")[0]
        reason = f"{int(wanted) / 1e9:.0f} GB asked for at once" if wanted.isdigit() else str(error)
        return Result(math.nan, math.nan, reason)
    return Result(seconds, _peak() / 1e9)


def _peak() -> int:
    """Peak memory of this process on the device, in bytes."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _now() -> float:
    """Return the time at which the device has done what it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _best_step(layer: nn.Module, shape: Shape, by_feature: bool) -> float:
    """Return the shortest of the forward and backward passes that fit in some seconds."""
    size = (shape.n_inputs, BATCH) if by_feature else (BATCH, shape.n_inputs)
    x = torch.randn(size, device=DEVICE)
    x = (x.t() if by_feature else x).requires_grad_()
    with torch.no_grad():
        grad = torch.ones_like(layer(x))
    times: list[float] = []
    while len(times) < 5 or (sum(times) < SECONDS and len(times) < 2000):
        layer.zero_grad()
        x.grad = None
        start = _now()
        layer(x).backward(grad)
        times.append(_now() - start)
    return min(times)


def _fresh(function: Callable[..., T], *arguments: object) -> T:
    """Call the function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (THREADS,)) as pool:
        return pool.submit(function, *arguments).result()


def _bandwidth() -> float:
    """Return GB/s of a copy of 512 MB with all threads (bytes read plus bytes written)."""
    source = torch.ones(2**27, device=DEVICE)
    target = torch.empty_like(source)
    times = []
    for _ in range(10):
        start = _now()
        target.copy_(source)
        times.append(_now() - start)
    return 2 * source.nbytes / min(times) / 1e9


def _floor_bytes(shape: Shape) -> int:
    """Bytes that no algorithm avoids: x read twice, its gradient written, y and edges as well."""
    activations = BATCH * (3 * shape.n_inputs + 2 * shape.n_outputs)
    edges = shape.n_edges * (3 + 3)  # weight and index: forward and the two gradients
    return 4 * (activations + edges)


def _table(title: str, shape: Shape, kernels: list[str]) -> dict[str, Result]:
    """Print one markdown table; ratios are to the first kernel."""
    print(f"\n### {title}\n")
    print(
        f"{shape.n_inputs:,} x {shape.n_outputs:,}, {shape.n_edges:,} edges "
        f"({shape.n_edges / shape.n_inputs / shape.n_outputs:.2%}), batch {BATCH}.\n"
    )
    print("| kernel | ms per step | times MaskedLinear | peak memory, GB |")
    print("|---|---|---|---|")
    results = {kernel: _fresh(_measure, kernel, shape) for kernel in kernels}
    first = results[kernels[0]].seconds
    for kernel, result in results.items():
        if result.failure:
            print(f"| {kernel} | fails: {result.failure} | - | - |", flush=True)
            continue
        ratio = f"{result.seconds / first:.2f}"
        print(
            f"| {kernel} | {1e3 * result.seconds:.2f} | {ratio} | {result.peak:.2f} |", flush=True
        )
    return results


def main() -> None:
    everything = list(KERNELS)
    array = Shape(450_000, 20_000, 700_000)
    results = _table("(a) The whole array", array, everything)
    bandwidth, floor = _fresh(_bandwidth), _floor_bytes(array)
    seconds = floor / 1e9 / bandwidth
    print(
        f"\nMemory floor: {floor / 1e6:.0f} MB have to be moved; at the {bandwidth:.1f} GB/s that "
        f"a copy reaches here this takes {1e3 * seconds:.1f} ms."
    )
    for kernel in everything[:2]:
        print(f"{kernel}: {results[kernel].seconds / seconds:.1f} times the floor.")
    _table("(b) Genes in gene sets", Shape(20_000, 4_000, 30_000), everything)
    compared = ["MaskedLinear", "dense weight * mask"]
    _table("(c) The paper's scale: sites to genes", Shape(2_000, 1_500, 2_600), compared)
    _table("(c) The paper's scale: genes to pathways", Shape(1_500, 800, 18_000), compared)
    for share in (0.1, 0.2, 0.4, 1.0):
        edges = int(1_500 * 800 * share)
        _table(f"(c) The same, {share:.0%} of all edges", Shape(1_500, 800, edges), compared)


if __name__ == "__main__":
    main()
