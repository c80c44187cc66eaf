"""One data object: values, labels, cohort, subject and covariates of the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import pandas as pd
from pandas.api import types

from miracle_lib.errors import MiracleError
from miracle_lib.stored import StoredValues, is_on_disk

if TYPE_CHECKING:
    from anndata import AnnData

COVARIATES = ("age", "sex", "smoking")  # beside these, estimated cell fractions: cell_...
_PARTS = ("values", "labels", "cohort", "subject", "covariates")
_MEAN = "all"  # what tables of scores call the mean over tasks
_NUMBERS = ("integer", "floating", "mixed-integer-float")  # what a column of objects may hold


class Samples:
    """Values of sites and what is known of the same samples, aligned by name and checked once.

    Parameters
    ----------
    values : DataFrame or array of shape (n_samples, n_sites)
        Beta values, NaN where missing; the names of its rows are the samples. Rows of an array
        are named 0, 1, ...
    labels : DataFrame, Series or array of shape (n_samples, n_tasks) or (n_samples,), optional
        1 case, 0 control, NaN not labelled for the task. Default: no task.
    cohort : Series, array or str, optional
        Cohort of each sample; a str is that of all.
    subject : Series or array, optional
        Samples of one person, or of twins, share a value.
    covariates : DataFrame, optional
        Numbers or text, missing where not known: age, sex, cell fractions.

    Attributes
    ----------
    values, labels, covariates : DataFrame
        Numbers as floats; ``covariates`` is None where not given. Values of a backed AnnData are a
        `StoredValues`, which has the same axes and stays on disk.
    cohort, subject : Series of str, or None
        One per sample, in the order of ``values``.

    Raises
    ------
    MiracleError
        A sample without an entry or named twice, a label other than 0, 1 and NaN, a task "all", an
        infinite covariate, a column that holds no numbers, an array of another length.

    Notes
    -----
    What has names of samples, a DataFrame or a Series, is aligned by them, whatever its order;
    what it holds of other samples is left out. An array has none: it is taken by position. What
    numbers its samples otherwise than an array of values does is refused.

    Examples
    --------
    >>> values = pd.DataFrame({"cg1": [0.2, 0.8, 0.5]}, index=["a", "b", "c"])
    >>> labels = pd.DataFrame({"RA": [1, 0, None]}, index=["b", "a", "c"])
    >>> samples = Samples(values, labels, subject=pd.Series({"c": "P2", "a": "P1", "b": "P1"}))
    >>> samples.labels["RA"].to_dict(), list(samples.subject)
    ({'a': 0.0, 'b': 1.0, 'c': nan}, ['P1', 'P1', 'P2'])
    >>> samples.task("RA")
    Samples(2 samples, 1 site; RA: 1 case, 1 control)
    """

    values: pd.DataFrame
    labels: pd.DataFrame
    cohort: pd.Series | None
    subject: pd.Series | None
    covariates: pd.DataFrame | None

    def __init__(
        self,
        values: Any,
        labels: Any = None,
        *,
        cohort: Any = None,
        subject: Any = None,
        covariates: Any = None,
    ) -> None:
        self.values = cast(pd.DataFrame, value_table(values))
        self.labels = _label_table(labels, self.names)
        self.cohort = text_per_sample(cohort, self.names, "cohort")
        self.subject = text_per_sample(subject, self.names, "subject")
        self.covariates = covariate_table(covariates, self.names)

    @property
    def names(self) -> pd.Index:
        """Names of the samples."""
        return self.values.index

    @property
    def order(self) -> np.ndarray:
        """Positions of the samples in the order of their names: what is drawn by it is the same
        whatever the order of the rows.
        """
        return np.argsort(pd.factorize(self.names, sort=True)[0])

    @property
    def sites(self) -> pd.Index:
        """Names of the sites."""
        return self.values.columns

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return list(self.labels.columns)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        parts = [f"{_count(len(self), 'sample')}, {_count(len(self.sites), 'site')}"]
        for task, label in self.labels.items():
            cases, controls = (int((label == value).sum()) for value in (1, 0))
            parts.append(f"{task}: {_count(cases, 'case')}, {_count(controls, 'control')}")
        return f"Samples({'; '.join(parts)})"

    def take(self, rows: Any) -> Self:
        """Return some of the samples, in the order asked for.

        Parameters
        ----------
        rows : array of int or of bool, or Series of bool
            Positions, none twice, or one True or False per sample; a Series is aligned by name.
        """
        if isinstance(rows, pd.Series):
            rows = align(rows, self.names, "rows")
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise MiracleError(f"rows has shape {rows.shape}; expected {len(self)} entries.")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.intp, casting="same_kind" if len(rows) else "unsafe")
        if len(np.unique(rows)) < len(rows):
            raise MiracleError("rows holds a sample more than once; expected each at most once.")
        part = copy(self)
        for name in _PARTS:
            table = getattr(self, name)
            setattr(part, name, None if table is None else table.iloc[rows])
        return part

    def task(self, name: str) -> Self:
        """Return the samples labelled for a task, with no other; in the order of their names."""
        if name not in self.labels:
            raise MiracleError(
                f"There is no task {name!r}; expected one of {', '.join(self.tasks) or 'none'}."
            )
        order = self.order
        part = self.take(order[self.labels[name].notna().to_numpy()[order]])
        part.labels = part.labels[[name]]
        return part

    def replace(self, **parts: Any) -> Self:
        """Return the same samples with some parts exchanged, which are checked anew.

        Parameters
        ----------
        **parts
            Any of values, labels, cohort, subject and covariates.
        """
        return type(self)(**({name: getattr(self, name) for name in _PARTS} | parts))

    @classmethod
    def from_anndata(cls, adata: AnnData, covariates: Sequence[str] | None = None) -> Self:
        """Read samples from an AnnData.

        Parameters
        ----------
        adata : AnnData
            ``X`` beta values; labels in ``obsm["tasks"]``, else in the columns ``task`` and
            ``label`` of ``obs``; ``cohort`` and ``subject`` in ``obs`` where it has them.
        covariates : sequence of str, optional
            Columns of ``obs``. Default: those that ``uns["covariates"]`` names and cell fractions
            (``cell_...``), else age, sex, smoking and cell fractions, as far as any sample has
            them.
        """
        obs = adata.obs
        if covariates is None:
            named = list(adata.uns.get("covariates", []))
            usual = usual_covariates(obs)
            # Fractions that were estimated after the cohort was read are not among the named ones.
            late = [name for name in usual if name.startswith("cell_") and name not in named]
            covariates = named + late if "covariates" in adata.uns else usual
        absent = [name for name in covariates if name not in obs]
        if absent:
            raise MiracleError(f"The AnnData has no obs column {absent[0]!r}.")
        return cls(
            _values_of(adata),
            _labels_of(adata),
            cohort=obs.get("cohort"),
            subject=obs.get("subject"),
            covariates=obs[list(covariates)],
        )

    def to_anndata(self) -> AnnData:
        """Return an AnnData that `from_anndata` reads: labels in ``obsm["tasks"]``, else ``obs``.

        Names of samples and sites become text.
        """
        from anndata import AnnData

        obs = pd.DataFrame(index=self.names) if self.covariates is None else self.covariates.copy()
        names = list(obs)
        for name in ("cohort", "subject"):
            if getattr(self, name) is not None:
                obs[name] = getattr(self, name)
        texts = obs.select_dtypes(object).columns  # h5ad holds a text with gaps as a category only
        obs = obs.astype(dict.fromkeys(texts, "category"))
        obs.index = obs.index.astype(str)
        labels = self.labels.set_axis(obs.index)
        stored = isinstance(self.values, StoredValues)
        values = self.values.load() if stored else self.values
        adata = AnnData(values.to_numpy(), obs=obs, obsm={"tasks": labels})
        adata.var_names = self.sites.astype(str)
        adata.uns["covariates"] = names
        return adata


def as_samples(
    X: Any, Y: Any = None, *, cohort: Any = None, groups: Any = None, covariates: Any = None
) -> Samples:
    """Return what a user passed as one object.

    Parameters
    ----------
    X : Samples, AnnData, DataFrame or array
        What is given beside a Samples or an AnnData takes the place of its own.
    Y, cohort, covariates : optional
        As `Samples` takes labels, cohort and covariates.
    groups : Series or array, optional
        Subjects.
    """
    parts = {"labels": Y, "cohort": cohort, "subject": groups, "covariates": covariates}
    given = {name: part for name, part in parts.items() if part is not None}
    if isinstance(X, Samples):
        return X.replace(**given) if given else X
    if hasattr(X, "obsm"):
        return as_samples(
            Samples.from_anndata(X), Y, cohort=cohort, groups=groups, covariates=covariates
        )
    return Samples(X, **given)


def as_labelled(Y: Any, *, cohort: Any = None, groups: Any = None) -> Samples:
    """Return a task table as samples without values; a Samples as it is."""
    if isinstance(Y, Samples):
        return as_samples(Y, cohort=cohort, groups=groups)
    return Samples(pd.DataFrame(index=Y.index), Y, cohort=cohort, subject=groups)


def align(table: Any, names: pd.Index, part: str) -> Any:
    """Return the entries of a Series or DataFrame that belong to some samples, in their order.

    Parameters
    ----------
    table : Series or DataFrame
        Indexed by sample; may hold more samples.
    names : Index
        Samples wanted.
    part : str
        What the table is, for the message.

    Raises
    ------
    MiracleError
        If a sample is missing or named twice; if the samples wanted are only numbered, as the rows
        of an array are, and the table numbers them otherwise.
    """
    if table.index.equals(names):
        return table
    numbered = names.equals(pd.RangeIndex(len(names)))
    if numbered and not table.index[: len(names)].equals(names):  # by name or by position?
        first = ", ".join(map(str, table.index[:3]))
        raise MiracleError(
            f"{part} calls its samples {first}, ..., but those of the values have no names, only "
            f"the numbers 0, 1, ...; give both the same names, or {part} as an array."
        )
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise MiracleError(f"{part} has sample {twice!r} more than once.")
    absent = names[~names.isin(table.index)]
    if len(absent):
        raise MiracleError(
            f"{part} has no entry for sample {absent[0]!r} ({len(absent)} of {len(names)} samples "
            "have none)."
        )
    return table.loc[names]


def value_table(values: Any) -> pd.DataFrame | StoredValues:
    """Return a table of numbers, samples x sites, as it is where NumPy or a store holds it.

    Raises
    ------
    MiracleError
        If a column holds no numbers, a sample or a site is named twice, or there is no sample.
    """
    known = isinstance(values, pd.DataFrame | StoredValues)
    frame = values if known else _array_table(values)
    if not len(frame):
        raise MiracleError(f"values has shape {frame.shape}; expected at least one sample.")
    for axis, index in (("sample", frame.index), ("site", frame.columns)):
        if not index.is_unique:
            twice = index[index.duplicated()][0]
            raise MiracleError(f"values has {axis} {twice!r} more than once.")
    if isinstance(frame, StoredValues):
        return frame
    kinds = frame.dtypes
    different = kinds.unique()
    for kind in different:
        if not types.is_numeric_dtype(kind) or types.is_bool_dtype(kind):
            raise MiracleError(
                f"Column {kinds.index[kinds == kind][0]!r} of values holds {kind}, not numbers."
            )
    if any(types.is_extension_array_dtype(kind) for kind in different):
        return pd.DataFrame(_floats(frame), frame.index, frame.columns)
    return frame


def _array_table(values: Any) -> pd.DataFrame:
    """Name rows and columns of an array by position."""
    array = np.asarray(values)
    if array.ndim != 2:
        raise MiracleError(f"values has shape {array.shape}; expected samples and sites.")
    return pd.DataFrame(array, copy=False)


def _floats(table: Any) -> np.ndarray:
    """Return numbers of any pandas type, nullable or sparse, as float64."""
    return table.to_numpy(np.float64, na_value=np.nan)


def _label_table(labels: Any, names: pd.Index) -> pd.DataFrame:
    """Return labels as floats, samples x tasks; the one place that says what a label is."""
    if labels is None:
        return pd.DataFrame(index=names)
    if isinstance(labels, pd.Series):
        labels = labels.to_frame("task" if labels.name is None else labels.name)
    elif not isinstance(labels, pd.DataFrame):
        labels = _unnamed_labels(labels, names)
    table = align(labels, names, "labels")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise MiracleError(f"labels has task {twice!r} more than once.")
    if _MEAN in table:
        raise MiracleError(
            f"labels has a task {_MEAN!r}, as tables of scores call the mean over tasks; give it "
            "another name."
        )
    return pd.DataFrame(
        {str(task): label_numbers(column) for task, column in table.items()}, index=names
    )


def label_numbers(column: pd.Series) -> pd.Series:
    """Return the labels of a task as floats; refuse anything but 0, 1 and NaN."""
    numbers = pd.to_numeric(column.astype(object), errors="coerce").astype(float)
    wrong = column.notna().to_numpy() & ~numbers.isin([0, 1]).to_numpy()
    if wrong.any():
        raise MiracleError(
            f"Task {str(column.name)!r} has the label {column[wrong].iloc[0]} for sample "
            f"{column.index[wrong][0]!r}; expected 1 (case), 0 (control) or NaN (not labelled)."
        )
    return numbers


def _unnamed_labels(labels: Any, names: pd.Index) -> pd.DataFrame:
    """Name the tasks of an array, whose rows are the samples by position."""
    array = np.asarray(labels)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) != len(names):
        raise MiracleError(f"labels has shape {array.shape}; expected {len(names)} rows.")
    width = array.shape[1]
    tasks = ["task"] if width == 1 else [f"task {number + 1}" for number in range(width)]
    return pd.DataFrame(array, names, tasks)


def text_per_sample(entries: Any, names: pd.Index, part: str) -> pd.Series | None:
    """Return one text per sample; one str stands for all."""
    if entries is None:
        return None
    if isinstance(entries, str):
        return pd.Series(entries, names, dtype=object, name=part)
    if isinstance(entries, pd.Series):
        entries = align(entries, names, part)
    array = np.asarray(entries, dtype=object)
    if array.shape != (len(names),):
        raise MiracleError(f"{part} has shape {array.shape}; expected {len(names)} entries.")
    missing = pd.isna(array)
    if missing.any():
        raise MiracleError(f"{part} of sample {names[missing][0]!r} is missing.")
    return pd.Series(array.astype(str).astype(object), names, name=part)


def covariate_table(covariates: Any, names: pd.Index) -> pd.DataFrame | None:
    """Return covariates as columns of floats or of text."""
    if covariates is None:
        return None
    if not isinstance(covariates, pd.DataFrame):
        raise MiracleError(
            f"covariates is {type(covariates).__name__}; expected a DataFrame with a named column "
            "per covariate."
        )
    table = align(covariates, names, "covariates")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise MiracleError(f"covariates has column {twice!r} more than once.")
    columns = {str(name): _covariate(column, str(name)) for name, column in table.items()}
    return pd.DataFrame(columns, index=names)


def _covariate(column: pd.Series, name: str) -> pd.Series:
    """Return a column of floats, or of text with None where it is missing."""
    if types.is_numeric_dtype(column):
        numbers = _floats(column)
        infinite = np.isinf(numbers)
        if infinite.any():
            raise MiracleError(
                f"Covariate {name!r} of sample {column.index[infinite][0]!r} is "
                f"{numbers[infinite][0]}; expected a number or NaN."
            )
        return pd.Series(numbers, column.index)
    if column.dtype == object and types.infer_dtype(column) in _NUMBERS:
        return _covariate(column.where(column.notna(), np.nan).astype(float), name)
    if isinstance(column.dtype, pd.CategoricalDtype) or types.is_string_dtype(column.dtype):
        column = column.astype(object)
    if column.dtype != object:
        raise MiracleError(f"Covariate {name!r} holds {column.dtype}; expected numbers or text.")
    return column.map(str, na_action="ignore").astype(object).where(column.notna(), None)


def _values_of(adata: AnnData) -> pd.DataFrame | StoredValues:
    """Return the values of an AnnData without a copy where they are dense, on disk or not."""
    X = adata.X
    if is_on_disk(X):
        return StoredValues(X, adata.obs_names, adata.var_names)
    if isinstance(X, np.ndarray):
        return pd.DataFrame(X, adata.obs_names, adata.var_names, copy=False)
    return adata.to_df()


def _labels_of(adata: AnnData) -> pd.DataFrame | None:
    """Return the task table of an AnnData, or make it of the columns task and label."""
    if "tasks" in adata.obsm:
        return adata.obsm["tasks"]
    if "task" not in adata.obs or "label" not in adata.obs:
        return None
    label, task = adata.obs["label"].astype(object), adata.obs["task"]
    by_task = {name: label.where(task == name) for name in task.dropna().unique()}
    return pd.DataFrame(by_task, adata.obs.index)


def usual_covariates(obs: pd.DataFrame) -> list[str]:
    """Name age, sex, smoking and the cell fractions, as far as any sample of a table has them."""
    fractions = [name for name in obs if str(name).startswith("cell_")]
    return [n for n in (*COVARIATES, *fractions) if n in obs and obs[n].notna().any()]


def _count(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {what}" + "s" * (number != 1)
