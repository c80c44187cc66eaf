"""Signs that a trained model has failed, each with what to try."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from miracle_lib.errors import MiracleError
from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation.comparison import compare_methods
from miracle_lib.folds import fold_numbers
from miracle_lib.samples import Samples, as_samples

# What is measured, and what to try where it fails.
SIGNS = {
    "poor reconstruction": (
        "share of the sites' variance that is reconstructed, at least",
        "Train the autoencoder longer, or check that the sites vary within a cohort; near 0 the "
        "pathways carry no more than the mean of each site.",
    ),
    "collapsed latent units": (
        "share of pathways that ignore their input, at most",
        "Lower the weight of the Kullback-Leibler term or lengthen its warm-up, or use a plain "
        "autoencoder (variational=False).",
    ),
    "cohort leakage": (
        "balanced accuracy of the cohort predicted from the pathways, at most",
        "Standardise per cohort and condition on it (condition_on_cohort=True); where it stays "
        "high, cohorts differ in variance or composition: compare cases and controls only within "
        "a cohort.",
    ),
    "no gain over covariates": (
        "AUROC above the covariates-only baseline; the interval must lie above",
        "The sites add nothing that age, sex, smoking or cell fractions do not say: adjust for "
        "them, or collect more samples; do not interpret the pathways.",
    ),
    "unstable ranking": (
        "rank correlation of the pathways between folds, at least",
        "Average over an ensemble (n_members), select fewer sites, and report only pathways that "
        "are on top in most folds.",
    ),
}


def at_last_step(model: BaseEstimator, samples: Samples) -> tuple[BaseEstimator, Samples]:
    """Last step of a fitted Pipeline and the samples as that step sees them; else both as given."""
    if isinstance(model, Pipeline):
        return model[-1], samples.replace(values=model[:-1].transform(samples.values))
    return model, samples


def reconstructed_share(
    model: MiracleClassifier, X: Samples | pd.DataFrame, cohort: Any = None
) -> float:
    """Share of the variance of the standardised sites that the network reconstructs.

    Parameters
    ----------
    model : MiracleClassifier
    X : Samples or DataFrame
        Beta values of samples that were not trained on.
    cohort : Series or array, optional
        Cohort of each sample; needed where the model knows more than one.

    Returns
    -------
    float
        1 minus the squared error over the variance about 0, the cohort's training mean; sites
        that the hierarchy reaches, missing values left out. 0: no better than the mean.
    """
    samples = as_samples(X, cohort=cohort)
    sites = model.hierarchy_.sites
    observed = samples.values.reindex(columns=model.sites_)
    rebuilt = model.reconstruct(samples.values, samples.cohort).reindex(columns=model.sites_)
    z, expected = (
        model.standardizer_.transform(table, samples.cohort)[sites].to_numpy()
        for table in (observed, rebuilt)
    )
    measured = observed[sites].notna().to_numpy()
    return float(1 - np.square(z - expected)[measured].sum() / np.square(z)[measured].sum())


def active_units(
    model: MiracleClassifier,
    X: Samples | pd.DataFrame,
    cohort: Any = None,
    threshold: float = 0.01,
) -> float:
    """Share of latent units whose mean varies over samples by more than ``threshold``.

    A unit that does not is collapsed: it ignores its input. Source: Burda et al. 2016, arXiv
    1509.00519 (variance of the posterior mean above 0.01).
    """
    samples = as_samples(X, cohort=cohort)
    activity = model.transform(samples.values, samples.cohort)
    return float((activity.var() > threshold).mean())


def cohort_leakage(
    model: MiracleClassifier,
    X: Samples | pd.DataFrame,
    cohort: pd.Series | np.ndarray | None = None,
    groups: pd.Series | np.ndarray | None = None,
    random_state: int = 0,
) -> dict[str, float]:
    """How well the cohort of held-out samples can be predicted from their pathway activities.

    Parameters
    ----------
    model : MiracleClassifier
    X : Samples or DataFrame
        Beta values of samples that were not trained on.
    cohort : Series or array of shape (n_samples,)
        May be left out where ``X`` is a Samples that has it.
    groups : Series or array, optional
        Subjects, kept whole by the folds.

    Returns
    -------
    dict
        accuracy: balanced accuracy of five-fold logistic regression; chance: 1 / n_cohorts.
    """
    samples = as_samples(X, cohort=cohort, groups=groups)
    order = samples.order
    if samples.cohort is None:
        raise MiracleError("the cohort of the samples is not given; expected one per sample.")
    names = samples.cohort.to_numpy()[order]
    subject = None if samples.subject is None else samples.subject.to_numpy()[order]
    activity = model.transform(samples.values, samples.cohort).iloc[order]
    learner = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    folds = PredefinedSplit(fold_numbers(names, subject, 5, random_state))
    predicted = cross_val_predict(learner, activity, names, cv=folds)
    chance = 1 / len(np.unique(names))
    return {"accuracy": balanced_accuracy_score(names, predicted), "chance": chance}


def failure_signs(
    model: MiracleClassifier | Pipeline,
    X: Samples | pd.DataFrame,
    cohort: pd.Series | np.ndarray | None = None,
    groups: pd.Series | np.ndarray | None = None,
    scores: pd.DataFrame | None = None,
    covariate_scores: pd.DataFrame | None = None,
    pathways: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Check a fitted model for the usual ways to fail.

    Parameters
    ----------
    model : MiracleClassifier or Pipeline
        Fitted; a Pipeline, such as one that selects sites, ends in a MiracleClassifier.
    X : Samples or DataFrame of shape (n_samples, n_sites)
        Beta values of samples that were not trained on (with training samples the
        reconstruction looks better than it is).
    cohort, groups : Series or array of shape (n_samples,), optional
        The cohort is needed where the model knows more than one.
    scores, covariate_scores : DataFrame, optional
        Results of :func:`cross_validate` of the model and of the covariates-only baseline, on the
        same folds.
    pathways : DataFrame, optional
        Pathway scores by fold (`Ablations.pathways` of one level).

    Returns
    -------
    DataFrame
        sign, task ("all" where tasks are not told apart), value, limit, failed (bool), measured,
        advice (empty where nothing failed).
    """
    model, samples = at_last_step(model, as_samples(X, cohort=cohort, groups=groups))
    share = reconstructed_share(model, samples)
    collapsed = 1 - active_units(model, samples)
    rows = [
        ("poor reconstruction", "all", share, 0.05, share < 0.05),
        ("collapsed latent units", "all", collapsed, 0.1, collapsed > 0.1),
    ]
    if samples.cohort is not None and samples.cohort.nunique() > 1:
        leak = cohort_leakage(model, samples)
        value, limit = leak["accuracy"], leak["chance"] + 0.1
        rows.append(("cohort leakage", "all", value, limit, value > limit))
    if scores is not None and covariate_scores is not None:
        table = compare_methods({"model": scores, "covariates": covariate_scores}, "covariates")
        for row in table[table["task"] != "all"].itertuples():
            failed = not row.low > 0
            rows.append(("no gain over covariates", row.task, row.difference, 0.0, failed))
    if pathways is not None:
        for row in ranking_stability(pathways).itertuples():
            rows.append(("unstable ranking", row.task, row.spearman, 0.5, row.spearman < 0.5))
    table = pd.DataFrame(rows, columns=["sign", "task", "value", "limit", "failed"])
    table["measured"] = table["sign"].map(lambda sign: SIGNS[sign][0])
    table["advice"] = table["sign"].map(lambda sign: SIGNS[sign][1]).where(table["failed"], "")
    return table


def ranking_stability(pathways: pd.DataFrame, top: int = 10) -> pd.DataFrame:
    """How well the pathway rankings of different folds agree, per task.

    Parameters
    ----------
    pathways : DataFrame
        repeat, fold, task, pathway, score; folds of one level.
    top : int, default 10

    Returns
    -------
    DataFrame
        task, spearman (mean correlation of the absolute scores over pairs of folds; a pathway
        absent from a fold counts as last), top_overlap (mean Jaccard index of the first ``top``),
        expected_overlap (of two random rankings), n_pairs.
    """
    rows = []
    for task, table in pathways.groupby("task", sort=False):
        wide = table.assign(score=table["score"].abs()).pivot_table(
            index="pathway", columns=["repeat", "fold"], values="score"
        )
        wide = wide.fillna(0)
        size = min(top, len(wide))
        best = [set(wide[column].nlargest(size).index) for column in wide]
        pairs = list(combinations(range(wide.shape[1]), 2))
        ranks = wide.rank().to_numpy()
        rho = [np.corrcoef(ranks[:, i], ranks[:, j])[0, 1] for i, j in pairs]
        overlap = [len(best[i] & best[j]) / len(best[i] | best[j]) for i, j in pairs]
        chance = size / (2 * len(wide) - size)
        rows.append((task, np.mean(rho), np.mean(overlap), chance, len(pairs)))
    columns = ["task", "spearman", "top_overlap", "expected_overlap", "n_pairs"]
    return pd.DataFrame(rows, columns=columns)
