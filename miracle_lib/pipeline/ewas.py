"""What a user would do without a network: every site tested by itself, as a step of a run."""

import logging
from pathlib import Path

import pandas as pd

from miracle_lib.errors import MiracleError
from miracle_lib.files import safe_name
from miracle_lib.interpretation.association import ewas as test_sites
from miracle_lib.interpretation.association import separable_covariates
from miracle_lib.interpretation.enrichment import overrepresentation
from miracle_lib.pipeline.data import (
    graph,
    mask_sets,
    raw_cohorts,
    samples_at,
    samples_of_task,
    site_gene,
)
from miracle_lib.pipeline.run import Run, step
from miracle_lib.progress import progress
from miracle_lib.samples import Samples

log = logging.getLogger(__name__)

CRUDE, ADJUSTED, COMPOSITION = "crude", "covariates", "covariates and cells"


@step(after=("samples",))
def ewas(run: Run, folder: Path) -> None:
    """Test every site in every task: as it is, with covariates, and with cell fractions too."""
    for task in progress(samples_at(run, []).tasks, "tasks"):
        part = samples_of_task(run, task)
        for title, covariates in _adjustments(part).items():
            try:
                table = test_sites(part, part.labels[task], covariates)
            except MiracleError as error:
                if title == CRUDE:
                    raise
                log.warning("EWAS of %s, %s, is left out: %s", task, title, error)
                continue
            table.to_csv(folder / f"{_file(task, title)}.csv")


def _adjustments(samples: Samples) -> dict[str, pd.DataFrame | None]:
    """Covariates to test with, by title; sets that add nothing to the one before are left out."""
    found: dict[str, pd.DataFrame | None] = {CRUDE: None}
    if samples.covariates is None:
        return found
    usable = separable_covariates(samples.covariates)
    if samples.cohort is not None and samples.cohort.nunique() > 1:
        usable = usable.assign(cohort=samples.cohort)
    cells = [name for name in usable if str(name).startswith("cell_")]
    if len(usable.columns) > len(cells):
        found[ADJUSTED] = usable.drop(columns=cells)
    if cells:
        found[COMPOSITION] = usable
    return found


def site_tests(run: Run, task: str) -> dict[str, pd.DataFrame]:
    """Tables of a task by what they were adjusted for, the crude one first."""
    folder = run.folder("ewas")
    files = {title: _file(task, title) for title in (CRUDE, ADJUSTED, COMPOSITION)}
    made = {title: file for title, file in files.items() if (folder / f"{file}.csv").is_file()}
    return {title: run.table("ewas", file) for title, file in made.items()}


def _file(task: str, title: str) -> str:
    """Name of the file of a table; a task may be any text."""
    return f"{safe_name(task)}, {title}"


def baseline(run: Run, task: str) -> pd.DataFrame:
    """Over-representation of the mask's pathways among the sites that EWAS finds in a task.

    Returns
    -------
    DataFrame
        As `overrepresentation`, of the sites at the run's false discovery rate in the table with
        the most covariates; without any such site no pathway is named, and the table is empty.
    """
    table = list(site_tests(run, task).values())[-1].dropna()
    sites = table.index[table["q_value"] <= run.parameters.q_threshold]
    if not len(sites):
        return pd.DataFrame(columns=["n_genes", "n_significant", "p_value", "q_value"])
    sets = {name: mask_sets(run)[name] for name in graph(run).pathways}
    return overrepresentation(sites, table.index, site_gene(run), sets)


def beside_network(run: Run, task: str, explanation: pd.DataFrame) -> pd.DataFrame:
    """Count what the network names and EWAS does not, and the reverse; of a simulation, how right.

    Parameters
    ----------
    run : Run
    task : str
    explanation : DataFrame
        What `explain` says of the task.

    Returns
    -------
    DataFrame
        Rows: named by both, by the network only, by EWAS only. ``pathways``, and where the truth
        is known ``planted``.
    """
    level = run.parameters.q_threshold
    network = set(explanation.index[explanation["q_value"] <= level])
    found = baseline(run, task)
    single = set(found.index[found["q_value"] <= level]) & set(explanation.index)
    named = {
        "both": network & single,
        "network only": network - single,
        "EWAS only": single - network,
    }
    table = pd.DataFrame({"pathways": {who: len(which) for who, which in named.items()}})
    if run.profile.simulated:
        truth = run.table("annotation", "truth_pathways")
        planted = set(truth.loc[truth["task"] == task, "pathway"])
        table["planted"] = [len(which & planted) for which in named.values()]
    return table


def positions(run: Run) -> pd.DataFrame:
    """Chromosome and position of every site whose place the annotation knows."""
    tables = [adata.var for adata in raw_cohorts(run) if "chromosome" in adata.var]
    if not tables:
        return pd.DataFrame(columns=["chromosome", "position"])
    table = pd.concat(tables)[["chromosome", "position"]]
    table = table[~table.index.duplicated()]
    return table[table["chromosome"].astype(str) != ""]
