"""From the sample characteristics of a series to labels and covariates."""

import logging
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from miracle_lib.cohorts.manifest import (
    RESERVED,
    AgeRule,
    CohortManifest,
    LabelRule,
    Rule,
    SexRule,
    SmokingRule,
)
from miracle_lib.errors import MiracleError

_log = logging.getLogger(__name__)
UNKNOWN = {
    "",
    "na",
    "n/a",
    "nan",
    "null",
    "none",
    "unknown",
    "missing",
    "--",
    "-",
    ".",
    "not available",
}
_YEARS = {"years": 1.0, "months": 1 / 12, "weeks": 7 / 365.25, "days": 1 / 365.25}
_UNITS = {
    "years": ["y", "yr", "yrs", "year", "years", "yo", "y.o.", "years old"],
    "months": ["mo", "mos", "month", "months"],
    "weeks": ["w", "wk", "wks", "week", "weeks"],
    "days": ["d", "day", "days"],
}
_OLDEST = 120  # years


def read_phenotypes(
    samples: pd.DataFrame, manifest: CohortManifest, allow_subset: bool = False
) -> pd.DataFrame:
    """Read label and covariates of every sample by the rules of a manifest.

    Samples that ``keep`` leaves out, or that are neither case nor control, are dropped.

    Parameters
    ----------
    samples : DataFrame, n_samples x characteristics
        As `read_series_matrix` returns it.
    manifest : CohortManifest
    allow_subset : bool, default False
        True: fewer samples than expected are accepted, if both classes are there.

    Returns
    -------
    DataFrame
        Columns ``cohort``, ``subject``, ``task``, ``label`` (1 case, 0 control), ``age`` (years),
        ``sex`` ("F", "M"), ``smoking`` ("never", "former", "current"), ``tissue``, the other
        covariates of the manifest, and where known ``cell_*`` (deposited cell fractions),
        ``slide`` and ``position`` (of the Sentrix array) and ``scan_date``. Missing = NaN.

    Raises
    ------
    MiracleError
        A rule matches no sample, or the classes are not those expected; the message lists the
        characteristics or values that are there.

    Examples
    --------
    >>> from miracle_lib.cohorts import load_manifest
    >>> samples = pd.DataFrame({"tissue": ["breast tumor", "normal breast"]}, index=["a", "b"])
    >>> obs = read_phenotypes(samples, load_manifest("GSE66695"), allow_subset=True)
    >>> obs["label"].tolist()
    [1.0, 0.0]
    """
    source = f"{manifest.name} ({manifest.path.name})" if manifest.path.name else manifest.name
    samples = _keep(samples, manifest, source)
    rules = manifest.phenotypes
    value, label = _read_classes(samples, rules.label, "label", source)
    obs = pd.DataFrame(index=samples.index)
    obs["cohort"] = manifest.name
    subject = _read(samples, rules.subject, "subject", source)
    # A sample whose subject is not given is a subject of its own.
    obs["subject"] = subject.where(subject.notna(), obs.index.to_series())
    obs["task"] = manifest.task
    obs["label"] = label.astype(float)
    obs["age"] = _ages(_read(samples, rules.age, "age", source), rules.age, source)
    for name in ("sex", "smoking"):
        _, obs[name] = _read_classes(samples, getattr(rules, name), name, source)
    tissue = _read(samples, rules.tissue, "tissue", source)
    obs["tissue"] = tissue.where(tissue.notna(), manifest.tissue)
    for name, rule in rules.covariates.items():
        values = _read(samples, rule, name, source)
        obs[name] = _numbers(values, name, source) if rule.kind == "number" else values
    if rules.scan_date:
        obs["scan_date"] = _read(samples, rules.scan_date, "scan_date", source)
    if "sentrix" in samples:
        array = samples["sentrix"].str.extract(r"^(\d+)(?:_(R\d\dC\d\d))?$")
        obs["slide"], obs["position"] = array[0], array[1]
    obs = obs.join(_cell_fractions(samples, rules.cells, source))
    obs = obs[label.notna()].copy()
    _check_classes(obs, value, source)
    check_numbers(obs, manifest, allow_subset, value, slack=manifest.absent)
    unknown = obs.columns[obs.isna().all()]
    obs[unknown] = obs[unknown].astype(float)  # a column of objects must hold a text to be written
    return obs


def covariate_names(obs: pd.DataFrame) -> list[str]:
    """Columns of a cohort's samples that are covariates: age, sex, smoking, cells and others.

    Parameters
    ----------
    obs : DataFrame
        As `read_phenotypes` returns it, or after quality control.

    Returns
    -------
    list of str
        Columns with a value for at least one sample; those that say where a sample was measured
        (slide, position, scan date, platform) are not among them.

    Examples
    --------
    >>> obs = pd.DataFrame({"label": [1.0], "age": [61.0], "sex": [np.nan], "bmi": [24.0]})
    >>> covariate_names(obs)
    ['age', 'bmi']
    """
    other = RESERVED - {"age", "sex", "smoking"}
    return [name for name in obs if name not in other and obs[name].notna().any()]


def matches(values: pd.Series, patterns: Sequence[str]) -> pd.Series:
    """Which values equal one of the patterns; ``*`` and ``?`` are wildcards, case is ignored."""
    parts = [re.escape(p.strip()).replace(r"\*", ".*").replace(r"\?", ".") for p in patterns]
    regex = re.compile("|".join(parts) if parts else r"(?!)", flags=re.IGNORECASE)
    return values.map(lambda v: isinstance(v, str) and bool(regex.fullmatch(v.strip()))).astype(
        bool
    )


def _keep(samples: pd.DataFrame, manifest: CohortManifest, source: str) -> pd.DataFrame:
    """The samples that meet all conditions of ``keep``."""
    for key, patterns in manifest.keep.items():
        values = _read(samples, Rule(key=[key]), f"keep.{key}", source, used=patterns)
        kept = matches(values, patterns)
        if not kept.any():
            raise MiracleError(
                f"{source}: keep.{key} = {patterns} matches no sample; there are: "
                f"{_counts(values)}."
            )
        if not kept.all():
            _log.info("%s: %d samples left out by keep.%s", source, (~kept).sum(), key)
        samples = samples[kept]
    return samples


def _read(
    samples: pd.DataFrame, rule: Rule | None, name: str, source: str, used: Sequence[str] = ()
) -> pd.Series:
    """The value of every sample under the first of the rule's keys that it has; NaN = missing.

    Values that ``used`` names, other than by a wildcard, are never taken for missing ones.
    """
    values = pd.Series(np.nan, index=samples.index, dtype=object)
    if rule is None:
        return values
    keys = {str(column).strip().lower(): column for column in samples.columns}
    for key in rule.key:
        if column := keys.get(key.strip().lower()):
            values = values.where(values.notna(), samples[column])
    values = values.map(lambda v: v.strip() if isinstance(v, str) else v)
    if values.isna().all():
        if rule.optional:
            _log.warning("%s: no characteristic %s; %s is missing", source, rule.key, name)
            return values
        raise MiracleError(
            f"{source}: the rule for {name} looks for {' or '.join(map(repr, rule.key))}, which no "
            f"sample has; there are: {_overview(samples)}."
        )
    if rule.pattern:
        pattern = re.compile(rule.pattern, re.IGNORECASE)
        found = values.map(lambda value: pattern.search(str(value)), na_action="ignore")
        if found.isna().all():
            raise MiracleError(
                f"{source}: the pattern {rule.pattern!r} for {name} matches no value; there are: "
                f"{_counts(values)}."
            )
        values = found.map(lambda match: match[min(1, pattern.groups)], na_action="ignore")
    unknown = UNKNOWN | {text.strip().lower() for text in rule.missing}
    is_missing = values.map(lambda v: not isinstance(v, str) or v.lower() in unknown)
    named = [pattern for pattern in used if not set(pattern) & {*"*?"}]
    return values.mask(is_missing & ~matches(values, named), np.nan)


def _read_classes(
    samples: pd.DataFrame, rule: LabelRule | SexRule | SmokingRule | None, name: str, source: str
) -> tuple[pd.Series, pd.Series]:
    """The values of a rule, and the class of each; NaN where it belongs to none."""
    classes: dict[float, list[str]] | dict[str, list[str]]
    if rule is None:
        classes = dict[str, list[str]]()
    elif isinstance(rule, LabelRule):
        classes = {1.0: rule.case, 0.0: rule.control}
    elif isinstance(rule, SexRule):
        classes = {"F": rule.female, "M": rule.male}
    else:
        classes = {"never": rule.never, "former": rule.former, "current": rule.current}
    patterns = [pattern for group in classes.values() for pattern in group]
    values = _read(samples, rule, name, source, used=patterns)
    result = pd.Series(np.nan, index=values.index, dtype=object)
    if values.isna().all():
        return values, result
    for label, group in classes.items():
        found = matches(values, group)
        if (both := found & result.notna()).any():
            raise MiracleError(
                f"{source}: the rule for {name} puts {values[both].iloc[0]!r} into two classes."
            )
        result[found] = label
    if result.isna().all():
        raise MiracleError(
            f"{source}: the rule for {name} matches no sample; expected one of {patterns}, there "
            f"are: {_counts(values)}."
        )
    other = values[result.isna() & values.notna()]
    if len(other):
        _log.warning("%s: %s not used: %s", source, name, _counts(other))
    return values, result


def _numbers(values: pd.Series, name: str, source: str) -> pd.Series:
    """Numbers from plain decimals such as "24.1", "24,1" or "-1e-3"."""
    number = pd.to_numeric(values.astype("string").str.replace(",", "."), errors="coerce")
    number = number.astype(float)
    wrong = values[values.notna() & ~np.isfinite(number)]
    if len(wrong):
        raise MiracleError(
            f"{source}: {name} of sample {wrong.index[0]!r} is {wrong.iloc[0]!r}, not a number."
        )
    return number


def _ages(values: pd.Series, rule: AgeRule | None, source: str) -> pd.Series:
    """Years from texts such as "61", "61.5 years", "61y" or "6 months"."""
    years = pd.Series(np.nan, values.index)
    units = {word: unit for unit, words in _UNITS.items() for word in words}
    for sample, text in values.dropna().items():
        number = re.fullmatch(r"(\d+(?:[.,]\d*)?)\s*([a-z. ]*)", text.lower())
        word = number[2].strip() if number else ""
        unit = units.get(word) if word or rule is None else rule.unit
        if number is None or not unit:
            raise MiracleError(
                f"{source}: age of sample {sample!r} is {text!r}, not a number of years, months, "
                "weeks or days."
            )
        years[sample] = float(number[1].replace(",", ".")) * _YEARS[unit]
        if years[sample] > _OLDEST:
            raise MiracleError(
                f"{source}: age of sample {sample!r} is {text!r}, more than {_OLDEST} years; a "
                "value that stands for 'not known' belongs under 'missing' of the rule."
            )
    return years


def _cell_fractions(
    samples: pd.DataFrame, cells: dict[str, list[str]], source: str
) -> pd.DataFrame:
    """Deposited cell fractions, as the columns ``cell_*``; none where the series has none."""
    names = {str(column).strip().lower() for column in samples.columns}
    found = [cell for cell, keys in cells.items() if names & {key.lower() for key in keys}]
    if cells and not found:
        _log.warning("%s: no deposited cell fractions (%s)", source, ", ".join(cells))
        return pd.DataFrame(index=samples.index)
    fractions = {}
    for cell, keys in cells.items():
        name = f"cell_{cell}"
        rule = Rule(key=keys)
        fractions[name] = _numbers(_read(samples, rule, name, source), name, source)
        known = fractions[name].dropna()
        if len(wrong := known[~known.between(0, 1)]):
            raise MiracleError(
                f"{source}: {name} of sample {wrong.index[0]!r} is {wrong.iloc[0]:g}; expected a "
                "fraction from 0 to 1."
            )
    return pd.DataFrame(fractions, index=samples.index)


def count(obs: pd.DataFrame) -> dict[str, int]:
    """Cases, controls, samples and subjects."""
    return {
        "cases": int((obs["label"] == 1).sum()),
        "controls": int((obs["label"] == 0).sum()),
        "samples": len(obs),
        "subjects": obs["subject"].nunique(),
    }


def _check_classes(obs: pd.DataFrame, values: pd.Series, source: str) -> None:
    """Stop if a class is empty."""
    found = count(obs)
    if not found["cases"] or not found["controls"]:
        raise MiracleError(
            f"{source}: {found['cases']} cases and {found['controls']} controls, but both classes "
            f"are needed; the values of the label are: {_counts(values)}."
        )


def check_numbers(
    obs: pd.DataFrame,
    manifest: CohortManifest,
    subset: bool,
    values: pd.Series | None = None,
    slack: int = 0,
) -> None:
    """Stop if the numbers are not those expected, ``slack`` more allowed.

    ``values`` of the label are shown in the message.
    """
    found = count(obs)
    for name, number in manifest.expected.stated.items():
        if found[name] > number + slack or (found[name] < number and not subset):
            most = "at most " if subset else ""
            there = "" if values is None else f"; the values of the label are: {_counts(values)}"
            raise MiracleError(
                f"{manifest.name} ({manifest.path.name}): {found['cases']} cases and "
                f"{found['controls']} controls ({found['subjects']} subjects), expected "
                f"{most}{number} {name}{there}."
            )


def _counts(values: pd.Series, n: int = 12) -> str:
    """Values with how often they occur, the most frequent first."""
    counts = values.fillna("(missing)").value_counts()
    text = ", ".join(f"{value!r} x {count}" for value, count in counts.iloc[:n].items())
    return text + (f", ... ({len(counts)} values)" if len(counts) > n else "")


def _overview(samples: pd.DataFrame) -> str:
    """Characteristics with an example each."""
    examples = samples.apply(lambda column: column.dropna().iloc[0] if column.notna().any() else "")
    return ", ".join(f"{key!r} (such as {str(value)[:40]!r})" for key, value in examples.items())
