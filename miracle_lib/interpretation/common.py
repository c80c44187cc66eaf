"""Pathways that matter in several diseases, and pathway activity in cases and controls."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import chi2, false_discovery_control, ttest_ind

from miracle_lib.errors import MiracleError
from miracle_lib.extras import needs
from miracle_lib.interpretation.moderated import q_values
from miracle_lib.samples import Samples, as_samples

if TYPE_CHECKING:
    from miracle_lib.estimator import MiracleClassifier


def common_pathways(
    explanations: Mapping[str, pd.DataFrame], q_value: float = 0.05
) -> pd.DataFrame:
    """Test which pathways matter in at least two tasks.

    The p-value of a pathway is a partial conjunction: its smallest p-value is set aside and the
    others are combined by Fisher's method, so that one strong task is not enough. Tasks must not
    share samples.

    Parameters
    ----------
    explanations : mapping of str to DataFrame
        Per task, the table of ``explain`` on that task's own samples.
    q_value : float, default 0.05
        A task names the pathways at most this far.

    Returns
    -------
    DataFrame
        Indexed by pathway, most significant first: n_tasks that name it, tasks, same_direction
        (over the tasks that name it), chance (of at least n_tasks if every task named as many
        pathways at random), p_value and q_value of mattering in at least two tasks.
        ``attrs["overlap"]``: number of pathways named by two or more tasks, the number expected
        by chance and the probability of at least as many.

    Raises
    ------
    MiracleError
        If there are fewer than two tasks, or an explanation has no p-values.

    References
    ----------
    Benjamini and Heller 2008, doi:10.1111/j.1541-0420.2007.00984.x.

    Examples
    --------
    >>> columns = {"p_value": [1e-6, 0.5], "q_value": [1e-5, 0.5], "directed": [3.0, 0.1]}
    >>> one = pd.DataFrame(columns, index=["P", "Q"])
    >>> common_pathways({"RA": one, "MS": one})["n_tasks"].to_dict()
    {'P': 2, 'Q': 0}
    """
    if len(explanations) < 2:
        raise MiracleError(f"{len(explanations)} task was explained; expected at least two.")
    p = pd.DataFrame({task: table["p_value"] for task, table in explanations.items()})
    if p.isna().to_numpy().any():
        raise MiracleError("An explanation lacks p-values; explain every task with its labels.")
    named = pd.DataFrame({t: e["q_value"] <= q_value for t, e in explanations.items()})
    shift = pd.DataFrame({t: e["directed"] for t, e in explanations.items()})
    named, shift = named.reindex(p.index), shift.reindex(p.index)
    n_tasks = named.sum(axis=1)
    chances = _at_least(named.mean().to_numpy())
    rest = np.sort(p.to_numpy(), axis=1)[:, 1:]
    conjunction = chi2.sf(-2 * np.log(rest).sum(axis=1), 2 * rest.shape[1])
    signs = np.sign(shift).where(named)
    table = pd.DataFrame(
        {
            "n_tasks": n_tasks,
            "tasks": [", ".join(named.columns[row]) for row in named.to_numpy()],
            "same_direction": (signs.sum(axis=1).abs() == n_tasks) & (n_tasks > 0),
            "chance": chances[n_tasks],
            "p_value": conjunction,
            "q_value": false_discovery_control(conjunction),
        },
        index=p.index,
    ).sort_values(["p_value", "n_tasks"], ascending=[True, False])
    table.attrs["overlap"] = _overlap(named)
    return table


def _at_least(shares: np.ndarray) -> np.ndarray:
    """P(at least k tasks) for independent tasks that name these shares; k = 0 ... n."""
    mass = np.ones(1)
    for share in shares:
        mass = np.convolve(mass, [1 - share, share])
    return np.minimum(np.cumsum(mass[::-1])[::-1], 1.0)


def _overlap(named: pd.DataFrame, draws: int = 2000) -> dict[str, float]:
    """Pathways named at least twice, against tasks that name as many pathways at random."""
    rng = np.random.default_rng(0)
    columns = named.to_numpy().T
    observed = int((columns.sum(axis=0) >= 2).sum())
    random = np.array(
        [
            (np.sum([rng.permutation(c).astype(int) for c in columns], axis=0) >= 2).sum()
            for _ in range(draws)
        ]
    )
    p = (1 + (random >= observed).sum()) / (1 + draws)
    return {"observed": observed, "expected": float(random.mean()), "p_value": float(p)}


def oriented_activity(
    model: "MiracleClassifier", X: Samples | pd.DataFrame, task: str
) -> pd.DataFrame:
    """Pathway activity, oriented so that more is more methylation, with unit SD.

    The sign of a latent variable is arbitrary; it is set so that the activity correlates
    positively with the mean standardised methylation of the pathway's sites.

    Parameters
    ----------
    model : MiracleClassifier
        Fitted.
    X : Samples or DataFrame, samples x sites
        Beta values.
    task : str
        The task whose cohort the samples belong to.

    Returns
    -------
    DataFrame, samples x pathways
    """
    from miracle_lib.interpretation.explanation import membership, unit_variance

    X = as_samples(X).values
    z = model.standardized(X, task)
    conditions = model.logit_module(task).covariates.expand(len(z), -1)
    latent = np.mean(
        [m.features(z, conditions)["pathways"].cpu().numpy() for m in model.members_], axis=0
    )
    member = membership(model.hierarchy_)
    level = z.cpu().numpy()[:, : member.shape[0]] @ member
    latent = unit_variance(latent.astype(float))
    sign = np.sign((latent * (level - level.mean(axis=0))).sum(axis=0))
    return pd.DataFrame(latent * np.where(sign < 0, -1, 1), X.index, model.hierarchy_.pathways)


def activity_test(
    model: "MiracleClassifier",
    X: Samples | pd.DataFrame,
    Y: pd.DataFrame | None = None,
    pathways: list[str] | None = None,
    cohort: pd.Series | None = None,
) -> pd.DataFrame:
    """Compare pathway activity between cases and controls, cohort by cohort.

    Parameters
    ----------
    model : MiracleClassifier
        Fitted.
    X : Samples or DataFrame, samples x sites
        Beta values. A Samples holds labels and cohorts.
    Y : DataFrame, samples x tasks, optional
        1, 0 or NaN.
    pathways : list of str, optional
        Default: all.
    cohort : Series, optional
        Cohort of each sample. Default: one cohort per task.

    Returns
    -------
    DataFrame
        One row per task, cohort and pathway: n_case, n_control, difference (in SD of the
        activity; positive: more methylation in cases), p_value (Welch's t; NaN where the activity
        does not vary), q_value over all rows. Activity of samples that the model was trained on is
        optimistic.
    """
    samples, rows = as_samples(X, Y, cohort=cohort), []
    for task in samples.tasks:
        labelled = samples.task(task)
        cohorts = labelled.cohort
        if cohorts is None:
            cohorts = pd.Series(task, labelled.names)
        activity = oriented_activity(model, labelled, task)
        activity = activity if pathways is None else activity[list(pathways)]
        for name, members in cohorts.groupby(cohorts):
            label = labelled.labels.loc[members.index, task].to_numpy()
            values = activity.loc[members.index]
            case, control = values[label == 1], values[label == 0]
            if min(len(case), len(control)) < 2:
                continue
            # Where a cohort has no site of a pathway, its activity is the same in all.
            varies = values.std() > 1e-6
            p = pd.Series(np.nan, values.columns)
            p[varies] = ttest_ind(case.loc[:, varies], control.loc[:, varies], equal_var=False)[1]
            rows.append(
                pd.DataFrame(
                    {
                        "task": task,
                        "cohort": name,
                        "pathway": values.columns,
                        "n_case": len(case),
                        "n_control": len(control),
                        "difference": (case.mean() - control.mean()).to_numpy(),
                        "p_value": p.to_numpy(),
                    }
                )
            )
    table = pd.concat(rows, ignore_index=True)
    return table.assign(q_value=q_values(table["p_value"].to_numpy()))


def beyond_panels(
    activity: pd.Series, label: pd.Series, scores: pd.DataFrame, cohort: pd.Series | None = None
) -> pd.DataFrame:
    """Ask whether a case/control difference is more than inflammation or another known signal.

    Parameters
    ----------
    activity : Series
        Activity of one pathway, or of a common signature, per sample.
    label : Series
        1 case, 0 control.
    scores : DataFrame, samples x panels
        From :func:`panel_scores`, one column per control panel.
    cohort : Series, optional
        Cohorts get their own level.

    Returns
    -------
    DataFrame
        Indexed by "alone", each panel and "all panels": difference (cases minus controls, in SD of
        the activity) after adjustment, p_value, retained (share of the difference alone).
    """
    with needs("interpret", "The comparison adjusted for control panels"):
        import statsmodels.api as sm

    label = label.dropna()
    y = activity.loc[label.index] / activity.loc[label.index].std()
    base = pd.DataFrame({"label": label, "constant": 1.0})
    if cohort is not None:
        dummies = pd.get_dummies(cohort.loc[label.index], drop_first=True, dtype=float)
        base = base.join(dummies)
    scores = scores.loc[label.index]
    adjustments = {"alone": [], **{name: [name] for name in scores}, "all panels": list(scores)}
    rows = {}
    for name, columns in adjustments.items():
        fit = sm.OLS(y.astype(float), base.join(scores[columns])).fit()
        rows[name] = {"difference": fit.params["label"], "p_value": fit.pvalues["label"]}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("adjusted_for")
    return table.assign(retained=table["difference"] / table.loc["alone", "difference"])


def panel_scores(standardized: pd.DataFrame, panels: list) -> pd.DataFrame:
    """Mean standardised methylation of each panel's sites, signed as published.

    Parameters
    ----------
    standardized : DataFrame, samples x sites
        Standardised methylation.
    panels : list of Panel
        A panel without any measured site is left out; sites of unknown direction enter through
        their first principal component.

    Returns
    -------
    DataFrame, samples x panels
        Unit standard deviation.
    """
    columns = {}
    for panel in panels:
        sign = {m.site: {"hypo": -1, "hyper": 1}.get(m.direction, 0) for m in panel.markers}
        sites = [site for site in panel.sites if site in standardized]
        if not sites:
            continue
        values = standardized[sites].to_numpy(float)
        weights = np.array([sign[site] for site in sites], float)
        if not weights.any():
            weights = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)[2][0]
        columns[panel.name] = values @ weights
    table = pd.DataFrame(columns, index=standardized.index)
    return table / table.std()
