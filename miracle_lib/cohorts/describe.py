"""Cohorts side by side in one table."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata import AnnData


def describe_cohorts(cohorts: Iterable[AnnData]) -> pd.DataFrame:
    """Count samples, cases, controls and sites of each cohort.

    Parameters
    ----------
    cohorts : iterable of AnnData
        Samples x sites, with the columns that every loader gives ``obs``.

    Returns
    -------
    DataFrame
        One row per cohort: task, samples, subjects, cases, controls, sites, missing (percent of
        the values), mean age in years and percent female among cases and controls (NaN where
        unknown). ``attrs["shared"]``: how many samples of a cohort an earlier one has, too.

    Examples
    --------
    >>> from miracle_lib.cohorts import simulate_cohorts
    >>> simulation = simulate_cohorts({"RA": 40}, n_sites=200)
    >>> describe_cohorts(simulation.cohorts.values())[["samples", "cases"]].values.tolist()
    [[40, 20]]
    """
    rows, names = {}, []
    for adata in cohorts:
        rows[str(adata.obs["cohort"].iloc[0])] = _describe(adata)
        names += list(adata.obs_names)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("cohort")
    table.attrs["shared"] = len(names) - len(set(names))
    return table


def _describe(adata: AnnData) -> dict[str, object]:
    """One cohort's row."""
    obs = adata.obs
    row = {
        "task": ", ".join(sorted(obs["task"].dropna().astype(str).unique())),
        "samples": adata.n_obs,
        "subjects": obs["subject"].nunique(),
        "cases": int((obs["label"] == 1).sum()),
        "controls": int((obs["label"] == 0).sum()),
        "sites": adata.n_vars,
        "missing %": 100 * float(np.isnan(adata.X).mean()),
    }
    for name, label in (("cases", 1), ("controls", 0)):
        part = obs[obs["label"] == label]
        row[f"age, {name}"] = _mean(part.get("age"))
        row[f"female % of {name}"] = 100 * _mean(_female(part.get("sex")))
    return row


def _female(sex: pd.Series | None) -> pd.Series | None:
    """1 for women, 0 for men, NaN where unknown."""
    return None if sex is None else sex.astype(object).map({"F": 1.0, "M": 0.0})


def _mean(values: pd.Series | None) -> float:
    """Mean of a column, NaN if it is absent or empty."""
    return float("nan") if values is None else float(values.astype(float).mean())
