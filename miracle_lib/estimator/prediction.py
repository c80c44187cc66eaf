"""What a trained classifier says of new samples."""

from __future__ import annotations

import logging
from copy import copy
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.scale import m_to_beta
from miracle_lib.preprocessing.streaming import standardized
from miracle_lib.samples import Samples
from miracle_lib.stored import StoredValues
from miracle_lib.training.inputs import read_samples, vector_of
from miracle_lib.training.processes import local_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from miracle_lib.hierarchy import Hierarchy
    from miracle_lib.model import MaskedVAE
    from miracle_lib.preprocessing import CohortStandardizer
    from miracle_lib.preprocessing.coding import CovariateCoder
    from miracle_lib.training.member import Member

log = logging.getLogger(__name__)


class Prediction:
    """The methods of a fitted `MiracleClassifier` that do not change it."""

    # What the classifier that these methods belong to has.
    tasks_: list[str]
    sites_: pd.Index
    members_: list[Member]
    hierarchy_: Hierarchy
    standardizer_: CohortStandardizer
    block_share_: pd.DataFrame
    min_site_share: float
    _coder: CovariateCoder
    _columns: pd.Index
    _cohorts_of: dict[str, list[str]]

    @property
    def network_(self) -> MaskedVAE:
        """The autoencoder of the first member."""
        check_is_fitted(self, "members_")
        return self.members_[0].network

    def predict_proba(
        self, X: Any, cohort: Any = None, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame | np.ndarray:
        """Return each sample's probability of being a case.

        Parameters
        ----------
        X : Samples, AnnData, DataFrame or array, shape (n_samples, n_sites)
            Beta values. Sites the model does not know are ignored; sites of the model that are
            absent or NaN take the mean of the cohort, and their number is logged. An array has the
            sites of `fit`, in their order.
        cohort : str, Series or array, optional
            Cohort whose statistics standardise a sample. Default: for each task the cohort it was
            trained on; with several, the one whose mean profile is nearest to the sample.
        covariates : DataFrame, optional
            As at `fit`; what is not known counts as average. Default: those of a `Samples` or an
            AnnData.

        Returns
        -------
        DataFrame, shape (n_samples, n_tasks)
            After a fit on a vector of two classes: an array, shape (n_samples, 2), of the
            probabilities of ``classes_``.

        Raises
        ------
        MiracleError
            If less than ``min_site_share`` of the sites are present, or a cohort is unknown.
        """
        proba = 1 / (1 + np.exp(-self._logits(X, cohort, covariates)))
        if not hasattr(self, "classes_"):
            return proba
        case = proba.to_numpy()[:, 0]
        return np.stack([1 - case, case], axis=1)

    def predict(
        self, X: Any, cohort: Any = None, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame | np.ndarray:
        """Return 1 where a case is more probable than not, else 0; see `predict_proba`.

        After a fit on a vector of two classes: an array of these classes.
        """
        case = (self._logits(X, cohort, covariates) > 0).astype(int)
        return self.classes_[case.to_numpy()[:, 0]] if hasattr(self, "classes_") else case

    def decision_function(
        self, X: Any, cohort: Any = None, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame | np.ndarray:
        """Return logits, samples x tasks, or a vector of them; see `predict_proba`."""
        logits = self._logits(X, cohort, covariates)
        return logits.to_numpy()[:, 0] if hasattr(self, "classes_") else logits

    def _logits(
        self, X: Any, cohort: Any = None, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Return logits, samples x tasks."""
        return by_parts(self._logits_of, self._complete(X, cohort, covariates))

    def _logits_of(self, samples: Samples) -> pd.DataFrame:
        """Return the logits of samples that have all sites."""
        chosen = self._cohort_per_task(samples)
        logits = np.empty(chosen.shape)
        for name in sorted(set(chosen.ravel())):
            here = chosen == name
            rows = here.any(axis=1)
            some = samples if rows.all() else samples.take(rows)
            z, conditions = self._inputs(some, np.full(len(some), name, object))
            with torch.no_grad():
                each = [member.heads(member.features(z, conditions)) for member in self.members_]
            part = torch.stack(each).double().mean(0).cpu().numpy()
            logits[rows] = np.where(here[rows], part, logits[rows])
        return pd.DataFrame(logits, samples.names, self.tasks_)

    def transform(
        self, X: Any, cohort: Any = None, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame | AnnData:
        """Return pathway activities, samples x pathways, averaged over the members.

        Without ``cohort``, each sample is standardised by the cohort whose mean training profile
        is nearest to it. Other arguments as in `predict_proba`. An AnnData comes back as another
        one, with the activities in ``obsm["pathways"]``; its values are not copied.
        """
        activities = by_parts(self._activities, self._complete(X, cohort, covariates))
        return _with_pathways(X, activities) if isinstance(X, AnnData) else activities

    def _activities(self, samples: Samples) -> pd.DataFrame:
        """Return the pathway activities of samples that have all sites."""
        z, conditions = self._inputs(samples, self._one_cohort(samples))
        activity = [member.features(z, conditions)["pathways"] for member in self.members_]
        mean = torch.stack(activity).mean(0).cpu().numpy()
        return pd.DataFrame(mean, samples.names, self.hierarchy_.pathways)

    def reconstruct(
        self, X: Any, cohort: Any = None, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Return the beta values that the autoencoder expects, samples x sites of the hierarchy.

        Arguments as in `transform`.
        """
        return by_parts(self._expected, self._complete(X, cohort, covariates))

    def _expected(self, samples: Samples) -> pd.DataFrame:
        """Return the expected beta values of samples that have all sites."""
        cohort = self._one_cohort(samples)
        z, conditions = self._inputs(samples, cohort)
        with torch.no_grad():
            each = [
                member.network.eval()(member.sites(z), conditions, sample=False).reconstruction
                for member in self.members_
            ]
        values = torch.stack(each).mean(0).cpu().numpy()
        sites = self.hierarchy_.sites
        values = values * self.standardizer_.sd_.loc[cohort, sites].to_numpy()
        values = values + self.standardizer_.mean_.loc[cohort, sites].to_numpy()
        values = m_to_beta(values) if self.standardizer_.scale == "m" else values.clip(0, 1)
        return pd.DataFrame(values, samples.names, sites)

    def score(
        self, X: Any, Y: Any = None, cohort: Any = None, covariates: pd.DataFrame | None = None
    ) -> float:
        """Return the mean AUROC over the tasks that have both classes in ``Y``.

        Parameters
        ----------
        X, cohort, covariates
            As in `predict_proba`.
        Y : DataFrame, array or vector, optional
            Labels as at `fit`. The columns of a DataFrame and the name of a Series say which tasks
            they are, some of the model's in any order; an array has all of them, in their order.
            Default: those of ``X``.

        Raises
        ------
        MiracleError
            If a task is not one of the model's.
        """
        samples = self._complete(X, cohort, covariates)
        logits = self._logits(samples, cohort, covariates)
        scores = []
        for task, label in self._labels(samples, Y).items():
            seen = label.notna().to_numpy()
            if label[seen].nunique() == 2:
                scores.append(roc_auc_score(label[seen], logits[task][seen]))
        return float(np.mean(scores)) if scores else float("nan")

    def _labels(self, samples: Samples, Y: Any) -> pd.DataFrame:
        """Return labels as a table, each column one of the model's tasks."""
        if hasattr(self, "classes_") and vector_of(Y) is not None:
            y = pd.Series(Y, None if isinstance(Y, pd.Series) else samples.names, dtype=object)
            unknown = y[y.notna() & ~y.isin(self.classes_)]
            if len(unknown):
                raise MiracleError(
                    f"y holds {unknown.iloc[0]!r} for sample {unknown.index[0]!r}; expected one of "
                    f"{', '.join(map(repr, self.classes_.tolist()))}"
                )
            codes = {each: code for code, each in enumerate(self.classes_)}
            Y = y.map(codes).rename(self.tasks_[0])
        elif Y is not None and not isinstance(Y, pd.DataFrame | pd.Series):
            array = np.asarray(Y)
            if array.size != len(array) * len(self.tasks_):
                raise MiracleError(
                    f"Y has shape {array.shape}; expected a column for each of the tasks "
                    f"{', '.join(self.tasks_)}"
                )
            Y = pd.DataFrame(array.reshape(len(array), -1), samples.names, self.tasks_)
        labels = samples.labels if Y is None else samples.replace(labels=Y).labels
        for task in labels:
            self._known_task(task)
        return labels

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the pathways."""
        check_is_fitted(self, "members_")
        return self.hierarchy_.pathways.to_numpy(dtype=object)

    def _inputs(self, samples: Samples, cohort: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return standardised sites and covariates as the networks take them."""
        device = next(self.members_[0].parameters()).device
        z = self.standardizer_.transform(samples.values, cohort=cohort)
        z = torch.from_numpy(z.to_numpy())
        conditions = torch.from_numpy(self._coder.encode(samples.covariates, cohort))
        return z.to(device), conditions.to(device)

    def _complete(
        self, X: Any, cohort: Any = None, covariates: pd.DataFrame | None = None
    ) -> Samples:
        """Return samples with all sites of the model, absent ones NaN; refuse too few.

        Their cohort is the one asked for; that of a `Samples` need not be one of the model's.
        """
        check_is_fitted(self, "members_")
        samples = copy(read_samples(X, self._columns, cohort=cohort, covariates=covariates))
        samples.cohort = samples.cohort if cohort is not None else None
        present = self.sites_.isin(samples.sites)
        if present.mean() < self.min_site_share:
            raise MiracleError(
                f"X has {present.sum()} of the model's {len(present)} sites, a share of "
                f"{present.mean():.2f}; at least {self.min_site_share:.2f} is expected"
            )
        if not present.all():
            log.warning(
                "%d of the model's %d sites are absent and take the mean of the cohort",
                (~present).sum(),
                len(present),
            )
        # Parts of stored values are read in the order of the model, which is found once.
        if isinstance(samples.values, StoredValues) or not present.all():
            samples.values = samples.values.reindex(columns=self.sites_)
        return samples

    def _cohort_per_task(self, samples: Samples) -> np.ndarray:
        """Return, for each sample and task, the cohort whose statistics are used."""
        if samples.cohort is not None:
            return np.repeat(samples.cohort.to_numpy()[:, None], len(self.tasks_), axis=1)
        X = samples.values
        columns = [self.standardizer_.nearest(X, self._cohorts_of[task]) for task in self.tasks_]
        return np.stack(columns, axis=1)

    def _one_cohort(self, samples: Samples) -> np.ndarray:
        """Return one cohort per sample: as given, or the nearest."""
        if samples.cohort is not None:
            return samples.cohort.to_numpy()
        return self.standardizer_.nearest(samples.values)

    def logit_module(self, task: str) -> TaskLogit:
        """Return a torch module from standardised input (batch, n_sites) to a task's logit.

        Differentiable, for attribution methods; averages the members. Its input are columns in
        the order of ``sites_``, as `standardized` gives them.
        """
        check_is_fitted(self, "members_")
        return TaskLogit(self, self._known_task(task))

    def standardized(self, X: Any, task: str) -> Tensor:
        """Return the input of `logit_module`: z-scores by the statistics of the task's cohort."""
        samples, candidates = self._complete(X), self._cohorts_of[self._known_task(task)]

        def nearest(part: Samples) -> pd.DataFrame:
            return pd.DataFrame(self.standardizer_.nearest(part.values, candidates), part.names)

        cohort = by_parts(nearest, samples)[0].to_numpy()
        z = standardized(self.standardizer_, samples.values, cohort)
        return torch.from_numpy(z).to(next(self.members_[0].parameters()).device)

    def _known_task(self, task: str) -> str:
        """Refuse an unknown task."""
        if task not in self.tasks_:
            raise MiracleError(f"there is no task {task!r}; expected one of {self.tasks_}")
        return task


def by_parts(function: Callable[[Samples], pd.DataFrame], samples: Samples) -> pd.DataFrame:
    """Call a function that gives a row per sample; of values on disk, with some at a time."""
    if not isinstance(samples.values, StoredValues):
        return function(samples)
    rows = [function(samples.replace(values=part)) for _, part in samples.values.parts()]
    return pd.concat(rows).loc[samples.names]


class TaskLogit(nn.Module):
    """The logit of one task as a function of standardised input."""

    covariates: Tensor

    def __init__(self, model: Prediction, task: str) -> None:
        super().__init__()
        self.members = cast("Sequence[Member]", nn.ModuleList(model.members_))
        self.task = model.tasks_.index(task)
        cohort = np.array(model._cohorts_of[task][:1], dtype=object)
        conditions = torch.from_numpy(model._coder.encode(None, cohort))
        self.register_buffer("covariates", conditions.to(next(self.parameters()).device))

    def forward(self, z: Tensor) -> Tensor:
        """Return logits, shape (batch,)."""
        conditions = self.covariates.expand(len(z), -1)
        return torch.stack([member(z, conditions)[:, self.task] for member in self.members]).mean(0)


def _with_pathways(adata: AnnData, activities: pd.DataFrame) -> AnnData:
    """Return an AnnData of the same values with pathway activities beside them."""
    return AnnData(
        adata.X,
        obs=adata.obs,
        var=adata.var,
        uns=adata.uns,
        obsm=dict(adata.obsm) | {"pathways": activities},
        varm=dict(adata.varm),
        layers=dict(adata.layers),
    )


def take_device(name: str) -> torch.device:
    """Return the device; "auto" is a GPU if there is one."""
    if name == "auto":
        name = f"cuda:{local_number()}" if torch.cuda.is_available() else "cpu"
    try:
        # A device that exists can hold a number.
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError, TypeError):
        raise MiracleError(f"device is {name!r}, which this machine does not have") from None
