"""What the model says and whether it survives its controls: the interpretation steps of a run."""

from functools import partial
from pathlib import Path

import pandas as pd

from miracle_lib import interpretation as interpret
from miracle_lib.config import MANIFEST
from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation.validation import fitted
from miracle_lib.files import safe_name
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.parallel import spread
from miracle_lib.pipeline.data import (
    graph,
    mask_sets,
    merged_samples,
    raw_cohorts,
    site_gene,
    validation_sets,
)
from miracle_lib.pipeline.inputs import optional_table
from miracle_lib.pipeline.models import FITTING, classifier, fitted_model
from miracle_lib.pipeline.run import Run, step
from miracle_lib.pipeline.selection import chosen_samples
from miracle_lib.samples import Samples

N_PERMUTATIONS = {"small": 500, "full": 2000}
N_SEEDS = {"small": 2, "full": 5}


@step(uses=(*FITTING, "grid"), after=("model",))
def explained(run: Run, folder: Path) -> None:
    """Rank the pathways of every task against shuffled labels, and contrast its sites."""
    samples, model = chosen_samples(run), fitted_model(run)
    n, seed = N_PERMUTATIONS[run.parameters.grid], run.parameters.seed
    versions = {"tasks": samples, "without_cells": interpret.without_composition(samples)}
    known = {part: these for part, these in versions.items() if these is not None}
    jobs = [(model, these, task, n, seed) for these in known.values() for task in model.tasks_]
    places = [_named(folder, part, task) for part in known for task in model.tasks_]
    tables = spread(_explain, jobs, [model, *known.values()], title="tasks")
    for place, table in zip(places, tables, strict=True):
        table.to_csv(place)
    contrasts = {task: _site_contrast(model, samples, task) for task in model.tasks_}
    pd.DataFrame(contrasts).to_csv(folder / "sites.csv")


@step(uses=(*FITTING, "grid", "top_sites", "q_threshold"), after=("explained",))
def enriched(run: Run, folder: Path) -> None:
    """Test the leading task's sites in other libraries, beside networks on permuted masks."""
    # Every measured site might have been chosen, so all of them are the universe.
    universe = merged_samples(run).var_names
    task = leading_task(run)
    sites = top_sites(run, task)
    for title, library in validation_sets(run).items():
        found = interpret.overrepresentation(sites, universe, site_gene(run), library)
        found.to_csv(_named(folder, "libraries", title))
    samples = chosen_samples(run)
    rest = (samples, task, N_PERMUTATIONS[run.parameters.grid], run.parameters.seed)
    controls = [
        (_unfitted(run, graph(run).permuted(seed), seed), *rest)
        for seed in range(N_SEEDS[run.parameters.grid])
    ]
    permuted = list(spread(_explain_control, controls, [samples], title="controls"))
    interpret.library_agreement(
        explanations(run)[task],
        mask_sets(run),
        sites,
        universe,
        site_gene(run),
        {**validation_sets(run), "the mask's own": mask_sets(run)},
        permuted=permuted,
        q_value=run.parameters.q_threshold,
        random_state=run.parameters.seed,
    ).to_csv(folder / "agreement.csv")


@step(uses=(*FITTING, "grid"), after=("hierarchy", "chosen"))
def stability(run: Run, folder: Path) -> None:
    """Train again from other seeds, on the real data and on each control."""
    # Controls keep the sites that the true labels chose: they differ in nothing but their kind.
    refits = interpret.refit_attributions(
        partial(_unfitted, run),
        graph(run),
        chosen_samples(run),
        n_seeds=N_SEEDS[run.parameters.grid],
        random_state=run.parameters.seed,
    )
    refits.to_csv(folder / "refits.csv")


def _unfitted(run: Run, mask: Hierarchy, seed: int) -> MiracleClassifier:
    """Give the run's model on another mask and from another seed."""
    return classifier(run).set_params(hierarchy=mask, random_state=seed, training__progress=False)


def _explain(
    model: MiracleClassifier, samples: Samples, task: str, n: int, seed: int
) -> pd.DataFrame:
    """Evidence for each pathway in one task, against n shuffles."""
    return interpret.explain(model, samples, task, n_permutations=n, random_state=seed)


def _explain_control(
    model: MiracleClassifier, samples: Samples, task: str, n: int, seed: int
) -> pd.DataFrame:
    """Evidence from a network that is trained for it."""
    return _explain(fitted(model, samples), samples, task, n, seed)


def _site_contrast(model: MiracleClassifier, samples: Samples, task: str) -> pd.Series:
    """Mean attribution of each site in cases minus that in controls."""
    return interpret.task_attributions(model, samples.task(task), level="site")[task]


def which_p_values_hold(run: Run) -> str:
    """Say which p-values may be believed, by how the run chose its sites, as Markdown."""
    if run.parameters.selection == "ttest":
        return (
            "**The sites of this run were chosen by the labels of the same samples.** Shuffled "
            "labels did not have that choice, so that p- and q-values of pathways are too small: "
            "read them as a ranking, to be confirmed in another cohort. The single-site tests "
            "below read all sites, and their p-values hold; so do the scores of chapters 3 and 4, "
            "whose sites are chosen in each training fold."
        )
    sites = {"none": "All sites were read", "variance": "Sites were chosen by their variance"}
    return (
        f"{sites[run.parameters.selection]}, no label had a say in it: p-values of pathways hold."
    )


def explanations(run: Run) -> dict[str, pd.DataFrame]:
    """Explanation of every task, by task."""
    return {
        task: run.table("explained", f"tasks/{safe_name(task)}")
        for task in fitted_model(run).tasks_
    }


def beside_composition(run: Run, task: str) -> pd.DataFrame:
    """Pathways of a task with and without adjustment for cell composition.

    Returns
    -------
    DataFrame
        See :func:`miracle_lib.interpretation.beside_composition`; without cell fractions what is
        named, and its ``named`` says that nothing was adjusted.
    """
    adjusted, level = explanations(run)[task], run.parameters.q_threshold
    name = safe_name(task)
    if (run.folder("explained") / "without_cells" / f"{name}.csv").is_file():
        unadjusted = run.table("explained", f"without_cells/{name}")
        return interpret.beside_composition(adjusted, unadjusted, level)
    named = adjusted[adjusted["q_value"] <= level]
    return named[["z", "rank", "q_value"]].assign(named="not adjusted: no cell fractions")


def leading_task(run: Run) -> str:
    """Give the task that names most pathways; the first of them where several do."""
    named = {
        task: int((table["q_value"] <= run.parameters.q_threshold).sum())
        for task, table in explanations(run).items()
    }
    return max(named, key=named.__getitem__)


def site_contrasts(run: Run) -> pd.DataFrame:
    """Attribution of each site, cases minus controls, one column per task."""
    return run.table("explained", "sites")


def top_sites(run: Run, task: str) -> pd.Index:
    """Sites that speak most for being a case."""
    return site_contrasts(run)[task].nlargest(run.parameters.top_sites).index


def enrichment(run: Run) -> dict[str, pd.DataFrame]:
    """Over-representation of the leading task's sites, by library."""
    return {
        title: run.table("enriched", f"libraries/{safe_name(title)}")
        for title in validation_sets(run)
    }


def _named(folder: Path, part: str, name: str) -> Path:
    """File of a task or library, whose name may be any text."""
    (folder / part).mkdir(exist_ok=True)
    return folder / part / f"{safe_name(name)}.csv"


def marker_audit(run: Run, task: str) -> pd.DataFrame:
    """Where published markers rank among the sites of a task, and why they may be missing."""
    spec = run.profile.annotation
    measured = {site for adata in raw_cohorts(run) for site in adata.var_names}
    return interpret.marker_audit(
        site_contrasts(run)[task],
        interpret.load_markers(MANIFEST / "markers.yaml"),
        task=task,
        site_gene=site_gene(run),
        masks=optional_table(spec.probe_masks if spec else None, run.mirror),
        measured=pd.Index(sorted(measured)),
    )


def recovery(run: Run) -> pd.DataFrame:
    """Pathways named and, of a simulated run, how many were planted and found, by task."""
    if not run.profile.simulated:
        named = {
            t: (e["q_value"] <= run.parameters.q_threshold).sum()
            for t, e in explanations(run).items()
        }
        return pd.Series(named, name="named").to_frame()
    planted = run.table("annotation", "truth_pathways")
    rows = {}
    for task, table in explanations(run).items():
        named = table.index[table["q_value"] <= run.parameters.q_threshold]
        truth = planted.loc[planted["task"] == task, "pathway"]
        rows[task] = {"planted": len(truth), "named": len(named)}
        rows[task]["named and planted"] = int(named.isin(truth).sum())
    return pd.DataFrame(rows).T
