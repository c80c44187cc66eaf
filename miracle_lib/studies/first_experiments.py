"""The first three experiments that the paper's review asks for, from the autoencoder up."""

from typing import Any

import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation.diagnostics import at_last_step, reconstructed_share
from miracle_lib.evaluation.splits import make_folds
from miracle_lib.evaluation.validation import cross_validate, fitted, last_step
from miracle_lib.samples import Samples, as_samples
from miracle_lib.studies.single_task import SingleTask

EPOCHS = (1, 5, 20, 60)
CURVE_SPLITS = 3  # folds of `reconstruction_curve`


def largest_tasks(Y: pd.DataFrame, n: int) -> list[str]:
    """Tasks with most labelled samples, the largest first.

    Examples
    --------
    >>> largest_tasks(pd.DataFrame({"A": [0, None], "B": [1, 0]}), 1)
    ['B']
    """
    return list(Y.notna().sum().sort_values(ascending=False, kind="stable").index[:n])


def of_largest_tasks(samples: Samples, n: int) -> Samples:
    """The samples of the ``n`` largest tasks, labelled for these only.

    Examples
    --------
    >>> labels = pd.DataFrame({"A": [0, None, 1], "B": [None, 1, None]})
    >>> samples = Samples([[0.1], [0.2], [0.3]], labels)
    >>> of_largest_tasks(samples, 1)
    Samples(2 samples, 1 site; A: 1 case, 1 control)
    """
    labels = samples.labels[largest_tasks(samples.labels, n)]
    return samples.take(labels.notna().any(axis=1)).replace(labels=labels)


def reconstruction_curve(
    classifier: MiracleClassifier | Pipeline,
    X: Samples | pd.DataFrame,
    Y: pd.DataFrame | None = None,
    epochs: tuple[int, ...] = EPOCHS,
    n_splits: int = CURVE_SPLITS,
    random_state: int = 0,
    **parts: Any,
) -> pd.DataFrame:
    """Train the autoencoder alone on the largest task's samples; rebuild held-out samples.

    Parameters
    ----------
    classifier : MiracleClassifier or Pipeline
        Not fitted; its stages after the first are left out. A Pipeline, such as one that selects
        sites, ends in a MiracleClassifier and is fitted inside each fold.
    X, Y
        As in :func:`cross_validate`.
    epochs : tuple of int
        Lengths of the training.
    n_splits, random_state : int
        Folds.
    **parts
        ``groups``, ``cohort``, ``covariates`` as in :func:`cross_validate`.

    Returns
    -------
    DataFrame
        task, fold, epochs, share: the part of the held-out sites' variance about the training
        mean that is rebuilt; 0 is the mean predictor.
    """
    samples = as_samples(X, Y, **parts)
    task = largest_tasks(samples.labels, 1)[0]
    samples = samples.task(task)
    found = []
    for fold in make_folds(samples, n_splits=n_splits, random_state=random_state):
        for length in epochs:
            autoencoder = clone(classifier)
            last_step(autoencoder)[0].set_params(training__epochs=(length, 0, 0))
            model = fitted(autoencoder, samples.take(fold.train))
            share = reconstructed_share(*at_last_step(model, samples.take(fold.test)))
            found.append((task, fold.fold, length, share))
    return pd.DataFrame(found, columns=["task", "fold", "epochs", "share"])


def two_cohorts(
    classifier: MiracleClassifier | Pipeline,
    X: Samples | pd.DataFrame,
    Y: pd.DataFrame | None = None,
    n_splits: int = 5,
    random_state: int = 0,
    **parts: Any,
) -> dict[str, pd.DataFrame]:
    """Score the two largest tasks learned alone and together, on the same folds.

    Parameters
    ----------
    classifier : MiracleClassifier or Pipeline
        As in :func:`reconstruction_curve`.
    X, Y, n_splits, random_state
        As in :func:`cross_validate`.
    **parts
        ``groups``, ``cohort``, ``covariates`` as in :func:`cross_validate`.

    Returns
    -------
    dict of str to DataFrame
        Scores of "alone" (one network per task) and "together" (one for both).
    """
    samples = as_samples(X, Y, **parts)
    samples = of_largest_tasks(samples, 2)
    methods = {"alone": SingleTask(classifier), "together": classifier}
    return {
        name: cross_validate(method, samples, n_splits=n_splits, random_state=random_state)
        for name, method in methods.items()
    }
