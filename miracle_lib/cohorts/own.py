"""From a user's two tables to a cohort file and a profile that run as they are."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from miracle_lib.cohorts.load import choose_samples
from miracle_lib.cohorts.manifest import (
    RESERVED,
    CohortManifest,
    SexRule,
    SmokingRule,
)
from miracle_lib.cohorts.phenotypes import UNKNOWN, count, matches, read_phenotypes
from miracle_lib.cohorts.sample_tables import read_samples
from miracle_lib.cohorts.site_table import SiteTable, check_names, to_beta, without_suffix
from miracle_lib.cohorts.tables import read_table, scale_of
from miracle_lib.errors import MiracleError
from miracle_lib.files import atomic_path

_MANY_SITES = 20_000  # more are selected inside each fold, so that a laptop can follow
_ARRAYS = {
    "27K": "illumina_450k",
    "450K": "illumina_450k",
    "EPIC": "illumina_epic",
    "EPICv2": "illumina_epic",
}
_BLOOD = {  # means of sorted cells
    "450K": "blood_reference_450k",
    "EPIC": "blood_reference_epic",
    "EPICv2": "blood_reference_epic",
}
_ROLES = {"age": "age", "sex": "sex", "gender": "sex", "smoking": "smoking"}
_ROLES |= {"smoking status": "smoking", "smoking_status": "smoking", "smoker": "smoking"}


@dataclass
class OwnCohort:
    """What `describe_own` found and would write.

    Attributes
    ----------
    files : dict of Path to dict
        Content of each YAML file: one cohort file per case, and the profile last.
    lines : list of str
        What was found, one line each.
    """

    files: dict[Path, dict[str, Any]]
    lines: list[str] = field(default_factory=list)

    @property
    def profile(self) -> Path:
        """The profile."""
        return list(self.files)[-1]


def describe_own(
    values: str | Path,
    samples: str | Path | None = None,
    *,
    label: str,
    case: Sequence[str],
    control: Sequence[str] = (),
    covariates: Sequence[str] = (),
    subject: str | None = None,
    name: str | None = None,
    platform: str | None = None,
    tissue: str = "not stated",
    drop_other: bool = False,
) -> OwnCohort:
    """Describe a user's own cohort as a cohort file and a profile.

    Parameters
    ----------
    values : str or Path
        Beta or M-values, as `read_table` takes them.
    samples : str or Path, optional
        Who was measured, as `read_samples` takes it; default: ``values`` (the ``obs`` of an h5ad).
    label : str
        Column that tells cases from controls.
    case : sequence of str
        Values of the cases; each is a task of its own.
    control : sequence of str, optional
        Values of the controls, which all tasks share; default: every other value, so that each
        case is set against the rest.
    covariates : sequence of str, optional
        Columns to keep: age, sex and smoking are recognised, others are numbers where all their
        values are, else categories.
    subject : str, optional
        Column that says who was measured; default: every sample is a person of its own.
    name : str, optional
        Default: the name of the file of values.
    platform : {"27K", "450K", "EPIC", "EPICv2"}, optional
        Default: by number and names of the sites.
    tissue : str
    drop_other : bool, default False
        As in `read_table`.

    Returns
    -------
    OwnCohort

    Raises
    ------
    MiracleError
        A file cannot be read, or a column or a value is not there; the message lists what is.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "b.csv").write_text("id,cg01,cg02\\na,0.1,0.2\\nb,0.3,0.4\\n")
    >>> _ = (folder / "p.csv").write_text("id,state\\na,PD\\nb,HC\\n")
    >>> own = describe_own(folder / "b.csv", folder / "p.csv", label="state", case=["PD"])
    >>> [path.name for path in own.files]
    ['b.cohort.yaml', 'b.profile.yaml']
    """
    values, samples = Path(values), Path(samples or values)
    name = name or _plain(_stem(values))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise MiracleError(f"the name {name!r} is no plain word of letters, digits, '_', '.', '-'.")
    check_platform(platform)
    table = read_table(values, drop_other=drop_other)
    check_names(table, values.name)
    scale = scale_of(table)
    people = read_samples(samples)
    joined = choose_samples(table, people, values.name).samples
    lines = [
        f"{values.name}: {len(table.samples):,} samples x {len(table.sites):,} sites, "
        f"{'M-values' if scale == 'm' else 'beta values'}",
        f"{samples.name}: {len(people):,} rows, {len(joined):,} of them with data; left out: "
        f"{len(people) - len(joined):,} without data, and of the data "
        f"{len(table.samples) - len(joined):,} without a row",
    ]
    to_beta(table, scale, values.name)  # refuses values that are neither
    platform, how = (platform, "as given") if platform else _platform(table)
    lines.append(f"array: {platform} ({how})")
    label = _column(people, label, samples)
    known = people.loc[joined, label].dropna()
    known = known[~known.str.lower().isin(UNKNOWN) | known.isin([*case, *control])]
    cases = [_value(known, text, label, samples) for text in case]
    controls = [_value(known, text, label, samples) for text in control]
    rules = _subject_rule(people, subject, samples)
    rules |= _covariate_rules(people.loc[joined], covariates, samples)
    shared: dict[str, Any] = {
        "platform": platform,
        "tissue": tissue,
        "scale": scale,
        "files": _files(values, samples, drop_other, len(table.sites)),
    }
    files: dict[Path, dict[str, Any]] = {}
    smallest = len(joined)
    for value in cases:
        against = controls or sorted(set(known) - {value})
        called = name if len(cases) == 1 else f"{name}_{_plain(value)}"
        path = values.resolve().parent / f"{called}.cohort.yaml"
        if path in files:
            other = files[path]["phenotypes"]["label"]["case"]
            raise MiracleError(
                f"{samples.name}: the cases {other!r} and {value!r} of {label} would both be "
                f"called {_plain(value)!r}; name one otherwise, or describe them one at a time."
            )
        content: dict[str, Any] = {"name": called, "task": _plain(value), **shared}
        content["phenotypes"] = {
            "label": {"key": label, "case": value, "control": against},
            **rules,
        }
        obs = read_phenotypes(people, CohortManifest.model_validate(content))
        with_data = obs[obs.index.isin(joined)]
        if len(obs) > len(with_data):
            content["absent"] = len(obs) - len(with_data)
        found = count(with_data)
        content["expected"] = {key: found[key] for key in ("cases", "controls")}
        smallest = min(smallest, found["cases"], found["controls"])
        lines.append(
            f"{label}: {found['cases']} {value} against {found['controls']} "
            f"{' or '.join(against)}; {found['subjects']} subjects"
        )
        files[path] = content
    if controls and len(unused := known[~known.isin([*cases, *controls])]):
        lines.append(f"{label}: not used: {_counts(unused)}")
    lines += [line for role, rule in rules.items() for line in _say(role, rule)]
    profile = _profile(name, list(files), platform, tissue, len(table.sites), smallest)
    files[values.resolve().parent / f"{name}.profile.yaml"] = profile
    return OwnCohort(files, lines)


def check_platform(platform: str | None) -> None:
    """Stop at an array whose annotation no profile can name."""
    if platform not in (None, *_ARRAYS):
        raise MiracleError(f"the array is {platform!r}; expected one of {', '.join(_ARRAYS)}.")


def write_own(own: OwnCohort, overwrite: bool = False) -> None:
    """Write the files of `describe_own`.

    Parameters
    ----------
    own : OwnCohort
    overwrite : bool, default False
        Whether files of these names are replaced.

    Raises
    ------
    MiracleError
        A file is there already; nothing is written.
    """
    there = [path for path in own.files if path.exists()]
    if there and not overwrite:
        raise MiracleError(f"{there[0]} is there already; --force replaces it.")
    for path, content in own.files.items():
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        with atomic_path(path) as temporary:
            temporary.write_text(f"# Written by 'miracle init'; yours to change.\n{text}", "utf-8")


def _platform(table: SiteTable) -> tuple[str, str]:
    """Which array a table comes from, and how that is known."""
    n_sites = len(table.sites)
    if (without_suffix(table.sites) != table.sites).mean() > 0.5:
        return "EPICv2", "by the endings of its probe names"
    if n_sites > 500_000:
        return "EPIC", "by the number of sites"
    if n_sites > 30_000:
        return "450K", "by the number of sites"
    return "450K", "assumed: so few sites may be of any array, --platform names another"


def _stem(path: Path) -> str:
    return re.sub(r"\.[^.]*(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _plain(text: str) -> str:
    """A text that can be part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-") or "case"


def _column(people: pd.DataFrame, name: str, source: Path) -> str:
    """A column by its name in any case."""
    if name.strip().lower() not in people:
        raise MiracleError(
            f"{source.name}: no column {name!r}; there are: {', '.join(people.columns)}."
        )
    return name.strip().lower()


def _value(known: pd.Series, text: str, label: str, source: Path) -> str:
    """A value of the label as the table writes it: 1 may stand there as 1.0."""
    text = text.strip()
    for value in known.unique():
        if value.lower() == text.lower() or _same_number(value, text):
            return value
    raise MiracleError(
        f"{source.name}: no sample with data has the {label} {text!r}; there are: {_counts(known)}."
    )


def _same_number(first: str, second: str) -> bool:
    try:
        return float(first) == float(second)
    except ValueError:
        return False


def _counts(values: pd.Series) -> str:
    counts = values.value_counts()
    text = ", ".join(f"{value} x {number}" for value, number in counts.iloc[:12].items())
    return text + (", ..." if len(counts) > 12 else "")


def _files(values: Path, samples: Path, drop_other: bool, n_sites: int) -> list[dict[str, Any]]:
    """The files of the cohort, their paths relative to the folder of the values."""
    other = {"drop_other": True} if drop_other else {}
    return [
        {"url": _relative(samples, values.resolve().parent), "layout": "samples"},
        {"url": values.name, "layout": "table", "n_sites": n_sites, **other},
    ]


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder)).as_posix()
    except ValueError:  # another drive
        return str(path.resolve())


def _subject_rule(people: pd.DataFrame, subject: str | None, source: Path) -> dict[str, Any]:
    return {} if subject is None else {"subject": {"key": _column(people, subject, source)}}


def _covariate_rules(
    people: pd.DataFrame, covariates: Sequence[str], source: Path
) -> dict[str, Any]:
    """A rule for each covariate, by what its values are."""
    rules: dict[str, Any] = {}
    cells, others = {}, {}
    for name in covariates:
        key = _column(people, name, source)
        known = people[key].dropna()
        if known.empty:
            raise MiracleError(f"{source.name}: column {name!r} has no value in any sample.")
        role = _ROLES.get(key)
        if key.startswith("cell_"):
            cells[name.strip()[len("cell_") :]] = [key]
        elif role == "age" or (role and _recognised(known, role)):
            rules[role] = {"key": key}
        else:
            column = re.sub(r"[^A-Za-z0-9_.-]+", "_", key)
            column = column if re.match(r"[a-z]", column) else f"own_{column}"
            column = f"own_{column}" if column in RESERVED else column
            kind = "number" if _are_numbers(known) else "category"
            others[column] = {"key": key, "kind": kind}
    if others:
        rules["covariates"] = others
    if cells:
        rules["cells"] = cells
    return rules


def _recognised(known: pd.Series, role: str) -> bool:
    """Whether sex or smoking is written in one of the usual ways."""
    if role == "sex":
        sex = SexRule(key=["sex"])
        return bool(matches(known, [*sex.female, *sex.male]).any())
    smoking = SmokingRule(key=["smoking"])
    return bool(matches(known, [*smoking.never, *smoking.former, *smoking.current]).any())


def _are_numbers(known: pd.Series) -> bool:
    texts = known[~known.str.lower().isin(UNKNOWN)]
    numbers = pd.to_numeric(texts.str.replace(",", "."), errors="coerce")
    return len(texts) > 0 and bool(numbers.notna().all())


def _say(role: str, rule: dict[str, Any]) -> list[str]:
    """One line for the subject and for each covariate."""
    if role == "covariates":
        return [f"covariate {name}: {entry['kind']}" for name, entry in rule.items()]
    if role == "cells":
        return [f"cell fractions: {', '.join(rule)}"]
    return [f"{role}: column {rule['key']!r}"]


def _profile(
    name: str, paths: list[Path], platform: str, tissue: str, n_sites: int, smallest: int
) -> dict[str, Any]:
    """A profile that a laptop can run."""
    parameters: dict[str, Any] = {}
    if n_sites > _MANY_SITES:
        parameters |= {"selection": "variance", "n_sites": 5000}
    if smallest < 5:
        parameters["n_folds"] = max(smallest, 2)
    annotation: dict[str, Any] = {
        "array": _ARRAYS[platform],
        "mask": "go_bp",
        "validation": {"Reactome": "reactome", "Hallmark": "hallmark"},
    }
    if "blood" in tissue.lower() and platform in _BLOOD:
        annotation["cell_reference"] = {platform: _BLOOD[platform]}
    profile = {
        "title": name,
        "cohorts": [path.name for path in paths],
        "annotation": annotation,
    }
    return profile | ({"parameters": parameters} if parameters else {})
