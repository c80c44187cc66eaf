"""Why a learner per pathway, then one over pathways, does well: one thing taken away at a time.

    python -m benchmarks two_stage

Cohorts of the mirror (MIRACLE_MIRROR), on folds as in ``benchmarks peers`` but repeated.
``TWO_STAGE_DATA`` chooses some of them, separated by spaces.
"""

import os
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from benchmarks.peers import N_FOLDS, Study, real
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation import PerTaskBaseline, make_folds
from miracle_lib.evaluation.validation import evaluate_fold
from miracle_lib.preprocessing import CohortStandardizer

DATA = ("GSE42861", "GSE66695", "GSE72774", "GSE125105")
REPEATS = 2
OWN, PEER = "MIRACLE", "two stages"


class FirstStage(NamedTuple):
    """Decision values of a learner per set: out of fold, on its own training, of new samples."""

    held_out: np.ndarray
    inside: np.ndarray
    new: np.ndarray


def first_stage(sets: list[np.ndarray], z: np.ndarray, y: np.ndarray, z_new: np.ndarray):
    """Train a learner per set of sites, as the adapter ``two_stage`` does."""
    columns = []
    for sites in sets:
        model = LogisticRegression(C=0.01, max_iter=500)
        held_out = cross_val_predict(model, z[:, sites], y, cv=3, method="decision_function")
        model.fit(z[:, sites], y)
        columns.append([held_out, *(model.decision_function(x[:, sites]) for x in (z, z_new))])
    return FirstStage(*(np.column_stack(part) for part in zip(*columns, strict=True)))


def second_stage(train: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Score of new samples by the learner over pathways."""
    return LogisticRegressionCV(Cs=5, cv=3, max_iter=500).fit(train, y).decision_function(new)


def scores(study: Study, train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Score of the test samples by the peer, by the peer without each part, and by others."""
    hierarchy, values = study.hierarchy, study.samples.values
    scaler = CohortStandardizer().fit(values.iloc[train])
    z, z_new = (scaler.transform(values.iloc[part]).to_numpy(float) for part in (train, test))
    y = study.samples.labels.iloc[train, 0].to_numpy()
    member = (hierarchy.site_gene @ hierarchy.gene_pathway).toarray() > 0
    columns = values.columns.get_indexer(hierarchy.sites)
    sets = [columns[inside] for inside in member.T]
    rng = np.random.default_rng(seed)
    other = [rng.choice(columns, len(sites), replace=False) for sites in sets]
    stage, drawn = first_stage(sets, z, y, z_new), first_stage(other, z, y, z_new)
    one = LogisticRegression(C=0.01, max_iter=500).fit(z[:, columns], y)
    weight = np.sqrt(member.sum(axis=1))
    often = LogisticRegression(C=0.01, max_iter=500).fit(z[:, columns] * weight, y)
    return {
        PEER: second_stage(expit(stage.held_out), y, expit(stage.new)),
        "no curve between the stages": second_stage(stage.held_out, y, stage.new),
        "second stage: the mean": stage.new.mean(axis=1),
        "no held-out values for it": second_stage(expit(stage.inside), y, expit(stage.new)),
        "random sets of as many sites": second_stage(expit(drawn.held_out), y, expit(drawn.new)),
        "random sets, the mean": drawn.new.mean(axis=1),
        "one learner on all of its sites": one.decision_function(z_new[:, columns]),
        "... weighted by their pathways": often.decision_function(z_new[:, columns] * weight),
    }


def own_scores(study: Study, fold) -> dict[str, np.ndarray]:
    """Score of the test samples by what the peer is compared with."""
    samples, hierarchy = study.samples, study.hierarchy
    inside = samples.replace(values=samples.values[hierarchy.sites])
    own = MiracleClassifier(hierarchy, training=Training(progress=False))
    strict = MiracleClassifier(hierarchy, reads=("pathways",), training=Training(progress=False))
    methods = {
        OWN: (own, samples),
        f"{OWN}, sites in a pathway": (own, inside),
        f"{OWN}, strict bottleneck": (strict, inside),
        "L2 logistic regression": (PerTaskBaseline("logistic_l2"), samples),
        "L2, sites in a pathway": (PerTaskBaseline("logistic_l2"), inside),
    }
    return {
        name: evaluate_fold(model, part, fold)[0]["score"].to_numpy()
        for name, (model, part) in methods.items()
    }


def main() -> None:
    for name in os.environ.get("TWO_STAGE_DATA", " ".join(DATA)).split():
        study, rows = real(name), []
        for fold in make_folds(study.samples, n_splits=N_FOLDS, n_repeats=REPEATS):
            truth = study.samples.labels.iloc[fold.test, 0]
            found = scores(study, fold.train, fold.test, len(rows)) | own_scores(study, fold)
            rows.append({method: roc_auc_score(truth, score) for method, score in found.items()})
        table = pd.DataFrame(rows)
        sizes = f"{len(study.samples)} samples, {len(study.samples.sites)} sites"
        print(f"\n## {name}: {sizes}, {len(rows)} folds ({REPEATS} times {N_FOLDS})\n")
        shown = pd.DataFrame({"AUROC": table.mean(), "SD over folds": table.std()})
        shown["first draw alone"] = table.iloc[:N_FOLDS].mean()
        for other in (PEER, OWN):
            gap = table.sub(table[other], axis=0)
            shown[f"minus {other}"] = gap.mean()
            shown[f"SD of minus {other}"] = gap.std()
        print(shown.rename_axis("method").to_markdown(floatfmt=".3f"), flush=True)


if __name__ == "__main__":
    main()
