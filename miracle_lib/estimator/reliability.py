"""Predictions that say when not to be believed: what was measured, and how far from the training.

Everything here is safe for a single sample: it gets the same row alone and in a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from miracle_lib.errors import MiracleError
from miracle_lib.limits import Limits
from miracle_lib.preprocessing.familiarity import profile_distance

if TYPE_CHECKING:
    from miracle_lib.estimator.classifier import MiracleClassifier

RELIABLE, UNCERTAIN, REFUSED = "reliable", "uncertain", "not to be used"


def predict(
    model: MiracleClassifier, X: pd.DataFrame, limits: Limits | None = None
) -> pd.DataFrame:
    """Predict every sample, and say of each whether the prediction can be believed.

    Parameters
    ----------
    model : MiracleClassifier
        Fitted.
    X : DataFrame, shape (n_samples, n_sites)
        Beta values, NaN for missing. A sample that cannot be predicted does not stop the others.
    limits : Limits, optional
        Default: ``Limits()``.

    Returns
    -------
    DataFrame
        One row per sample.

        - ``call_rate``: share of the sites of ``X`` that are measured in the sample
        - ``sites_present``: share of the model's sites that are
        - ``distance[COHORT]``: from the mean profile of a training cohort, root mean square
          z-score, about 1 within it
        - ``warning``: what is wrong with the sample as a whole, in words
        - ``probability[TASK]``: NaN where refused
        - ``weight_present[TASK]``: share of the model's weight that rests on measured sites
        - ``cohort[TASK]``: whose means and SDs were used
        - ``verdict[TASK]``: reliable, uncertain or not to be used
        - ``reason[TASK]``: why it is not reliable

    Raises
    ------
    MiracleError
        ``X`` is no table, or names a sample or a site twice.

    Examples
    --------
    >>> from miracle_lib import Hierarchy, MiracleClassifier, Training, simulate_cohorts
    >>> data = simulate_cohorts({"RA": 40}, n_sites=200, random_state=0)
    >>> X, y = data.cohorts["RA"].to_df(), data.cohorts["RA"].obs["label"].rename("RA")
    >>> hierarchy = Hierarchy.from_tables(data.site_gene, data.gene_sets)
    >>> model = MiracleClassifier(hierarchy, training=Training(epochs=(1, 5, 0))).fit(X, y)
    >>> predict(model, 1 - X.iloc[:1])["verdict[RA]"].item()
    'not to be used'
    """
    limits = limits or Limits()
    X = _table(X)
    problems = _value_problems(X)
    values = X.reindex(columns=model.sites_)
    values[problems != ""] = np.nan
    measured = values.notna().to_numpy()
    result = pd.DataFrame(index=X.index.rename("sample"))
    result["call_rate"] = X.notna().mean(axis=1)
    result["sites_present"] = measured.mean(axis=1)
    enough = (problems == "") & (result["sites_present"] >= limits.sites)
    usable = values[enough.to_numpy()]
    distance = _distances(model, usable).reindex(X.index)
    for name in distance:
        result[f"distance[{name}]"] = distance[name]
    result["warning"] = problems.where(
        (problems != "") | enough,
        [f"{share:.0%} of the model's sites are measured" for share in result["sites_present"]],
    )
    repeated = _repeats(X)
    result["warning"] = result["warning"].mask(result["warning"] == "", repeated)
    logits, cohorts = _logits(model, usable)
    for task in model.tasks_:
        weight = pd.Series(measured @ _site_weights(model, task), X.index)
        cohort = cohorts[task].reindex(X.index)
        verdict, reason = _judge(model, distance, cohort, weight, enough, limits)
        probability = (1 / (1 + np.exp(-logits[task]))).reindex(X.index)
        result[f"probability[{task}]"] = probability.mask(verdict == REFUSED)
        result[f"weight_present[{task}]"] = weight
        result[f"cohort[{task}]"] = cohort
        result[f"verdict[{task}]"] = verdict
        result[f"reason[{task}]"] = reason
    hopeless = (result.filter(like="verdict[") == REFUSED).all(axis=1)
    unsaid = hopeless & (result["warning"] == "")
    result["warning"] = result["warning"].mask(unsaid, "unlike every training cohort")
    return result


def _table(X: pd.DataFrame) -> pd.DataFrame:
    """Refuse what is no table of samples and sites with names of their own."""
    if not isinstance(X, pd.DataFrame):
        raise MiracleError(f"X is {type(X).__name__}; expected a DataFrame, samples x sites.")
    for what, names in (("sample", X.index), ("site", X.columns)):
        if not names.is_unique:
            twice = names[names.duplicated()][0]
            raise MiracleError(f"X names {what} {twice!r} more than once.")
    return X.astype(np.float32, copy=False)


def _value_problems(X: pd.DataFrame) -> pd.Series:
    """What is wrong with the values of each sample; empty where nothing is."""
    low, high = X.min(axis=1), X.max(axis=1)
    problem = pd.Series("", X.index)
    problem[low.isna()] = "no value at all"
    outside = (low < 0) | (high > 1) | np.isinf(low) | np.isinf(high)
    for sample in X.index[outside]:
        scale = "M-values" if low[sample] < 0 else "percents" if high[sample] <= 100 else "other"
        named = f" ({scale}?)" if scale != "other" else ""
        problem[sample] = (
            f"values from {low[sample]:.3g} to {high[sample]:.3g} are no beta values{named}"
        )
    return problem


def _repeats(X: pd.DataFrame) -> pd.Series:
    """Say of a sample whose values an earlier one has, which that is."""
    codes = pd.util.hash_pandas_object(X.T.reset_index(drop=True).T, index=False)
    first = pd.Series(X.index, X.index).groupby(codes.to_numpy()).transform("first")
    same = first.to_numpy() != X.index.to_numpy()
    text = [f"the same values as sample {name!r}" for name in first]
    return pd.Series(text, X.index).where(same, "")


def _distances(model: MiracleClassifier, X: pd.DataFrame) -> pd.DataFrame:
    """Distance of each sample from the mean profile of each training cohort."""
    found = {}
    for name in model.standardizer_.cohorts_:
        z = model.standardizer_.transform(X, cohort=name).to_numpy() if len(X) else np.empty((0, 1))
        found[name] = profile_distance(z)
    return pd.DataFrame(found, X.index)


def _logits(model: MiracleClassifier, X: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Logits, samples x tasks, and the cohort whose statistics each task took."""
    if X.empty:
        nothing = pd.Series(dtype=object)
        return pd.DataFrame(columns=model.tasks_, dtype=float), dict.fromkeys(model.tasks_, nothing)
    chosen = model._cohort_per_task(model._complete(X))
    cohorts = {task: pd.Series(chosen[:, k], X.index) for k, task in enumerate(model.tasks_)}
    return model._logits(X), cohorts


def _site_weights(model: MiracleClassifier, task: str) -> np.ndarray:
    """Share of each site in the weight of a task: its slope at the average sample."""
    module = model.logit_module(task)
    device = next(module.parameters()).device
    average = torch.zeros(1, len(model.sites_), device=device, requires_grad=True)
    (slope,) = torch.autograd.grad(module(average).sum(), average)
    weight = slope[0].abs().double().cpu().numpy()
    return weight / max(weight.sum(), 1e-12)


def _judge(
    model: MiracleClassifier,
    distance: pd.DataFrame,
    cohort: pd.Series,
    weight: pd.Series,
    enough: pd.Series,
    limits: Limits,
) -> tuple[pd.Series, pd.Series]:
    """Verdict on each sample in one task, and its reason."""
    verdict = pd.Series(RELIABLE, weight.index)
    reason = pd.Series("", weight.index)
    for sample in weight.index:
        if not enough[sample]:
            verdict[sample] = REFUSED
            continue
        held_out = model.held_out_distances_[cohort[sample]]
        far = distance.loc[sample, cohort[sample]]
        limit = np.quantile(held_out, limits.quantile) if len(held_out) else np.inf
        if weight[sample] < limits.weight or far > limits.factor * limit:
            verdict[sample] = REFUSED
        elif weight[sample] < limits.safe_weight or far > limit:
            verdict[sample] = UNCERTAIN
        if far > limit:
            reason[sample] = (
                f"distance {far:.2f} from {cohort[sample]}, of whose samples "
                f"{limits.quantile:.0%} lie below {limit:.2f}"
            )
        elif weight[sample] < limits.safe_weight:
            reason[sample] = f"{weight[sample]:.0%} of the model's weight is on measured sites"
    return verdict, reason
