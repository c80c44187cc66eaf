"""What a trained classifier says of new samples."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.scale import m_to_beta
from miracle_lib.training.inputs import label_table, per_sample, site_table

if TYPE_CHECKING:
    from miracle_lib.model import MaskedVAE

log = logging.getLogger(__name__)

BLOCKS = ("pathways", "genes", "residual")


class Prediction:
    """The methods of a fitted `MiracleClassifier` that do not change it."""

    @property
    def residual_share_(self) -> pd.Series:
        """Share of the residual sites in the spread of the training predictions, per task."""
        check_is_fitted(self, "members_")
        return self.block_share_["residual"]

    @property
    def network_(self) -> MaskedVAE:
        """The autoencoder of the first member."""
        check_is_fitted(self, "members_")
        return self.members_[0].network

    def predict_proba(
        self,
        X: pd.DataFrame,
        cohort: str | pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return each sample's probability of being a case.

        Parameters
        ----------
        X : DataFrame, shape (n_samples, n_sites)
            Beta values. Sites the model does not know are ignored; sites of the model that are
            absent or NaN take the mean of the cohort, and their number is logged.
        cohort : str, Series or array, optional
            Cohort whose statistics standardise a sample. Default: for each task the cohort it was
            trained on; with several, the one whose mean profile is nearest to the sample.
        covariates : DataFrame, optional
            As at `fit`; what is not known counts as average.

        Returns
        -------
        DataFrame, shape (n_samples, n_tasks)

        Raises
        ------
        MiracleError
            If less than ``min_site_share`` of the sites are present, or a cohort is unknown.
        """
        return 1 / (1 + np.exp(-self.decision_function(X, cohort, covariates)))

    def predict(
        self,
        X: pd.DataFrame,
        cohort: str | pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return 1 where a case is more probable than not, else 0; see `predict_proba`."""
        return (self.decision_function(X, cohort, covariates) > 0).astype(int)

    def decision_function(
        self,
        X: pd.DataFrame,
        cohort: str | pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return logits, samples x tasks; see `predict_proba`."""
        X = self._complete(X)
        chosen = self._cohort_per_task(X, cohort)
        logits = np.empty(chosen.shape)
        for name in sorted(set(chosen.ravel())):
            here = chosen == name
            rows = np.flatnonzero(here.any(axis=1))
            z, known = self._inputs(X.iloc[rows], np.full(len(rows), name, object), covariates)
            with torch.no_grad():
                each = [member.heads(member.features(z, known)) for member in self.members_]
            part = torch.stack(each).double().mean(0).cpu().numpy()
            logits[rows] = np.where(here[rows], part, logits[rows])
        return pd.DataFrame(logits, X.index, self.tasks_)

    def transform(
        self,
        X: pd.DataFrame,
        cohort: str | pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return pathway activities, samples x pathways, averaged over the members.

        Without ``cohort``, each sample is standardised by the cohort whose mean training profile
        is nearest to it. Other arguments as in `predict_proba`.
        """
        X = self._complete(X)
        z, known = self._inputs(X, self._one_cohort(X, cohort), covariates)
        activity = [member.features(z, known)["pathways"] for member in self.members_]
        mean = torch.stack(activity).mean(0).cpu().numpy()
        return pd.DataFrame(mean, X.index, self.hierarchy_.pathways)

    def reconstruct(
        self,
        X: pd.DataFrame,
        cohort: str | pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return the beta values that the autoencoder expects, samples x sites of the hierarchy.

        Arguments as in `transform`.
        """
        X = self._complete(X)
        cohort = self._one_cohort(X, cohort)
        z, known = self._inputs(X, cohort, covariates)
        with torch.no_grad():
            each = [
                member.network.eval()(member.sites(z), known, sample=False).reconstruction
                for member in self.members_
            ]
        values = torch.stack(each).mean(0).cpu().numpy()
        sites = self.hierarchy_.sites
        values = values * self.standardizer_.sd_.loc[cohort, sites].to_numpy()
        values = values + self.standardizer_.mean_.loc[cohort, sites].to_numpy()
        values = m_to_beta(values) if self.scale == "m" else values.clip(0, 1)
        return pd.DataFrame(values, X.index, sites)

    def score(self, X: pd.DataFrame, Y: pd.DataFrame, **known: Any) -> float:
        """Return the mean AUROC over the tasks that have both classes in ``Y``.

        ``known`` is passed on to `decision_function`.
        """
        Y = label_table(Y, site_table(X), both_classes=False)
        logits = self.decision_function(X, **known)
        scores = []
        for task, (_, label) in zip(self.tasks_, Y.items(), strict=True):
            seen = label.notna().to_numpy()
            if label[seen].nunique() == 2:
                scores.append(roc_auc_score(label[seen], logits[task][seen]))
        return float(np.mean(scores)) if scores else float("nan")

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the pathways."""
        check_is_fitted(self, "members_")
        return self.hierarchy_.pathways.to_numpy(dtype=object)

    def _inputs(
        self, X: pd.DataFrame, cohort: np.ndarray, covariates: pd.DataFrame | None
    ) -> tuple[Tensor, Tensor]:
        """Return standardised sites and covariates as the networks take them."""
        device = next(self.members_[0].parameters()).device
        z = torch.from_numpy(self.standardizer_.transform(X, cohort=cohort).to_numpy())
        known = torch.from_numpy(self._coder.encode(covariates, X, cohort))
        return z.to(device), known.to(device)

    def _complete(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return a table with all sites of the model, absent ones NaN; refuse too few."""
        check_is_fitted(self, "members_")
        present = self.sites_.isin(site_table(X).columns)
        if present.mean() < self.min_site_share:
            raise MiracleError(
                f"X has {present.sum()} of the model's {len(present)} sites, a share of "
                f"{present.mean():.2f}; at least {self.min_site_share:.2f} is expected"
            )
        if present.all():
            return X
        log.warning(
            "%d of the model's %d sites are absent and take the mean of the cohort",
            (~present).sum(),
            len(present),
        )
        return X.reindex(columns=self.sites_)

    def _cohort_per_task(self, X: pd.DataFrame, cohort: Any) -> np.ndarray:
        """Return, for each sample and task, the cohort whose statistics are used."""
        if cohort is not None:
            return np.repeat(per_sample(cohort, X, "cohort")[:, None], len(self.tasks_), axis=1)
        columns = [self._nearest_cohort(X, self._cohorts_of[task]) for task in self.tasks_]
        return np.stack(columns, axis=1)

    def _one_cohort(self, X: pd.DataFrame, cohort: Any) -> np.ndarray:
        """Return one cohort per sample: as given, or the nearest."""
        if cohort is not None:
            return per_sample(cohort, X, "cohort")
        return self._nearest_cohort(X, self.standardizer_.cohorts_)

    def _nearest_cohort(self, X: pd.DataFrame, candidates: list[str]) -> np.ndarray:
        """Return the cohort whose mean training profile is nearest to each sample.

        The distance is a mean over the sites that the sample and the cohort have; a cohort with
        less than half as many of them as another has is not considered.
        """
        if len(candidates) == 1:
            return np.full(len(X), candidates[0], dtype=object)
        common = self.standardizer_.sd_.mean()
        measured = X[self.sites_].notna().to_numpy()
        distance = np.empty((len(X), len(candidates)))
        shared = np.empty_like(distance)
        for column, name in enumerate(candidates):
            # In units of one SD per site, so that a cohort that spreads widely is not favoured.
            z = self.standardizer_.transform(X, cohort=name)
            z *= (self.standardizer_.sd_.loc[name] / common).fillna(0)
            known = self.standardizer_.mean_.loc[name].notna().to_numpy()
            shared[:, column] = measured[:, known].sum(axis=1)
            distance[:, column] = np.square(z).sum(axis=1) / np.maximum(shared[:, column], 1)
        distance[shared < shared.max(axis=1, keepdims=True) / 2] = np.inf
        return np.array(candidates, dtype=object)[np.argmin(distance, axis=1)]

    def logit_module(self, task: str) -> nn.Module:
        """Return a torch module from standardised input (batch, n_sites) to a task's logit.

        Differentiable, for attribution methods; averages the members. Its input are columns in
        the order of ``sites_``, as `standardized` gives them.
        """
        check_is_fitted(self, "members_")
        return TaskLogit(self, self._known_task(task))

    def standardized(self, X: pd.DataFrame, task: str) -> Tensor:
        """Return the input of `logit_module`: z-scores by the statistics of the task's cohort."""
        X = self._complete(X)
        cohort = self._nearest_cohort(X, self._cohorts_of[self._known_task(task)])
        return self._inputs(X, cohort, None)[0]

    def _known_task(self, task: str) -> str:
        """Refuse an unknown task."""
        if task not in self.tasks_:
            raise MiracleError(f"there is no task {task!r}; expected one of {self.tasks_}")
        return task


class TaskLogit(nn.Module):
    """The logit of one task as a function of standardised input."""

    def __init__(self, model: Prediction, task: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(model.members_)
        self.task = model.tasks_.index(task)
        cohort = np.array(model._cohorts_of[task][:1], dtype=object)
        known = torch.from_numpy(model._coder.encode(None, pd.DataFrame(index=[0]), cohort))
        self.register_buffer("covariates", known.to(next(self.parameters()).device))

    def forward(self, z: Tensor) -> Tensor:
        """Return logits, shape (batch,)."""
        known = self.covariates.expand(len(z), -1)
        return torch.stack([member(z, known)[:, self.task] for member in self.members]).mean(0)


def take_device(name: str) -> torch.device:
    """Return the device; "auto" is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
