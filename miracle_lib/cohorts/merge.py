"""Joining cohorts into one table of values and one of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.errors import MiracleError


def merge_cohorts(
    cohorts: Sequence[AnnData], sites: str = "intersection"
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Join cohorts into a beta table, a task table and a sample table.

    A site that a cohort lacks stays missing (NaN): nothing is filled in here, so the values carry
    no mark of the cohort beyond what is measured.

    Parameters
    ----------
    cohorts : sequence of AnnData
        Samples x sites of beta values; ``obs`` has the columns cohort, task and label.
    sites : {"intersection", "union"}, default "intersection"
        Keep the sites that all cohorts have, or all sites of any cohort.

    Returns
    -------
    X : DataFrame of shape (n_samples, n_sites)
        Beta values, float32, NaN for missing.
    Y : DataFrame of shape (n_samples, n_tasks)
        1 case, 0 control, NaN for samples without a label for the task.
    obs : DataFrame of shape (n_samples, n_columns)
        The columns of all cohorts' ``obs``.

    Raises
    ------
    MiracleError
        If cohorts share no site or share a sample name, a column is absent, a label is not 0, 1
        or NaN, or the labels of a task are all cases or all controls.

    Examples
    --------
    >>> from miracle_lib.cohorts.simulation import simulate_cohorts
    >>> simulation = simulate_cohorts({"RA": 20, "SLE": 30}, n_sites=400)
    >>> X, Y, obs = merge_cohorts(list(simulation.cohorts.values()))
    >>> X.shape, Y.notna().sum().to_dict()
    ((50, 400), {'RA': 20, 'SLE': 30})
    """
    if not cohorts:
        raise MiracleError("No cohort was given to merge.")
    if sites not in ("intersection", "union"):
        raise MiracleError(f"sites is {sites!r}; expected 'intersection' or 'union'.")
    names = [_name(cohort, number) for number, cohort in enumerate(cohorts)]
    obs = _samples(cohorts, names)
    labels = _labels(obs)
    columns = _columns(cohorts, names, sites)

    values = np.full((len(obs), len(columns)), np.nan, np.float32)
    start = 0
    for cohort in cohorts:
        here = columns.get_indexer(cohort.var_names)
        rows = slice(start, start + cohort.n_obs)
        if cohort.n_vars == len(columns) and (here == np.arange(len(columns))).all():
            values[rows] = cohort.X
        else:
            kept = np.flatnonzero(here >= 0)
            values[rows, here[kept]] = np.asarray(cohort.X)[:, kept]
        start = rows.stop
    X = pd.DataFrame(values, obs.index, columns, copy=False)

    tasks = obs["task"].dropna().unique()
    Y = pd.DataFrame({task: labels.where(obs["task"] == task) for task in tasks}, obs.index)
    Y = Y.loc[:, Y.notna().any()]
    for task, column in Y.items():
        if column.nunique() == 1:
            only = "cases" if column.max() == 1 else "controls"
            raise MiracleError(
                f"Task {task!r} has only {only} ({column.notna().sum()} samples of cohort "
                f"{', '.join(obs.loc[column.notna(), 'cohort'].unique())}); both classes are "
                "needed."
            )
    return X, Y, obs


def _name(cohort: AnnData, number: int) -> str:
    """Return how to call a cohort in a message; check that its table has what merging needs."""
    for column in ("cohort", "task", "label"):
        if column not in cohort.obs:
            raise MiracleError(
                f"Cohort {number + 1} has no obs column {column!r}; it has "
                f"{', '.join(map(str, cohort.obs.columns)) or 'none'}."
            )
    name = ", ".join(map(str, cohort.obs["cohort"].unique()))
    if not cohort.var_names.is_unique:
        site = cohort.var_names[cohort.var_names.duplicated()][0]
        raise MiracleError(f"Cohort {name} has site {site!r} more than once.")
    return name


def _samples(cohorts: Sequence[AnnData], names: list[str]) -> pd.DataFrame:
    """Stack the sample tables; sample names must be unique."""
    tables = [cohort.obs.astype(_plain(cohort.obs)) for cohort in cohorts]
    columns = dict.fromkeys(column for table in tables for column in table)
    # A column that is empty in one cohort must not decide the type of the whole.
    obs = pd.concat([table.dropna(axis=1, how="all") for table in tables])
    obs = obs.reindex(columns=list(columns))
    if not obs.index.is_unique:
        sample = obs.index[obs.index.duplicated()][0]
        where = [n for n, cohort in zip(names, cohorts, strict=True) if sample in cohort.obs_names]
        raise MiracleError(f"Sample {sample!r} occurs more than once (in {', '.join(where)}).")
    return obs


def _plain(obs: pd.DataFrame) -> dict[str, type]:
    """Name the categorical columns, which become plain text."""
    return dict.fromkeys(obs.select_dtypes("category").columns, object)


def _labels(obs: pd.DataFrame) -> pd.Series:
    """Return the labels as numbers; refuse anything but 0, 1 and NaN."""
    labels = pd.to_numeric(obs["label"].astype(object), errors="coerce")
    wrong = (labels.isna() & obs["label"].notna()) | ~(labels.isin([0, 1]) | labels.isna())
    if wrong.any():
        sample = obs.index[wrong][0]
        raise MiracleError(
            f"The label of sample {sample!r} in cohort {obs.loc[sample, 'cohort']} is "
            f"{obs.loc[sample, 'label']!r}; expected 1 (case), 0 (control) or NaN."
        )
    return labels.astype(float)


def _columns(cohorts: Sequence[AnnData], names: list[str], sites: str) -> pd.Index:
    """Return the sites to keep, in the order in which the cohorts list them."""
    columns = cohorts[0].var_names
    for name, cohort in zip(names[1:], cohorts[1:], strict=True):
        if cohort.var_names.equals(columns):
            continue
        shared = columns.intersection(cohort.var_names, sort=False)
        if not len(shared):
            raise MiracleError(
                f"Cohort {name} shares no site with {', '.join(names[: names.index(name)])} "
                f"(its first is {cohort.var_names[0]!r}, theirs {columns[0]!r})."
            )
        columns = shared if sites == "intersection" else columns.union(cohort.var_names, sort=False)
    return columns
