"""Training on a store of whole arrays: throughput beside reading the file alone, memory, sameness.

Simulated beta values of two tasks with a synthetic annotation lie in an h5ad file, one sample after
the other. Every measurement is a process of its own and starts with nothing of the file in memory;
one that streams may have 6 GB beside pages of files. ``TMPDIR`` names the folder of the store, of
the temporary values (as large as all values, not compressed) and of the heads' matrices.
``LARGER_THAN_MEMORY`` chooses shapes, separated by spaces, by default the three smaller ones:
10000x850000 takes 60 GB of disk and three quarters of an hour.
"""

import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from benchmarks.whole_array import _fresh
from miracle_lib import Hierarchy, MiracleClassifier, Samples, Training, read_store
from miracle_lib.training import stages, trainer

N_GENES, N_PATHWAYS = 20_000, 4_000
BOTH = (500, 850_000)  # samples and sites where the fit in memory is run, too
DEFAULT = "500x850000 10000x85000 1000x850000"
STEP = np.float32(2**-13)  # values as fine as four decimals, which a compressed file can use
LIMIT = 6_000_000_000  # bytes of memory of a fit that streams
EPOCHS = (2, 5, 0)
ROWS = 50  # samples written or read at a time


def _write(path: Path, n: int, n_sites: int) -> None:
    """Write a store of n samples, some at a time."""
    rng = np.random.default_rng(n)
    sites = pd.Index([f"cg{i:07}" for i in range(n_sites)])
    label = np.arange(n) // 2 % 2
    task = np.where(np.arange(n) % 2, "A", "B")
    names = [f"s{i:05}" for i in range(n)]
    obs = pd.DataFrame({"task": task, "label": label, "cohort": task}, names)
    AnnData(obs=obs, var=pd.DataFrame(index=sites)).write_h5ad(path)
    level = rng.uniform(0.1, 0.9, n_sites).astype(np.float32)
    effect = np.where(rng.random(n_sites) < 0.01, np.float32(0.03), 0).astype(np.float32)
    with h5py.File(path, "r+") as file:
        file.pop("X", None)
        X = file.create_dataset(
            "X", (n, n_sites), "f4", chunks=(1, n_sites), compression="lzf", shuffle=True
        )
        X.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for start in range(0, n, ROWS):
            case = label[start : start + ROWS, None]
            noise = rng.standard_normal((len(case), n_sites), dtype=np.float32)
            beta = np.clip(level + effect * case + 0.04 * noise, 0.001, 0.999)
            X[start : start + ROWS] = np.rint(beta / STEP) * STEP


def _hierarchy(n_sites: int) -> Hierarchy:
    """A synthetic annotation: every other site in one gene, every pathway of 60 genes."""
    rng = np.random.default_rng(0)
    sites = pd.Index([f"cg{i:07}" for i in range(n_sites)])
    genes = np.array([f"G{i}" for i in range(N_GENES)])
    inside = pd.DataFrame({"site": sites[::2]}).assign(gene=rng.choice(genes, len(sites[::2])))
    gene_sets = {f"P{i}": rng.choice(genes, 60, replace=False).tolist() for i in range(N_PATHWAYS)}
    return Hierarchy.from_tables(inside, gene_sets, sites=sites)


def _forget(path: Path) -> None:
    """Take the file out of the system's memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _clock() -> np.ndarray:
    """Return the seconds by the clock and those of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def _read(path: Path) -> np.ndarray:
    """Seconds to read the file alone."""
    _forget(path)
    start = _clock()
    with h5py.File(path) as file:
        for first in range(0, file["X"].shape[0], ROWS):
            _ = file["X"][first : first + ROWS]
    return _clock() - start


class Anonymous(threading.Thread):
    """Largest memory that is no page of a file."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.stop = 0, threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.2):
            lines = Path("/proc/self/status").read_text().splitlines()
            (now,) = (int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.peak = max(self.peak, now * 1024)


def _timed(seconds: dict[str, np.ndarray], name: str, function: Callable) -> Callable:
    """Note how long a function takes in all."""

    def wrapped(*args: object, **named: object) -> object:
        start = _clock()
        result = function(*args, **named)
        seconds[name] = seconds.get(name, 0) + _clock() - start
        return result

    return wrapped


def _fit(path: Path, hierarchy: Hierarchy, in_memory: bool) -> dict:
    """Fit, predict, and note seconds, memory and probabilities."""
    torch.set_num_threads(1)
    seconds: dict[str, np.ndarray] = {}
    estimator = MiracleClassifier
    for kind, name, title in (
        (estimator, "_fit_standardizer", "standardise"),
        (stages.GradientStage, "run", "epoch"),
        (trainer.MemberFit, "convex_heads", "heads"),
        (estimator, "_keep", "after training"),
    ):
        setattr(kind, name, _timed(seconds, title, getattr(kind, name)))
    if not in_memory:
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    _forget(path)
    store = read_store(path)
    if in_memory:
        samples = Samples.from_anndata(store)
        store = samples.replace(values=samples.values.load())
    memory = Anonymous()
    memory.start()
    start = _clock()
    model = estimator(hierarchy, training=Training(epochs=EPOCHS, progress=False)).fit(store)
    seconds["fit"] = _clock() - start
    _forget(path)
    start = _clock()
    proba = model.predict_proba(store)
    seconds["predict"] = _clock() - start
    memory.stop.set()
    memory.join()
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "anonymous": memory.peak, "rss": whole, "proba": proba}


def main() -> None:
    for shape in os.environ.get("LARGER_THAN_MEMORY", DEFAULT).split():
        n, n_sites = (int(size) for size in shape.split("x"))
        print(f"\n### {n:,} samples x {n_sites:,} sites, {4e-9 * n * n_sites:.1f} GB\n")
        found = _measure(n, n_sites, in_memory=(n, n_sites) == BOTH)
        for where, result in found.items():
            own, whole = (f"{result[key] / 1e9:.1f} GB" for key in ("anonymous", "rss"))
            print(f"\nPeak memory, values {where}: {own}, with pages of files {whole}.", flush=True)
        if len(found) == 2:
            one, other = (result["proba"] for result in found.values())
            apart = (one - other).abs().to_numpy().max()
            print(f"\nLargest difference of a probability: {apart:.1e}", flush=True)


def _measure(n: int, n_sites: int, in_memory: bool) -> dict[str, dict]:
    """Fit streamed, and in memory if that is asked for; print the steps."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        path, size = Path(name) / "arrays.h5ad", 4e-6 * n * n_sites
        _fresh(_write, path, n, n_sites)
        hierarchy, alone = _fresh(_hierarchy, n_sites), _fresh(_read, path)
        print(f"The file takes {path.stat().st_size / 1e9:.1f} GB.\n")
        print("| values | step | seconds | of the processor | MB/s | of reading alone |")
        print("|---" * 6 + "|", flush=True)
        _print("on disk", {"read the file alone": alone}, size, alone[0])
        for where in ("on disk", "in memory")[: 1 + in_memory]:
            found[where] = _fresh(_fit, path, hierarchy, where == "in memory")
            _print(where, found[where]["seconds"], size, alone[0])
    return found


def _print(where: str, seconds: dict[str, np.ndarray], size: float, alone: float) -> None:
    """Print the steps of one fit of some MB; the standardisation reads the store twice."""
    passes = {"read the file alone": 1, "standardise": 2, "epoch": EPOCHS[0], "predict": 1}
    for step, (clock, processor) in seconds.items():
        rate = size * passes.get(step, 0) / clock
        shown = f"{rate:,.0f} | {rate * alone / size:.2f}" if rate else " | "
        print(f"| {where} | {step} | {clock:.1f} | {processor:.1f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
