"""Predictions that say when not to be believed: what was measured, and how far from the training.

Everything here is safe for a single sample: it gets the same row alone and in a batch, but for the
remark that another sample of the batch has the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy.special import expit

from miracle_lib.errors import MiracleError
from miracle_lib.estimator.calibration import at_prevalence, classes, merge, venn_abers
from miracle_lib.estimator.distances import KINDS
from miracle_lib.estimator.sample_checks import (
    in_one_text,
    in_words_of,
    read_sex,
    repeats,
    swapped_sexes,
    value_problems,
)
from miracle_lib.limits import Limits
from miracle_lib.samples import Samples

if TYPE_CHECKING:
    from miracle_lib.estimator.classifier import MiracleClassifier

RELIABLE, UNCERTAIN, REFUSED = "reliable", "uncertain", "not to be used"
NOT_KNOWN = "not known"


def predict(
    model: MiracleClassifier,
    X: pd.DataFrame | AnnData,
    limits: Limits | None = None,
    *,
    prevalence: Mapping[str, float] | None = None,
    covariates: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Predict every sample, and say of each whether the prediction can be believed.

    Parameters
    ----------
    model : MiracleClassifier
        Fitted; with scores of held-out samples (`MiracleClassifier.keep_held_out`) it gives
        calibrated probabilities.
    X : DataFrame or AnnData, shape (n_samples, n_sites)
        Beta values, NaN for missing. A sample that cannot be predicted does not stop the others.
        Into an AnnData the rows are written as ``obsm["miracle"]``, and limits, tasks and cohorts
        as ``uns["miracle"]``.
    limits : Limits, optional
        Default: ``Limits()``.
    prevalence : dict of str to float, optional
        By task, the share of cases where the prediction is used. Default: that of the held-out
        samples.
    covariates : DataFrame, optional
        What is known of the samples, by name: those of `fit` are used, what is missing counts as
        average; a sample whose column ``sex`` is not the sex predicted is uncertain at best.
        Default: ``obs`` of an AnnData.

    Returns
    -------
    DataFrame
        One row per sample.

        - ``call_rate``: share of the sites of ``X`` that are measured in the sample
        - ``sites_present``: share of the model's sites that are
        - ``sex_predicted``: F, M, unclear, or not known: of a model without sites on X and Y, or a
          sample that lacks them
        - ``distance[COHORT]``: from the mean profile of a training cohort, root mean square
          z-score, about 1 within it
        - ``latent[COHORT]``, ``reconstruction[COHORT]``: the same of its pathway activities, and of
          what the network leaves unexplained
        - ``warning``: what is wrong with the sample as a whole, in words
        - ``probability[TASK]``: NaN where refused; calibrated where the model knows held-out scores
        - ``low[TASK]``, ``high[TASK]``: Venn-Abers interval of that probability
        - ``classes[TASK]``: case, control, both or neither: those whose held-out samples score so;
          the right one is among them in a share ``limits.coverage`` of samples
        - ``score[TASK]``: as `MiracleClassifier.predict_proba` gives it; NaN where refused
        - ``weight_present[TASK]``: share of the model's weight that rests on measured sites
        - ``cohort[TASK]``: whose means and SDs were used
        - ``verdict[TASK]``: reliable, uncertain or not to be used
        - ``reason[TASK]``: why it is not reliable

    Raises
    ------
    MiracleError
        ``X`` is no table, or names a sample or a site twice; a prevalence for a task that the model
        does not have or has no held-out scores of.

    Notes
    -----
    The verdict says whether a sample is one that the model's probabilities hold for; ``classes``
    says whether they decide anything. References: `miracle_lib.estimator.calibration`.

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
    limits, prevalence = limits or Limits(), dict(prevalence or {})
    _check_prevalence(model, prevalence)
    table = _table(X)
    known = X.obs if covariates is None and isinstance(X, AnnData) else covariates
    problems = value_problems(table)
    values = table.reindex(columns=model.sites_)
    values[problems != ""] = np.nan
    measured = values.notna().to_numpy()
    result = pd.DataFrame(index=table.index.rename("sample"))
    result["call_rate"] = table.notna().mean(axis=1)
    result["sites_present"] = measured.mean(axis=1)
    result["sex_predicted"] = _sex(model, table, problems)
    enough = (problems == "") & (result["sites_present"] >= limits.sites)
    distances, logits, cohorts = _through_model(model, values[enough.to_numpy()], known)
    result = result.join(distances)
    swapped = _swapped(known, result["sex_predicted"])
    few = _too_few(result["sites_present"], limits).where((problems == "") & ~enough, "")
    result["warning"] = in_one_text([problems, few, repeats(table), swapped])
    for task in model.tasks_:
        weight = pd.Series(measured @ site_weights(model, task).to_numpy(), table.index)
        judged = _judge(model, result, cohorts[task].reindex(table.index), weight, enough, limits)
        judged = _doubt(judged, swapped)
        answer = _probabilities(model, task, logits[task], limits, prevalence.get(task))
        answer = answer.reindex(table.index).join(judged)
        refused = answer["verdict"] == REFUSED
        answer.loc[refused, ["probability", "low", "high", "score"]] = np.nan
        answer["classes"] = answer["classes"].mask(refused, NOT_KNOWN)
        result = result.join(answer.add_suffix(f"[{task}]"))
    result["warning"] = result["warning"].mask(result["warning"] == "", _hopeless(result, limits))
    if isinstance(X, AnnData):
        _write_into(X, result, model, limits, prevalence)
    return result


def _table(X: pd.DataFrame | AnnData) -> pd.DataFrame:
    """Refuse what is no table of samples and sites with names of their own."""
    if isinstance(X, AnnData):
        X = X.to_df()
    if not isinstance(X, pd.DataFrame):
        raise MiracleError(f"X is {type(X).__name__}; expected a DataFrame, samples x sites.")
    for what, names in (("sample", X.index), ("site", X.columns)):
        if not names.is_unique:
            twice = names[names.duplicated()][0]
            raise MiracleError(f"X names {what} {twice!r} more than once.")
    return X.astype(np.float32, copy=False)


def _check_prevalence(model: MiracleClassifier, prevalence: Mapping[str, float]) -> None:
    """Refuse a prevalence that cannot be used."""
    for task in prevalence:
        if _held_out(model, model._known_task(task)).empty:
            raise MiracleError(
                f"task {task!r} has no held-out scores, so that the prevalence its probabilities "
                "belong to is not known; expected a model with keep_held_out."
            )


def _held_out(model: MiracleClassifier, task: str) -> pd.DataFrame:
    """Held-out scores of a task; no row where the model has none."""
    known = model.held_out_
    return pd.DataFrame() if known is None else known[known["task"] == task]


def _sex(model: MiracleClassifier, X: pd.DataFrame, problems: pd.Series) -> pd.Series:
    """Sex of each sample by its sites on X and Y."""
    if model.sex_ is None:
        return pd.Series(NOT_KNOWN, X.index)
    return model.sex_.predict(X).mask(problems != "", NOT_KNOWN)


def _too_few(share: pd.Series, limits: Limits) -> pd.Series:
    """What is said of a sample with too few sites."""
    return share.map(
        lambda share: (
            f"{share:.1%} of the model's sites are measured, {limits.sites:.0%} are needed"
        )
    )


def _swapped(known: pd.DataFrame | None, predicted: pd.Series) -> pd.Series:
    """Say whose sex is given as another than the one predicted."""
    if known is None or "sex" not in known:
        return pd.Series("", predicted.index)
    return swapped_sexes(read_sex(known["sex"].reindex(predicted.index)), predicted)


def _doubt(judged: pd.DataFrame, swapped: pd.Series) -> pd.DataFrame:
    """A prediction that holds for the sample is uncertain where the person may be another."""
    doubtful = (judged["verdict"] == RELIABLE) & (swapped != "")
    return judged.assign(
        verdict=judged["verdict"].mask(doubtful, UNCERTAIN),
        reason=judged["reason"].mask(doubtful, "perhaps another person's: " + swapped),
    )


def _hopeless(result: pd.DataFrame, limits: Limits) -> pd.Series:
    """Say what samples that are refused in every task have in common."""
    refused = (result.filter(like="verdict[") == REFUSED).all(axis=1)
    light = (result.filter(like="weight_present[") < limits.weight).all(axis=1)
    words = np.where(
        light, "what the model leans on is not measured", "unlike every training cohort"
    )
    return pd.Series(words, result.index).where(refused, "")


def _through_model(
    model: MiracleClassifier, X: pd.DataFrame, known: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Distances from each training cohort, logits, and the cohort whose statistics each task took.

    Samples have all sites of the model, NaN where missing; there may be none.
    """
    names, tasks = model.standardizer_.cohorts_, model.tasks_
    distances = pd.DataFrame(np.nan, X.index, [f"{k}[{name}]" for k in KINDS for name in names])
    if X.empty:
        nothing = pd.DataFrame(np.nan, X.index, tasks)
        return distances, nothing, nothing.astype(object)
    samples = Samples(X, covariates=_conditions(model, X.index, known))
    for name in names:
        z, coded = model._inputs(samples, np.full(len(X), name, object))
        for kind, values in model.familiarity_.measure(model.members_[0], z, coded, name).items():
            distances[f"{kind}[{name}]"] = values
    cohorts = pd.DataFrame(model._cohort_per_task(model._complete(samples)), X.index, tasks)
    return distances, model._logits(samples), cohorts


def _conditions(
    model: MiracleClassifier, samples: pd.Index, known: pd.DataFrame | None
) -> pd.DataFrame | None:
    """What is known of samples that the model was conditioned on at fit."""
    if known is None:
        return None
    coder = model._coder
    table = known[[name for name in known if name in coder.levels or name in coder.mean]]
    table = table.reindex(samples)
    if "sex" in coder.levels and "sex" in table:
        table = table.assign(sex=in_words_of(coder.levels["sex"], table["sex"]))
    return table


def site_weights(model: MiracleClassifier, task: str) -> pd.Series:
    """Return the share of each site in the weight of a task: its slope at the average sample.

    Parameters
    ----------
    model : MiracleClassifier
    task : str

    Returns
    -------
    Series, by site
        They sum to 1.
    """
    module = model.logit_module(task)
    device = next(module.parameters()).device
    average = torch.zeros(1, len(model.sites_), device=device, requires_grad=True)
    (slope,) = torch.autograd.grad(module(average).sum(), average)
    weight = slope[0].abs().double().cpu().numpy()
    return pd.Series(weight / max(weight.sum(), 1e-12), model.sites_)


def _judge(
    model: MiracleClassifier,
    result: pd.DataFrame,
    cohort: pd.Series,
    weight: pd.Series,
    enough: pd.Series,
    limits: Limits,
) -> pd.DataFrame:
    """Weight, cohort, verdict on each sample in one task, and the reason."""
    excess = pd.DataFrame(0.0, weight.index, list(KINDS))  # multiples of the limit
    for name in cohort.dropna().unique():
        here = cohort == name
        for kind in KINDS:
            limit = model.familiarity_.limit(kind, name, limits.quantile)
            excess.loc[here, kind] = result.loc[here, f"{kind}[{name}]"] / limit
    far = excess.max(axis=1)
    refused = ~enough | (weight < limits.weight) | (far > limits.factor)
    unsure = (weight < limits.safe_weight) | (far > 1)
    verdict = pd.Series(np.select([refused, unsure], [REFUSED, UNCERTAIN], RELIABLE), weight.index)
    reason = result["warning"].where(~enough, "")
    for sample in weight.index[enough & (verdict != RELIABLE)]:
        kind, name = excess.loc[sample].idxmax(), cohort[sample]
        if far[sample] > 1:
            found = result.loc[sample, f"{kind}[{name}]"]
            reason[sample] = (
                f"{KINDS[kind]} {found:.2f} from {name}, of whose samples "
                f"{limits.quantile:.0%} should lie below {found / far[sample]:.2f}"
            )
        else:
            needed = limits.weight if verdict[sample] == REFUSED else limits.safe_weight
            share = f"{weight[sample]:.1%} of the model's weight"
            reason[sample] = f"{share} is on measured sites, below {needed:.0%}"
    return pd.DataFrame(
        {"weight_present": weight, "cohort": cohort, "verdict": verdict, "reason": reason}
    )


def _probabilities(
    model: MiracleClassifier,
    task: str,
    logit: pd.Series,
    limits: Limits,
    prevalence: float | None,
) -> pd.DataFrame:
    """Probability of being a case, its interval, the classes left open, and the plain score."""
    score, held_out = expit(logit.to_numpy(float)), _held_out(model, task)
    answer = pd.DataFrame(index=logit.index)
    answer["probability"], answer["low"], answer["high"] = score, np.nan, np.nan
    answer["classes"] = NOT_KNOWN
    if len(held_out) and len(score):
        known = held_out["score"].to_numpy(), held_out["label"].to_numpy()
        answer["low"], answer["high"] = venn_abers(*known, score)
        answer["probability"] = merge(answer["low"], answer["high"])
        answer["classes"] = classes(*known, score, limits.coverage)
        if prevalence is not None:
            for name in ("probability", "low", "high"):
                answer[name] = at_prevalence(answer[name], known[1].mean(), prevalence)
    return answer.assign(score=score)


def _write_into(
    adata: AnnData,
    result: pd.DataFrame,
    model: MiracleClassifier,
    limits: Limits,
    prevalence: Mapping[str, float],
) -> None:
    """Write predictions beside the values, in a form that h5ad can hold."""
    texts = result.select_dtypes(object).columns
    adata.obsm["miracle"] = result.astype(dict.fromkeys(texts, "category")).set_axis(
        adata.obs_names
    )
    adata.uns["miracle"] = {
        "limits": asdict(limits),
        "prevalence": dict(prevalence),
        "cohorts_of": model._cohorts_of,
    }
