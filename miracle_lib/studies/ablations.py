"""Ablations: which part of the model earns its place, on the same folds and seeds."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation.comparison import compare_methods
from miracle_lib.evaluation.grid import Cell, Data, Tables, run_grid
from miracle_lib.evaluation.splits import Fold, make_folds
from miracle_lib.evaluation.validation import evaluate_fold, scores_of, select_before_split
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.samples import Samples, as_samples
from miracle_lib.studies.single_task import SingleTask
from miracle_lib.studies.variants import AblationGrid, Scale, Variant, build

_TABLES = ("predictions", "fits", "pathways")
_SCORED = ["comparison", "level", "repeat", "fold", "task", "pathway", "score"]


def run_cell(
    variant: dict[str, Any],
    repeat: int,
    fold: int,
    n_splits: int,
    random_state: int,
    samples: Samples,
    hierarchy: Hierarchy,
) -> Tables:
    """Score one variant on one fold.

    Returns
    -------
    dict of str to DataFrame
        predictions (as of :func:`cross_validate`), fit (seconds, epochs, epochs_to_best) and
        pathways (task, pathway, score: how far cases and controls differ in its activity).
    """
    seed = random_state + repeat
    settings = Variant(**variant)
    estimator = build(settings, hierarchy, seed)
    if settings.protocol == "leaky":
        estimator, samples = select_before_split(estimator, samples)
    split = _splits(samples, repeat, n_splits, random_state)[fold]._replace(repeat=repeat)
    start = time.perf_counter()
    predictions, model = evaluate_fold(estimator, samples, split)
    place = {"repeat": repeat, "fold": fold}
    networks = _networks(model)
    fit = place | {"seconds": time.perf_counter() - start} | _epochs(networks)
    pathways = pathway_scores(networks, samples.take(split.train)).assign(**place)
    return {"predictions": predictions, "fit": pd.DataFrame([fit]), "pathways": pathways}


def _splits(samples: Samples, repeat: int, n_splits: int, random_state: int) -> list[Fold]:
    """Folds of one repeat."""
    return list(make_folds(samples, n_splits=n_splits, random_state=random_state + repeat))


def training_sets(samples: Samples, size: Scale, random_state: int = 0) -> Iterator[np.ndarray]:
    """Yield the positions of all samples, which the leak chooses sites on, and of every fold's."""
    yield np.arange(len(samples))
    for repeat in range(size.n_repeats):
        for fold in _splits(samples, repeat, size.n_splits, random_state):
            yield fold.train


def _networks(model: BaseEstimator) -> list[MiracleClassifier]:
    """Fitted networks in a model: one, one per task, or none."""
    models = model.models_.values() if isinstance(model, SingleTask) else [model]
    last = [item[-1] if isinstance(item, Pipeline) else item for item in models]
    return [item for item in last if isinstance(item, MiracleClassifier)]


def _epochs(networks: list[MiracleClassifier]) -> dict[str, float]:
    """Epochs of gradient training, and those until the best validation loss; mean over networks."""
    if not networks:
        return {"epochs": np.nan, "epochs_to_best": np.nan}
    total, best = [], []
    for network in networks:
        stages = [part for _, part in network.history_.groupby("stage", sort=False)]
        total.append(sum(len(part) for part in stages))
        best.append(sum(int(np.argmin(part["validation"])) + 1 for part in stages))
    return {"epochs": float(np.mean(total)), "epochs_to_best": float(np.mean(best))}


def pathway_scores(networks: list[MiracleClassifier], samples: Samples) -> pd.DataFrame:
    """Difference of each pathway's activity between cases and controls, per task.

    Returns
    -------
    DataFrame
        task, pathway, score: Welch's t statistic of the activity. The sign of an activity is
        arbitrary.
    """
    tables = []
    for network in networks:
        for task in network.tasks_:
            labelled = samples.task(task)
            activity = network.transform(labelled.values)
            case = (labelled.labels[task] == 1).to_numpy()
            # A pathway whose sites the cohort does not have is constant: its score is 0.
            varies = (activity.std() > 1e-5).to_numpy()
            t = np.zeros(activity.shape[1])
            values = activity.loc[:, varies]
            t[varies] = stats.ttest_ind(values[case], values[~case], equal_var=False).statistic
            tables.append(pd.DataFrame({"task": task, "pathway": activity.columns, "score": t}))
    columns = ["task", "pathway", "score"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


@dataclass(frozen=True)
class Ablations:
    """Results of a grid of ablations.

    Attributes
    ----------
    grid : AblationGrid
        What was run.
    scores : dict of (comparison, level) to DataFrame
        As of :func:`cross_validate`.
    fits : DataFrame
        comparison, level, repeat, fold, seconds, epochs, epochs_to_best.
    pathways : DataFrame
        comparison, level, repeat, fold, task, pathway, score.
    """

    grid: AblationGrid
    scores: dict[tuple[str, str], pd.DataFrame]
    fits: pd.DataFrame
    pathways: pd.DataFrame

    def save(self, folder: Path) -> None:
        """Write what was run and all results into a folder."""
        (folder / "grid.json").write_text(self.grid.model_dump_json(), encoding="utf-8")
        predictions = [
            table.attrs["predictions"].assign(comparison=name, level=level)
            for (name, level), table in self.scores.items()
        ]
        tables = [pd.concat(predictions, ignore_index=True), self.fits, self.pathways]
        for name, table in zip(_TABLES, tables, strict=True):
            table.to_csv(folder / f"{name}.csv", index=False)

    @classmethod
    def load(cls, folder: Path) -> "Ablations":
        """Read what `save` has written."""
        grid = AblationGrid.model_validate_json((folder / "grid.json").read_text("utf-8"))
        predictions, fits, pathways = (
            pd.read_csv(folder / f"{name}.csv", float_precision="round_trip") for name in _TABLES
        )
        scores = {
            (name, level): scores_of(
                predictions[(predictions["comparison"] == name) & (predictions["level"] == level)]
                .drop(columns=["comparison", "level"])
                .reset_index(drop=True)
            )
            for name, comparison in grid.comparisons.items()
            for level in comparison.levels
        }
        return cls(grid, scores, fits, pathways)

    def levels(self, comparison: str) -> dict[str, pd.DataFrame]:
        """Return the scores of one comparison, by level."""
        return {level: table for (name, level), table in self.scores.items() if name == comparison}

    def effects(self, metric: str = "auroc", rope: float = 0.01) -> pd.DataFrame:
        """Compare every level with the reference of its comparison.

        Parameters
        ----------
        metric : str, default "auroc"
        rope : float, default 0.01
            Half width of the region of practical equivalence.

        Returns
        -------
        DataFrame
            comparison, level, reference, task ("all" is the mean over tasks), and the columns of
            :func:`correlated_t`. ``attrs["note"]`` says what the number of tasks can support.
        """
        tables = [
            compare_methods(self.levels(name), comparison.reference, metric, rope).assign(
                comparison=name
            )
            for name, comparison in self.grid.comparisons.items()
        ]
        note = tables[0].attrs["note"]
        for table in tables:
            table.attrs = {}
        table = pd.concat(tables, ignore_index=True).rename(columns={"method": "level"})
        table = table[["comparison", *table.columns.drop("comparison")]]
        table.attrs["note"] = note
        return table


def run_ablations(
    grid: AblationGrid,
    X: Samples | pd.DataFrame,
    Y: pd.DataFrame | None = None,
    *,
    hierarchy: Hierarchy,
    store: str | Path,
    scale: str = "small",
    groups: Any = None,
    cohort: Any = None,
    covariates: pd.DataFrame | None = None,
    selector: SiteSelector | None = None,
    only: list[str] | None = None,
    n_jobs: int = 1,
    random_state: int = 0,
) -> Ablations:
    """Score every level of every comparison on the same folds; stored cells are not run again.

    Parameters
    ----------
    grid : AblationGrid
        From :func:`load_ablations`.
    X, Y, groups, cohort, covariates
        As in :func:`cross_validate`.
    hierarchy : Hierarchy
    store : str or Path
        Folder of finished cells; see :func:`run_grid`.
    scale : str, default "small"
        A scale of the grid: "small" or "full".
    selector : SiteSelector, optional
        Fitted inside each fold before every level that says nothing of its sites; default: these
        see all sites.
    only : list of str, optional
        Comparisons to run; default all.
    n_jobs : int, default 1
        As in :func:`run_grid`.
    random_state : int, default 0
        Repeat r is split, and its networks and control masks drawn, with ``random_state + r``.

    Returns
    -------
    Ablations
    """
    samples = as_samples(X, Y, cohort=cohort, groups=groups, covariates=covariates)
    plan = grid.at(scale, len(samples.sites), only)
    size = plan.scales[scale]
    used = samples.covariates is not None
    comparisons = {
        name: comparison.model_copy(
            update={
                "levels": {
                    label: level
                    for label, level in comparison.levels.items()
                    if used or level.baseline != "covariates"
                }
            }
        )
        for name, comparison in plan.comparisons.items()
    }
    plan = AblationGrid(scales=plan.scales, comparisons=comparisons)
    data = Data(samples=samples, hierarchy=hierarchy)
    splits = [(r, f) for r in range(size.n_repeats) for f in range(size.n_splits)]
    cells, owners = [], []
    for name, comparison in plan.comparisons.items():
        for label, level in comparison.levels.items():
            variant = _described(level, size, selector)
            for repeat, fold in splits:
                settings = {"variant": variant, "repeat": repeat, "fold": fold}
                settings |= {"n_splits": size.n_splits, "random_state": random_state}
                cells.append(Cell(run_cell, settings, data))
                owners.append((name, label))
    results = run_grid(cells, store, n_jobs)
    parts: dict[tuple[str, str], list[pd.DataFrame]] = {}
    fits, pathways = [], []
    for owner, tables in zip(owners, results, strict=True):
        parts.setdefault(owner, []).append(tables["predictions"])
        named = dict(zip(("comparison", "level"), owner, strict=True))
        fits.append(tables["fit"].assign(**named))
        if len(tables["pathways"]):
            pathways.append(tables["pathways"].assign(**named))
    scores = {
        owner: scores_of(pd.concat(tables, ignore_index=True)) for owner, tables in parts.items()
    }
    return Ablations(
        plan,
        scores,
        pd.concat(fits, ignore_index=True),
        pd.concat(pathways, ignore_index=True) if pathways else pd.DataFrame(columns=_SCORED),
    )


def _described(level: Variant, size: Scale, selector: SiteSelector | None) -> dict[str, Any]:
    """Describe a level by what differs from the default model, so that equal levels run once."""
    level = level.under(selector)
    variant = level.model_dump(exclude_defaults=True, exclude={"small", "model"})
    if level.n_sites is None:
        variant.pop("selection", None)
    if level.baseline is None:
        # No hierarchy is needed to ask for defaults.
        default = MiracleClassifier(cast(Hierarchy, None)).get_params()
        model = size.model | level.model
        variant["model"] = {name: v for name, v in model.items() if v != default[name]}
    return variant
