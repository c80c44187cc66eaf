"""The scikit-learn estimator: beta values in, probabilities and pathway activities out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.model import MaskedVAE
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.training import Checkpoint, Trainer, TrainingData, make_settings

log = logging.getLogger(__name__)


class MiracleClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Multi-task case/control classifier whose hidden layers are genes and pathways."""

    def __init__(
        self,
        hierarchy: Hierarchy,
        *,
        weighting: str = "pwinval",
        ceiling: dict[str, float] | None = None,
        sharing: Literal["auto"] | float = "auto",
        residual: bool = True,
        variational: bool = True,
        condition_on_cohort: bool = True,
        activation: str = "identity",
        norm: str = "none",
        scale: Literal["m", "beta"] = "m",
        stages: Literal["three", "joint"] = "three",
        preset: Literal["default", "paper"] = "default",
        epochs: tuple[int, int, int] | None = None,
        learning_rate: tuple[float, float, float] | None = None,
        batch_size: int | Literal["preset"] | None = "preset",
        n_members: int = 1,
        min_site_share: float = 0.5,
        device: str = "auto",
        random_state: int = 0,
        checkpoint_dir: str | Path | None = None,
        checkpoint_every: int = 1,
        progress: bool | None = None,
    ) -> None:
        self.hierarchy = hierarchy
        self.weighting = weighting
        self.ceiling = ceiling
        self.sharing = sharing
        self.residual = residual
        self.variational = variational
        self.condition_on_cohort = condition_on_cohort
        self.activation = activation
        self.norm = norm
        self.scale = scale
        self.stages = stages
        self.preset = preset
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_members = n_members
        self.min_site_share = min_site_share
        self.device = device
        self.random_state = random_state
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every
        self.progress = progress

    def fit(
        self,
        X: pd.DataFrame,
        Y: pd.DataFrame | pd.Series,
        cohort: pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
        groups: pd.Series | np.ndarray | None = None,
    ) -> Self:
        """Train on labelled samples."""
        X, Y = _site_table(X), _label_table(Y, X)
        self.tasks_ = [str(task) for task in Y.columns]
        cohort = _cohorts_of_tasks(Y) if cohort is None else _per_sample(cohort, X, "cohort")
        self._cohorts_of = {
            task: sorted(set(cohort[Y[column].notna().to_numpy()]))
            for task, column in zip(self.tasks_, Y.columns, strict=True)
        }
        self._arrange_sites(X)
        z = self._fit_standardizer(X, cohort)
        labels = torch.from_numpy(Y.to_numpy(np.float32))
        device = _device(self.device)
        self._fit_covariates(covariates, X)
        data = TrainingData(
            z.to(device),
            labels.to(device),
            self._covariate_tensor(covariates, X, cohort).to(device),
            _group_codes(groups, X),
        )
        trained = self._trainer(data).fit()
        self.members_ = trained.members
        self.history_ = pd.DataFrame(trained.history)
        self.prior_ = trained.prior
        self.residual_share_ = self._shares(data)["residual"]
        return self

    def _arrange_sites(self, X: pd.DataFrame) -> None:
        """Order the sites: those of the hierarchy, then the residual ones."""
        self.hierarchy_ = self.hierarchy.restrict(X.columns)
        inside = X.columns.isin(self.hierarchy_.sites)
        self.residual_sites_ = X.columns[~inside] if self.residual else X.columns[:0]
        self.sites_ = self.hierarchy_.sites.append(self.residual_sites_)
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        self.n_features_in_ = X.shape[1]

    def _fit_standardizer(self, X: pd.DataFrame, cohort: np.ndarray) -> Tensor:
        """Learn the cohorts' statistics and return the standardised input."""
        fitted = CohortStandardizer(scale=self.scale).fit(X, cohort=cohort)
        fitted.mean_, fitted.sd_ = fitted.mean_[self.sites_], fitted.sd_[self.sites_]
        fitted.feature_names_in_ = self.sites_.to_numpy()
        fitted.n_features_in_ = len(self.sites_)
        self.standardizer_ = fitted
        return torch.from_numpy(fitted.transform(X, cohort=cohort).to_numpy())

    def _trainer(self, data: TrainingData) -> Trainer:
        """Set up the training as the parameters say."""
        ceiling = None
        if self.ceiling is not None:
            ceiling = torch.tensor([self.ceiling[task] for task in self.tasks_]).double()
        return Trainer(
            self.hierarchy_,
            data,
            self.tasks_,
            make_settings(self.preset, self.epochs, self.learning_rate, self.batch_size),
            weighting=self.weighting,
            sharing=self.sharing,
            stages=self.stages,
            n_members=self.n_members,
            ceiling=ceiling,
            seed=self.random_state,
            network_options=self._network_options(),
            checkpoint=Checkpoint(None),
            progress=self.progress,
        )

    def _network_options(self) -> dict[str, Any]:
        """Return the options of the autoencoder."""
        return {
            "activation": self.activation,
            "norm": self.norm,
            "variational": self.variational,
            "likelihood": "gaussian",
        }

    @property
    def network_(self) -> MaskedVAE:
        """The autoencoder of the first member."""
        check_is_fitted(self, "members_")
        return self.members_[0].network

    # Prediction

    def predict_proba(
        self,
        X: pd.DataFrame,
        cohort: str | pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return each sample's probability of being a case, samples x tasks."""
        logits = self.decision_function(X, cohort, covariates)
        return 1 / (1 + np.exp(-logits))

    def predict(
        self,
        X: pd.DataFrame,
        cohort: str | pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return 1 where a case is more probable than not, else 0."""
        return (self.decision_function(X, cohort, covariates) > 0).astype(int)

    def decision_function(
        self,
        X: pd.DataFrame,
        cohort: str | pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return logits, samples x tasks."""
        check_is_fitted(self, "members_")
        X = self._complete(X)
        logits = np.empty((len(X), len(self.tasks_)))
        chosen = self._cohort_per_task(X, cohort)
        for name in sorted(set(chosen.ravel())):
            rows = np.flatnonzero((chosen == name).any(axis=1))
            part = self._logits(X.iloc[rows], name, covariates)
            here = chosen[rows] == name
            logits[rows] = np.where(here, part, logits[rows])
        return pd.DataFrame(logits, X.index, self.tasks_)

    def _logits(self, X: pd.DataFrame, cohort: str, covariates: pd.DataFrame | None) -> np.ndarray:
        """Return the members' mean logits under one cohort's statistics."""
        z, known = self._inputs(X, np.full(len(X), cohort, dtype=object), covariates)
        with torch.no_grad():
            members = [member.heads(member.features(z, known)).double() for member in self.members_]
        return torch.stack(members).mean(0).cpu().numpy()

    def _inputs(
        self, X: pd.DataFrame, cohort: np.ndarray, covariates: pd.DataFrame | None
    ) -> tuple[Tensor, Tensor]:
        """Return standardised sites and covariates as the network takes them."""
        device = next(self.members_[0].parameters()).device
        z = torch.from_numpy(self.standardizer_.transform(X, cohort=cohort).to_numpy())
        return z.to(device), self._covariate_tensor(covariates, X, cohort).to(device)

    def _complete(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the sites of the model, with absent ones missing; refuse too few."""
        X = _site_table(X)
        present = self.sites_.isin(X.columns)
        share = present.mean()
        if share < self.min_site_share:
            raise MiracleError(
                f"X has {present.sum()} of the model's {len(self.sites_)} sites, a share of "
                f"{share:.2f}; at least {self.min_site_share:.2f} is expected"
            )
        if not present.all():
            log.warning(
                "%d of %d sites are absent and take the training mean of the cohort",
                (~present).sum(),
                len(present),
            )
            X = X.reindex(columns=self.sites_)
        return X

    def _cohort_per_task(self, X: pd.DataFrame, cohort: Any) -> np.ndarray:
        """Return, for each sample and task, the cohort whose statistics are used."""
        if cohort is not None:
            names = _per_sample(cohort, X, "cohort")
            return np.repeat(names[:, None], len(self.tasks_), axis=1)
        chosen = np.empty((len(X), len(self.tasks_)), dtype=object)
        for column, task in enumerate(self.tasks_):
            candidates = self._cohorts_of[task]
            chosen[:, column] = self._nearest_cohort(X, candidates)
        return chosen

    def _nearest_cohort(self, X: pd.DataFrame, candidates: list[str]) -> np.ndarray:
        """Return the cohort whose mean training profile is nearest to each sample."""
        if len(candidates) == 1:
            return np.full(len(X), candidates[0], dtype=object)
        distance = []
        for name in candidates:
            # Distances in units of one common SD, so that a noisy cohort is not favoured.
            spread = self.standardizer_.sd_.loc[name] / self.standardizer_.sd_.mean()
            z = self.standardizer_.transform(X, cohort=name) * spread
            distance.append(z.pow(2).mean(axis=1).to_numpy())
        return np.array(candidates, dtype=object)[np.argmin(distance, axis=0)]

    def transform(
        self,
        X: pd.DataFrame,
        cohort: str | pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return pathway activities, samples x pathways."""
        check_is_fitted(self, "members_")
        X = self._complete(X)
        z, known = self._inputs(X, self._one_cohort(X, cohort), covariates)
        activity = [member.features(z, known)["pathways"] for member in self.members_]
        mean = torch.stack(activity).mean(0).cpu().numpy()
        return pd.DataFrame(mean, X.index, self.hierarchy_.pathways)

    pathway_activity = transform

    def _one_cohort(self, X: pd.DataFrame, cohort: Any) -> np.ndarray:
        """Return one cohort per sample: as given, or the nearest."""
        if cohort is not None:
            return _per_sample(cohort, X, "cohort")
        return self._nearest_cohort(X, self.standardizer_.cohorts_)

    def score(self, X: pd.DataFrame, Y: pd.DataFrame, **known: Any) -> float:
        """Return the mean AUROC over the tasks that have both classes in ``Y``."""
        Y = _label_table(Y, X, both_classes=False)
        logits = self.decision_function(X, **known)
        scores = []
        for task, (_, label) in zip(self.tasks_, Y.items(), strict=True):
            seen = label.notna()
            if label[seen].nunique() == 2:
                scores.append(roc_auc_score(label[seen], logits.loc[seen.to_numpy(), task]))
        return float(np.mean(scores)) if scores else float("nan")

    # Covariates

    def _fit_covariates(self, covariates: pd.DataFrame | None, X: pd.DataFrame) -> None:
        """Learn levels, means and SDs of the covariates."""
        self._covariate_levels: dict[str, list[str]] = {}
        self._covariate_scale = pd.DataFrame(columns=["mean", "sd"])
        if covariates is None:
            return
        covariates = _aligned(covariates, X, "covariates")
        for name, column in covariates.items():
            if not pd.api.types.is_numeric_dtype(column):
                self._covariate_levels[str(name)] = sorted(column.dropna().astype(str).unique())
        coded = self._coded(covariates)
        sd = coded.std(ddof=0).where(lambda value: value > 0, 1.0)
        self._covariate_scale = pd.DataFrame({"mean": coded.mean(), "sd": sd})

    def _coded(self, covariates: pd.DataFrame) -> pd.DataFrame:
        """Return numbers: one indicator per level of a text column."""
        columns = {}
        for name, column in covariates.items():
            levels = self._covariate_levels.get(str(name))
            if levels is None:
                columns[str(name)] = column.astype(float)
                continue
            for level in levels[1:]:
                indicator = (column.astype(str) == level).astype(float)
                columns[f"{name}={level}"] = indicator.where(column.notna())
        return pd.DataFrame(columns, index=covariates.index)

    def _covariate_tensor(
        self, covariates: pd.DataFrame | None, X: pd.DataFrame, cohort: np.ndarray
    ) -> Tensor:
        """Return cohort indicators and covariates, centred; what is unknown counts as average."""
        parts = []
        cohorts = self.standardizer_.cohorts_
        if self.condition_on_cohort and len(cohorts) > 1:
            parts.append(
                np.array([[name == c for c in cohorts] for name in cohort]) - 1 / len(cohorts)
            )
        scale = self._covariate_scale
        if len(scale):
            values = np.zeros((len(X), len(scale)))
            if covariates is not None:
                coded = self._coded(_aligned(covariates, X, "covariates"))
                coded = coded.reindex(columns=scale.index)
                values = ((coded - scale["mean"]) / scale["sd"]).fillna(0).to_numpy()
            parts.append(values)
        table = np.hstack(parts) if parts else np.zeros((len(X), 0))
        return torch.from_numpy(table.astype(np.float32))

    # Interpretation

    def _shares(self, data: TrainingData) -> pd.DataFrame:
        """Return each block's share of the spread of the training predictions, per task."""
        shares = []
        for member in self.members_:
            with torch.no_grad():
                parts = member.heads.shares(member.features(data.x, data.covariates))
            shares.append(pd.DataFrame({k: v.cpu().numpy() for k, v in parts.items()}))
        table = sum(shares) / len(shares)
        return table.reindex(columns=["pathways", "genes", "residual"], fill_value=0.0).set_axis(
            self.tasks_
        )

    def logit_module(self, task: str) -> nn.Module:
        """Return a module that maps standardised inputs to the logit of a task."""
        return TaskLogit(self, task)

    def standardized(self, X: pd.DataFrame, task: str) -> Tensor:
        """Return the input of `logit_module`: z-scores under the statistics of the task's cohort."""
        X = self._complete(X)
        cohort = self._nearest_cohort(X, self._cohorts_of[task])
        return self._inputs(X, cohort, None)[0]


class TaskLogit(nn.Module):
    """The logit of one task as a function of standardised input (batch, n_sites)."""

    def __init__(self, model: MiracleClassifier, task: str) -> None:
        super().__init__()
        if task not in model.tasks_:
            raise MiracleError(f"there is no task {task!r}; expected one of {model.tasks_}")
        self.members = nn.ModuleList(model.members_)
        self.task = model.tasks_.index(task)
        name = np.array([model._cohorts_of[task][0]], dtype=object)
        empty = pd.DataFrame(index=range(1))
        self.register_buffer("covariates", model._covariate_tensor(None, empty, name))

    def forward(self, z: Tensor) -> Tensor:
        """Return logits, shape (batch,)."""
        known = self.covariates.expand(len(z), -1)
        return torch.stack([member(z, known)[:, self.task] for member in self.members]).mean(0)


def _site_table(X: Any) -> pd.DataFrame:
    """Check that X is a table samples x sites."""
    if not isinstance(X, pd.DataFrame):
        raise MiracleError(f"X is {type(X).__name__}; expected a DataFrame, samples x sites")
    return X


def _aligned(table: pd.DataFrame, X: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a table that belong to the samples of X."""
    if table.index.equals(X.index):
        return table
    absent = X.index.difference(table.index)
    if len(absent):
        raise MiracleError(f"{name} has no row for sample {absent[0]!r} of X")
    return table.loc[X.index]


def _label_table(Y: Any, X: pd.DataFrame, both_classes: bool = True) -> pd.DataFrame:
    """Return labels as a float table, samples x tasks; refuse anything but 0, 1 and NaN."""
    if isinstance(Y, pd.Series):
        Y = Y.to_frame(str(Y.name) if Y.name is not None else "task")
    elif not isinstance(Y, pd.DataFrame):
        array = np.asarray(Y)
        array = array[:, None] if array.ndim == 1 else array
        if len(array) != len(X):
            raise MiracleError(f"Y has {len(array)} rows; X has {len(X)}")
        names = ["task"] if array.shape[1] == 1 else [f"task {i}" for i in range(array.shape[1])]
        Y = pd.DataFrame(array, X.index, names)
    Y = _aligned(Y, X, "Y")
    for task, column in Y.items():
        values = pd.to_numeric(column, errors="coerce")
        bad = column[column.notna() & ~values.isin([0, 1])]
        if len(bad):
            raise MiracleError(
                f"task {task!r} has label {bad.iloc[0]!r} for sample {bad.index[0]!r}; "
                "expected 0, 1 or NaN"
            )
        if both_classes and values.nunique() < 2:
            raise MiracleError(
                f"task {task!r} has {(values == 1).sum()} cases and {(values == 0).sum()} "
                "controls; expected both"
            )
    return Y.astype(float)


def _per_sample(values: Any, X: pd.DataFrame, name: str) -> np.ndarray:
    """Return one string per sample of X."""
    if isinstance(values, str):
        return np.full(len(X), values, dtype=object)
    if isinstance(values, pd.Series):
        values = _aligned(values.to_frame(), X, name).iloc[:, 0]
    values = np.asarray(values, dtype=object)
    if values.shape != (len(X),):
        raise MiracleError(f"{name} has shape {values.shape}; expected one value per sample of X")
    return values.astype(str).astype(object)


def _cohorts_of_tasks(Y: pd.DataFrame) -> np.ndarray:
    """Name a cohort per sample: tasks that share samples make one cohort."""
    labelled = Y.notna().to_numpy()
    linked = (labelled.T.astype(int) @ labelled.astype(int)) > 0
    linked = np.linalg.matrix_power(linked.astype(int), max(len(linked), 2)) > 0
    names = np.array(["+".join(Y.columns[row].astype(str)) for row in linked], dtype=object)
    cohort = np.full(len(Y), "unlabelled", dtype=object)
    for task in range(labelled.shape[1]):
        cohort[labelled[:, task]] = names[task]
    return cohort


def _group_codes(groups: Any, X: pd.DataFrame) -> np.ndarray:
    """Return one integer per group; every sample is its own group by default."""
    if groups is None:
        return np.arange(len(X))
    return pd.factorize(_per_sample(groups, X, "groups"))[0]


def _device(name: str) -> torch.device:
    """Return the device, a GPU if there is one and it is left open."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
