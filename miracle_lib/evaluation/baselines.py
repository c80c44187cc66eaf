"""What a user would run instead: one tuned scikit-learn model per task, and two simple controls."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterGrid
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.utils.validation import check_is_fitted

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation.dense_autoencoder import DenseAutoencoder
from miracle_lib.evaluation.linear import RowSpace
from miracle_lib.folds import fold_numbers
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.preprocessing.coding import CovariateCoder
from miracle_lib.samples import Samples, as_samples

_log = logging.getLogger(__name__)


class Recipe(NamedTuple):
    """A baseline: what is prepared once per split, the learner, and the grid it is tuned on."""

    learner: Callable[..., BaseEstimator]
    grid: dict[str, list]
    prepare: Callable[[], BaseEstimator] = FunctionTransformer
    reads: str = "sites"


def _logistic(C: float = 1.0) -> LogisticRegression:
    """L2 logistic regression in few dimensions."""
    return LogisticRegression(C=C, solver="lbfgs", max_iter=2000)


def _elastic_net(C: float, l1_ratio: float) -> LogisticRegression:
    """Elastic-net logistic regression."""
    return LogisticRegression(
        C=C, l1_ratio=l1_ratio, solver="saga", max_iter=300, tol=1e-2, random_state=0
    )


def _svm(kernel: str) -> Callable[..., SVC]:
    """Support vector machine with one kernel."""

    def make(C: float, gamma: Any = "scale") -> SVC:
        return SVC(kernel=kernel, C=C, gamma=gamma)

    return make


def _forest(min_samples_leaf: int, n_estimators: int = 200) -> RandomForestClassifier:
    """Random forest."""
    return RandomForestClassifier(n_estimators, min_samples_leaf=min_samples_leaf, random_state=0)


def _boosting(
    max_depth: int, learning_rate: float, n_estimators: int = 100
) -> GradientBoostingClassifier:
    """Gradient boosting on random halves of the samples and root-p sites."""
    return GradientBoostingClassifier(
        n_estimators=n_estimators,
        max_depth=max_depth,
        learning_rate=learning_rate,
        subsample=0.5,
        max_features="sqrt",
        random_state=0,
    )


class _Neighbours(KNeighborsClassifier):
    """k-nearest neighbours, fewer where the training part is smaller."""

    def __init__(self, n_neighbors: int) -> None:
        super().__init__(n_neighbors, weights="distance")

    def fit(self, X: np.ndarray, y: np.ndarray) -> "_Neighbours":
        """Keep the training samples."""
        self.set_params(n_neighbors=min(self.n_neighbors, len(X)))
        return super().fit(X, y)


def _components(n_components: int, C: float) -> BaseEstimator:
    """Logistic regression on whitened principal components."""
    return make_pipeline(_AtMost(n_components), _logistic(C))


class _AtMost(PCA):
    """Principal components, fewer where the training part has fewer dimensions."""

    def __init__(self, n_components: int) -> None:
        super().__init__(n_components, whiten=True, random_state=0)

    def fit_transform(self, X: np.ndarray, y: Any = None) -> np.ndarray:
        """Fit and return the scores."""
        self.set_params(n_components=min(self.n_components, *X.shape))
        return super().fit_transform(X, y)


def _best_site() -> Pipeline:
    """The site with the smallest p-value; a site without any value in the cohort is constant."""
    return make_pipeline(VarianceThreshold(), SelectKBest(f_classif, k=1))


def _naive_bayes(var_smoothing: float) -> GaussianNB:
    """Gaussian naive Bayes."""
    return GaussianNB(var_smoothing=var_smoothing)


_CS = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]

BASELINES: dict[str, Recipe] = {
    "logistic_l2": Recipe(_logistic, {"C": _CS}, RowSpace),
    "elastic_net": Recipe(_elastic_net, {"C": [0.01, 0.03, 0.1, 0.3], "l1_ratio": [0.5]}),
    "linear_svm": Recipe(_svm("linear"), {"C": [1e-4, 1e-3, 1e-2, 1e-1]}, RowSpace),
    "rbf_svm": Recipe(_svm("rbf"), {"C": [0.1, 1.0, 10.0]}),
    "random_forest": Recipe(_forest, {"min_samples_leaf": [1, 5]}),
    "gradient_boosting": Recipe(_boosting, {"max_depth": [1, 3], "learning_rate": [0.05, 0.1]}),
    "knn": Recipe(_Neighbours, {"n_neighbors": [3, 5, 11, 21]}, RowSpace),
    "naive_bayes": Recipe(_naive_bayes, {"var_smoothing": [1e-9, 1e-2, 1.0]}),
    "pca_logistic": Recipe(_components, {"n_components": [5, 20, 50], "C": [0.01, 1]}, RowSpace),
    # Dense first and last layers and squared errors know no axes: a rotation loses nothing.
    "dense_autoencoder": Recipe(DenseAutoencoder, {"lr": [1e-3, 3e-3, 1e-2]}, RowSpace),
    "logistic_untuned": Recipe(_logistic, {"C": [1.0]}, RowSpace),
    "covariates": Recipe(_logistic, {"C": [0.01, 0.1, 1.0]}, reads="covariates"),
    "single_cpg": Recipe(_logistic, {"C": [1.0]}, _best_site),
}


class PerTaskBaseline(ClassifierMixin, BaseEstimator):
    """One scikit-learn model per task, tuned by inner grouped, stratified cross-validation.

    Sites are standardised per cohort on M-values with statistics of the training part, inside the
    inner folds too. Where the learner gives no probabilities, its decision values are turned into
    some by Platt's logistic curve, fitted on out-of-fold decision values.

    Parameters
    ----------
    name : str, default "logistic_l2"
        One of ``BASELINES``: logistic_l2, elastic_net, linear_svm, rbf_svm, random_forest,
        gradient_boosting, knn, naive_bayes, pca_logistic, dense_autoencoder, logistic_untuned,
        covariates (logistic regression on age, sex, smoking, cell fractions), single_cpg (the best
        site alone).
    n_inner : int, default 3
        Inner folds; fewer where a class is smaller.
    options : dict, optional
        Fixed arguments of the learner, such as ``{"hidden": (n_genes, n_pathways)}`` for
        dense_autoencoder.
    random_state : int, default 0
        Of the inner folds.

    Attributes
    ----------
    tasks_ : list of str
    parameters_ : dict of str to dict
        Chosen parameters by task.

    Raises
    ------
    MiracleError
        For an unknown name, a task with one class in the training part, or the covariates baseline
        without covariates.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> Y = pd.DataFrame({"RA": [0.0, 1.0] * 20})
    >>> X = pd.DataFrame(rng.uniform(0.4, 0.6, (40, 50)), columns=[f"cg{i}" for i in range(50)])
    >>> X["cg7"] += 0.3 * Y["RA"]
    >>> model = PerTaskBaseline("logistic_l2").fit(X, Y)
    >>> float(((model.predict_proba(X) > 0.5) == Y).mean()["RA"])
    1.0
    """

    def __init__(
        self,
        name: str = "logistic_l2",
        n_inner: int = 3,
        options: dict[str, Any] | None = None,
        random_state: int = 0,
    ) -> None:
        self.name = name
        self.n_inner = n_inner
        self.options = options
        self.random_state = random_state

    def fit(
        self,
        X: Samples | pd.DataFrame,
        Y: pd.DataFrame | None = None,
        cohort: pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
        groups: pd.Series | np.ndarray | None = None,
    ) -> "PerTaskBaseline":
        """Tune and fit one model per task.

        Parameters
        ----------
        X : Samples or DataFrame of shape (n_samples, n_sites)
            Beta values, NaN where missing. A Samples holds all that follows.
        Y : DataFrame of shape (n_samples, n_tasks), optional
            0, 1 or NaN.
        cohort, groups : Series or array of shape (n_samples,), optional
        covariates : DataFrame of shape (n_samples, n_covariates), optional
        """
        if self.name not in BASELINES:
            raise MiracleError(
                f"Unknown baseline {self.name!r}; expected one of {', '.join(BASELINES)}."
            )
        samples = as_samples(X, Y, cohort=cohort, groups=groups, covariates=covariates)
        self._check_covariates(samples)
        self.tasks_ = samples.tasks
        self.models_ = {task: self._fit_task(samples.task(task), task) for task in self.tasks_}
        self.parameters_ = {task: model.parameters for task, model in self.models_.items()}
        return self

    def predict_proba(
        self, X: Samples | pd.DataFrame, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Probability of being a case, DataFrame of samples x tasks."""
        check_is_fitted(self, "models_")
        samples = as_samples(X, covariates=covariates).replace(cohort=None)
        self._check_covariates(samples)
        return pd.DataFrame(
            {task: model.predict(samples) for task, model in self.models_.items()}, samples.names
        )

    def predict(
        self, X: Samples | pd.DataFrame, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Return the label at the threshold 0.5, samples x tasks."""
        return (self.predict_proba(X, covariates) >= 0.5).astype(int)

    def _check_covariates(self, samples: Samples) -> None:
        """Refuse to read covariates that are not given."""
        if BASELINES[self.name].reads == "covariates" and samples.covariates is None:
            raise MiracleError(
                "The baseline 'covariates' needs covariates; expected a table of age, sex, "
                "smoking or cell fractions, found none."
            )

    def _fit_task(self, samples: Samples, task: str) -> "_TaskModel":
        """Choose the parameters by inner cross-validation, then fit on all samples."""
        y = samples.labels[task].to_numpy().astype(int)
        if len(np.unique(y)) < 2:
            raise MiracleError(
                f"Task {task!r} has one class in the training part; expected cases and controls."
            )
        recipe = BASELINES[self.name]
        grid = [(self.options or {}) | chosen for chosen in ParameterGrid(recipe.grid)]
        needs_curve = not hasattr(recipe.learner(**grid[0]), "predict_proba")
        inner = self._inner_folds(y, samples.subject)
        chosen, curve = grid[len(grid) // 2], None
        if inner and (len(grid) > 1 or needs_curve):
            values = np.full((len(grid), len(y)), np.nan)
            for train, test in inner:
                prepared = _Prepared(recipe, samples.take(train), y[train])
                held_out = prepared.transform(samples.take(test))
                for i, parameters in enumerate(grid):
                    learner = recipe.learner(**parameters).fit(prepared.values, y[train])
                    values[i, test] = _decision(learner, held_out)
            scores = [
                np.mean([roc_auc_score(y[test], row[test]) for _, test in inner]) for row in values
            ]
            best = int(np.argmax(scores))
            chosen = grid[best]
            if needs_curve:
                seen = ~np.isnan(values[best])
                curve = LogisticRegression(C=1e3).fit(values[best, seen, None], y[seen])
                # A falling curve would turn the ranking of a learner without signal around.
                curve.coef_ = np.maximum(curve.coef_, 1e-3)
        prepared = _Prepared(recipe, samples, y)
        learner = recipe.learner(**chosen).fit(prepared.values, y)
        return _TaskModel(prepared, learner, curve, chosen)

    def _inner_folds(self, y: np.ndarray, subject: pd.Series | None) -> list:
        """Inner splits, as many as the smaller class allows; none if it has one member."""
        subject = np.arange(len(y)) if subject is None else subject.to_numpy()
        smallest = min(len(np.unique(subject[y == label])) for label in (0, 1))
        n_inner = min(self.n_inner, smallest)
        if n_inner < 2:
            return []
        numbers = fold_numbers(y, subject, n_inner, self.random_state)
        folds = [(np.flatnonzero(numbers != k), np.flatnonzero(numbers == k)) for k in set(numbers)]
        return [(train, test) for train, test in folds if len(set(y[train]) & set(y[test])) == 2]


def _decision(learner: BaseEstimator, values: np.ndarray) -> np.ndarray:
    """Probability of a case, or the decision value where there is none."""
    if hasattr(learner, "predict_proba"):
        return learner.predict_proba(values)[:, 1]
    return learner.decision_function(values)


class _Prepared:
    """Training values after the steps that no tuned parameter touches."""

    def __init__(self, recipe: Recipe, samples: Samples, y: np.ndarray) -> None:
        self.reads = recipe.reads
        if self.reads == "covariates":
            self.first: CovariateCoder | CohortStandardizer = CovariateCoder.learn(
                samples.covariates
            )
            if not self.first.mean:
                _log.warning(
                    "no covariate is known of %d samples (from %s): without one, every sample is "
                    "given the share of cases",
                    len(samples),
                    samples.names[0],
                )
        else:
            self.first = CohortStandardizer().fit(samples.values, cohort=samples.cohort)
        self.prepare = recipe.prepare()
        self.values = self.prepare.fit_transform(self._read(samples, samples.cohort), y)

    def _read(self, samples: Samples, cohort: pd.Series | None = None) -> np.ndarray:
        """Return coded covariates, or sites standardised by a cohort: by default the nearest."""
        if isinstance(self.first, CovariateCoder):
            coded = self.first.encode(samples.covariates).astype(float)
            return coded if self.first.mean else np.zeros((len(samples), 1))
        of = self.first.nearest(samples.values) if cohort is None else cohort
        return self.first.transform(samples.values, cohort=of).to_numpy(float)

    def transform(self, samples: Samples) -> np.ndarray:
        """Same steps for other samples."""
        return self.prepare.transform(self._read(samples))


class _TaskModel(NamedTuple):
    """Fitted model of one task."""

    prepared: _Prepared
    learner: BaseEstimator
    curve: LogisticRegression | None
    parameters: dict[str, Any]

    def predict(self, samples: Samples) -> np.ndarray:
        """Probability of a case."""
        value = _decision(self.learner, self.prepared.transform(samples))
        if self.curve is not None:
            return self.curve.predict_proba(value[:, None])[:, 1]
        if not hasattr(self.learner, "predict_proba"):
            return 1 / (1 + np.exp(-value))
        return value
