"""The classifier: its options, and how it is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from miracle_lib.constraints import check_options
from miracle_lib.errors import MiracleError
from miracle_lib.estimator import persistence
from miracle_lib.estimator.distances import Familiarity
from miracle_lib.estimator.options import (
    OF_CLASSIFIER,
    OF_TRAINING,
    Training,
)
from miracle_lib.estimator.prediction import Prediction, take_device
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.model import Heads
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.preprocessing.coding import CovariateCoder
from miracle_lib.preprocessing.sex import SexReference
from miracle_lib.preprocessing.streaming import learn_cohorts, standardized
from miracle_lib.samples import Samples
from miracle_lib.stored import StoredValues
from miracle_lib.training import Checkpoint, Trained, Trainer, TrainingData, make_settings
from miracle_lib.training.inputs import (
    cohorts_of_labels,
    labels_of_vector,
    read_samples,
    require_both_classes,
    vector_of,
)
from miracle_lib.training.member import CHUNK
from miracle_lib.training.settings import Design, Settings, along_paths
from miracle_lib.training.storage import Card

# Options of the training that leave its result as it is.
NO_DIFFERENCE = ("checkpoint_dir", "checkpoint_every", "progress")
OF_DESIGN = tuple(field.name for field in fields(Design))

HELD_OUT = {"task": object, "cohort": object, "label": int, "score": float}


class MiracleClassifier(Prediction, ClassifierMixin, TransformerMixin, BaseEstimator):
    """Multi-task case/control classifier whose hidden layers are genes and pathways.

    A masked variational autoencoder (site -> gene -> pathway -> gene -> site) learns from all
    samples; heads, one per task, read pathway activities, gene activations and sites. How large the
    weight of each may be is learned from its own association with the labels and from that of its
    relatives: the sites of its gene, the genes of its pathways, and the same in the other tasks.
    Input are beta values, standardised per cohort by training statistics; a task is predicted
    under the statistics of its own cohort.

    Parameters
    ----------
    hierarchy : Hierarchy
        Restricted to the sites of ``X`` at fit.
    weighting : str, default "pwinval"
        Task-weighting policy, see `miracle_lib.model.weighting`.
    ceiling : dict of str to float, optional
        Single-task accuracy of each task, for ``"pwinval"``. Default: estimated by inner
        fits whose tasks share no weights.
    sharing : "auto" or float, default "auto"
        Correlation of the head weights between tasks: 0 independent, 1 the same.
    preset : {"default", "paper", "paper_code"}, default "default"
        Sets every parameter from here to ``condition_on_cohort`` that is None, and the training.
        ``"paper"``: the paper's network as it describes it: beta values as they are, ReLU, sigmoid
        output, four-layer heads that read a draw of the pathway embedding and nothing else, three
        stages of 800 epochs in full batches. ``"paper_code"``: as its code has it: no
        Kullback-Leibler term, a ReLU on latent mean and log-variance, dense gene-gene and
        pathway-pathway layers, heads trained from the first stage on.
    reads : sequence of {"pathways", "genes", "sites"}, by default all three
        What the heads read. ``("pathways",)`` is the strict bottleneck: pathway activities and
        nothing else. Its encoder is made from the labels, if it is linear and the heads are exact:
        the effects of single sites are solved for first and written along the paths, and the
        autoencoder then learns to reconstruct from them; there is no third stage. Without
        ``"sites"``, sites that the hierarchy does not reach are ignored.
    head : {"additive", "deep"} or subclass of Heads, by default "additive"
        ``"additive"``: `miracle_lib.model.TaskHeads`, a sum over blocks, linear and solved for
        exactly unless ``head_units`` is given. ``"deep"``: `miracle_lib.model.DeepHeads`, four
        layers per task. A subclass of `miracle_lib.model.Heads` is trained by gradient steps.
    head_units : int, optional
        Units of the hidden layers of the heads; of additive heads one layer (tanh) between each
        block and each task's logit, trained by gradient steps with early stopping.
    sampled : bool, by default False
        In training the heads read a draw of the latent instead of its mean.
    activation : {"identity", "tanh", "relu", "gelu", "elu"}, by default "identity"
        Of the gene layers. At tens to hundreds of samples linear genes predict best.
    latent_activation : str, by default "identity"
        Of latent mean and log-variance; as ``activation``.
    norm : {"none", "batch", "layer"}, by default "none"
        Of the gene layers; ``"batch"`` trains in one process only.
    dense_layers : bool, by default False
        Layers from every gene to every gene and from every pathway to every pathway in the encoder.
    start : {"average", "random"}, by default "average"
        Nodes start as averages of their inputs, scaled to the data, or from random weights.
    variational : bool, by default True
        False: a plain autoencoder, no sampling and no Kullback-Leibler term.
    likelihood : {"gaussian", "mse", "bernoulli"}, by default "gaussian"
        Of the values that the autoencoder reconstructs: one learned variance per site, all
        variances one, or the cross-entropy of raw beta values (sigmoid output).
    scale : {"m", "beta", "raw"}, by default "m"
        M-values or beta values, standardised per cohort, or beta values as they are, where a
        missing value is 0.
    condition_on_cohort : bool, by default True
        Give the autoencoder cohort indicators, so that the latent need not carry them.
    n_members : int, default 1
        Networks, each from its own starting weights and with its own inner fold held out; their
        logits are averaged.
    min_site_share : float, default 0.5
        Least share of the model's sites that new samples must have.
    device : str, default "auto"
        ``"auto"`` takes a GPU if there is one.
    random_state : int, default 0
        Same seed, same data: same weights on a CPU. None, as in scikit-learn: a seed drawn from
        NumPy's global generator at every fit, so that ``numpy.random.seed`` repeats it.
    training : Training, optional
        Stages, epochs, learning rates, mini-batches, checkpoints. Default: ``Training()``. Its
        parameters can be set as ``training__epochs`` and so on.

    Attributes
    ----------
    tasks_ : list of str
    classes_ : ndarray, shape (2,)
        After a fit on a vector of two classes only; the second is the case.
    hierarchy_ : Hierarchy
        Restricted to the sites of ``X``.
    sites_, residual_sites_ : Index
        Sites of the model, those of the hierarchy first; and those outside it.
    standardizer_ : CohortStandardizer
    familiarity_ : Familiarity
        What the cohorts look like to the network, and how far held-out samples lie from them; what
        `miracle_lib.predict` measures new samples by.
    held_out_ : DataFrame or None
        Scores of samples by models that had not seen them, see `keep_held_out`.
    sex_ : SexReference or None
        What women and men look like on X and Y; set by who has these sites, as a run does.
    card_ : Card or None
        Cohorts of the training and whether they were simulated, as a run writes them.
    members_ : list of Member
        The trained networks; ``network_`` is the autoencoder of the first.
    history_ : DataFrame
        One row per member, stage and epoch: losses, ``weight[task]`` for each task, and for stages
        of gradient steps the held-out loss of the start (``validation_start``) and of the weights
        that would be kept if the stage ended here (``validation_kept``).
    prior_ : Prior
        Scale of each block in each task, and sharing; found for additive heads. With a strict
        bottleneck the block are the sites.
    ceiling_ : Series
        Single-task accuracies used by ``"pwinval"``; 1 where they were not needed.
    fine_tuned_ : list of bool
        Whether stage three lowered the held-out loss clearly and was kept, per member.
    block_share_ : DataFrame, tasks x blocks
        Share of pathways, genes and sites in the spread of the training predictions. A gene has
        what its sites have in common, a pathway what its genes have, a site its deviation.

    References
    ----------
    MIRACLE, 2023, arXiv 2306.13866.

    Examples
    --------
    >>> from miracle_lib.cohorts import merge_cohorts, simulate_cohorts
    >>> data = simulate_cohorts({"MS": 40, "RA": 40}, n_sites=200, random_state=0)
    >>> X, Y, obs = merge_cohorts(list(data.cohorts.values()))
    >>> hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets)
    >>> model = MiracleClassifier(hierarchy, training=Training(epochs=(2, 5, 0))).fit(X, Y)
    >>> model.predict_proba(X).shape
    (80, 2)
    """

    _parameter_constraints: ClassVar = OF_CLASSIFIER

    def __init__(
        self,
        hierarchy: Hierarchy,
        *,
        weighting: str = "pwinval",
        ceiling: dict[str, float] | None = None,
        sharing: Literal["auto"] | float = "auto",
        preset: Literal["default", "paper", "paper_code"] = "default",
        reads: Sequence[str] | None = None,
        head: str | type[Heads] | None = None,
        head_units: int | None = None,
        sampled: bool | None = None,
        activation: str | None = None,
        latent_activation: str | None = None,
        norm: str | None = None,
        dense_layers: bool | None = None,
        start: Literal["average", "random"] | None = None,
        variational: bool | None = None,
        likelihood: Literal["gaussian", "mse", "bernoulli"] | None = None,
        scale: Literal["m", "beta", "raw"] | None = None,
        condition_on_cohort: bool | None = None,
        n_members: int = 1,
        min_site_share: float = 0.5,
        device: str = "auto",
        random_state: int | None = 0,
        training: Training | None = None,
    ) -> None:
        self.hierarchy = hierarchy
        self.weighting = weighting
        self.ceiling = ceiling
        self.sharing = sharing
        self.preset = preset
        self.reads = reads
        self.head = head
        self.head_units = head_units
        self.sampled = sampled
        self.activation = activation
        self.latent_activation = latent_activation
        self.norm = norm
        self.dense_layers = dense_layers
        self.start = start
        self.variational = variational
        self.likelihood = likelihood
        self.scale = scale
        self.condition_on_cohort = condition_on_cohort
        self.n_members = n_members
        self.min_site_share = min_site_share
        self.device = device
        self.random_state = random_state
        self.training = training

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; if ``deep``, the training's as ``training__...``."""
        params = super().get_params(deep)
        if deep and self.training is None:
            params |= {f"training__{key}": v for key, v in Training().get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name, those of the training as ``training__...``."""
        if self.training is None and any(name.startswith("training__") for name in params):
            self.training = Training()
        return super().set_params(**params)

    def fit(
        self,
        X: Any,
        Y: Any = None,
        cohort: pd.Series | np.ndarray | str | None = None,
        covariates: pd.DataFrame | None = None,
        groups: pd.Series | np.ndarray | None = None,
    ) -> Self:
        """Train.

        Parameters
        ----------
        X : Samples, AnnData, DataFrame or array, shape (n_samples, n_sites)
            Beta values, NaN for missing. An array is in the order of ``hierarchy.sites``. What a
            `Samples` or an AnnData (see `Samples.from_anndata`) holds of the following arguments
            need not be given. The values of a backed AnnData (see `read_store`) stay on disk: the
            model is the same, and a temporary file of 4 bytes per value is written.
        Y : DataFrame, shape (n_samples, n_tasks), or vector, shape (n_samples,), optional
            A table has 1 for a case, 0 for a control, NaN for not labelled for the task. A vector
            is one task with two classes of any type: `predict` and `predict_proba` then give
            arrays, as scikit-learn's own classifiers do.
        cohort : Series, array or str, shape (n_samples,), optional
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
            beta values outside [0, 1], an unknown option, a loss that is not finite, or a disk
            too small for temporary files.

        Notes
        -----
        Above some 1,400 labelled samples the heads keep their inner products in temporary files:
        4.6 GB at 10,000.

        Samples are taken in the order of their names: the rows of a table in another order give
        the same model up to rounding. An array has no names, its order counts.
        """
        before = dict(vars(self))
        try:
            return self._fit(X, Y, cohort, covariates, groups)
        except BaseException:  # an older model stays whole, with nothing of the fit that failed
            self.__dict__ = before
            raise

    def _fit(self, X: Any, Y: Any, cohort: Any, covariates: Any, groups: Any) -> Self:
        """Train; see `fit`."""
        self._check_options()
        samples = _by_name(self._read(X, Y, cohort, covariates, groups))
        device = self._device_for(samples)
        self._check_ceiling()
        labels = samples.labels
        cohort = cohorts_of_labels(labels) if samples.cohort is None else samples.cohort.to_numpy()
        self._cohorts_of = {
            task: sorted(set(cohort[label.notna().to_numpy()])) for task, label in labels.items()
        }
        self._arrange_sites(samples.sites)
        z = self._fit_standardizer(samples.values, cohort)
        cohorts = self.standardizer_.cohorts_ if self.design.condition_on_cohort else []
        self._coder = CovariateCoder.learn(samples.covariates, cohorts)
        data = TrainingData(
            torch.from_numpy(z).to(device),
            torch.from_numpy(labels.to_numpy(np.float32)).to(device),
            torch.from_numpy(self._coder.encode(samples.covariates, cohort)).to(device),
            _group_codes(samples),
        )
        return self._keep(self._trainer(data).fit(), data, cohort)

    def _read(self, X: Any, Y: Any, cohort: Any, covariates: Any, groups: Any) -> Samples:
        """Return the input as samples with labels; keep how it was given."""
        parts = {"cohort": cohort, "covariates": covariates, "groups": groups}
        samples = read_samples(X, self.hierarchy.sites, **parts)
        y = vector_of(Y)
        self.__dict__.pop("classes_", None)
        if y is not None:
            Y, self.classes_ = labels_of_vector(y, samples.names)
        if Y is not None:
            samples = samples.replace(labels=Y)
        require_both_classes(samples)
        self.tasks_ = samples.tasks
        tables = Samples | AnnData | StoredValues | pd.DataFrame
        self._keep_sites(samples.sites, named=isinstance(X, tables))
        return samples

    def _keep_sites(self, sites: pd.Index, named: bool) -> None:
        """Keep which sites were given, in their order, and whether with names."""
        self._columns, self.n_features_in_ = sites, len(sites)
        self.__dict__.pop("feature_names_in_", None)
        if named:
            self.feature_names_in_ = sites.to_numpy(dtype=object)

    def _keep(self, trained: Trained, data: TrainingData, cohort: np.ndarray) -> Self:
        """Keep what was trained."""
        unseen = trained.folds == 0
        self.familiarity_ = Familiarity.learn(
            trained.members[0], data.x, data.covariates, cohort, unseen, self.hierarchy_.pathways
        )
        self.held_out_: pd.DataFrame | None = None
        self.sex_: SexReference | None = None
        self.card_: Card | None = None
        self.members_, self.prior_ = trained.members, trained.prior
        self.history_ = pd.DataFrame(trained.history)
        self.ceiling_ = pd.Series(trained.ceiling.numpy(), self.tasks_)
        self.fine_tuned_ = trained.fine_tuned
        self.block_share_ = self._block_shares(data)
        return self

    def _check_options(self) -> None:
        """Refuse options before any work."""
        check_options(self.get_params(deep=False), OF_CLASSIFIER)
        check_options(self._training.get_params(), OF_TRAINING)
        design = self.design
        if design.likelihood == "bernoulli" and design.scale != "raw":
            raise MiracleError(
                f"likelihood is 'bernoulli' and scale {design.scale!r}; expected scale 'raw', as "
                "standardised values leave [0, 1]"
            )

    @property
    def design(self) -> Design:
        """What the network is made of: the preset's, and the parameters that are not None."""
        return self._settings().design

    @property
    def encoder_is_from_labels(self) -> bool:
        """Whether the encoder is not trained, but written from what the labels say of the sites."""
        return along_paths(self._settings(), self._training.stages)

    def _settings(self) -> Settings:
        """Return the preset with the parts replaced that are given."""
        options = self._training
        design = {name: getattr(self, name) for name in OF_DESIGN}
        if self.reads is not None:
            design["reads"] = tuple(self.reads)
        return make_settings(
            self.preset,
            options.epochs,
            options.learning_rate,
            options.batch_size,
            patience=options.patience,
            keep=options.keep,
            kl_weight=options.kl_weight,
            design={name: value for name, value in design.items() if value is not None},
        )

    @property
    def _training(self) -> Training:
        """Options of the training."""
        return Training() if self.training is None else self.training

    def _check_ceiling(self) -> None:
        """Refuse accuracies that are none, or not there for every task."""
        if self.ceiling is None:
            return
        for task in self.tasks_:
            if task not in self.ceiling:
                raise MiracleError(f"ceiling has no entry for task {task!r}")
            if not 0 < self.ceiling[task] <= 1:
                raise MiracleError(
                    f"ceiling of task {task!r} is {self.ceiling[task]!r}; expected a share of 1"
                )

    def _arrange_sites(self, sites: pd.Index) -> None:
        """Order the sites: those of the hierarchy, then the residual ones."""
        self.hierarchy_ = self.hierarchy.restrict(sites)
        outside = sites[~sites.isin(self.hierarchy_.sites)]
        self.residual_sites_ = outside if "sites" in self.design.reads else outside[:0]
        self.sites_ = self.hierarchy_.sites.append(self.residual_sites_)

    def _device_for(self, samples: Samples) -> torch.device:
        """Return the device; values that stay on disk are trained on by the CPU."""
        on_disk = isinstance(samples.values, StoredValues)
        device = take_device("cpu" if on_disk and self.device == "auto" else self.device)
        if on_disk and device.type != "cpu":
            raise MiracleError(
                f"device is {self.device!r}; values that stay on disk are trained on by the CPU"
            )
        return device

    def _fit_standardizer(self, X: pd.DataFrame | StoredValues, cohort: np.ndarray) -> np.ndarray:
        """Learn the cohorts' statistics and return the standardised input in model order."""
        raw = self.design.scale == "raw"
        scale = "beta" if raw else self.design.scale
        fitted = learn_cohorts(X, cohort, scale)
        mean, sd = fitted.mean_[self.sites_], fitted.sd_[self.sites_]
        if raw:  # of mean 0 and variance 1: nothing is done to them, and a missing one becomes 0
            mean, sd = mean * 0, sd * 0 + 1
        self.standardizer_ = CohortStandardizer.from_statistics(mean, sd, scale)
        return standardized(self.standardizer_, X, cohort)

    def _trainer(self, data: TrainingData) -> Trainer:
        """Set up the training as the parameters say."""
        ceiling = None
        if self.ceiling is not None:
            values = [self.ceiling[task] for task in self.tasks_]
            ceiling = torch.tensor(values, dtype=torch.float64)
        options, seed, checkpoint = self._training, self._seed(), None
        if options.checkpoint_dir is not None:
            checkpoint = Path(options.checkpoint_dir) / f"{self._fingerprint(data, seed)}.pt"
        return Trainer(
            self.hierarchy_,
            data,
            self.tasks_,
            self._settings(),
            weighting=self.weighting,
            sharing=self.sharing,
            stages=options.stages,
            n_members=self.n_members,
            ceiling=ceiling,
            seed=seed,
            checkpoint=Checkpoint(checkpoint, options.checkpoint_every),
            progress=options.progress,
        )

    def _seed(self) -> int:
        """Return the seed of one fit."""
        if self.random_state is None:
            return int(check_random_state(None).randint(2**31))
        return int(self.random_state)

    def _fingerprint(self, data: TrainingData, seed: int) -> str:
        """Name this training by its parameters and data: only the same one continues a state."""
        apart = ("hierarchy", "training", *(f"training__{name}" for name in NO_DIFFERENCE))
        parameters = {name: v for name, v in self.get_params().items() if name not in apart}
        digest = hashlib.sha256(json.dumps([parameters, self.tasks_, seed], default=str).encode())
        digest.update(self.hierarchy_.hash.encode())
        by_site = sum(part.sum(0) for part in data.x.split(CHUNK))  # reads a file once
        for part in (by_site, data.x.sum(1), data.labels, data.covariates):
            digest.update(part.cpu().numpy().tobytes())
        digest.update(data.groups.tobytes())
        return digest.hexdigest()[:16]

    def _block_shares(self, data: TrainingData) -> pd.DataFrame:
        """Return each block's share of the spread of the training predictions, per task."""
        total = pd.DataFrame(0.0, self.tasks_, list(self.design.reads))
        for member in self.members_:
            values = member.features(data.x, data.covariates)
            with torch.no_grad():
                shares = member.heads.shares({name: values[name] for name in member.reads})
            for block, share in shares.items():
                total[block] += share.cpu().numpy() / len(self.members_)
        return total

    def keep_held_out(self, scores: pd.DataFrame) -> Self:
        """Keep scores of held-out samples, by which `miracle_lib.predict` gives probabilities.

        Parameters
        ----------
        scores : DataFrame
            Result of `miracle_lib.cross_validate` for this model and its training samples, or any
            table with the columns task, cohort, label and score, the score as `predict_proba` gives
            it. Of several repeats the first counts.

        Returns
        -------
        MiracleClassifier

        Raises
        ------
        MiracleError
            A column is absent, a task is not one of the model's or lacks a class, or a score is no
            probability.
        """
        check_is_fitted(self, "members_")
        table = scores.attrs.get("predictions", scores)
        absent = sorted(HELD_OUT.keys() - set(table))
        if absent:
            raise MiracleError(f"the scores have no column {absent[0]!r}.")
        if "repeat" in table:
            table = table[table["repeat"] == table["repeat"].min()]
        for task, part in table.groupby("task"):
            self._known_task(task)
            if part["label"].nunique() < 2:
                raise MiracleError(f"the scores of task {task!r} have one class; expected both.")
            wrong = part[~(part["label"].isin([0, 1]) & part["score"].between(0, 1))]
            if len(wrong):
                label, score = wrong[["label", "score"]].iloc[0]
                raise MiracleError(
                    f"the scores of task {task!r} have {score:g} with the label {label:g}; "
                    "expected probabilities, as predict_proba gives them, with 0 or 1."
                )
        kept = pd.DataFrame(table)[list(HELD_OUT)].astype(HELD_OUT)
        self.held_out_ = kept.sort_values(list(HELD_OUT), ignore_index=True)  # in no one's order
        return self

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a folder: safetensors, JSON and the hierarchy; no pickle.

        Parameters
        ----------
        path : str or Path
            Folder; an older model there is replaced once the new one is complete.
        """
        check_is_fitted(self, "members_")
        persistence.write(self, path)

    @classmethod
    def load(cls, path: str | Path, head: type[Heads] | None = None) -> Self:
        """Read a model written by `save`: the same parameters, attributes and predictions.

        A model trained on a device that this machine lacks is put on the CPU, with a warning.

        Parameters
        ----------
        path : str or Path
        head : subclass of Heads, optional
            The class that a model with heads of its own was trained with. It is never imported by
            name: a saved model brings no code.

        Raises
        ------
        MiracleError
            If the folder holds no model, one of another version, or a damaged one, or if its heads
            are of a class that is not given.
        """
        return persistence.read(cls, path, head)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_class = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _by_name(samples: Samples) -> Samples:
    """Return the samples in the order of their names; as they are, without a copy, if they are."""
    order = samples.order
    return samples if (np.diff(order) == 1).all() else samples.take(order)


def _group_codes(samples: Samples) -> np.ndarray:
    """Return one integer per group; every sample is its own group by default."""
    if samples.subject is None:
        return np.arange(len(samples))
    return pd.factorize(samples.subject.to_numpy())[0]
