"""Pathways that survived their controls, and what they add to the score of a new sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from miracle_lib.files import safe_name
from miracle_lib.interpretation import attribute, path_contributions
from miracle_lib.preprocessing.scale import m_to_beta

if TYPE_CHECKING:
    from miracle_lib.estimator import MiracleClassifier

N_PATHWAYS, N_SITES = 8, 6  # of a sample, and of a pathway
CHOSEN_BY_LABELS = (
    "The labels of the same samples chose the sites, so that q-values are too small: read the "
    "pathways as a ranking."
)


@dataclass(frozen=True)
class Evidence:
    """Which pathways of each task differ between cases and controls more than by chance.

    Attributes
    ----------
    tables : mapping of str to DataFrame
        By task, the table of `miracle_lib.explain`.
    q_value : float, default 0.05
        False discovery rate up to which a pathway has survived.
    caveat : str, default ""
        Why it is more often wrong than that, as a sentence.
    """

    tables: Mapping[str, pd.DataFrame]
    q_value: float = 0.05
    caveat: str = ""

    @classmethod
    def of_run(cls, run_dir: str | Path) -> Self | None:
        """Read what a finished run has found.

        Parameters
        ----------
        run_dir : str or Path
            Folder of a run.

        Returns
        -------
        Evidence or None
            None where the run has not asked: its fifth chapter was not executed.
        """
        run_dir = Path(run_dir)
        folder = run_dir / "tables" / "explained" / "tasks"
        tables = {path.stem: pd.read_csv(path, index_col=0) for path in folder.glob("*.csv")}
        if not tables:
            return None
        parameters = json.loads((run_dir / "parameters.json").read_text(encoding="utf-8"))
        caveat = CHOSEN_BY_LABELS if parameters["selection"] == "ttest" else ""
        return cls(tables, parameters["q_threshold"], caveat)

    def survivors(self, task: str) -> pd.DataFrame:
        """Return the rows of the pathways of a task that survived; none of an unknown task."""
        table = self.tables.get(safe_name(task), self.tables.get(task))
        return pd.DataFrame() if table is None else table[table["q_value"] <= self.q_value]


@dataclass(frozen=True)
class Site:
    """A site of a pathway in one sample.

    Attributes
    ----------
    gene, name : str
    beta : float
        NaN where it was not measured.
    usual : float
        Mean beta value of the training cohort; NaN where the model takes values as they are.
    contribution : float
        To the logit, through this pathway.
    """

    gene: str
    name: str
    beta: float
    usual: float
    contribution: float


@dataclass(frozen=True)
class Push:
    """What a pathway adds to the logit of one sample, and what its controls say.

    Attributes
    ----------
    pathway : str
    contribution : float
        Against the average sample of the cohort.
    difference : float
        Mean contribution in cases minus that in controls of the training.
    z, q_value : float
        Evidence in SDs of shuffled labels, and the false discovery rate.
    sites : list of Site
        Those that contribute most; empty where the heads are not linear.
    n_sites : int
        Sites of the pathway.
    """

    pathway: str
    contribution: float
    difference: float
    z: float
    q_value: float
    sites: list[Site]
    n_sites: int


def pushes(
    model: MiracleClassifier,
    X: pd.DataFrame,
    task: str,
    survivors: pd.DataFrame,
    cohort: pd.Series,
) -> dict[str, list[Push]]:
    """Say of each sample which surviving pathways move its score most.

    Parameters
    ----------
    model : MiracleClassifier
    X : DataFrame, samples x sites of the model
        Beta values.
    task : str
    survivors : DataFrame
        Rows of `miracle_lib.explain`.
    cohort : Series of str
        By sample, the cohort whose statistics it was standardised by.

    Returns
    -------
    dict of str to list of Push
        By sample, at most eight pathways, the largest contribution first.
    """
    known = survivors[survivors.index.isin(model.hierarchy_.pathways)]
    if known.empty or X.empty:
        return {sample: [] for sample in X.index}
    contributions = attribute(model, X, task)[known.index]
    largest = {
        sample: row.abs().nlargest(N_PATHWAYS).index for sample, row in contributions.iterrows()
    }
    sites = {
        pathway: path_contributions(model, X, task, pathway)
        for pathway in sorted(set().union(*largest.values()))
        if model.design.exact and "pathways" in model.design.reads
    }
    return {
        sample: [
            Push(
                pathway=pathway,
                contribution=contributions.loc[sample, pathway],
                difference=known.loc[pathway, "attribution"],
                z=known.loc[pathway, "z"],
                q_value=known.loc[pathway, "q_value"],
                sites=_sites(model, X.loc[sample], sites[pathway].loc[sample], cohort[sample])
                if pathway in sites
                else [],
                n_sites=int(known.loc[pathway, "n_sites"]),
            )
            for pathway in names
        ]
        for sample, names in largest.items()
    }


def _sites(
    model: MiracleClassifier, values: pd.Series, paths: pd.Series, cohort: str
) -> list[Site]:
    """The paths that contribute most to one pathway of one sample."""
    paths = paths.iloc[np.argsort(-paths.abs().to_numpy(), kind="stable")[:N_SITES]]
    statistics = model.standardizer_
    usual = statistics.mean_.loc[cohort, paths.index.get_level_values("site")]
    usual = m_to_beta(usual) if statistics.scale == "m" else usual
    if model.design.scale == "raw":  # such a model knows no means
        usual = usual * np.nan
    return [
        Site(gene, site, values[site], mean, contribution)
        for ((gene, site), contribution), mean in zip(paths.items(), usual, strict=True)
    ]
