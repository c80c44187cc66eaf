"""Predictions that say when not to be believed: what was measured, and how far from the training.

Everything here is safe for a single sample: it gets the same row alone and in a batch, but for the
remark that another sample of the batch has the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy.special import expit

from miracle_lib.errors import MiracleError
from miracle_lib.estimator.calibration import at_prevalence, classes, merge, venn_abers
from miracle_lib.estimator.distances import KINDS
from miracle_lib.limits import Limits
from miracle_lib.samples import Samples

if TYPE_CHECKING:
    from miracle_lib.estimator.classifier import MiracleClassifier

RELIABLE, UNCERTAIN, REFUSED = "reliable", "uncertain", "not to be used"
NOT_KNOWN = "not known"
SEXES = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}


def predict(
    model: MiracleClassifier,
    X: pd.DataFrame | AnnData,
    limits: Limits | None = None,
    *,
    prevalence: Mapping[str, float] | None = None,
    sex: pd.Series | None = None,
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
    sex : Series, optional
        Sex of the samples as given, by sample, to compare with that predicted. Default: the column
        ``sex`` of an AnnData.

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
        - ``score[TASK]``: as `MiracleClassifier.predict_proba` gives it
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
    if sex is None and isinstance(X, AnnData):
        sex = X.obs.get("sex")
    problems = _value_problems(table)
    values = table.reindex(columns=model.sites_)
    values[problems != ""] = np.nan
    measured = values.notna().to_numpy()
    result = pd.DataFrame(index=table.index.rename("sample"))
    result["call_rate"] = table.notna().mean(axis=1)
    result["sites_present"] = measured.mean(axis=1)
    result["sex_predicted"] = _sex(model, table, problems)
    enough = (problems == "") & (result["sites_present"] >= limits.sites)
    usable = values[enough.to_numpy()]
    distances = _distances(model, usable)
    for name in distances:
        result[name] = distances[name].reindex(table.index)
    result["warning"] = _warnings(table, problems, enough, result, sex)
    logits, cohorts = _logits(model, usable)
    for task in model.tasks_:
        weight = pd.Series(measured @ _site_weights(model, task), table.index)
        judged = _judge(model, result, cohorts[task].reindex(table.index), weight, enough, limits)
        answer = _probabilities(model, task, logits[task], limits, prevalence.get(task))
        answer = answer.reindex(table.index).join(judged)
        refused = answer["verdict"] == REFUSED
        answer.loc[refused, ["probability", "low", "high"]] = np.nan
        answer["classes"] = answer["classes"].mask(refused, NOT_KNOWN)
        result = result.join(answer.add_suffix(f"[{task}]"))
    hopeless = (result.filter(like="verdict[") == REFUSED).all(axis=1)
    unsaid = hopeless & (result["warning"] == "")
    result["warning"] = result["warning"].mask(unsaid, "unlike every training cohort")
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


def _sex(model: MiracleClassifier, X: pd.DataFrame, problems: pd.Series) -> pd.Series:
    """Sex of each sample by its sites on X and Y."""
    if model.sex_ is None:
        return pd.Series(NOT_KNOWN, X.index)
    return model.sex_.predict(X).mask(problems != "", NOT_KNOWN)


def _warnings(
    X: pd.DataFrame, problems: pd.Series, enough: pd.Series, result: pd.DataFrame, sex: Any
) -> pd.Series:
    """What is wrong with each sample as a whole, in words."""
    few = [f"{share:.0%} of the model's sites are measured" for share in result["sites_present"]]
    swapped = pd.Series("", X.index)
    if sex is not None:
        said = pd.Series(sex).reindex(X.index).astype(str).str.strip().str.lower().map(SEXES)
        found = result["sex_predicted"]
        wrong = said.notna() & found.isin(["F", "M"]) & (said != found)
        swapped = ("sex is given as " + said + " and predicted as " + found).where(wrong, "")
    parts = (problems, pd.Series(few, X.index).where((problems == "") & ~enough, ""))
    return pd.concat([*parts, _repeats(X), swapped], axis=1).apply(
        lambda row: "; ".join(filter(None, row)), axis=1
    )


def _distances(model: MiracleClassifier, X: pd.DataFrame) -> pd.DataFrame:
    """Distances of each sample from each training cohort, of every kind."""
    cohorts = model.standardizer_.cohorts_
    columns = [f"{kind}[{name}]" for kind in KINDS for name in cohorts]
    table = pd.DataFrame(np.nan, X.index, columns)
    for name in cohorts if len(X) else ():
        z, known = model._inputs(Samples(X), np.full(len(X), name, object))
        for kind, values in model.familiarity_.measure(model.members_[0], z, known, name).items():
            table[f"{kind}[{name}]"] = values
    return table


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
    verdict = np.select(
        [
            ~enough | (weight < limits.weight) | (far > limits.factor),
            (weight < limits.safe_weight) | (far > 1),
        ],
        [REFUSED, UNCERTAIN],
        RELIABLE,
    )
    reason = pd.Series("", weight.index)
    for sample in weight.index[enough & (verdict != RELIABLE)]:
        kind, name = excess.loc[sample].idxmax(), cohort[sample]
        if far[sample] > 1:
            found = result.loc[sample, f"{kind}[{name}]"]
            reason[sample] = (
                f"{KINDS[kind]} {found:.2f} from {name}, of whose samples "
                f"{limits.quantile:.0%} lie below {found / far[sample]:.2f}"
            )
        else:
            reason[sample] = f"{weight[sample]:.0%} of the model's weight is on measured sites"
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
