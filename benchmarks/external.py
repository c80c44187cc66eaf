"""Another hospital with real values: trained in one public series, tested in another.

    python -m benchmarks external

The mirror (MIRACLE_MIRROR) holds no two series of one disease. What two of its blood series
have in common besides 591 sites is the age and the sex of their people, so these are predicted:
labels that are true in both, with the levels and people of two real hospitals between them. It says
what happens to a model on the way, and nothing about a disease. ``EXTERNAL_SAMPLES`` (default
200) are drawn of each series.
"""

import os
import tempfile
from pathlib import Path

import pandas as pd

from miracle_lib.cohorts import list_pairs, load_cohort, merge_cohorts
from miracle_lib.hierarchy import Hierarchy, load_annotation_source
from miracle_lib.samples import Samples
from miracle_lib.studies import calibration_table, falls, hospital_scores

MIRROR = Path(os.environ.get("MIRACLE_MIRROR", "../shared/data/mirror"))
SERIES = ("GSE125105", "GSE72774")
LABELS = {
    "older than 60": lambda obs: obs["age"] > 60,
    "female": lambda obs: obs["sex"] == "F",
}
MADE_OF = {"older than 60": "age", "female": "sex"}


def people(label: str, n: int) -> Samples:
    """Draw ``n`` people of each series, labelled by what is known of them all."""
    X, _, obs = merge_cohorts(
        [load_cohort(name, mirror=MIRROR, allow_subset=True) for name in SERIES]
    )
    known = obs[["age", "sex"]].notna().all(axis=1) & ~obs["subject"].duplicated()
    obs = obs[known].groupby("cohort", sort=False).sample(n, random_state=0)
    return Samples(
        X.loc[obs.index],
        pd.DataFrame({label: LABELS[label](obs).astype(float)}),
        cohort=obs["cohort"],
        subject=obs["subject"],
        covariates=obs[["age", "sex"]].drop(columns=MADE_OF[label]),
    )


def main() -> None:
    held = {path.name.split("_")[0] for path in MIRROR.glob("GSE*")}
    pairs = list_pairs()
    there = [{*pair.train, pair.test} <= held for pair in pairs.itertuples()]
    print(f"pairs of one disease in the mirror: {sum(there)} of {len(pairs)}", flush=True)
    array = load_annotation_source("illumina_450k", mirror=MIRROR)
    sets = load_annotation_source("go_bp", mirror=MIRROR)
    for label in LABELS:
        samples = people(label, int(os.environ.get("EXTERNAL_SAMPLES", 200)))
        hierarchy = Hierarchy.from_tables(array.site_gene, sets, sites=samples.sites)
        share = samples.labels[label].groupby(samples.cohort).mean()
        shares = ", ".join(f"{value:.0%} of {name}" for name, value in share.items())
        print(f"\n## {label}: {shares}", flush=True)
        with tempfile.TemporaryDirectory() as store:
            scores = hospital_scores(samples, hierarchy, [], store)
        for metric in ("auroc", "brier"):
            table = falls(scores, metric).drop(columns=["task", "train"])
            print(f"\n{metric}\n\n{table.to_markdown(index=False, floatfmt='.3f')}", flush=True)
        table = calibration_table(scores)
        print(f"\ncalibration of MIRACLE\n\n{table.to_markdown(index=False)}")


if __name__ == "__main__":
    main()
