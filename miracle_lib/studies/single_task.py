"""Each task learned alone, to compare with learning them together."""

from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

from miracle_lib.evaluation.validation import fitted, probabilities
from miracle_lib.samples import Samples, as_samples


class SingleTask(ClassifierMixin, BaseEstimator):
    """Fit a clone of a multi-task estimator for every task alone.

    Parameters
    ----------
    estimator : estimator or Pipeline
        As for :func:`cross_validate`.

    Attributes
    ----------
    models_ : dict of str to estimator
        Fitted on the samples labelled for the task, and on no other.
    """

    def __init__(self, estimator: BaseEstimator) -> None:
        self.estimator = estimator

    def fit(
        self,
        X: Samples | pd.DataFrame,
        Y: pd.DataFrame | None = None,
        cohort: Any = None,
        covariates: pd.DataFrame | None = None,
        groups: Any = None,
    ) -> "SingleTask":
        """Fit one model per task; arguments as in :meth:`MiracleClassifier.fit`."""
        samples = as_samples(X, Y, cohort=cohort, groups=groups, covariates=covariates)
        self.models_ = {task: fitted(self.estimator, samples.task(task)) for task in samples.tasks}
        return self

    def predict_proba(
        self, X: Samples | pd.DataFrame, covariates: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Probability of being a case, samples x tasks."""
        samples = as_samples(X, covariates=covariates)
        tables = [probabilities(model, samples) for model in self.models_.values()]
        return pd.concat(tables, axis=1)
