"""The paper, reproduced: its network and protocol beside ours, as a step of a run."""

from pathlib import Path

import pandas as pd

from miracle_lib import interpretation as interpret
from miracle_lib.evaluation.validation import fitted
from miracle_lib.pipeline.answers import explanations
from miracle_lib.pipeline.data import graph, samples_at, site_gene
from miracle_lib.pipeline.models import ablation_results, classifier, workers
from miracle_lib.pipeline.run import Run, step
from miracle_lib.pipeline.selection import MORE, choose, samples_of, write_sites
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.studies import paper_reproduced
from miracle_lib.studies import verdicts as judge
from miracle_lib.studies.paper import (
    DESCRIBED,
    N_SITES,
    N_SPLITS,
    NETWORKS,
    absent_as_zero,
    network,
    training_sets,
)

LINEAR, BENT = "ours, linear by construction", "ours with tanh and a hidden layer"


@step(uses=("seed", "grid"), after=("samples",))
def paper_candidates(run: Run, folder: Path) -> None:
    """Choose the sites of every split of every protocol."""
    bare, grid = samples_at(run, []), run.parameters.grid
    sets = list(training_sets(bare, N_SPLITS[grid], run.parameters.seed))

    def as_in_paper(block: pd.DataFrame) -> pd.DataFrame:
        return absent_as_zero(bare.replace(values=block)).values

    chosen = [
        choose(run, sets, [SiteSelector("ttest", N_SITES)], more=MORE, change=change)
        for change in (None, as_in_paper)
    ]
    write_sites(chosen[0].union(chosen[1]), folder)


@step(uses=("seed", "grid", "paper_epochs"), after=("hierarchy", "paper_candidates"))
def paper(run: Run, folder: Path) -> None:
    """Cross networks with protocols and change the paper's network part by part."""
    scores = paper_reproduced(
        samples_of(run, "paper_candidates"),
        graph(run),
        site_gene(run),
        folder / "cells",
        scale=run.parameters.grid,
        epochs=run.parameters.paper_epochs,
        **workers(run),
    )
    scores.to_csv(folder / "scores.csv")


@step(uses=("seed", "paper_epochs", "device", "weighting"), after=("hierarchy", "paper_candidates"))
def attributions(run: Run, folder: Path) -> None:
    """Ask three ways of attribution of a network that is linear and of two that are not."""
    samples = samples_of(run, "paper_candidates")
    chosen = SiteSelector("ttest", N_SITES).fit_transform(samples.values, samples.labels)
    samples, ours = samples.replace(values=chosen), classifier(run)
    models = {
        LINEAR: ours,
        BENT: classifier(run).set_params(activation="tanh", head_units=8),
        DESCRIBED: network(
            NETWORKS[DESCRIBED], graph(run), run.parameters.paper_epochs, run.parameters.seed
        ),
    }
    tables = {}
    for name, model in models.items():
        trained = fitted(model.set_params(training__progress=False), samples)
        each = [interpret.agreement(trained, samples.task(t), t) for t in samples.tasks]
        tables[name] = pd.concat(each).groupby(level=0, sort=False).mean()
    pd.concat(tables, names=["network", "level"]).reset_index().to_csv(folder / "agreement.csv")


def reproduced(run: Run) -> pd.DataFrame:
    """Scores of every network and protocol; see :func:`paper_reproduced`."""
    return run.table("paper", "scores")


def attribution_agreement(run: Run) -> pd.DataFrame:
    """Rank correlations of three attributions, means over the tasks, by network and level."""
    return run.table("attributions", "agreement")


def verdicts(run: Run) -> pd.DataFrame:
    """The sentences of the paper, each with what this run says of it."""
    named = pd.DataFrame(
        {
            task: table["q_value"] <= run.parameters.q_threshold
            for task, table in explanations(run).items()
        }
    )
    return judge(reproduced(run), ablation_results(run).effects(), named.fillna(False))
