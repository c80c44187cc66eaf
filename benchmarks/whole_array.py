"""Training on every site of the 450K array: time per epoch, peak memory, planted pathways found.

689 simulated samples of six tasks on 485,000 sites, no site filter, all three stages, 2 threads.
The annotation is synthetic, of the size of the real one; ``MIRACLE_MIRROR`` may name a folder with
the 450K manifest and the GO gene sets to simulate on these instead.

Simulation and training run in processes of their own, so that the peak is that of training: the
table of beta values as loaded, and everything that the estimator adds.

Then a weaker effect, learnt from half of the subjects and predicted on the other half, against an
elastic net per task on the 2,000 sites that a t-test on the same half chooses.
"""

import functools
import multiprocessing
import os
import pickle
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline

from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation import PerTaskBaseline
from miracle_lib.hierarchy import Hierarchy, read_gene_sets, read_illumina_manifest
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.training import convex_heads, stages

T = TypeVar("T")
THREADS = 2
SIZES = {"IBD": 67, "MS": 111, "Psoriasis": 99, "RA": 62, "SLE": 201, "T1D": 149}
N_SITES, N_GENES, N_PATHWAYS = 485_000, 20_000, 4_000
EPOCHS = (10, 10, 5)
WEAK = 0.12  # effect of the comparison, in M-value units


def _simulate(folder: Path, effect: float) -> None:
    """Write the table of beta values, the labels, the hierarchy and what was planted."""
    mirror = os.environ.get("MIRACLE_MIRROR")
    if mirror:
        site_gene = read_illumina_manifest(
            Path(mirror) / "HumanMethylation450_15017482_v1-2.csv.gz"
        )
        gene_sets = read_gene_sets(Path(mirror) / "GO_Biological_Process_2021.gmt")
        simulation = simulate_cohorts(
            SIZES, n_sites=N_SITES, annotation=(site_gene, gene_sets), effect=effect
        )
    else:
        simulation = simulate_cohorts(
            SIZES, n_sites=N_SITES, n_genes=N_GENES, n_pathways=N_PATHWAYS, effect=effect
        )
    hierarchy = Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    X, Y, obs = merge_cohorts(list(simulation.cohorts.values()))
    np.save(folder / "X.npy", X.to_numpy())
    rest = (X.index, X.columns, Y, obs["cohort"], obs["subject"], hierarchy)
    (folder / "rest.pkl").write_bytes(pickle.dumps((*rest, simulation.truth.pathways)))


def _load(folder: Path) -> tuple:
    """Return what `_simulate` wrote."""
    index, columns, *rest = pickle.loads((folder / "rest.pkl").read_bytes())
    return pd.DataFrame(np.load(folder / "X.npy"), index, columns, copy=False), *rest


def _compare(folder: Path) -> pd.DataFrame:
    """AUROC of each task on the half of the subjects that was not learnt from."""
    torch.set_num_threads(THREADS)
    X, Y, cohort, subject, hierarchy, _ = _load(folder)
    strata = cohort.astype(str) + Y.max(axis=1).astype(str)
    halves = StratifiedGroupKFold(2, shuffle=True, random_state=0)
    train, test = next(halves.split(X, strata, subject))
    X_train, X_test, Y_train = X.iloc[train], X.iloc[test], Y.iloc[train]
    del X
    model = MiracleClassifier(hierarchy, training=Training(epochs=EPOCHS, progress=False))
    model.fit(X_train, Y_train, cohort=cohort.iloc[train], groups=subject.iloc[train])
    scores = {"MIRACLE": model.predict_proba(X_test, cohort=cohort.iloc[test])}
    found = {}
    for task in Y:
        rows = Y_train[task].notna().to_numpy()
        net = make_pipeline(SiteSelector(k=2000), PerTaskBaseline("elastic_net"))
        found[task] = net.fit(X_train[rows], Y_train.loc[rows, [task]]).predict_proba(X_test)[task]
    scores["elastic net on 2,000 sites"] = pd.DataFrame(found)
    return pd.DataFrame(
        {
            name: {task: _auroc(Y.iloc[test][task], score[task]) for task in Y}
            for name, score in scores.items()
        }
    )


def _auroc(label: pd.Series, score: pd.Series) -> float:
    """AUROC of the labelled samples."""
    label = label.dropna()
    return roc_auc_score(label, score[label.index])


def _train(folder: Path) -> dict[str, object]:
    """Fit the default estimator; return seconds per epoch and stage, memory, and recovery."""
    torch.set_num_threads(THREADS)
    X, Y, cohort, subject, hierarchy, truth = _load(folder)
    seconds = _clock_epochs()
    start = time.perf_counter()
    model = MiracleClassifier(hierarchy, training=Training(epochs=EPOCHS, progress=False))
    model.fit(X, Y, cohort=cohort, groups=subject)
    total = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "matrix": X.to_numpy().nbytes,
        "peak": peak,
        "total": total,
        "seconds": dict(seconds),
        "edges": [layer.weight.numel() for layer in _layers(model)],
        "residual": len(model.residual_sites_),
        "recovery": _recovery(model, X, Y, cohort, truth),
        "share": model.block_share_["sites"].mean(),
    }


def _layers(model: MiracleClassifier) -> list[torch.nn.Module]:
    """The two encoder layers."""
    return [model.network_.site_to_gene, model.network_.gene_to_mean]


def _clock_epochs() -> dict[str, list[float]]:
    """Note how long each epoch of each stage takes from now on."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for kind in (stages.GradientStage, convex_heads.ConvexHeads):

        def timed(stage: object, epoch: int, run: Callable = kind.run) -> object:
            start = time.perf_counter()
            row = run(stage, epoch)
            seconds[stage.name].append(time.perf_counter() - start)
            return row

        kind.run = functools.wraps(kind.run)(timed)
    return seconds


def _recovery(
    model: MiracleClassifier,
    X: pd.DataFrame,
    Y: pd.DataFrame,
    cohort: pd.Series,
    truth: pd.DataFrame,
) -> pd.DataFrame:
    """Rank the pathways of each task by how their activity separates cases from controls."""
    rows = []
    activity = model.transform(X, cohort=cohort)
    for task in Y:
        labelled = Y[task].notna()
        label = Y.loc[labelled, task]
        separation = activity[labelled].apply(lambda a, y=label: abs(roc_auc_score(y, a) - 0.5))
        planted = truth.loc[truth["task"] == task, "pathway"]
        planted = planted[planted.isin(separation.index)]
        rank = separation.rank(ascending=False)[planted]
        found = separation.index.isin(planted)
        rows.append((task, len(planted), rank.median(), (rank <= 20).sum(),
                     roc_auc_score(found, separation)))  # fmt: skip
    columns = ["task", "planted", "median rank", "in the first 20", "AUROC of the ranking"]
    return pd.DataFrame(rows, columns=columns)


def _fresh(function: Callable[..., T], *arguments: object) -> T:
    """Call the function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        _fresh(_simulate, Path(name), 0.5)
        result = _fresh(_train, Path(name))
    matrix, peak = result["matrix"] / 1e9, result["peak"] / 1e9
    edges = " + ".join(f"{n:,}" for n in result["edges"])
    kind = "the real annotation" if os.environ.get("MIRACLE_MIRROR") else "a synthetic annotation"
    print(
        f"{sum(SIZES.values())} samples x {N_SITES:,} sites on {kind}: {edges} edges, "
        f"{result['residual']:,} sites that reach no pathway. {result['total']:.0f} s in all.\n"
    )
    print("| stage | epochs | median seconds per epoch |\n|---|---|---|")
    for stage, seconds in result["seconds"].items():
        print(f"| {stage} | {len(seconds)} | {np.median(seconds):.2f} |")
    print("\n| memory | GB | times the float32 matrix |\n|---|---|---|")
    print(f"| matrix of beta values | {matrix:.2f} | 1.00 |")
    print(f"| peak of the process, matrix included | {peak:.2f} | {peak / matrix:.2f} |\n")
    recovery = result["recovery"]
    print("| " + " | ".join(recovery.columns) + " |\n" + "|---" * len(recovery.columns) + "|")
    for row in recovery.itertuples(index=False):
        print(f"| {row[0]} | {row[1]} | {row[2]:.1f} | {row[3]} | {row[4]:.3f} |")
    print(f"\nMean share of a prediction that is said by sites, not genes: {result['share']:.2f}")
    with tempfile.TemporaryDirectory() as name:
        _fresh(_simulate, Path(name), WEAK)
        scores = _fresh(_compare, Path(name))
    scores.loc["mean"] = scores.mean()
    print(f"\nEffect {WEAK}, AUROC on the other half\n\n{scores.to_markdown(floatfmt='.3f')}")


if __name__ == "__main__":
    main()
