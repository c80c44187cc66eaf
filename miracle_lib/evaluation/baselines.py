"""What a user would run instead: one tuned scikit-learn model per task, and two simple controls."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterGrid, StratifiedGroupKFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.utils.validation import check_is_fitted

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation.dense_autoencoder import DenseAutoencoder
from miracle_lib.evaluation.linear import RowSpace
from miracle_lib.preprocessing import CohortStandardizer

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
        gradient_boosting, knn, naive_bayes, pca_logistic, dense_autoencoder, covariates (logistic
        regression on age, sex, smoking, cell fractions), single_cpg (the best site alone).
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
        X: pd.DataFrame,
        Y: pd.DataFrame,
        cohort: pd.Series | np.ndarray | None = None,
        covariates: pd.DataFrame | None = None,
        groups: pd.Series | np.ndarray | None = None,
    ) -> "PerTaskBaseline":
        """Tune and fit one model per task.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_sites)
            Beta values, NaN where missing.
        Y : DataFrame of shape (n_samples, n_tasks)
            0, 1 or NaN.
        cohort, groups : array-like of shape (n_samples,), optional
        covariates : DataFrame of shape (n_samples, n_covariates), optional
        """
        if self.name not in BASELINES:
            raise MiracleError(
                f"Unknown baseline {self.name!r}; expected one of {', '.join(BASELINES)}."
            )
        if BASELINES[self.name].reads == "covariates":
            if covariates is None:
                raise MiracleError(
                    "The baseline 'covariates' needs covariates; expected a table of age, sex, "
                    "smoking or cell fractions, found none."
                )
            X = covariates
        self.tasks_ = list(Y.columns)
        self.models_ = {}
        for task in self.tasks_:
            rows = Y[task].notna().to_numpy()
            y = Y[task].to_numpy(float)[rows].astype(int)
            if len(np.unique(y)) < 2:
                raise MiracleError(
                    f"Task {task!r} has one class in the training part; expected cases and "
                    "controls."
                )
            self.models_[task] = self._fit_task(
                X[rows],
                y,
                None if cohort is None else np.asarray(cohort, dtype=object)[rows],
                None if groups is None else np.asarray(groups)[rows],
            )
        self.parameters_ = {task: model.parameters for task, model in self.models_.items()}
        return self

    def predict_proba(
        self, X: pd.DataFrame, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Probability of being a case, DataFrame of samples x tasks."""
        check_is_fitted(self, "models_")
        if BASELINES[self.name].reads == "covariates":
            if covariates is None:
                raise MiracleError("The baseline 'covariates' needs covariates to predict.")
            X = covariates
        return pd.DataFrame(
            {task: model.predict(X) for task, model in self.models_.items()}, index=X.index
        )

    def predict(self, X: pd.DataFrame, covariates: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return the label at the threshold 0.5, samples x tasks."""
        return (self.predict_proba(X, covariates) >= 0.5).astype(int)

    def _fit_task(
        self, X: pd.DataFrame, y: np.ndarray, cohort: np.ndarray | None, groups: np.ndarray | None
    ) -> "_TaskModel":
        """Choose the parameters by inner cross-validation, then fit on all rows."""
        recipe = BASELINES[self.name]
        grid = [(self.options or {}) | chosen for chosen in ParameterGrid(recipe.grid)]
        needs_curve = not hasattr(recipe.learner(**grid[0]), "predict_proba")
        inner = self._inner_folds(y, groups)
        chosen, curve = grid[len(grid) // 2], None
        if inner and (len(grid) > 1 or needs_curve):
            values = np.full((len(grid), len(y)), np.nan)
            for train, test in inner:
                prepared = _Prepared(recipe, X.iloc[train], y[train], _rows(cohort, train))
                known = prepared.transform(X.iloc[test], _rows(cohort, test))
                for i, parameters in enumerate(grid):
                    learner = recipe.learner(**parameters).fit(prepared.values, y[train])
                    values[i, test] = _decision(learner, known)
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
        prepared = _Prepared(recipe, X, y, cohort)
        learner = recipe.learner(**chosen).fit(prepared.values, y)
        return _TaskModel(prepared, learner, curve, chosen)

    def _inner_folds(self, y: np.ndarray, groups: np.ndarray | None) -> list:
        """Inner splits, as many as the smaller class allows; none if it has one member."""
        units = np.arange(len(y)) if groups is None else groups
        smallest = min(len(np.unique(units[y == label])) for label in (0, 1))
        n_inner = min(self.n_inner, smallest)
        if n_inner < 2:
            return []
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        splitter = kind(n_inner, shuffle=True, random_state=self.random_state)
        folds = splitter.split(y, y, groups)
        return [(train, test) for train, test in folds if len(set(y[train]) & set(y[test])) == 2]


def _rows(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    """Rows of an optional array."""
    return None if values is None else values[rows]


def _decision(learner: BaseEstimator, values: np.ndarray) -> np.ndarray:
    """Probability of a case, or the decision value where there is none."""
    if hasattr(learner, "predict_proba"):
        return learner.predict_proba(values)[:, 1]
    return learner.decision_function(values)


class _Prepared:
    """Training values after the steps that no tuned parameter touches."""

    def __init__(
        self, recipe: Recipe, X: pd.DataFrame, y: np.ndarray, cohort: np.ndarray | None
    ) -> None:
        self.cohort = None
        if recipe.reads == "covariates":
            self.first = _covariate_table(X)
            values = self.first.fit_transform(X)
        else:
            self.first = CohortStandardizer()
            values = self.first.fit(X, cohort=cohort).transform(X, cohort=cohort)
            if cohort is not None:
                # New samples of a task are read with the statistics of its largest cohort.
                self.cohort = pd.Series(cohort).mode()[0]
        self.prepare = recipe.prepare()
        self.values = self.prepare.fit_transform(np.asarray(values, float), y)
        self.reads = recipe.reads

    def transform(self, X: pd.DataFrame, cohort: np.ndarray | None = None) -> np.ndarray:
        """Same steps for other samples."""
        if self.reads == "covariates":
            values = self.first.transform(X)
        else:
            values = self.first.transform(X, cohort=self.cohort if cohort is None else cohort)
        return self.prepare.transform(np.asarray(values, float))


class _TaskModel(NamedTuple):
    """Fitted model of one task."""

    prepared: _Prepared
    learner: BaseEstimator
    curve: LogisticRegression | None
    parameters: dict[str, Any]

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Probability of a case."""
        value = _decision(self.learner, self.prepared.transform(X))
        if self.curve is not None:
            return self.curve.predict_proba(value[:, None])[:, 1]
        if not hasattr(self.learner, "predict_proba"):
            return 1 / (1 + np.exp(-value))
        return value


def _covariate_table(X: pd.DataFrame) -> ColumnTransformer | FunctionTransformer:
    """Impute and scale numbers, encode text; columns without any value are left out."""
    used = X.columns[X.notna().any()]
    if used.empty:
        _log.warning(
            "no covariate is known of %d samples (from %s): without one, every sample is given "
            "the share of cases",
            len(X),
            X.index[0],
        )
        return FunctionTransformer(_constant)
    numbers = [name for name in used if pd.api.types.is_numeric_dtype(X[name])]
    texts = [name for name in used if name not in numbers]
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "texts",
                make_pipeline(
                    FunctionTransformer(_as_text), OneHotEncoder(handle_unknown="ignore")
                ),
                texts,
            ),
        ],
        sparse_threshold=0,
    )


def _constant(table: pd.DataFrame) -> np.ndarray:
    """A column that tells no sample from another."""
    return np.zeros((len(table), 1))


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Text columns with a missing value as a level of its own."""
    return table.astype(object).where(table.notna(), "missing").astype(str)
