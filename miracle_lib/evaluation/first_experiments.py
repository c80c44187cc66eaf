"""The first three experiments that the paper's review asks for, from the autoencoder up."""

from typing import Any

import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation.ablations import SingleTask
from miracle_lib.evaluation.diagnostics import at_last_step, reconstructed_share
from miracle_lib.evaluation.splits import make_folds
from miracle_lib.evaluation.validation import cross_validate, fit_fold, last_step

EPOCHS = (1, 5, 20, 60)


def largest_tasks(Y: pd.DataFrame, n: int) -> list[str]:
    """Tasks with most labelled samples, the largest first.

    Examples
    --------
    >>> largest_tasks(pd.DataFrame({"A": [0, None], "B": [1, 0]}), 1)
    ['B']
    """
    return list(Y.notna().sum().sort_values(ascending=False, kind="stable").index[:n])


def reconstruction_curve(
    classifier: MiracleClassifier | Pipeline,
    X: pd.DataFrame,
    Y: pd.DataFrame,
    epochs: tuple[int, ...] = EPOCHS,
    n_splits: int = 3,
    random_state: int = 0,
    **rows: Any,
) -> pd.DataFrame:
    """Train the autoencoder alone on the largest task's samples; rebuild held-out samples.

    Parameters
    ----------
    classifier : MiracleClassifier or Pipeline
        Not fitted; its stages after the first are left out. A Pipeline, such as one that selects
        sites, ends in a MiracleClassifier and is fitted inside each fold.
    X, Y : DataFrame
        As in :func:`cross_validate`.
    epochs : tuple of int
        Lengths of the training.
    n_splits, random_state : int
        Folds.
    **rows
        ``groups``, ``cohort``, ``covariates``: one entry per sample, or None.

    Returns
    -------
    DataFrame
        task, fold, epochs, share: the part of the held-out sites' variance about the training
        mean that is rebuilt; 0 is the mean predictor.
    """
    task = largest_tasks(Y, 1)[0]
    keep = Y[task].notna().to_numpy()
    X, Y = X[keep], Y.loc[keep, [task]]
    rows = {name: value[keep] for name, value in rows.items() if value is not None}
    found = []
    for fold in make_folds(Y, rows.get("groups"), n_splits, random_state=random_state):
        for length in epochs:
            alone = clone(classifier)
            last_step(alone)[0].set_params(epochs=(length, 0, 0))
            model = fit_fold(alone, X, Y, fold.train, **rows)
            cohort = rows["cohort"].iloc[fold.test] if "cohort" in rows else None
            share = reconstructed_share(*at_last_step(model, X.iloc[fold.test]), cohort)
            found.append((task, fold.fold, length, share))
    return pd.DataFrame(found, columns=["task", "fold", "epochs", "share"])


def two_cohorts(
    classifier: MiracleClassifier | Pipeline, X: pd.DataFrame, Y: pd.DataFrame, **settings: Any
) -> dict[str, pd.DataFrame]:
    """Score the two largest tasks learned alone and together, on the same folds.

    Parameters
    ----------
    classifier : MiracleClassifier or Pipeline
        As in :func:`reconstruction_curve`.
    X, Y : DataFrame
        As in :func:`cross_validate`.
    **settings
        Further arguments of :func:`cross_validate`.

    Returns
    -------
    dict of str to DataFrame
        Scores of "alone" (one network per task) and "together" (one for both).
    """
    tasks = largest_tasks(Y, 2)
    keep = Y[tasks].notna().any(axis=1).to_numpy()
    for name in ("groups", "cohort", "covariates"):
        if settings.get(name) is not None:
            settings[name] = settings[name][keep]
    X, Y = X[keep], Y.loc[keep, tasks]
    methods = {"alone": SingleTask(classifier), "together": classifier}
    return {name: cross_validate(method, X, Y, **settings) for name, method in methods.items()}
