"""The answer of each chapter in three sentences, the last of which says what it cannot show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pandas as pd

from miracle_lib.plots.tables import p_text

MOST = 4  # names in one list
CERTAIN = 0.95  # probability from which two models count as equally good


def cohorts(described: pd.DataFrame, report: pd.DataFrame) -> str:
    """Open the chapter on cohorts and their quality.

    Parameters
    ----------
    described : DataFrame
        From `describe_cohorts`.
    report : DataFrame
        Of `quality_control`, of all cohorts.

    Returns
    -------
    str
        Markdown.
    """
    tasks = described["task"].str.split(", ").explode()
    shared = described.attrs["shared"]
    twice = f", {shared:,} of them in an earlier cohort, too" if shared else ""
    found = (
        f"{_count(len(described), 'cohort')} of {_count(tasks.nunique(), 'task')} "
        f"{_verb(len(described), 'brings', 'bring')} {described['samples'].sum():,} "
        f"samples{twice}: "
        f"{described['cases'].sum():,} cases and {described['controls'].sum():,} controls"
    )
    lost = report[(report["level"] == "sample") & (report["action"] == "dropped")]["n"].sum()
    flagged = report[(report["level"] == "sample") & (report["action"] == "flagged")]["n"].sum()
    gap = (described["age, cases"] - described["age, controls"]).dropna()
    ages = "the ages of cases and controls are not known"
    if len(gap):
        name = gap.abs().idxmax()
        older = "older" if gap[name] > 0 else "younger"
        ages = f"ages differ most in {_plain(name)}: cases {abs(gap[name]):.1f} years {older}"
    checked = (
        f"quality control dropped {_count(lost, 'sample')} and raised {_count(flagged, 'flag')}"
    )
    alone = sorted(name for name, n in tasks.value_counts().items() if n == 1)
    limit = "what the several cohorts of a task share may still be a common bias"
    if alone:
        whence = _verb(len(alone), "comes from one cohort", "come from one cohort each")
        limit = (
            f"{_listed(alone)} {whence}, so a laboratory's mark on its cases cannot be told from "
            "the disease's"
        )
    return _opening(found, f"{checked}; {ages}", limit)


def mask(described: pd.DataFrame) -> str:
    """Open the chapter on the mask.

    Parameters
    ----------
    described : DataFrame
        From `Hierarchy.describe`.

    Returns
    -------
    str
        Markdown.
    """
    value = described.set_index("what")["value"]
    given, kept = value["sites given"], value["sites that reach a pathway"]
    reach = (
        f"Of {given:,.0f} sites, {value['sites with a gene']:,.0f} "
        f"({value['share of sites with a gene']:.0%}) have a gene and {kept:,.0f} "
        f"({kept / given:.0%}) reach one of {value['pathways']:,.0f} pathways, through "
        f"{value['genes']:,.0f} genes"
    )
    repeated = value["pathways equal to another"] + value["pathways nested in another"]
    sizes = (
        f"half of the pathways have {value['genes per pathway, median']:.0f} genes or fewer, the "
        f"largest has {value['genes per pathway, most']:.0f}; {_count(int(repeated), 'pathway')} "
        f"{_verb(max(repeated, 1), 'equals another or lies', 'equal another or lie')} within one"
    )
    limit = (
        f"{given - kept:,.0f} sites ({1 - kept / given:.0%}) reach no pathway, and whatever they "
        "hold has no pathway's name"
    )
    return _opening(reach, sizes, limit)


def scores(summaries: Mapping[str, pd.DataFrame], comparison: pd.DataFrame, own: str) -> str:
    """Open the chapter on training and scores.

    Parameters
    ----------
    summaries : mapping of str to DataFrame
        By method, from `summarise`.
    comparison : DataFrame
        From `compare_methods`, with ``own`` as the reference.
    own : str
        The method that the book is about.

    Returns
    -------
    str
        Markdown.
    """
    table = summaries[own].query("metric == 'auroc'").set_index("task")
    single = table.drop(index="all", errors="ignore")
    shown = table.loc["all"] if len(single) > 1 else single.iloc[0]
    over = f"its mean AUROC over {len(single)} tasks" if len(single) > 1 else "its AUROC"
    found = (
        f"On patients it has not seen, {own} reaches {shown['estimate']:.2f} "
        f"(95% interval {shown['low']:.2f} to {shown['high']:.2f}), {over}"
    )
    if len(single) > 1:
        least, most = single["estimate"].idxmin(), single["estimate"].idxmax()
        found += (
            f", from {single['estimate'][least]:.2f} ({_plain(least)}) to "
            f"{single['estimate'][most]:.2f} ({_plain(most)})"
        )
    else:
        found += f" for {_plain(single.index[0])}"
    rows = comparison[comparison["task"] == "all"].set_index("method")
    beside = "; ".join(f"{_plain(name)} {_beside(row)}" for name, row in rows.iterrows())
    limit = (
        "folds of the same cohorts say how much a score depends on who is in the sample, not how "
        "it carries over to another hospital or array"
    )
    return _opening(found, f"beside it on the same folds: {beside}", limit)


def ablations(effects: pd.DataFrame, signs: pd.DataFrame) -> str:
    """Open the chapter on the parts of the design.

    Parameters
    ----------
    effects : DataFrame
        From `Ablations.effects`.
    signs : DataFrame
        From `failure_signs`.

    Returns
    -------
    str
        Markdown.
    """
    rows = effects[(effects["task"] == "all") & ~effects["comparison"].isin(["baselines", "leak"])]
    same = rows["p_equivalent"] >= CERTAIN
    worse, better = ~same & (rows["high"] < 0), ~same & (rows["low"] > 0)
    said = [
        f"{what} {_listed(f'{row.level} against {row.reference}' for row in part.itertuples())}"
        for part, what in ((rows[worse], "worse are"), (rows[better], "better are"))
        if len(part)
    ]
    alike, apart = int(same.sum()), int(worse.sum() + better.sum())
    parts = (
        f"of {_count(len(rows), 'change')} to the design, {alike} {_verb(alike, 'makes', 'make')} "
        f"no difference that matters and {apart or 'none'} a clear one"
        f"{f' ({_joined(said)})' if said else ''}; of the rest these folds cannot tell"
    )
    failed = signs.loc[signs["failed"], "sign"]
    verb = _verb(len(failed), "warns", "warn")
    warning = f"{len(failed)} of {len(signs)} checks for failure {verb}"
    if len(failed):
        warning += f" ({_listed(failed.unique())})"
    leak = effects[(effects["task"] == "all") & (effects["comparison"] == "leak")]
    for _, row in leak.iterrows():
        warning += f"; choosing sites with the test labels in sight adds {_interval(row)}"
    limit = "differences within the same cohorts' folds are not differences in another cohort"
    if effects["task"].nunique() == 2:  # the task, and the mean of all
        limit += (
            "; with one task there is nothing to learn together, so that learning tasks apart and "
            "weighting them compare the model with itself"
        )
    return _opening(parts, warning, limit)


def pathways(
    explained: Mapping[str, pd.DataFrame],
    q_value: float,
    recovery: pd.DataFrame,
    common: pd.DataFrame | None,
) -> str:
    """Open the chapter on what the model says.

    Parameters
    ----------
    explained : mapping of str to DataFrame
        By task, from `explain`.
    q_value : float
        False discovery rate up to which a pathway is named.
    recovery : DataFrame
        By task, ``named``, and of a simulation ``planted`` and ``named and planted``.
    common : DataFrame, optional
        From `common_pathways`; None where there is one task only.

    Returns
    -------
    str
        Markdown.
    """
    named = {task: int((table["q_value"] <= q_value).sum()) for task, table in explained.items()}
    total = sum(named.values())
    found = f"at a false discovery rate of {q_value:g}, "
    if total:
        each = _listed((f"{task} {n}" for task, n in named.items()), most=len(named))
        found += f"evidence beyond shuffled labels names pathways: {each}"
    else:
        found += "no pathway has evidence beyond shuffled labels, so this book names none"
    if total and "planted" in recovery:
        right, planted = recovery["named and planted"].sum(), recovery["planted"].sum()
        found += f"; {right} of these {total} are among the {planted} that were planted"
    shared = "with one task nothing can be common to several diseases"
    if common is not None:
        overlap = common.attrs["overlap"]
        beyond = "more than" if overlap["p_value"] <= q_value else "not clearly more than"
        shared = (
            f"two or more tasks name {_count(int(overlap['observed']), 'pathway')} in common, "
            f"{beyond} the {overlap['expected']:.1f} of tasks that name as many at random "
            f"(p = {p_text(overlap['p_value'])})"
        )
    limit = (
        "a named pathway goes with being a case in these cohorts; whether it causes disease, "
        "follows from it or marks something unmeasured cannot be told"
    )
    return _opening(found, shared, limit)


def questions(
    sharing: pd.DataFrame, hidden: pd.DataFrame, policies: pd.DataFrame, sites: pd.DataFrame
) -> str:
    """Open the chapter on the open questions.

    Parameters
    ----------
    sharing, hidden, policies, sites : DataFrame
        From `sharing_effects`, `hidden_effects`, `policy_table` and `site_curve`.

    Returns
    -------
    str
        Markdown.
    """
    most = sharing[sharing["n"] == sharing["n"].max()].sort_values("share")
    none, every = most.iloc[0], most.iloc[-1]
    outside = hidden[hidden["outside"] == hidden["outside"].max()]
    seen = outside[(outside["model"] == "masked + sites") & (outside["measure"] == "auroc")]
    simulated = (
        "in simulations, learning together changes the AUROC by "
        f"{_interval(every, 'mean')} where diseases share {every['share']:.0%} of their pathways "
        f"and by {_interval(none, 'mean')} where they share {none['share']:.0%}; where the effect "
        f"lies outside the pathways, reading single sites adds {_interval(seen.iloc[0], 'mean')} "
        "to a strict mask"
    )
    tried = policies.dropna(subset=["difference"])
    apart = tried[(tried["low"] > 0) | (tried["high"] < 0)]
    chosen = "the data have too few sites to choose among"
    if len(sites):
        best = sites.loc[sites["auroc"].idxmax()]
        chosen = (
            f"the AUROC is highest with {_plain(best['level'])} sites per task "
            f"({best['auroc']:.2f}, {best['low']:.2f} to {best['high']:.2f})"
        )
    weighted = (
        f"{len(apart)} of {len(tried)} weighting policies {_verb(len(apart), 'differs', 'differ')} "
        "from the paper's beyond the interval"
    )
    if (tried["difference"] == 0).all():
        weighted = "all weighting policies score the same"
    own = f"on the run's own folds {weighted}, and {chosen}"
    limit = "simulated effects follow the annotation they were planted on; real ones need not"
    return _opening(simulated, own, limit)


def paper(protocols: pd.DataFrame, changes: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """Open the chapter on the paper's network and protocol.

    Parameters
    ----------
    protocols, changes, verdicts : DataFrame
        From `by_protocol`, `by_change` and `verdicts`.

    Returns
    -------
    str
        Markdown.
    """
    table = protocols.pivot(index="method", columns="protocol", values="mean")
    ours, theirs = (protocols["protocol"].iloc[place] for place in (0, -1))
    spread = protocols.pivot(index="method", columns="protocol", values="sd")[ours]
    score = table[ours].map("{:.2f}".format) + spread.map(" ({:.3f})".format)
    gain = (table[theirs] - table[ours]).map(_signed)
    described, tuned = "paper, as described", "logistic regression, tuned"
    found = (
        f"under our protocol the paper's network reaches an AUROC (SD over splits) of "
        f"{score[described]} as "
        f"described and {score['paper, as coded']} as coded, tuned logistic regression "
        f"{score[tuned]} and ours {score['ours']}; the paper's protocol changes these by "
        f"{gain[described]}, {gain['paper, as coded']}, {gain[tuned]} and {gain['ours']}"
    )
    alone = changes[(changes["how"] == "alone") & (changes["change"] != described)]
    best = alone.loc[alone["difference"].idxmax()]
    number = verdicts["verdict"].value_counts()
    sentences = (
        f"of its parts, changed alone, *{best['change']}* does most "
        f"({_signed(best['difference'])}, SD {best['sd_difference']:.3f}); of {len(verdicts)} "
        f"sentences {number.get('holds', 0)} hold, {number.get('does not hold', 0)} do not, and "
        "the others cannot be told here or hold by construction"
    )
    limit = (
        "the paper's table of results could not be had, so that none of its numbers is compared, "
        "only what its network, trained for the epochs above, and its protocol do here"
    )
    return _opening(found, sentences, limit)


def another_hospital(
    falls: pd.DataFrame, brier: pd.DataFrame, curve: pd.DataFrame, own: str
) -> str:
    """Open the chapter on another hospital.

    Parameters
    ----------
    falls, brier : DataFrame
        From `miracle_lib.studies.another_hospital.falls`, of AUROC and of the Brier score; empty
        without a second cohort.
    curve : DataFrame
        From `miracle_lib.studies.small_cohorts.curve_means`.
    own : str
        Name of the method that the chapter is about.

    Returns
    -------
    str
        Markdown.
    """
    fell = "no disease of this run has a second cohort, so nothing here was tested elsewhere"
    limit = (
        "whether any score of this book holds in another hospital; cohorts under `external` in a "
        "profile would"
    )
    ours = falls[(falls["method"] == own) & (falls["view"] == "as it is")]
    if len(ours):
        worst = ours.loc[ours["fall"].idxmax()]
        same = (brier["method"] == own) & (brier["view"] == "as it is")
        spoiled = brier[same].set_index(["task", "test"]).loc[(worst["task"], worst["test"])]
        sure = (ours["low"] > 0).sum()
        fell = (
            f"in {sure} of {_count(len(ours), 'test')} elsewhere the AUROC of {own} falls beyond "
            f"its interval; most in {_plain(worst['test'])}, from {worst['within']:.2f} to "
            f"{worst['without']:.2f}, where the Brier score goes from {spoiled['within']:.2f} to "
            f"{spoiled['without']:.2f}"
        )
        limit = "a hospital that differs in another way than the cohorts tested here"
    few = curve[curve["n"] == curve["n"].min()]
    few = few.groupby("method", sort=False)[["auroc", "sd"]].mean()
    small = "with one disease, or small cohorts only, what others lend cannot be measured"
    if len(few):
        scored = [f"{_plain(row.Index)} {row.auroc:.2f} ({row.sd:.2f})" for row in few.itertuples()]
        n = curve["n"].min()
        small = f"from {n} samples of a disease (SD over draws): {_joined(scored)}"
    return _opening(fell, small, limit)


def _opening(first: str, second: str, limit: str) -> str:
    """Three sentences as Markdown."""
    return f"**In short.** {_sentence(first)} {_sentence(second)} *What it cannot show*: {limit}."


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _beside(row: pd.Series) -> str:
    """How a method compares, by its interval."""
    how = "no clear difference"
    if row["high"] < 0:
        how = "lower"
    elif row["low"] > 0:
        how = "higher"
    return f"{how}, {_interval(row)}"


def _interval(row: pd.Series, name: str = "difference") -> str:
    """A difference with its interval."""
    return f"{_signed(row[name])} ({_signed(row['low'])} to {_signed(row['high'])})"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}" if number else f"no {thing}"


def _verb(number: int, one: str, many: str) -> str:
    return one if number == 1 else many


def _listed(names: Iterable[str], most: int = MOST) -> str:
    """Names as a reader would list them; a long list is cut and counted."""
    texts = [_plain(name) for name in names]
    if len(texts) > most:
        texts = [*texts[:most], f"{len(texts) - most} more"]
    return _joined(texts)


def _joined(texts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def _plain(name: object) -> str:
    r"""Write a name so that Markdown takes none of its letters for its own."""
    return re.sub(r"([\\`*_<\[\]$])", r"\\\1", str(name))
