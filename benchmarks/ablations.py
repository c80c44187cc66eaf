"""The full grid of ablations on three public blood series.

Needs the series, the array annotation and GO as named in ``data_manifest``: from the network, or
from a folder in the environment variable MIRACLE_MIRROR. Finished cells are kept in the folder
MIRACLE_CELLS (default ``runs/benchmark_ablations``), so an interrupted run continues.
"""

import os
import platform
import time
from pathlib import Path

import pandas as pd

from miracle_lib.cohorts import load_cohort, merge_cohorts
from miracle_lib.evaluation import compare_across_tasks, compare_methods, summarise
from miracle_lib.hierarchy import Hierarchy, load_annotation_source
from miracle_lib.preprocessing import quality_control
from miracle_lib.samples import Samples, usual_covariates
from miracle_lib.studies import Ablations, load_ablations, policy_table, run_ablations, site_curve

SERIES = ("GSE42861", "GSE125105", "GSE72774")
MIRROR = os.environ.get("MIRACLE_MIRROR")
CELLS = Path(os.environ.get("MIRACLE_CELLS", "runs/benchmark_ablations"))


def inputs() -> tuple[Samples, Hierarchy]:
    """Samples and masks of the three series."""
    cohorts = [
        quality_control(load_cohort(name, mirror=MIRROR, allow_subset=True))[0] for name in SERIES
    ]
    X, Y, obs = merge_cohorts(cohorts, sites="union")
    samples = Samples(
        X,
        Y,
        cohort=obs["cohort"],
        subject=obs["subject"],
        covariates=obs[usual_covariates(obs)],
    )
    annotation = load_annotation_source("illumina_450k", mirror=MIRROR)
    gene_sets = load_annotation_source("go_bp", mirror=MIRROR)
    return samples, Hierarchy.from_tables(annotation.site_gene, gene_sets, sites=samples.sites)


def _show(title: str, table: pd.DataFrame) -> None:
    """Print a table under a heading."""
    print(f"\n## {title}\n\n{table.to_markdown(index=False, floatfmt='.3f')}")


def _score_table(ablations: Ablations) -> pd.DataFrame:
    """AUROC with interval by method and task."""
    rows = {}
    for name, scores in ablations.levels("baselines").items():
        table = summarise(scores, ("auroc",)).set_index("task")
        rows[name] = table.apply(lambda r: f"{r.estimate:.3f} ({r.low:.3f}, {r.high:.3f})", axis=1)
    return pd.DataFrame(rows).T.rename_axis("AUROC (95 % interval)").reset_index()


def main() -> None:
    samples, hierarchy = inputs()
    start = time.perf_counter()
    ablations = run_ablations(
        load_ablations(), samples, hierarchy=hierarchy, store=CELLS, scale="medium", n_jobs=-1
    )
    seconds = time.perf_counter() - start
    print("# Ablations on three public blood series\n")
    print("Command: `MIRACLE_MIRROR=FOLDER python -m benchmarks ablations`\n")
    print(
        f"{len(samples)} samples, {len(samples.sites)} sites ({len(hierarchy.sites)} reach a "
        f"pathway), {len(hierarchy.genes)} genes, {len(hierarchy.pathways)} GO pathways. Tasks: "
        + ", ".join(
            f"{task} {int(y.sum())}/{y.notna().sum()}" for task, y in samples.labels.items()
        )
        + f" (cases/samples). {ablations.fits['seconds'].sum():.0f} s of fitting in all cells; "
        f"this call {seconds:.0f} s, {os.cpu_count()} cores, {platform.machine()}."
    )
    _show("Methods on the same folds", _score_table(ablations))
    baselines = compare_methods(ablations.levels("baselines"), reference="miracle")
    _show("Wilcoxon over tasks", compare_across_tasks(baselines).drop(columns="note"))
    print(f"\n{baselines.attrs['note']}")
    effects = ablations.effects()
    columns = ["comparison", "level", "reference", "difference", "low", "high"]
    columns += ["p_value", "p_worse", "p_equivalent", "p_better"]
    _show("Effects on AUROC, mean of tasks", effects.loc[effects["task"] == "all", columns])
    leak = effects[effects["comparison"] == "leak"]
    _show("The leak, by task", leak[["task", "difference", "low", "high"]])
    _show("Task weighting", policy_table(ablations).drop(columns="seconds"))
    _show("Number of sites", site_curve(ablations))


if __name__ == "__main__":
    main()
