"""The heads by number of labelled samples: seconds and peak memory, on disk what is large.

Simulated samples of two tasks on 2,000 sites, an epoch of the autoencoder, then the heads; one
thread, each size in a process of its own. ``TMPDIR`` names the folder of the temporary files, which
take 5 GB at 10,000 samples. The inner products on a whole array are extrapolated from their rate.
"""

import resource

import numpy as np
import torch

from benchmarks.larger_than_memory import Anonymous, _timed
from benchmarks.whole_array import _fresh
from miracle_lib import Hierarchy, MiracleClassifier, Samples, Training
from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.training import convex, trainer
from miracle_lib.training.prior import Pairs

SIZES = (2_000, 5_000, 10_000)
N_SITES, WHOLE_ARRAY = 2_000, 850_000
N_FOLDS, N_MATRICES = 5, 4  # per subset one matrix of each block and a root


def _measure(n: int) -> dict:
    """Seconds of the steps by the clock and of the processor, peaks, features multiplied."""
    torch.set_num_threads(1)
    made = simulate_cohorts({"A": n // 2, "B": n // 2}, n_sites=N_SITES, random_state=0)
    X, Y, obs = merge_cohorts(list(made.cohorts.values()))
    samples = Samples(X, Y, cohort=obs["cohort"], subject=obs["subject"])
    seconds: dict[str, np.ndarray] = {}
    products: list[int] = []
    gram = _timed(seconds, "inner products", convex.Block._gram)

    def counted(block: convex.Block, variance: np.ndarray, pairs: Pairs) -> np.ndarray:
        products.append(len(pairs) ** 2 * int(variance.any(1).sum()))
        return gram(block, variance, pairs)

    convex.Block._gram = counted
    trainer.fit_prior = _timed(seconds, "prior", trainer.fit_prior)
    trainer.ConvexHeads.run = _timed(seconds, "epochs of the heads", trainer.ConvexHeads.run)
    model = MiracleClassifier(
        Hierarchy.from_tables(made.site_gene, made.gene_sets),
        training=Training(epochs=(1, 5, 0), progress=False),
    )
    memory = Anonymous()
    memory.start()
    _timed(seconds, "fit", model.fit)(samples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "own": memory.peak, "rss": peak, "products": sum(products)}


def main() -> None:
    print("| labelled samples | step | seconds | of the processor |\n|---|---|---|---|")
    peaks = []
    for n in SIZES:
        found = _fresh(_measure, n)
        for step, (clock, processor) in found["seconds"].items():
            print(f"| {n:,} | {step} | {clock:.0f} | {processor:.0f} |", flush=True)
        rate = found["products"] / found["seconds"]["inner products"][1]
        cells = N_FOLDS * min(n, convex.MOST) ** 2 + n**2
        hours = cells * WHOLE_ARRAY / rate / 3600
        matrices = 8 * N_MATRICES * cells
        sizes = (f"{size / 1e9:.1f}" for size in (found["own"], found["rss"], matrices))
        peaks.append(f"| {n:,} | {' | '.join(sizes)} | {rate / 1e9:.1f} | {hours:.1f} |")
    print("\n| labelled samples | peak, GB | with pages of files, GB | matrices, GB "
          "| inner products, 1e9 per second | on 850,000 sites, hours |")  # fmt: skip
    print("|---" * 6 + "|", *peaks, sep="\n")


if __name__ == "__main__":
    main()
