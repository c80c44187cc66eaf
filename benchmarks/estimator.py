"""Accuracy of the default estimator: real cohorts against logistic regression, and sharing."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold

from miracle_lib.cohorts import load_cohort, merge_cohorts, simulate_cohorts
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.hierarchy import Hierarchy, read_gene_sets, read_illumina_manifest
from miracle_lib.preprocessing import CohortStandardizer

MIRROR = Path(os.environ.get("MIRACLE_MIRROR", "../shared/data/mirror"))
SERIES = ("GSE42861", "GSE125105", "GSE72774", "GSE66695")
SIZES = {"IBD": 53, "MS": 88, "Psoriasis": 79, "RA": 49, "SLE": 160, "T1D": 118}
SHARES = (0.0, 0.25, 0.5, 1.0)
REPEATS, REPLICATES, EFFECT = 2, 8, 0.2


def hierarchy_of_the_array() -> Hierarchy:
    """GO biological processes on the 450K array."""
    manifest = read_illumina_manifest(MIRROR / "HumanMethylation450_15017482_v1-2.csv.gz")
    sets = read_gene_sets(MIRROR / "GO_Biological_Process_2021.gmt")
    return Hierarchy.from_tables(manifest.site_gene, sets)


def tuned_logistic(X: pd.DataFrame, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """AUROC of L2 logistic regression on standardised M-values, C by inner five-fold search."""
    z = CohortStandardizer().fit(X.iloc[train]).transform(X).to_numpy()
    search = GridSearchCV(
        LogisticRegression(max_iter=3000),
        {"C": np.logspace(-5, 1, 7)},
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        scoring="roc_auc",
    ).fit(z[train], y[train])
    return roc_auc_score(y[test], search.decision_function(z[test]))


def real_cohorts() -> Iterator[str]:
    """Five-fold AUROC on each series of the mirror, both methods on the same folds."""
    yield "| series | samples x sites | MIRACLE | tuned L2 logistic | difference (SD) | s per fit |"
    yield "|---|---|---|---|---|---|"
    hierarchy = hierarchy_of_the_array()
    for series in SERIES:
        cohort = load_cohort(series, mirror=MIRROR, allow_subset=True)
        X, y = cohort.to_df(), cohort.obs["label"].to_numpy()
        mask, scores, seconds = hierarchy.restrict(X.columns), [], []
        for repeat in range(REPEATS):
            folds = StratifiedGroupKFold(5, shuffle=True, random_state=repeat)
            for train, test in folds.split(X, y, cohort.obs["subject"]):
                labels = pd.DataFrame({series: y[train]}, X.index[train])
                start = time.process_time()
                model = MiracleClassifier(mask, training=Training(progress=False)).fit(
                    X.iloc[train], labels
                )
                seconds.append(time.process_time() - start)
                ours = roc_auc_score(y[test], model.decision_function(X.iloc[test])[series])
                scores.append((ours, tuned_logistic(X, y, train, test)))
        ours, theirs = np.mean(scores, axis=0)
        spread = np.diff(scores).std(ddof=1)
        yield (
            f"| {series} | {X.shape[0]} x {X.shape[1]} | {ours:.3f} | {theirs:.3f} "
            f"| {ours - theirs:+.3f} ({spread:.3f}) | {np.mean(seconds):.1f} |"
        )


def mean_auroc(model: MiracleClassifier, X: pd.DataFrame, Y: pd.DataFrame) -> list[float]:
    """AUROC of each task of a model."""
    logits = model.decision_function(X)
    seen = {task: Y[task].notna().to_numpy() for task in model.tasks_}
    return [roc_auc_score(Y.loc[seen[t], t], logits.loc[seen[t], t]) for t in model.tasks_]


def one_replicate(share: float, seed: int) -> tuple[float, float, float]:
    """Mean AUROC over the tasks, multi- and single-task, and the sharing found."""
    doubled = {task: 2 * size for task, size in SIZES.items()}
    simulated = simulate_cohorts(doubled, shared=share, effect=EFFECT, random_state=seed)
    X, Y, obs = merge_cohorts(list(simulated.cohorts.values()))
    hierarchy = Hierarchy.from_tables(simulated.site_gene, simulated.gene_sets)
    strata = obs["task"].astype(str) + obs["label"].astype(str)
    halves = StratifiedGroupKFold(2, shuffle=True, random_state=seed)
    train, test = next(halves.split(X, strata, obs["subject"]))
    model = MiracleClassifier(hierarchy, training=Training(progress=False))
    multi = model.fit(X.iloc[train], Y.iloc[train], groups=obs["subject"])
    sharing, scores = multi.prior_.sharing, mean_auroc(multi, X.iloc[test], Y.iloc[test])
    alone = []
    for task in Y:
        rows = train[Y[task].notna().to_numpy()[train]]
        model = MiracleClassifier(hierarchy, training=Training(progress=False))
        single = model.fit(X.iloc[rows], Y.iloc[rows][[task]], groups=obs["subject"])
        alone += mean_auroc(single, X.iloc[test], Y.iloc[test])
    return float(np.mean(scores)), float(np.mean(alone)), sharing


def sharing() -> Iterator[str]:
    """Multi- against single-task training as the share of common pathways grows."""
    yield "| share common | multi-task | single-task | difference (95% interval) | sharing found |"
    yield "|---|---|---|---|---|"
    for share in SHARES:
        found = np.array([one_replicate(share, seed) for seed in range(REPLICATES)])
        difference = found[:, 0] - found[:, 1]
        half = stats.t.ppf(0.975, REPLICATES - 1) * difference.std(ddof=1) / REPLICATES**0.5
        multi, single, tied = found.mean(0)
        yield (
            f"| {share:.2f} | {multi:.3f} | {single:.3f} | {difference.mean():+.3f} "
            f"({difference.mean() - half:+.3f} to {difference.mean() + half:+.3f}) | {tied:.2f} |"
        )


def main() -> None:
    """Print both tables."""
    for title, rows in (
        (f"Real cohorts, {REPEATS} x five folds, GO biological processes as mask", real_cohorts()),
        (
            f"Simulated cohorts of the paper's sizes, effect {EFFECT}, {REPLICATES} replicates",
            sharing(),
        ),
    ):
        print(f"\n{title}\n")
        for row in rows:
            print(row, flush=True)


if __name__ == "__main__":
    main()
