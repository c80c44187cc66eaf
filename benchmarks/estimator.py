"""Accuracy of the default estimator: real cohorts against all baselines.

Cut into five folds ``ESTIMATOR_REPEATS`` times (default 5); ``ESTIMATOR_METHODS`` chooses some of
the methods, separated by spaces, ours first.
"""

import os
from pathlib import Path

import pandas as pd

from miracle_lib.cohorts import load_cohort
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation import BASELINES, PerTaskBaseline, compare_methods, cross_validate
from miracle_lib.hierarchy import Hierarchy, read_gene_sets, read_illumina_manifest

MIRROR = Path(os.environ.get("MIRACLE_MIRROR", "../shared/data/mirror"))
SERIES = ("GSE42861", "GSE125105", "GSE72774", "GSE66695")
OURS = "MIRACLE"
REPEATS = int(os.environ.get("ESTIMATOR_REPEATS", 5))
CHOSEN = os.environ.get("ESTIMATOR_METHODS", "").split()
INTERVAL = ["difference", "high", "low"]  # of the baseline minus ours; turned round


def hierarchy_of_the_array() -> Hierarchy:
    """GO biological processes on the 450K array."""
    manifest = read_illumina_manifest(MIRROR / "HumanMethylation450_15017482_v1-2.csv.gz")
    sets = read_gene_sets(MIRROR / "GO_Biological_Process_2021.gmt")
    return Hierarchy.from_tables(manifest.site_gene, sets)


def every_method(series: str, hierarchy: Hierarchy) -> tuple[str, dict[str, pd.DataFrame]]:
    """Scores of every method on the same folds of a series, and its title."""
    cohort = load_cohort(series, mirror=MIRROR, allow_subset=True)
    X, Y = cohort.to_df(), cohort.obs[["label"]].set_axis([series], axis=1)
    mask = hierarchy.restrict(X.columns)
    methods = {OURS: MiracleClassifier(mask, training=Training(progress=False))}
    methods |= {name: PerTaskBaseline(name) for name in BASELINES if name != "covariates"}
    if CHOSEN:
        methods = {name: methods[name] for name in CHOSEN}
    scores = {
        name: cross_validate(method, X, Y, groups=cohort.obs["subject"], n_repeats=REPEATS)
        for name, method in methods.items()
    }
    return f"{series}, {X.shape[0]} x {X.shape[1]}", scores


def main() -> None:
    """Print mean AUROC; behind it what the network is ahead and the interval of that."""
    hierarchy = hierarchy_of_the_array()
    shown, gaps = {}, {}
    for title, scores in (every_method(series, hierarchy) for series in SERIES):
        compared = compare_methods(scores, OURS)
        compared = -compared[compared["task"] != "all"].set_index("method")[INTERVAL]
        gaps[title] = compared["difference"]
        behind = compared.apply(lambda row: " ({:+.3f}; {:+.3f} to {:+.3f})".format(*row), axis=1)
        means = pd.Series({name: table["auroc"].mean() for name, table in scores.items()})
        shown[title] = means.map("{:.3f}".format) + behind.str.replace(
            "; +nan to +nan", ""
        ).reindex(means.index, fill_value="")
    shown["mean ahead"] = pd.DataFrame(gaps).mean(axis=1).map("{:+.3f}".format)
    print(pd.DataFrame(shown).reindex(means.index).fillna("").to_markdown())


if __name__ == "__main__":
    main()
