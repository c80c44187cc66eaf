"""Accuracy of the default estimator: real cohorts against all baselines, and sharing."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from miracle_lib.cohorts import load_cohort, merge_cohorts, simulate_cohorts
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation import BASELINES, PerTaskBaseline, cross_validate
from miracle_lib.hierarchy import Hierarchy, read_gene_sets, read_illumina_manifest

MIRROR = Path(os.environ.get("MIRACLE_MIRROR", "../shared/data/mirror"))
SERIES = ("GSE42861", "GSE125105", "GSE72774", "GSE66695")
SIZES = {"IBD": 53, "MS": 88, "Psoriasis": 79, "RA": 49, "SLE": 160, "T1D": 118}
SHARES = (0.0, 0.25, 0.5, 1.0)
REPLICATES, EFFECT = 8, 0.2
OURS = "MIRACLE"


def hierarchy_of_the_array() -> Hierarchy:
    """GO biological processes on the 450K array."""
    manifest = read_illumina_manifest(MIRROR / "HumanMethylation450_15017482_v1-2.csv.gz")
    sets = read_gene_sets(MIRROR / "GO_Biological_Process_2021.gmt")
    return Hierarchy.from_tables(manifest.site_gene, sets)


def every_method(series: str, hierarchy: Hierarchy) -> pd.DataFrame:
    """AUROC of every method on the same five folds of a series, folds x methods."""
    cohort = load_cohort(series, mirror=MIRROR, allow_subset=True)
    X, Y = cohort.to_df(), cohort.obs[["label"]].set_axis([series], axis=1)
    mask = hierarchy.restrict(X.columns)
    methods = {OURS: MiracleClassifier(mask, training=Training(progress=False))}
    methods |= {name: PerTaskBaseline(name) for name in BASELINES if name != "covariates"}
    scores = {
        name: cross_validate(method, X, Y, groups=cohort.obs["subject"])["auroc"]
        for name, method in methods.items()
    }
    return pd.DataFrame(scores).rename_axis(f"{series}, {X.shape[0]} x {X.shape[1]}")


def real_cohorts() -> Iterator[str]:
    """Mean AUROC of every method; behind it what the network is ahead, and its SD over folds."""
    hierarchy = hierarchy_of_the_array()
    tables = [every_method(series, hierarchy) for series in SERIES]
    shown, gaps = {}, []
    for table in tables:
        gap = table.rsub(table[OURS], axis=0)
        gaps.append(gap.mean())
        shown[table.index.name] = [
            f"{score:.3f} ({ahead:+.3f}, {spread:.3f})"
            for score, ahead, spread in zip(table.mean(), gap.mean(), gap.std(), strict=True)
        ]
    shown["mean ahead"] = pd.concat(gaps, axis=1).mean(axis=1).map("{:+.3f}".format)
    yield pd.DataFrame(shown, tables[0].columns).to_markdown()


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
        ("Real cohorts, five folds, GO biological processes as mask", real_cohorts()),
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
