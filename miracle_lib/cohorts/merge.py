"""Joining cohorts into one table of values and one of labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.cohorts.by_site import BLOCK
from miracle_lib.cohorts.phenotypes import covariate_names
from miracle_lib.errors import MiracleError
from miracle_lib.samples import label_numbers

_log = logging.getLogger(__name__)
_ROUNDING = 1e-3  # files may hold the same value with another number of digits


def merge_cohorts(
    cohorts: Sequence[AnnData], sites: str = "intersection"
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Join cohorts into a beta table, a task table and a sample table.

    A site that a cohort lacks stays missing (NaN): nothing is filled in here, so the values carry
    no mark of the cohort beyond what is measured. A sample of two cohorts with different tasks,
    such as a control that two diseases share, is one sample with two labels.

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
        The columns of all cohorts' ``obs``; of a shared sample, what the first of its cohorts
        says, and from the others what that one does not know. Cohorts that share samples were
        measured together and are one cohort, "A+B": apart, one would hold nothing but cases.
        A subject of two cohorts is one person, whose samples stay together; a warning says so.

    Raises
    ------
    MiracleError
        If cohorts share no site, a sample occurs twice for one task or with different values or
        covariates, a column is absent, a label is not 0, 1 or NaN, or the labels of a task are
        all cases or all controls.

    Examples
    --------
    >>> from miracle_lib.cohorts.simulation import simulate_cohorts
    >>> simulation = simulate_cohorts({"RA": 20, "SLE": 30}, n_sites=400)
    >>> X, Y, obs = merge_cohorts(list(simulation.cohorts.values()))
    >>> X.shape, Y.notna().sum().to_dict()
    ((50, 400), {'RA': 20, 'SLE': 30})
    """
    Y, obs, columns = merge_tables(cohorts, sites)
    values = np.full((len(obs), len(columns)), np.nan, np.float32)
    filled = 0
    for cohort in cohorts:
        filled = enter_values(values, cohort, obs.index, columns, filled)
    return pd.DataFrame(values, obs.index, columns, copy=False), Y, obs


def merge_tables(
    cohorts: Sequence[AnnData], sites: str = "intersection"
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Index]:
    """Join all but the values; see `merge_cohorts`.

    Parameters
    ----------
    cohorts, sites
        As in `merge_cohorts`; no value is read.

    Returns
    -------
    Y, obs : DataFrame
        As `merge_cohorts` returns them.
    columns : Index
        The sites.
    """
    if not cohorts:
        raise MiracleError("No cohort was given to merge.")
    if sites not in ("intersection", "union"):
        raise MiracleError(f"sites is {sites!r}; expected 'intersection' or 'union'.")
    names = [_name(cohort, number) for number, cohort in enumerate(cohorts)]
    stacked = _samples(cohorts, names)
    Y = _task_table(stacked)
    obs = _joined(stacked)
    _say_shared_subjects(obs)
    Y = Y.loc[:, Y.notna().any()]
    for task, column in Y.items():
        if column.nunique() == 1:
            only = "cases" if column.max() == 1 else "controls"
            raise MiracleError(
                f"Task {task!r} has only {only} ({column.notna().sum()} samples of cohort "
                f"{', '.join(obs.loc[column.notna(), 'cohort'].unique())}); both classes are "
                "needed."
            )
    return Y, obs, _columns(cohorts, names, sites)


def enter_values(
    values: Any, cohort: AnnData, samples: pd.Index, sites: pd.Index, filled: int
) -> int:
    """Put the values of one cohort where they belong.

    Parameters
    ----------
    values : ndarray or h5py.Dataset, shape (n_samples, n_sites)
        NaN where nothing was entered yet.
    cohort : AnnData
    samples, sites : Index
        Names of the rows and columns of ``values``.
    filled : int
        Rows that the cohorts before have filled: samples are in the order in which they first
        occur, so that the new ones of a cohort come next.

    Returns
    -------
    int
        Rows that are filled now.

    Raises
    ------
    MiracleError
        A sample was entered before, with other values.
    """
    own = np.asarray(cohort.X)
    where = cohort.var_names.get_indexer(sites)
    there = where >= 0
    rows = samples.get_indexer(cohort.obs_names)
    new = rows >= filled
    fresh = slice(filled, filled + int(new.sum()))
    for start in range(0, len(sites), BLOCK):
        part = slice(start, start + BLOCK)
        block = np.full((int(new.sum()), len(where[part])), np.nan, np.float32)
        block[:, there[part]] = own[np.ix_(new, where[part][there[part]])]
        values[fresh, part] = block
    for row, known in zip(rows[~new], own[~new], strict=True):
        before = np.asarray(values[row])
        _check_same(samples[row], before[there], known[where[there]], sites[there], cohort)
        before[there] = np.where(np.isnan(before[there]), known[where[there]], before[there])
        values[row] = before
    return fresh.stop


def _name(cohort: AnnData, number: int) -> str:
    """Return how to call a cohort in a message; check that its table has what merging needs."""
    for column in ("cohort", "task", "label"):
        if column not in cohort.obs:
            raise MiracleError(
                f"Cohort {number + 1} has no obs column {column!r}; it has "
                f"{', '.join(map(str, cohort.obs.columns)) or 'none'}."
            )
    name = ", ".join(map(str, cohort.obs["cohort"].unique()))
    for what, called in (("sample", cohort.obs_names), ("site", cohort.var_names)):
        if not called.is_unique:
            twice = called[called.duplicated()][0]
            raise MiracleError(f"Cohort {name} has {what} {twice!r} more than once.")
    return name


def _samples(cohorts: Sequence[AnnData], names: list[str]) -> pd.DataFrame:
    """Stack the sample tables; a sample may occur once for each task."""
    tables = [cohort.obs.astype(_plain(cohort.obs)) for cohort in cohorts]
    columns = dict.fromkeys(column for table in tables for column in table)
    # A column that is empty in one cohort must not decide the type of the whole.
    tables = [table.dropna(axis=1, how="all") for table in tables]
    _refuse_mixed(tables, names)
    obs = pd.concat(tables)
    obs = obs.reindex(columns=list(columns))
    twice = pd.MultiIndex.from_arrays([obs.index, obs["task"]]).duplicated()
    if twice.any():
        sample = obs.index[twice][0]
        where = [n for n, cohort in zip(names, cohorts, strict=True) if sample in cohort.obs_names]
        raise MiracleError(f"Sample {sample!r} occurs more than once (in {', '.join(where)}).")
    return obs


def _refuse_mixed(tables: list[pd.DataFrame], names: list[str]) -> None:
    """Stop at a covariate that is a number in one cohort and text in another."""
    first: dict[str, tuple[str, bool]] = {}
    for name, table in zip(names, tables, strict=True):
        for column in covariate_names(table):
            number = pd.api.types.is_numeric_dtype(table[column])
            other, expected = first.setdefault(column, (name, number))
            if number != expected:
                kinds = {True: "numbers", False: "text"}
                raise MiracleError(
                    f"{column} holds {kinds[expected]} in cohort {other}, but {kinds[number]} in "
                    f"{name}; expected one kind, or two names."
                )


def _task_table(stacked: pd.DataFrame) -> pd.DataFrame:
    """The labels of every sample, one column per task."""
    samples = stacked.index[~stacked.index.duplicated()]
    labels = stacked["label"].groupby(stacked["task"], sort=False)
    return pd.DataFrame(
        {task: label_numbers(label.rename(task)).reindex(samples) for task, label in labels},
        samples,
    )


def _joined(stacked: pd.DataFrame) -> pd.DataFrame:
    """One row per sample: what the first of its cohorts says, completed by the others."""
    again = stacked.index.duplicated()
    if not again.any():
        return stacked
    obs = stacked[~again].copy()
    obs["cohort"] = obs["cohort"].map(_measured_together(stacked))
    for name in covariate_names(stacked):
        known = stacked[name].dropna()
        differing = known.groupby(level=0).nunique()
        if (differing > 1).any():
            sample = differing.index[differing > 1][0]
            raise MiracleError(
                f"Sample {sample!r} is in {_and(stacked.loc[sample, 'cohort'])} with different "
                f"values of {name}: {_and(known[sample])}."
            )
        obs[name] = obs[name].fillna(known[~known.index.duplicated()])
    if "subject" in stacked:
        # A cohort without subjects calls each by its sample; one that knows them is right.
        named = stacked["subject"][stacked["subject"] != stacked.index]
        obs["subject"] = named[~named.index.duplicated()].reindex(obs.index).fillna(obs["subject"])
    return obs


def _say_shared_subjects(obs: pd.DataFrame) -> None:
    """Warn of subjects in several cohorts: names such as "1" may be those of different people."""
    if "subject" not in obs:
        return
    n_cohorts = obs.groupby("subject")["cohort"].nunique()
    if len(shared := n_cohorts.index[n_cohorts > 1]):
        _log.warning(
            "%d subjects are in several cohorts (%r in %s): they are taken for the same people",
            len(shared),
            shared[0],
            _and(obs.loc[obs["subject"] == shared[0], "cohort"]),
        )


def _measured_together(stacked: pd.DataFrame) -> dict[str, str]:
    """One name for cohorts that share samples: the cases of one have their controls in another."""
    parts = {name: [name] for name in stacked["cohort"].unique()}
    for _, names in stacked["cohort"].groupby(level=0, sort=False):
        for name in names[1:]:
            if parts[name] is not parts[names.iloc[0]]:
                parts[names.iloc[0]] += parts[name]
                for member in parts[name]:
                    parts[member] = parts[names.iloc[0]]
    return {name: "+".join(sorted(members)) for name, members in parts.items()}


def _check_same(
    sample: str, first: np.ndarray, second: np.ndarray, sites: pd.Index, cohort: AnnData
) -> None:
    """Stop if two samples of the same name do not have the same values."""
    difference = np.abs(first - second)
    if np.isnan(difference).all() or np.nanmax(difference) > _ROUNDING:
        site = 0 if np.isnan(difference).all() else int(np.nanargmax(difference))
        raise MiracleError(
            f"Sample {sample!r} occurs more than once (again in {_and(cohort.obs['cohort'])}), and "
            f"not with the same values: {first[site]:.4g} and {second[site]:.4g} at site "
            f"{sites[site]!r}."
        )


def _and(values: pd.Series) -> str:
    """Name different values."""
    return " and ".join(map(str, values.unique()))


def _plain(obs: pd.DataFrame) -> dict[str, type]:
    """Name the categorical columns, which become plain text."""
    return dict.fromkeys(obs.select_dtypes("category").columns, object)


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
