"""The paper's network and protocol on public cohorts, and what a strict bottleneck costs there.

    MIRACLE_MIRROR=FOLDER python -m benchmarks paper

``PAPER_PARTS`` chooses among bottleneck, levels, reproduced and in_full.
"""

import os
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.linalg import orth
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from miracle_lib.cohorts import load_cohort, merge_cohorts
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation import PerTaskBaseline, cross_validate, make_folds
from miracle_lib.evaluation.validation import evaluate_fold, fitted
from miracle_lib.hierarchy import Hierarchy, read_gene_sets, read_illumina_manifest
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.samples import Samples
from miracle_lib.studies.paper import (
    CODED,
    DESCRIBED,
    N_SITES,
    by_change,
    by_protocol,
    paper_cell,
    paper_reproduced,
)

MIRROR = Path(os.environ.get("MIRACLE_MIRROR", "../shared/data/mirror"))
BLOOD = ("GSE42861", "GSE72774", "GSE125105")
SERIES = ("GSE42861", "GSE66695", "GSE72774", "GSE125105")
EPOCHS, WHOLE, SPLITS, FOLDS, REPEATS = 100, 800, 2, 5, 2
SITES, SPAN = "sites", "what these span"
STORE = Path("runs/benchmarks/paper")


def markdown(table: pd.DataFrame) -> Iterator[str]:
    """The lines of a table."""
    for row in (table.columns, ["---"] * table.shape[1], *table.to_numpy()):
        yield f"| {' | '.join(map(str, row))} |"


def annotation() -> tuple[Hierarchy, pd.DataFrame]:
    """GO biological processes on the 450K array, and the genes of its sites."""
    manifest = read_illumina_manifest(MIRROR / "HumanMethylation450_15017482_v1-2.csv.gz")
    sets = read_gene_sets(MIRROR / "GO_Biological_Process_2021.gmt")
    return Hierarchy.from_tables(manifest.site_gene, sets), manifest.site_gene


def series(name: str) -> Samples:
    """A public series as one task."""
    cohort = load_cohort(name, mirror=MIRROR, allow_subset=True)
    labels = cohort.obs[["label"]].rename(columns={"label": name})
    return Samples(cohort.to_df(), labels, subject=cohort.obs["subject"])


def blood() -> Samples:
    """The blood series as tasks learned together, on the union of their sites as in the paper."""
    cohorts = [load_cohort(name, mirror=MIRROR, allow_subset=True) for name in BLOOD]
    values, labels, known = merge_cohorts(cohorts, sites="union")
    return Samples(values, labels, cohort=known["cohort"], subject=known["subject"])


def reproduced(hierarchy: Hierarchy, site_gene: pd.DataFrame) -> Iterator[str]:
    """Networks and protocols crossed, and the paper's network with parts changed."""
    samples = blood()
    mask = hierarchy.restrict(samples.sites)
    scores = paper_reproduced(samples, mask, site_gene, STORE, epochs=EPOCHS, n_splits=SPLITS)
    yield f"{samples}: AUROC, mean over tasks (SD over {SPLITS} splits), {EPOCHS} epochs\n"
    table = by_protocol(scores)
    table["cell"] = table["mean"].map("{:.3f}".format) + table["sd"].map(" ({:.3f})".format)
    wide = table.pivot(index="method", columns="protocol", values="cell")
    wide = wide[list(table["protocol"].unique())].loc[table["method"].unique()]
    yield from markdown(wide.reset_index())
    yield "\nEach task, our protocol\n"
    ours = scores[(scores["protocol"] == "ours") & scores["method"].isin(table["method"])]
    yield from markdown(ours.pivot_table("auroc", "method", "task").round(3).reset_index())
    yield "\nThe paper's network with parts changed, our protocol\n"
    yield from markdown(by_change(scores).round(3))


def in_full(hierarchy: Hierarchy, site_gene: pd.DataFrame) -> Iterator[str]:
    """The paper's 800 epochs a stage on the first split, beside fewer at as much higher rates."""
    samples = blood()
    mask = hierarchy.restrict(samples.sites)
    shared = {"samples": samples, "hierarchy": mask, "site_gene": site_gene}
    yield "First split of our protocol: epochs of each stage, AUROC of each task, CPU seconds\n"
    for number, (method, epochs) in enumerate(product((DESCRIBED, CODED), (WHOLE, EPOCHS))):
        start = time.process_time()
        found = paper_cell(method, "ours", 0, SPLITS, N_SITES, epochs, 0, **shared)["scores"]
        row = {"network": method, "epochs": epochs}
        row |= found.set_index("task")["auroc"].round(3).to_dict()
        row["CPU s"] = f"{time.process_time() - start:.0f}"
        lines = list(markdown(pd.DataFrame([row])))
        yield from lines[2 * bool(number) :]


def features(mask: Hierarchy, train: Samples, test: Samples) -> Iterator[tuple[str, list]]:
    """What a linear head could read in place of the sites, of training and test samples."""
    scaler = CohortStandardizer().fit(train.values)
    parts = [scaler.transform(part.values)[mask.sites].to_numpy(float) for part in (train, test)]
    yield SITES, parts
    edges = (mask.site_gene.toarray(), mask.gene_pathway.toarray())
    to_gene, to_pathway = (each / each.sum(axis=0) for each in edges)
    yield "means of genes", [part @ to_gene for part in parts]
    yield "means of pathways", [part @ to_gene @ to_pathway for part in parts]
    # The same information, every direction of it alike to a ridge penalty.
    yield SPAN, [part @ orth(to_gene @ to_pathway) for part in parts]
    # Not that of the strict bottleneck, which is made from the labels.
    model = MiracleClassifier(mask, reads=("pathways", "genes"), training=Training(progress=False))
    encoder = fitted(model, train)
    yield "activities", [encoder.transform(part).to_numpy() for part in (train, test)]


def linear_score(parts: list, y: np.ndarray, scale: bool) -> np.ndarray:
    """Score of test samples by tuned logistic regression on some features."""
    scaler = StandardScaler(with_std=scale).fit(parts[0])
    search = GridSearchCV(
        LogisticRegression(max_iter=3000), {"C": np.logspace(-5, 1, 7)}, scoring="roc_auc"
    ).fit(scaler.transform(parts[0]), y)
    return search.decision_function(scaler.transform(parts[1]))


def levels(hierarchy: Hierarchy, site_gene: pd.DataFrame) -> Iterator[str]:
    """Where the strict bottleneck loses: one regression on sites, genes, pathways, activities."""
    yield "Tuned logistic regression on one level after the other, and heads on activities\n"
    for name in SERIES:
        samples, rows = series(name), []
        mask = hierarchy.restrict(samples.sites)
        samples = samples.replace(values=samples.values[mask.sites])
        strict = MiracleClassifier(mask, reads=("pathways",), training=Training(progress=False))
        for fold in make_folds(samples, n_splits=FOLDS, n_repeats=REPEATS):
            train, test = samples.take(fold.train), samples.take(fold.test)
            y, truth = train.labels[name].to_numpy(), test.labels[name]
            found = {
                level: roc_auc_score(truth, linear_score(parts, y, level != SPAN))
                for level, parts in features(mask, train, test)
            }
            score = evaluate_fold(strict, samples, fold)[0]["score"]
            rows.append(found | {"pathways only": roc_auc_score(truth, score)})
        table = pd.DataFrame(rows)
        cost = table.sub(table[SITES], axis=0)
        cells = {
            level: f"{table[level].mean():.3f}; {cost[level].mean():+.3f} ({cost[level].std():.3f})"
            for level in table
        }
        lines = list(markdown(pd.DataFrame([{"series": name} | cells])))
        yield from lines if name == SERIES[0] else lines[2:]


def bottleneck(hierarchy: Hierarchy, site_gene: pd.DataFrame) -> Iterator[str]:
    """What reading pathways only costs, against logistic regression on the same sites."""
    yield f"What reading nothing but pathways costs: AUROC over {FOLDS} folds\n"
    for name in SERIES:
        samples = series(name)
        mask = hierarchy.restrict(samples.sites)
        inside = samples.replace(values=samples.values[mask.sites])
        quiet = {"training": Training(progress=False)}
        scores = {
            "pathways only": (MiracleClassifier(mask, reads=("pathways",), **quiet), inside),
            "pathways and genes": (
                MiracleClassifier(mask, reads=("pathways", "genes"), **quiet),
                inside,
            ),
            "logistic, same sites": (PerTaskBaseline("logistic_l2"), inside),
            "ours": (MiracleClassifier(mask, **quiet), samples),
            "logistic, all sites": (PerTaskBaseline("logistic_l2"), samples),
        }
        found = {
            title: cross_validate(model, part, n_splits=FOLDS)["auroc"]
            for title, (model, part) in scores.items()
        }
        gap = found["pathways only"] - found["logistic, same sites"]
        row = {"series": name, "samples": len(samples), "sites": samples.values.shape[1]}
        row |= {"in a pathway": len(mask.sites), "pathways": len(mask.pathways)}
        row |= {title: f"{each.mean():.3f}" for title, each in found.items()}
        row |= {"cost (SD over folds)": f"{gap.mean():+.3f} ({gap.std():.3f})"}
        lines = list(markdown(pd.DataFrame([row])))
        yield from lines if name == SERIES[0] else lines[2:]


PARTS = {"bottleneck": bottleneck, "levels": levels, "reproduced": reproduced, "in_full": in_full}


def main() -> None:
    """Print all parts, or those named."""
    hierarchy, site_gene = annotation()
    for name in os.environ.get("PAPER_PARTS", " ".join(PARTS)).split():
        for line in PARTS[name](hierarchy, site_gene):
            print(line, flush=True)
        print()
