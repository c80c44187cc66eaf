"""Checks of what a user passes, and the coding of covariates."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from miracle_lib.errors import MiracleError


def site_table(X: Any) -> pd.DataFrame:
    """Refuse anything but a table samples x sites."""
    if not isinstance(X, pd.DataFrame):
        raise MiracleError(f"X is {type(X).__name__}; expected a DataFrame, samples x sites")
    if X.empty:
        raise MiracleError(f"X has shape {X.shape}; expected samples and sites")
    return X


def aligned(table: pd.DataFrame, X: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a table that belong to the samples of X."""
    if table.index.equals(X.index):
        return table
    absent = X.index.difference(table.index)
    if len(absent):
        raise MiracleError(f"{name} has no row for sample {absent[0]!r} of X")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise MiracleError(f"{name} has several rows for sample {twice!r}")
    return table.loc[X.index]


def label_table(Y: Any, X: pd.DataFrame, both_classes: bool = True) -> pd.DataFrame:
    """Return labels as a float table, samples x tasks; refuse anything but 0, 1 and NaN."""
    if isinstance(Y, pd.Series):
        Y = Y.to_frame(str(Y.name) if Y.name is not None else "task")
    elif not isinstance(Y, pd.DataFrame):
        Y = _unnamed_labels(Y, X)
    Y = aligned(Y, X, "Y")
    if not Y.columns.is_unique or Y.shape[1] == 0:
        raise MiracleError(f"the tasks of Y are {list(Y.columns)}; expected unique names")
    numbers = Y.apply(pd.to_numeric, errors="coerce").astype(float)
    for task, column in Y.items():
        bad = column[column.notna() & ~numbers[task].isin([0, 1])]
        if len(bad):
            raise MiracleError(
                f"task {task!r} has label {bad.iloc[0]} for sample {bad.index[0]!r}; "
                "expected 0, 1 or NaN"
            )
        cases, controls = ((numbers[task] == value).sum() for value in (1, 0))
        if both_classes and min(cases, controls) < 2:
            raise MiracleError(
                f"task {task!r} has {cases} cases and {controls} controls; at least 2 of each "
                "are expected"
            )
    return numbers


def _unnamed_labels(Y: Any, X: pd.DataFrame) -> pd.DataFrame:
    """Name the tasks of an array."""
    array = np.asarray(Y)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) != len(X):
        raise MiracleError(f"Y has shape {array.shape}; expected {len(X)} rows, one per sample")
    names = ["task"] if array.shape[1] == 1 else [f"task {i + 1}" for i in range(array.shape[1])]
    return pd.DataFrame(array, X.index, names)


def per_sample(values: Any, X: pd.DataFrame, name: str) -> np.ndarray:
    """Return one string per sample of X; one string stands for all."""
    if isinstance(values, str):
        return np.full(len(X), values, dtype=object)
    if isinstance(values, pd.Series):
        values = aligned(values.to_frame(), X, name).iloc[:, 0]
    values = np.asarray(values, dtype=object)
    if values.shape != (len(X),):
        raise MiracleError(f"{name} has shape {values.shape}; expected one value per sample of X")
    missing = pd.isna(values)
    if missing.any():
        raise MiracleError(f"{name} of sample {X.index[missing][0]!r} is missing")
    return values.astype(str).astype(object)


def cohorts_of_labels(Y: pd.DataFrame) -> np.ndarray:
    """Name a cohort per sample: tasks that share samples make one cohort."""
    labelled = Y.notna().to_numpy()
    linked = labelled.T.astype(int) @ labelled.astype(int) > 0
    for _ in range(len(linked)):
        linked = linked.astype(int) @ linked.astype(int) > 0
    names = np.array(["+".join(Y.columns[row].astype(str)) for row in linked], dtype=object)
    cohort = np.full(len(Y), "unlabelled", dtype=object)
    for task in range(labelled.shape[1]):
        cohort[labelled[:, task]] = names[task]
    return cohort


@dataclass
class CovariateCoder:
    """Cohort indicators and covariates as centred numbers, coded as learned at training.

    Attributes
    ----------
    cohorts : list of str
        Cohorts with an indicator; none if conditioning on the cohort is off.
    levels : dict of str to list of str
        Levels of every column of text.
    mean, sd : dict of str to float
        Of every coded column.
    """

    cohorts: list[str] = field(default_factory=list)
    levels: dict[str, list[str]] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)
    sd: dict[str, float] = field(default_factory=dict)

    @classmethod
    def learn(cls, covariates: pd.DataFrame | None, X: pd.DataFrame, cohorts: list[str]) -> Self:
        """Learn levels, means and SDs from the training samples."""
        coder = cls(cohorts if len(cohorts) > 1 else [])
        if covariates is None:
            return coder
        covariates = aligned(covariates, X, "covariates")
        for name, column in covariates.items():
            if not pd.api.types.is_numeric_dtype(column):
                coder.levels[str(name)] = sorted(column.dropna().astype(str).unique())
        coded = coder._coded(covariates)
        known = coded.columns[coded.notna().any()]
        coder.mean = {name: float(coded[name].mean()) for name in known}
        coder.sd = {name: float(coded[name].std(ddof=0)) or 1.0 for name in known}
        return coder

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.cohorts) + len(self.mean)

    def _coded(self, covariates: pd.DataFrame) -> pd.DataFrame:
        """Return numbers: one indicator per further level of a column of text."""
        columns = {}
        for name, column in covariates.items():
            levels = self.levels.get(str(name))
            if levels is None:
                columns[str(name)] = pd.to_numeric(column, errors="coerce").astype(float)
                continue
            for level in levels[1:]:
                indicator = (column.astype(str) == level).astype(float)
                columns[f"{name}={level}"] = indicator.where(column.notna())
        return pd.DataFrame(columns, index=covariates.index)

    def encode(
        self, covariates: pd.DataFrame | None, X: pd.DataFrame, cohort: np.ndarray
    ) -> np.ndarray:
        """Return float32 (n_samples, width); what is unknown counts as average."""
        table = np.zeros((len(X), self.width), np.float32)
        for column, name in enumerate(self.cohorts):
            table[:, column] = (cohort == name) - 1 / len(self.cohorts)
        if covariates is not None and self.mean:
            coded = self._coded(aligned(covariates, X, "covariates"))
            coded = coded.reindex(columns=list(self.mean))
            scaled = (coded - pd.Series(self.mean)) / pd.Series(self.sd)
            table[:, len(self.cohorts) :] = scaled[list(self.mean)].fillna(0)
        return table
