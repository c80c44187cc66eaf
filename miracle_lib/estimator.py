"""The scikit-learn estimator: beta values in, probabilities and pathway activities out."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.metrics import roc_auc_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from miracle_lib.cohorts.tables import read_beta_values
from miracle_lib.errors import MiracleError
from miracle_lib.files import atomic_path
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.model import MaskedVAE
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.preprocessing.scale import m_to_beta
from miracle_lib.training import (
    Checkpoint,
    Member,
    Prior,
    Trained,
    Trainer,
    TrainingData,
    make_settings,
)
from miracle_lib.training.inputs import (
    CovariateCoder,
    aligned,
    cohorts_of_labels,
    label_table,
    per_sample,
    site_table,
)
from miracle_lib.training.storage import load_model, read_about, save_model

log = logging.getLogger(__name__)

BLOCKS = ("pathways", "genes", "residual")


class MiracleClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Multi-task case/control classifier whose hidden layers are genes and pathways.

    A masked variational autoencoder (site -> gene -> pathway -> gene -> site) learns from all
    samples; heads, one per task, read pathway activities, gene activations and the sites
    that the hierarchy does not reach. How strongly each of the three blocks is penalised, and how
    much the tasks share, is found by the evidence of the labels. Input are beta values,
    standardised per cohort by training statistics; a task is predicted under the statistics of
    its own cohort.

    Parameters
    ----------
    hierarchy : Hierarchy
        Restricted to the sites of ``X`` at fit.
    weighting : str, default "pwinval"
        Task-weighting policy, see `miracle_lib.model.weighting`.
    ceiling : dict of str to float, optional
        Single-task accuracy of each task, for ``"pwinval"``. Default: estimated by inner
        single-task fits.
    sharing : "auto" or float, default "auto"
        Correlation of the head weights between tasks: 0 independent, 1 the same.
    residual : bool, default True
        Let the sites that the hierarchy does not reach contribute; False ignores them.
    variational : bool, default True
        False: a plain autoencoder, no sampling and no Kullback-Leibler term.
    condition_on_cohort : bool, default True
        Give the autoencoder cohort indicators, so that the latent need not carry them.
    activation : {"identity", "tanh", "relu", "gelu", "elu"}, default "identity"
        Of the gene layers. At tens to hundreds of samples linear genes predict best.
    norm : {"none", "batch", "layer"}, default "none"
        Of the gene layers.
    head_units : int, optional
        Units of a hidden layer (tanh) between each of the three blocks and each task's logit,
        trained by gradient steps with early stopping. Default: linear heads, solved for exactly.
    likelihood : {"gaussian", "mse"}, default "gaussian"
        Of the standardised values that the autoencoder reconstructs: one learned variance per
        site, or all variances one. Cross-entropy of beta values, as `MaskedVAE` has it, does not
        apply: standardised values leave [0, 1].
    scale : {"m", "beta"}, default "m"
        Standardise M-values or beta values.
    stages : {"three", "joint"}, default "three"
        Autoencoder, heads on the frozen encoder, fine-tuning; or everything at once.
    preset : {"default", "paper"}, default "default"
        ``"paper"``: epochs, learning rates and full batches of the original code, heads trained by
        gradient steps. The network stays the one described here: its heads are linear unless
        ``head_units`` is given, where the original has four layers on the sampled latent.
    epochs, learning_rate : tuple of three numbers, optional
        Per stage, in place of the preset's. 0 epochs leave a stage out.
    batch_size : int, None or "preset", default "preset"
        Samples per mini-batch; None: all at once.
    n_members : int, default 1
        Networks, each from its own starting weights and with its own inner fold held out; their
        logits are averaged.
    min_site_share : float, default 0.5
        Least share of the model's sites that new samples must have.
    device : str, default "auto"
        ``"auto"`` takes a GPU if there is one.
    random_state : int, default 0
        Same seed, same data: same weights on a CPU.
    checkpoint_dir : path, optional
        Where a training that is killed leaves its state; the same call to `fit` continues it.
    checkpoint_every : int, default 1
        Epochs between two states written.
    progress : bool, optional
        Show a progress bar. Default: on a terminal only.

    Attributes
    ----------
    tasks_ : list of str
    hierarchy_ : Hierarchy
        Restricted to the sites of ``X``.
    sites_, residual_sites_ : Index
        Sites of the model, those of the hierarchy first; and those outside it.
    standardizer_ : CohortStandardizer
    members_ : list of Member
        The trained networks; ``network_`` is the autoencoder of the first.
    history_ : DataFrame
        One row per member, stage and epoch: losses, and ``weight[task]`` for each task.
    prior_ : Prior
        Scale of each block in each task, and sharing.
    ceiling_ : Series
        Single-task accuracies used by ``"pwinval"``; 1 where they were not needed.
    fine_tuned_ : list of bool
        Whether stage three lowered the held-out loss clearly and was kept, per member.
    block_share_ : DataFrame, tasks x blocks
        Share of pathways, genes and residual sites in the spread of the training predictions.
    residual_share_ : Series
        Its column ``residual``.

    References
    ----------
    MIRACLE, 2023, arXiv 2306.13866.

    Examples
    --------
    >>> from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
    >>> data = simulate_cohorts({"MS": 40, "RA": 40}, n_sites=200, random_state=0)
    >>> X, Y, obs = merge_cohorts(list(data.cohorts.values()))
    >>> hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets)
    >>> model = MiracleClassifier(hierarchy, epochs=(2, 5, 0)).fit(X, Y)
    >>> model.predict_proba(X).shape
    (80, 2)
    """

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
        head_units: int | None = None,
        likelihood: Literal["gaussian", "mse"] = "gaussian",
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
        self.head_units = head_units
        self.likelihood = likelihood
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

    # Training

    def fit(
        self,
        X: pd.DataFrame,
        Y: pd.DataFrame,
        cohort: pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
        groups: pd.Series | np.ndarray | None = None,
    ) -> Self:
        """Train.

        Parameters
        ----------
        X : DataFrame, shape (n_samples, n_sites)
            Beta values, NaN for missing.
        Y : DataFrame, shape (n_samples, n_tasks)
            1 case, 0 control, NaN not labelled for the task.
        cohort : Series or array, shape (n_samples,), optional
            Default: samples labelled for the same task are one cohort.
        covariates : DataFrame, shape (n_samples, n_covariates), optional
            Such as age, sex and cell fractions: conditions of the autoencoder, no predictors.
        groups : Series or array, shape (n_samples,), optional
            Subjects; samples of one subject stay together in every inner split.

        Returns
        -------
        MiracleClassifier

        Raises
        ------
        MiracleError
            Labels other than 0, 1 and NaN, a task without both classes, no site in the hierarchy,
            beta values outside [0, 1], an unknown option, or a loss that is not finite.
        """
        trainer = self._prepare(X, Y, cohort, covariates, groups)
        return self._keep(trainer.fit(), trainer.data)

    def _prepare(
        self,
        X: pd.DataFrame,
        Y: pd.DataFrame,
        cohort: Any = None,
        covariates: Any = None,
        groups: Any = None,
    ) -> Trainer:
        """Check the input, learn what is not trained, and set up the training."""
        X, Y = site_table(X), label_table(Y, site_table(X))
        self.tasks_ = [str(task) for task in Y.columns]
        self._check_options()
        cohort = cohorts_of_labels(Y) if cohort is None else per_sample(cohort, X, "cohort")
        self._cohorts_of = {
            task: sorted(set(cohort[Y[column].notna().to_numpy()]))
            for task, column in zip(self.tasks_, Y.columns, strict=True)
        }
        self._arrange_sites(X)
        z = self._fit_standardizer(X, cohort)
        cohorts = self.standardizer_.cohorts_ if self.condition_on_cohort else []
        self._coder = CovariateCoder.learn(covariates, X, cohorts)
        device = _device(self.device)
        data = TrainingData(
            z.to(device),
            torch.from_numpy(Y.to_numpy(np.float32)).to(device),
            torch.from_numpy(self._coder.encode(covariates, X, cohort)).to(device),
            _group_codes(groups, X),
        )
        return self._trainer(data)

    def _keep(self, trained: Trained, data: TrainingData) -> Self:
        """Keep what was trained."""
        self.members_, self.prior_ = trained.members, trained.prior
        self.history_ = pd.DataFrame(trained.history)
        self.ceiling_ = pd.Series(trained.ceiling.numpy(), self.tasks_)
        self.fine_tuned_ = trained.fine_tuned
        self.block_share_ = self._block_shares(data)
        return self

    def _check_options(self) -> None:
        """Refuse options that no later step would name."""
        if self.stages not in ("three", "joint"):
            raise MiracleError(f"stages is {self.stages!r}; expected 'three' or 'joint'")
        if self.n_members < 1:
            raise MiracleError(f"n_members is {self.n_members}; expected at least 1")
        if self.head_units is not None and self.head_units < 1:
            raise MiracleError(f"head_units is {self.head_units}; expected None or at least 1")
        if self.likelihood not in ("gaussian", "mse"):
            raise MiracleError(
                f"likelihood is {self.likelihood!r}; expected 'gaussian' or 'mse' (of standardised "
                "values, which are no proportions)"
            )
        if self.sharing != "auto" and not 0 <= self.sharing <= 1:
            raise MiracleError(f"sharing is {self.sharing!r}; expected 'auto' or 0 to 1")
        absent = set(self.tasks_).difference(self.tasks_ if self.ceiling is None else self.ceiling)
        if absent:
            raise MiracleError(f"ceiling has no entry for task {min(absent)!r}")

    def _arrange_sites(self, X: pd.DataFrame) -> None:
        """Order the sites: those of the hierarchy, then the residual ones."""
        self.hierarchy_ = self.hierarchy.restrict(X.columns)
        outside = X.columns[~X.columns.isin(self.hierarchy_.sites)]
        self.residual_sites_ = outside if self.residual else outside[:0]
        self.sites_ = self.hierarchy_.sites.append(self.residual_sites_)
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        self.n_features_in_ = X.shape[1]

    def _fit_standardizer(self, X: pd.DataFrame, cohort: np.ndarray) -> Tensor:
        """Learn the cohorts' statistics and return the standardised input in model order."""
        fitted = CohortStandardizer(scale=self.scale).fit(X, cohort=cohort)
        self._set_statistics(fitted, fitted.mean_[self.sites_], fitted.sd_[self.sites_])
        return torch.from_numpy(fitted.transform(X, cohort=cohort).to_numpy())

    def _set_statistics(
        self, standardizer: CohortStandardizer, mean: pd.DataFrame, sd: pd.DataFrame
    ) -> None:
        """Give a standardiser the statistics of the model's sites, in their order."""
        standardizer.mean_, standardizer.sd_ = mean, sd
        standardizer.cohorts_ = list(mean.index)
        standardizer._sites_in = self.sites_
        standardizer.n_features_in_ = len(self.sites_)
        self.standardizer_ = standardizer

    def _trainer(self, data: TrainingData) -> Trainer:
        """Set up the training as the parameters say."""
        ceiling = None
        if self.ceiling is not None:
            values = [self.ceiling[task] for task in self.tasks_]
            ceiling = torch.tensor(values, dtype=torch.float64)
        checkpoint = None
        if self.checkpoint_dir is not None:
            checkpoint = Path(self.checkpoint_dir) / f"{self._fingerprint(data)}.pt"
        return Trainer(
            self.hierarchy_,
            data,
            self.tasks_,
            make_settings(
                self.preset, self.epochs, self.learning_rate, self.batch_size, self.head_units
            ),
            weighting=self.weighting,
            sharing=self.sharing,
            stages=self.stages,
            n_members=self.n_members,
            ceiling=ceiling,
            seed=self.random_state,
            network_options=self._network_options(),
            checkpoint=Checkpoint(checkpoint, self.checkpoint_every),
            progress=self.progress,
        )

    def _fingerprint(self, data: TrainingData) -> str:
        """Name this training by its parameters and data: only the same one continues a state."""
        parameters = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in ("hierarchy", "checkpoint_dir", "checkpoint_every", "progress")
        }
        digest = hashlib.sha256(json.dumps([parameters, self.tasks_], default=str).encode())
        digest.update(self.hierarchy_.hash.encode())
        for part in (data.x.sum(0), data.x.sum(1), data.labels, data.covariates):
            digest.update(part.cpu().numpy().tobytes())
        digest.update(data.groups.tobytes())
        return digest.hexdigest()[:16]

    def _network_options(self) -> dict[str, Any]:
        """Return the options of a member."""
        return {
            "head_units": self.head_units,
            "activation": self.activation,
            "norm": self.norm,
            "variational": self.variational,
            "likelihood": self.likelihood,
        }

    def _block_shares(self, data: TrainingData) -> pd.DataFrame:
        """Return each block's share of the spread of the training predictions, per task."""
        total = pd.DataFrame(0.0, self.tasks_, list(BLOCKS))
        for member in self.members_:
            with torch.no_grad():
                shares = member.heads.shares(member.features(data.x, data.covariates))
            for block, share in shares.items():
                total[block] += share.cpu().numpy() / len(self.members_)
        return total

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

    # Prediction

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

    # Interpretation

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

    # Persistence

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a folder: safetensors, JSON and the hierarchy; no pickle.

        Parameters
        ----------
        path : str or Path
            Folder; an older model there is replaced once the new one is complete.
        """
        check_is_fitted(self, "members_")
        skip = ("hierarchy", "checkpoint_dir", "checkpoint_every", "progress")
        parameters = self.get_params(deep=False)
        about = {
            "parameters": {name: parameters[name] for name in parameters if name not in skip},
            "tasks": self.tasks_,
            "cohorts": self.standardizer_.cohorts_,
            "cohorts_of": self._cohorts_of,
            "residual_sites": list(self.residual_sites_),
            "covariates": vars(self._coder),
            "sharing": self.prior_.sharing,
            "fine_tuned": self.fine_tuned_,
            "history": json.loads(self.history_.to_json(orient="records", double_precision=15)),
        }
        tensors = {
            "mean": torch.from_numpy(self.standardizer_.mean_.to_numpy()),
            "sd": torch.from_numpy(self.standardizer_.sd_.to_numpy()),
            "prior_scale": torch.from_numpy(self.prior_.scale),
            "ceiling": torch.from_numpy(self.ceiling_.to_numpy()),
            "block_share": torch.from_numpy(self.block_share_.to_numpy()),
        }
        for index, member in enumerate(self.members_):
            tensors |= {f"{index}.{key}": value for key, value in member.state_dict().items()}
        save_model(path, about, tensors, self.hierarchy_)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model written by `save`; its parameter ``hierarchy`` is the restricted one.

        Raises
        ------
        MiracleError
            If the folder holds no model, or one of a later version.
        """
        about, tensors, hierarchy = load_model(path)
        parameters = about["parameters"]
        for name in ("epochs", "learning_rate"):
            if parameters[name] is not None:
                parameters[name] = tuple(parameters[name])
        model = cls(hierarchy, **parameters)
        model.hierarchy_, model.tasks_ = hierarchy, about["tasks"]
        model._cohorts_of, model.fine_tuned_ = about["cohorts_of"], about["fine_tuned"]
        model.residual_sites_ = pd.Index(about["residual_sites"], dtype=object)
        model.sites_ = hierarchy.sites.append(model.residual_sites_)
        model.feature_names_in_ = model.sites_.to_numpy(dtype=object)
        model.n_features_in_ = len(model.sites_)
        statistics = (
            pd.DataFrame(tensors[name].numpy(), about["cohorts"], model.sites_)
            for name in ("mean", "sd")
        )
        model._set_statistics(CohortStandardizer(scale=model.scale), *statistics)
        model._coder = CovariateCoder(**about["covariates"])
        model.prior_ = Prior(tensors["prior_scale"].numpy(), about["sharing"])
        model.ceiling_ = pd.Series(tensors["ceiling"].numpy(), model.tasks_)
        model.block_share_ = pd.DataFrame(
            tensors["block_share"].numpy(), model.tasks_, list(BLOCKS)
        )
        model.history_ = pd.DataFrame(about["history"])
        model.members_ = [model._read_member(tensors, index) for index in range(model.n_members)]
        return model

    def _read_member(self, tensors: dict[str, Tensor], index: int) -> Member:
        """Rebuild one network."""
        member = Member(
            self.hierarchy_,
            len(self.residual_sites_),
            len(self.tasks_),
            self._coder.width,
            seed=0,
            **self._network_options(),
        )
        start = f"{index}."
        member.load_state_dict(
            {key.removeprefix(start): v for key, v in tensors.items() if key.startswith(start)}
        )
        return member.to(_device(self.device)).eval()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.multi_output = True
        return tags


class TaskLogit(nn.Module):
    """The logit of one task as a function of standardised input."""

    def __init__(self, model: MiracleClassifier, task: str) -> None:
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


def predict_table(
    model_path: str | Path, table_path: str | Path, output_path: str | Path
) -> pd.DataFrame:
    """Predict every task for the samples of a file and write a CSV.

    Parameters
    ----------
    model_path : str or Path
        Folder of a saved model.
    table_path : str or Path
        Beta values, sites x samples or the other way round: CSV, TSV, parquet or h5ad.
    output_path : str or Path
        CSV with a column ``sample`` and one probability per task.

    Returns
    -------
    DataFrame
        What was written, indexed by sample.

    Raises
    ------
    MiracleError
        If a file cannot be read, or too few of the model's sites are in the table.
    """
    model = MiracleClassifier.load(model_path)
    table = read_beta_values(table_path)
    X = pd.DataFrame(table.values, table.samples, table.sites)
    proba = model.predict_proba(X).rename_axis("sample")
    with atomic_path(output_path) as temporary:
        proba.to_csv(temporary)
    return proba


def describe_model(model_path: str | Path) -> str:
    """Return what a saved model holds, as a few lines of text.

    Raises
    ------
    MiracleError
        If the folder holds no saved model.
    """
    about = read_about(model_path)
    hierarchy = Hierarchy.load(Path(model_path) / "hierarchy.npz")
    parameters = about["parameters"]
    units = parameters.get("head_units")  # absent in models saved before it was an option
    cohorts = "; ".join(f"{task} ({', '.join(c)})" for task, c in about["cohorts_of"].items())
    lines = {
        "tasks (cohorts)": cohorts,
        "sites": f"{len(hierarchy.sites):,} in the hierarchy, "
        f"{len(about['residual_sites']):,} residual",
        "genes": f"{len(hierarchy.genes):,}",
        "pathways": f"{len(hierarchy.pathways):,}",
        "networks": str(parameters["n_members"]),
        "heads": f"one hidden layer of {units} units" if units else "linear",
        "task weighting": parameters["weighting"],
        "sharing between tasks": f"{about['sharing']:.2f}",
        "least share of sites": f"{parameters['min_site_share']:.2f}",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def _group_codes(groups: Any, X: pd.DataFrame) -> np.ndarray:
    """Return one integer per group; every sample is its own group by default."""
    if groups is None:
        return np.arange(len(X))
    if isinstance(groups, pd.Series):
        groups = aligned(groups.to_frame(), X, "groups").iloc[:, 0]
    return pd.factorize(per_sample(np.asarray(groups), X, "groups"))[0]


def _device(name: str) -> torch.device:
    """Return the device; "auto" is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
