"""From the sample characteristics of a series to labels and covariates."""

import logging
import re

import numpy as np
import pandas as pd

from miracle_lib.cohorts.manifest import CohortManifest, Rule
from miracle_lib.errors import MiracleError

_log = logging.getLogger(__name__)
_MISSING = {
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
        ``sex`` ("F", "M"), ``smoking`` ("never", "former", "current"), ``tissue``. Missing = NaN.

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
    label = rules.label
    value = _read(samples, label, "label", source)
    classes = _classify(value, {1.0: label.case, 0.0: label.control}, "label", source)
    obs = pd.DataFrame(index=samples.index)
    obs["cohort"] = manifest.name
    subject = _read(samples, rules.subject, "subject", source)
    # A sample whose subject is not given is a subject of its own.
    obs["subject"] = subject.where(subject.notna(), obs.index.to_series())
    obs["task"] = manifest.task
    obs["label"] = classes.astype(float)
    obs["age"] = _numbers(_read(samples, rules.age, "age", source), "age", source)
    sex, smoking = rules.sex, rules.smoking
    obs["sex"] = _classify(
        _read(samples, sex, "sex", source), sex and {"F": sex.female, "M": sex.male}, "sex", source
    )
    obs["smoking"] = _classify(
        _read(samples, smoking, "smoking", source),
        smoking and {n: getattr(smoking, n) for n in ("never", "former", "current")},
        "smoking",
        source,
    )
    tissue = _read(samples, rules.tissue, "tissue", source)
    obs["tissue"] = tissue.where(tissue.notna(), manifest.tissue)
    obs = obs[classes.notna()].copy()
    _check_numbers(obs, value, manifest, allow_subset, source)
    unknown = obs.columns[obs.isna().all()]
    obs[unknown] = obs[unknown].astype(float)  # a column of objects must hold a text to be written
    return obs


def matches(values: pd.Series, patterns: list[str]) -> pd.Series:
    """Which values equal one of the patterns; ``*`` and ``?`` are wildcards, case is ignored."""
    parts = [re.escape(p.strip()).replace(r"\*", ".*").replace(r"\?", ".") for p in patterns]
    regex = re.compile("|".join(parts), flags=re.IGNORECASE)
    return values.map(lambda v: isinstance(v, str) and bool(regex.fullmatch(v.strip()))).astype(
        bool
    )


def _keep(samples: pd.DataFrame, manifest: CohortManifest, source: str) -> pd.DataFrame:
    """The samples that meet all conditions of ``keep``."""
    for key, patterns in manifest.keep.items():
        values = _read(samples, Rule(key=[key]), f"keep.{key}", source)
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


def _read(samples: pd.DataFrame, rule: Rule | None, name: str, source: str) -> pd.Series:
    """The value of every sample under the first of the rule's keys that it has; NaN = missing."""
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
        found = values.astype("string").str.extract(f"({rule.pattern})", flags=re.IGNORECASE)
        if found[0].isna().all():
            raise MiracleError(
                f"{source}: the pattern {rule.pattern!r} for {name} matches no value; there are: "
                f"{_counts(values)}."
            )
        values = found.iloc[:, min(1, found.shape[1] - 1)].astype(object)
    is_missing = values.map(lambda v: not isinstance(v, str) or v.lower() in _MISSING)
    return values.mask(is_missing, np.nan)


def _classify(values: pd.Series, classes: dict | None, name: str, source: str) -> pd.Series:
    """Replace values by the class whose patterns they match; NaN where none does."""
    result = pd.Series(np.nan, index=values.index, dtype=object)
    if classes is None or values.isna().all():
        return result
    for label, patterns in classes.items():
        found = matches(values, patterns)
        if (both := found & result.notna()).any():
            raise MiracleError(
                f"{source}: the rule for {name} puts {values[both].iloc[0]!r} into two classes."
            )
        result[found] = label
    if result.isna().all():
        raise MiracleError(
            f"{source}: the rule for {name} matches no sample; expected one of "
            f"{[p for patterns in classes.values() for p in patterns]}, there are: "
            f"{_counts(values)}."
        )
    other = values[result.isna() & values.notna()]
    if len(other):
        _log.warning("%s: %s not used: %s", source, name, _counts(other))
    return result


def _numbers(values: pd.Series, name: str, source: str) -> pd.Series:
    """Numbers from texts such as "61", "61.5 years" or "61y"."""
    number = values.astype("string").str.extract(r"^([0-9]+(?:\.[0-9]*)?)\s*[a-z.]*$", flags=re.I)[
        0
    ]
    wrong = values[values.notna() & number.isna()]
    if len(wrong):
        raise MiracleError(
            f"{source}: {name} of sample {wrong.index[0]!r} is {wrong.iloc[0]!r}, not a number."
        )
    return number.astype(float)


def count(obs: pd.DataFrame) -> dict[str, int]:
    """Cases, controls, samples and subjects."""
    return {
        "cases": int((obs["label"] == 1).sum()),
        "controls": int((obs["label"] == 0).sum()),
        "samples": len(obs),
        "subjects": obs["subject"].nunique(),
    }


def _check_numbers(
    obs: pd.DataFrame, values: pd.Series, manifest: CohortManifest, subset: bool, source: str
) -> None:
    """Stop if a class is empty or the numbers are not those expected."""
    found, stated = count(obs), manifest.expected.stated
    if not found["cases"] or not found["controls"]:
        raise MiracleError(
            f"{source}: {found['cases']} cases and {found['controls']} controls, but both classes "
            f"are needed; the values of the label are: {_counts(values)}."
        )
    for name, number in stated.items():
        if found[name] > number or (found[name] < number and not subset):
            most = "at most " if subset else ""
            raise MiracleError(
                f"{source}: {found['cases']} cases and {found['controls']} controls "
                f"({found['subjects']} subjects), expected {most}{number} {name}; the values of "
                f"the label are: {_counts(values)}."
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
