"""The run's choice of sites: once before a fit on all samples, anew inside every fold.

The values of all sites stay on disk. They are read once for the fit on all samples and once for
all folds of the run, or of a study, together; after that only sites that are chosen somewhere are
loaded.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from miracle_lib.cohorts.by_site import site_blocks
from miracle_lib.evaluation import make_folds
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.pipeline.data import all_samples, graph, merged_samples, samples_at
from miracle_lib.pipeline.run import Run, step
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.preprocessing.selection import select_in_each
from miracle_lib.samples import Samples
from miracle_lib.studies import AblationGrid, ablations, load_ablations, small_cohorts
from miracle_lib.studies.first_experiments import CURVE_SPLITS, of_largest_tasks

MORE = 0.01  # share of sites chosen beyond those asked for: sums round otherwise than in a fold


@step(uses=("selection", "n_sites"), after=("samples",))
def chosen(run: Run, folder: Path) -> None:
    """Choose sites on all samples, for the fits that no score comes from."""
    every = np.arange(len(merged_samples(run)))
    write_sites(choose(run, [every], _own_choice(run)), folder)


@step(uses=("seed", "selection", "n_sites", "n_folds", "n_repeats"), after=("samples",))
def candidates(run: Run, folder: Path) -> None:
    """Choose sites in every fold of the run at once: what none of them chooses is not loaded."""
    write_sites(choose(run, _trainings(run), _own_choice(run), more=MORE), folder)


@step(uses=("seed", "selection", "n_sites", "grid"), reads=("ablations",), after=("samples",))
def study_candidates(run: Run, folder: Path) -> None:
    """Choose sites in every fit of the ablations and of the learning curve at once."""
    samples, plan = samples_at(run, []), ablation_plan(run)
    grid, seed = run.parameters.grid, run.parameters.seed
    studies = {
        "ablations": (
            ablations.training_sets(samples, plan.scales[grid], seed),
            plan.choices(site_selector(run)),
        ),
        "small_cohorts": (small_cohorts.training_sets(samples, grid, seed), _own_choice(run)),
    }
    for study, (trainings, selectors) in studies.items():
        write_sites(choose(run, trainings, selectors, more=MORE), folder, study)


def ablation_plan(run: Run) -> AblationGrid:
    """Comparisons of the run's ablations."""
    return load_ablations().at(run.parameters.grid, merged_samples(run).n_vars)


def _own_choice(run: Run) -> list[SiteSelector] | None:
    """The run's own selector; None where it uses all sites."""
    selector = site_selector(run)
    return None if selector is None else [selector]


def choose(
    run: Run,
    trainings: Iterable[np.ndarray],
    selectors: list[SiteSelector] | None,
    more: float = 0.0,
    change: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> pd.Index:
    """Sites chosen on any of some sets of samples, in one pass over the values per selector.

    Parameters
    ----------
    run : Run
    trainings : iterable of arrays of int
        Positions of the samples of each set.
    selectors : list of SiteSelector, or None
        None: all sites.
    more : float, default 0.0
        Share of sites chosen beyond those that a selector asks for.
    change : callable, optional
        What is done to the values of some sites before: DataFrame to DataFrame.
    """
    merged, trainings = merged_samples(run), list(trainings)
    if selectors is None:
        return merged.var_names
    labels, wanted = samples_at(run, []).labels, np.zeros(merged.n_vars, bool)
    for selector in selectors if trainings else []:
        generous = SiteSelector(selector.method, math.ceil(selector.k * (1 + more)))
        blocks = _changed(merged, change) if change else site_blocks(merged)
        for sites in select_in_each(blocks, merged.var_names, labels, trainings, generous):
            wanted |= merged.var_names.isin(sites)
    return merged.var_names[wanted]


def _changed(
    merged: AnnData, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Values of all samples, some sites at a time, after a change."""
    for part, values in site_blocks(merged):
        block = pd.DataFrame(values, merged.obs_names, merged.var_names[part])
        yield part, change(block).to_numpy()


def _trainings(run: Run) -> Iterator[np.ndarray]:
    """Training samples of every fold of the scores and of the first experiments."""
    parameters, samples = run.parameters, samples_at(run, [])
    seed, n_folds = parameters.seed, parameters.n_folds
    one, two = (of_largest_tasks(samples, n) for n in (1, 2))
    for part, folds in (
        (samples, make_folds(samples, None, n_folds, parameters.n_repeats, seed)),
        (one, make_folds(one, n_splits=CURVE_SPLITS, random_state=seed)),
        (two, make_folds(two, n_splits=n_folds, random_state=seed)),
    ):
        places = samples.names.get_indexer(part.names)
        yield from (places[fold.train] for fold in folds)


def write_sites(sites: pd.Index, folder: Path, name: str = "sites") -> None:
    """Keep names of sites."""
    pd.DataFrame(index=sites.rename("site")).to_csv(folder / f"{name}.csv")


def site_selector(run: Run) -> SiteSelector | None:
    """Give the selector that the parameters describe, not fitted; None where all sites are used."""
    if run.parameters.selection == "none":
        return None
    return SiteSelector(run.parameters.selection, run.parameters.n_sites)


def selected(run: Run, method: BaseEstimator) -> BaseEstimator:
    """Put the selection before a method, so that it is fitted inside each fold."""
    selector = site_selector(run)
    return method if selector is None else make_pipeline(selector, method)


def chosen_samples(run: Run) -> Samples:
    """All samples of the run, of their sites only those that a model of all samples sees.

    The labels of all samples have a say in the choice: no score may come from them.
    """
    return samples_of(run, "chosen")


def fold_samples(run: Run) -> Samples:
    """All samples of the run, of their sites those that a fold may choose: each chooses itself."""
    return samples_of(run, "candidates")


def study_samples(run: Run, study: str) -> Samples:
    """All samples of the run, of their sites those that a fit of a study may choose."""
    return samples_of(run, "study_candidates", study)


def samples_of(run: Run, step: str, name: str = "sites") -> Samples:
    """Samples with the sites that a step has chosen; those in memory anyway where it chose all."""

    def read(_: Path) -> Samples:
        sites = run.table(step, name).index
        every = len(sites) == merged_samples(run).n_vars
        return all_samples(run) if every else samples_at(run, sites)

    return run.load(step, name, read)


def used_mask(run: Run) -> Hierarchy:
    """The mask of the model: of the sites that were chosen, where some were."""
    whole = graph(run)
    return whole if site_selector(run) is None else whole.restrict(chosen_samples(run).sites)


def mask_sizes(run: Run) -> pd.DataFrame:
    """Sites in a pathway, genes, pathways and genes of the smallest: all measured, and as used."""
    masks = {"all sites": graph(run)}
    if site_selector(run) is not None:
        masks["sites of the model"] = used_mask(run)
    rows = {
        name: [*map(len, mask.layers[:3]), int(mask.degrees()["genes per pathway"].min())]
        for name, mask in masks.items()
    }
    columns = ["sites", "genes", "pathways", "genes of the smallest pathway"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
