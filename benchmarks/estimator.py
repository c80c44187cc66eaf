"""Accuracy of the default estimator: real cohorts against all baselines."""

import os
from pathlib import Path

import pandas as pd

from miracle_lib.cohorts import load_cohort
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation import BASELINES, PerTaskBaseline, cross_validate
from miracle_lib.hierarchy import Hierarchy, read_gene_sets, read_illumina_manifest

MIRROR = Path(os.environ.get("MIRACLE_MIRROR", "../shared/data/mirror"))
SERIES = ("GSE42861", "GSE125105", "GSE72774", "GSE66695")
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


def main() -> None:
    """Print mean AUROC; behind it what the network is ahead, and the SD of that over the folds."""
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
    print(pd.DataFrame(shown, tables[0].columns).to_markdown())


if __name__ == "__main__":
    main()
