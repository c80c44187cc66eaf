"""Training on a store of whole arrays: throughput beside reading the file alone, memory, sameness.

Simulated beta values of two tasks on 850,000 sites with a synthetic annotation lie in an h5ad
file, one sample after the other. Every measurement is a process of its own and starts with nothing
of the file in memory. ``TMPDIR`` names the folder of the store and of the temporary values; it
needs twice the size of the largest store.
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

N_SITES, N_GENES, N_PATHWAYS = 850_000, 20_000, 4_000
WHOLE = 250  # samples of a whole fit
LARGE = 500  # samples of a fit of the autoencoder alone
ROWS = 50  # samples written or read at a time


def _write(path: Path, n: int) -> None:
    """Write a store of n samples, some at a time."""
    rng = np.random.default_rng(n)
    sites = pd.Index([f"cg{i:07}" for i in range(N_SITES)])
    label = np.arange(n) // 2 % 2
    task = np.where(np.arange(n) % 2, "A", "B")
    names = [f"s{i:05}" for i in range(n)]
    obs = pd.DataFrame({"task": task, "label": label, "cohort": task}, names)
    AnnData(obs=obs, var=pd.DataFrame(index=sites)).write_h5ad(path)
    level = rng.uniform(0.1, 0.9, N_SITES).astype(np.float32)
    effect = np.where(rng.random(N_SITES) < 0.01, np.float32(0.03), 0).astype(np.float32)
    with h5py.File(path, "r+") as file:
        file.pop("X", None)
        X = file.create_dataset("X", (n, N_SITES), "f4")
        X.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for start in range(0, n, ROWS):
            case = label[start : start + ROWS, None]
            noise = rng.standard_normal((len(case), N_SITES), dtype=np.float32)
            X[start : start + ROWS] = np.clip(level + effect * case + 0.04 * noise, 0.001, 0.999)


def _hierarchy() -> Hierarchy:
    """A synthetic annotation: every other site in one gene, every pathway of 60 genes."""
    rng = np.random.default_rng(0)
    sites = pd.Index([f"cg{i:07}" for i in range(N_SITES)])
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


def _fit(path: Path, hierarchy: Hierarchy, epochs: tuple, in_memory: bool) -> dict:
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
    _forget(path)
    store = read_store(path)
    if in_memory:
        samples = Samples.from_anndata(store)
        store = samples.replace(values=samples.values.load())
    memory = Anonymous()
    memory.start()
    start = _clock()
    model = estimator(hierarchy, training=Training(epochs=epochs, progress=False)).fit(store)
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
    with tempfile.TemporaryDirectory() as name:
        hierarchy = _fresh(_hierarchy)
        for n, epochs in ((WHOLE, (2, 5, 0)), (LARGE, (1, 0, 0))):
            path = Path(name) / f"{n}.h5ad"
            _fresh(_write, path, n)
            alone = _fresh(_read, path)
            found = {"on disk": _fresh(_fit, path, hierarchy, epochs, False)}
            _print(n, alone, found["on disk"]["seconds"], epochs[0])
            if n == WHOLE:
                found["in memory"] = _fresh(_fit, path, hierarchy, epochs, True)
            for where, result in found.items():
                own, whole = (f"{result[key] / 1e9:.1f} GB" for key in ("anonymous", "rss"))
                print(f"\nPeak memory, values {where}: {own}, with pages of files {whole}.")
            if n == WHOLE:
                one, other = (result["proba"] for result in found.values())
                apart = (one - other).abs().to_numpy().max()
                print(f"\nLargest difference of a probability: {apart:.1e}\n", flush=True)
            path.unlink()


def _print(n: int, alone: np.ndarray, seconds: dict[str, np.ndarray], n_epochs: int) -> None:
    """Print the steps of one store; the standardisation reads it twice."""
    print("| samples | values | step | seconds | of the processor | MB/s | of reading alone |")
    print("|---|---|---|---|---|---|---|")
    size = 4e-6 * n * N_SITES
    passes = {"read the file alone": 1, "standardise": 2, "epoch": n_epochs, "predict": 1}
    for step, (clock, processor) in {"read the file alone": alone, **seconds}.items():
        rate = size * passes.get(step, 0) / clock
        shown = f"{rate:,.0f} | {rate * alone[0] / size:.2f}" if rate else " | "
        spent = f"{clock:.1f} | {processor:.1f}"
        print(f"| {n:,} | {size / 1000:.1f} GB | {step} | {spent} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
