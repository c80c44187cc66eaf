"""What each part of a run costs by number of samples, up to 20,000.

Simulated cohorts of two tasks on 2,000 sites, default training, one thread; seconds of the
processor. The exponent is that between the two largest sizes. The heads of 20,000 samples take
14 GB in the folder that ``TMPDIR`` names.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from miracle_lib import Hierarchy, MiracleClassifier, Samples, Training, explain
from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.training import stages, trainer

SIZES = (2_500, 5_000, 10_000, 20_000)
# How many jobs of the kind the demo's parameters make: each can run on a worker of its own.
JOBS = {
    "fit": "a fold, a seed or a control of a method (5 folds x repeats)",
    "heads": "within a fit",
    "epoch of the autoencoder": "within a fit",
    "explain, one task": "a task",
    "predict": "a fold",
}


def _clocked(seconds: dict[str, list[float]], name: str, function: Callable) -> Callable:
    """Note how long each call takes."""

    def wrapped(*args: object, **named: object) -> object:
        start = time.process_time()
        result = function(*args, **named)
        seconds.setdefault(name, []).append(time.process_time() - start)
        return result

    return wrapped


def _measure(n: int) -> dict[str, float]:
    """Seconds of each part at n samples."""
    made = simulate_cohorts({"A": n // 2, "B": n // 2}, n_sites=2_000, random_state=0)
    X, Y, obs = merge_cohorts(list(made.cohorts.values()))
    samples = Samples(X, Y, cohort=obs["cohort"], subject=obs["subject"])
    hierarchy = Hierarchy.from_tables(made.site_gene, made.gene_sets)
    seconds: dict[str, list[float]] = {}
    model = MiracleClassifier(hierarchy, training=Training(progress=False))
    parts = {"fit": model.fit, "predict": model.predict_proba, "explain, one task": explain}
    run, heads = stages.GradientStage.run, trainer.MemberFit.convex_heads
    stages.GradientStage.run = _clocked(seconds, "epoch of the autoencoder", run)
    trainer.MemberFit.convex_heads = _clocked(seconds, "heads", heads)
    _clocked(seconds, "fit", parts["fit"])(samples)
    stages.GradientStage.run, trainer.MemberFit.convex_heads = run, heads
    _clocked(seconds, "predict", parts["predict"])(samples)
    _clocked(seconds, "explain, one task", parts["explain, one task"])(model, samples, "A")
    return {name: float(np.max(each)) for name, each in seconds.items()}


def main() -> None:
    torch.set_num_threads(1)
    found = {n: _measure(n) for n in SIZES}
    titles = " | ".join(f"{n:,} samples, s" for n in SIZES)
    print(f"| part | {titles} | exponent | one job is |")
    print("|---" * (len(SIZES) + 3) + "|")
    before, last = SIZES[-2:]
    for part, job in JOBS.items():
        seconds = [found[n][part] for n in SIZES]
        exponent = np.log(seconds[-1] / seconds[-2]) / np.log(last / before)
        shown = " | ".join(f"{each:.1f}" for each in seconds)
        print(f"| {part} | {shown} | {exponent:.1f} | {job} |")


if __name__ == "__main__":
    main()
