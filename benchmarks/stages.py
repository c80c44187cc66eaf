"""What each of the three stages adds, by sample size, and what the autoencoder is good for.

Four simulated diseases on 1,500 sites, as in ``benchmarks planted``, two folds each; and the real
cohorts of the mirror (MIRACLE_MIRROR), each cut into five folds with every seed. The heads alone,
after the autoencoder, and with fine-tuning, for the default and for the strict bottleneck (heads
that read pathways only). Then two uses of the autoencoder besides: sites that a new sample lacks,
filled by its reconstruction, and few labels beside many samples without one.
``STAGES_REPLICATES`` (default 6) and ``STAGES_FIRST`` (default 300) give the seeds,
``STAGES_PARTS`` some of stages, real, absent, few, ``STAGES_SIZES`` the samples per disease.
"""

import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from benchmarks import peers
from benchmarks.planted import SETTINGS, TASKS, interval
from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
from miracle_lib.estimator import MiracleClassifier, Training
from miracle_lib.evaluation import cross_validate
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.samples import Samples
from miracle_lib.training import PRESETS

EFFECTS = {20: 0.35} | {n: options["effect"] for n, options in SETTINGS.values()}
SERIES = ("GSE42861", "GSE125105", "GSE72774", "GSE66695")
DEFAULT = PRESETS["default"]
FIRST, HEADS, LAST = (
    stage.epochs for stage in (DEFAULT.autoencoder, DEFAULT.heads, DEFAULT.finetune)
)
STAGES = {
    "heads": (0, HEADS, 0),
    "autoencoder, heads": (FIRST, HEADS, 0),
    "all three": (FIRST, HEADS, LAST),
}
READS = {"default": ("pathways", "genes", "sites"), "pathways only": ("pathways",)}
ABSENT = (0.5, 0.9)
LABELLED = 20


def network(hierarchy: Hierarchy, seed: int, reads: str, stages: str) -> MiracleClassifier:
    """A network that is not trained yet."""
    training = Training(progress=False, epochs=STAGES[stages])
    return MiracleClassifier(hierarchy, reads=READS[reads], random_state=seed, training=training)


class Study:
    """Simulated cohorts and their hierarchy."""

    def __init__(self, n: int, seed: int) -> None:
        sizes, self.seed = dict.fromkeys(TASKS, n), seed
        data = simulate_cohorts(sizes, n_sites=1500, random_state=seed, effect=EFFECTS[n])
        self.X, self.Y, self.obs = merge_cohorts(list(data.cohorts.values()))
        self.hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets)

    def fit(self, rows: np.ndarray, Y: pd.DataFrame, reads: str, stages: str) -> MiracleClassifier:
        """Train on some samples."""
        return network(self.hierarchy, self.seed, reads, stages).fit(
            self.X.iloc[rows], Y.iloc[rows], cohort=self.obs["cohort"].iloc[rows]
        )

    def folds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Two folds of the subjects."""
        return GroupKFold(2).split(self.X, groups=self.obs["subject"])

    def auroc(self, model: MiracleClassifier, X: pd.DataFrame) -> float:
        """Mean over tasks on the samples of X."""
        found = model.predict_proba(X, cohort=self.obs["cohort"].loc[X.index])
        Y = self.Y.loc[X.index]
        scores = []
        for task in TASKS:
            seen = Y[task].notna()
            scores.append(roc_auc_score(Y.loc[seen, task], found.loc[seen, task]))
        return float(np.mean(scores))


def stages(n: int, seed: int) -> Iterator[dict[str, object]]:
    """Scores after each stage on simulated cohorts."""
    study = Study(n, seed)
    samples = Samples(study.X, study.Y, subject=study.obs["subject"])
    yield from _stages(samples, study.hierarchy, str(n), seed, n_splits=2)


def real(series: str, seed: int) -> Iterator[dict[str, object]]:
    """Scores after each stage on a real cohort."""
    samples, hierarchy, _ = peers.real(series)
    yield from _stages(samples, hierarchy, series, seed, n_splits=5)


def _stages(
    samples: Samples, hierarchy: Hierarchy, where: str, seed: int, n_splits: int
) -> Iterator[dict[str, object]]:
    """Scores after each stage, on the same folds."""
    for reads in READS:
        for name in STAGES:
            model = network(hierarchy, seed, reads, name)
            scores = cross_validate(model, samples, n_splits=n_splits, random_state=seed)
            yield {"setting": f"{reads}, {where}", "method": name, "auroc": scores["auroc"].mean()}


def absent_sites(n: int, seed: int) -> Iterator[dict[str, object]]:
    """Scores of new samples that lack sites: as the average of their cohort, or rebuilt."""
    study = Study(n, seed)
    for train, test in study.folds():
        model = study.fit(train, study.Y, "default", "autoencoder, heads")
        for share in ABSENT:
            X = study.X.iloc[test].copy()
            absent = np.random.default_rng(seed).random(X.shape[1]) < share
            X.loc[:, absent] = np.nan
            rebuilt = X.fillna(model.reconstruct(X, cohort=study.obs["cohort"].loc[X.index]))
            setting = f"{share:.0%} of the sites absent, {n}"
            yield {"setting": setting, "method": "average", "auroc": study.auroc(model, X)}
            yield {"setting": setting, "method": "rebuilt", "auroc": study.auroc(model, rebuilt)}


def few_labels(n: int, seed: int) -> Iterator[dict[str, object]]:
    """Scores with few labels per disease, the other samples given without one, or not at all."""
    study = Study(n, seed)
    for train, test in study.folds():
        Y = study.Y.copy()
        for task in TASKS:
            of_task = study.Y.index[train][study.Y[task].iloc[train].notna()]
            Y.loc[of_task.difference(_balanced(study.Y.loc[of_task, task])), task] = np.nan
        labelled = train[Y.iloc[train].notna().any(axis=1)]
        for reads in READS:
            setting = f"{LABELLED} labels of {n // 2}, {reads}"
            for method, rows in {"labelled only": labelled, "unlabelled too": train}.items():
                model = study.fit(rows, Y, reads, "all three")
                auroc = study.auroc(model, study.X.iloc[test])
                yield {"setting": setting, "method": method, "auroc": auroc}


def _balanced(labels: pd.Series) -> pd.Index:
    """The first cases and controls, half of the labels each."""
    return labels.groupby(labels).head(LABELLED // 2).index


def show(title: str, rows: list[dict[str, object]], reference: str) -> None:
    """Print means, and differences to one method with their intervals."""
    table = pd.DataFrame(rows).groupby(["setting", "seed", "method"], sort=False)["auroc"].mean()
    wide = table.unstack("method")
    gaps = wide.drop(columns=reference).sub(wide[reference], axis=0)
    means = wide.groupby("setting", sort=False).mean().round(3)
    shown = gaps.groupby("setting", sort=False).agg(interval).add_suffix(f" minus {reference}")
    print(f"\n## {title}\n\n{means.join(shown).to_markdown()}", flush=True)


def main() -> None:
    first = int(os.environ.get("STAGES_FIRST", 300))
    seeds = range(first, first + int(os.environ.get("STAGES_REPLICATES", 6)))
    sizes = [int(n) for n in os.environ.get("STAGES_SIZES", "20 53 90 200").split()]
    parts = {
        "stages": ("Stages, simulated cohorts", stages, "heads", sizes),
        "real": ("Stages, real cohorts", real, "heads", SERIES),
        "absent": ("Absent sites", absent_sites, "average", sizes[-1:]),
        "few": ("Few labels", few_labels, "labelled only", sizes[-1:]),
    }
    for part in os.environ.get("STAGES_PARTS", " ".join(parts)).split():
        title, study, reference, settings = parts[part]
        rows = [
            row | {"seed": seed} for at in settings for seed in seeds for row in study(at, seed)
        ]
        show(title, rows, reference)


if __name__ == "__main__":
    main()
