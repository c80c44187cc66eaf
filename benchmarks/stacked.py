"""Masked autoencoders trained side by side as one network, against one after the other."""

import os
import platform
import time
from types import SimpleNamespace

import numpy as np
import scipy.sparse as sp
import torch

from miracle_lib.evaluation.stacked import train_autoencoders
from miracle_lib.model import MaskedVAE

# sites, genes, pathways: cross-validated demo, and the widths of the original report
SHAPES = {"small": (200, 60, 25), "demo": (900, 230, 90), "paper": (2000, 1500, 800)}
N_SAMPLES, EPOCHS, RUNS = 400, 3, 3


def networks(shape: tuple[int, int, int], n: int) -> list[MaskedVAE]:
    """Networks with one or two genes per site and four pathways per gene."""
    rng = np.random.default_rng(0)
    sites, genes, pathways = shape
    site_gene = sp.coo_matrix(
        (np.ones(sites), (np.arange(sites), rng.integers(genes, size=sites))), (sites, genes)
    )
    rows = np.repeat(np.arange(genes), 4)
    gene_pathway = sp.coo_matrix(
        (np.ones(4 * genes), (rows, rng.integers(pathways, size=4 * genes))), (genes, pathways)
    )
    masks = SimpleNamespace(site_gene=site_gene.tocsr(), gene_pathway=gene_pathway.tocsr())
    return [MaskedVAE(masks, seed=seed) for seed in range(n)]


def seconds(shape: tuple[int, int, int], n: int, together: bool) -> float:
    """Time to train n networks."""
    values = [torch.randn(N_SAMPLES, shape[0]) for _ in range(n)]
    made = networks(shape, n)
    start = time.perf_counter()
    if together:
        train_autoencoders(made, values, EPOCHS)
    else:
        for network, x in zip(made, values, strict=True):
            train_autoencoders([network], [x], EPOCHS)
    return time.perf_counter() - start


def main() -> None:
    print("# Small networks trained together\n")
    print("Command: `python -m benchmarks stacked`\n")
    print(
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, {platform.machine()}, torch "
        f"{torch.__version__}; {N_SAMPLES} samples, batches of 64, {EPOCHS} epochs; best of {RUNS} "
        "alternating runs.\n"
    )
    print("| sites x genes x pathways | networks | alone, per min | together, per min | ratio |")
    print("|---|---|---|---|---|")
    for shape in SHAPES.values():
        seconds(shape, 2, True)  # warm up
        for n in (8, 32):
            times = {True: [], False: []}
            for _ in range(RUNS):
                for together in times:
                    times[together].append(seconds(shape, n, together))
            alone, stacked = min(times[False]), min(times[True])
            name = " x ".join(map(str, shape))
            print(
                f"| {name} | {n} | {60 * n / alone:.0f} | {60 * n / stacked:.0f} "
                f"| {alone / stacked:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
