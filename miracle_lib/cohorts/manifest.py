"""Cohort manifests: one YAML file says where a cohort is and how its samples are described."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import pandas as pd
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    PrivateAttr,
    model_validator,
)

from miracle_lib.errors import MiracleError
from miracle_lib.manifest import Strict, read_manifest
from miracle_lib.resources import MANIFEST

MANIFESTS = MANIFEST / "cohorts"


def is_remote(url: str) -> bool:
    """Whether ``url`` is an address on the network and not a path."""
    return url.startswith(("http://", "https://"))


def base_name(url: str) -> str:
    """Last part of an address or path."""
    return unquote(urlsplit(url).path if is_remote(url) else url).rstrip("/").rsplit("/", 1)[-1]


def _as_list(value: Any) -> Any:
    """A single value stands for a list of one; numbers are read as text."""
    values = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool) for item in values):
        raise ValueError("YAML reads yes, no, on and off as true or false: put it in quotes")
    return [str(item) if isinstance(item, int | float) else item for item in values]


Names = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
Scale = Literal["beta", "m", "detect"]
Confidence = Literal["verified", "one source", "inferred", "unverified"]
# Columns that every cohort has, or that say where a sample was measured; no covariate is called so.
RESERVED = {"cohort", "subject", "task", "label", "tissue", "age", "sex", "smoking", "platform"}
RESERVED |= {"slide", "position", "scan_date"}
RESERVED |= {"call_rate", "sex_predicted", "outlier_score", "flags"}  # of quality control


class DataFile(Strict):
    """One file of a cohort.

    Attributes
    ----------
    url : str
        http(s) address, or a path relative to the manifest.
    layout : {"series_matrix", "supplementary", "table", "samples"}
        GEO series matrix; processed matrix from GEO's supplementary files (rows = sites); a user's
        beta table (CSV, TSV, xlsx, parquet, h5ad, either orientation); a user's table of samples.
    scale : {"beta", "m", "detect"}, optional
        What this file holds; default: the scale of the manifest.
    drop_other : bool
        Names in a table that are no probes: False refuses them, True leaves them out.
    sha256 : str, optional
        Checksum that the file must have.
    n_sites : int, optional
        Sites of a table, for estimates before it is read; nothing is refused by it.
    """

    url: str
    layout: Literal["series_matrix", "supplementary", "table", "samples"] = "series_matrix"
    scale: Scale | None = None
    drop_other: bool = False
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    n_sites: PositiveInt | None = None

    @property
    def name(self) -> str:
        """Base name of the file, by which a mirror is searched."""
        return base_name(self.url)


class Rule(Strict):
    """Reads one covariate from the sample characteristics.

    Attributes
    ----------
    key : list of str
        Characteristics to look in (case-insensitive); the first that a sample has is used.
    pattern : str, optional
        Regular expression; its first group (or the whole match) is the value.
    missing : list of str
        Values that stand for "not known", besides the usual ones such as NA and unknown.
    optional : bool
        True: the column is NaN where the series has no such key. For keys not verified.
    """

    key: Names
    pattern: str | None = None
    missing: Annotated[list[str], BeforeValidator(_as_list)] = []
    optional: bool = False

    @model_validator(mode="after")
    def _compiles(self) -> "Rule":
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"pattern is no regular expression ({error})") from error
        return self


class LabelRule(Rule):
    """Reads case and control; values may hold the wildcards ``*`` and ``?``."""

    case: Names
    control: Names


class SexRule(Rule):
    """Reads "F" and "M"."""

    female: Names = ["f", "female", "woman"]
    male: Names = ["m", "male", "man"]


class SmokingRule(Rule):
    """Reads "never", "former" and "current"."""

    never: Names = ["never", "never smoker", "non-smoker", "non smoker"]
    former: Names = ["former", "ex", "ex-smoker", "former smoker", "past"]
    current: Names = ["current", "current smoker", "smoker", "occasional"]


class AgeRule(Rule):
    """Reads an age in years; values that name another unit ("6 months") are converted.

    Attributes
    ----------
    unit : {"years", "months", "weeks", "days"}
        Unit of values that name none.
    """

    unit: Literal["years", "months", "weeks", "days"] = "years"


class CovariateRule(Rule):
    """Reads any other covariate.

    Attributes
    ----------
    kind : {"number", "category"}
    """

    kind: Literal["number", "category"]


class Phenotypes(Strict):
    """How the samples are described; see `Rule`.

    Attributes
    ----------
    label : LabelRule
    subject : Rule, optional
        Who was measured: repeated measures, technical replicates and twins share a subject.
    age, sex, smoking, tissue : rules, optional
    scan_date : Rule, optional
        When the array was read: a batch.
    covariates : dict of str to CovariateRule
        Any other covariates by the name of their column.
    cells : dict of str to list of str
        Cell type (CD8T, CD4T, NK, Bcell, Mono, Gran, ...) -> characteristics that may hold its
        deposited fraction, 0 to 1. Columns are called ``cell_CD8T`` and so on.
    """

    label: LabelRule
    subject: Rule | None = None
    age: AgeRule | None = None
    sex: SexRule | None = None
    smoking: SmokingRule | None = None
    tissue: Rule | None = None
    scan_date: Rule | None = None
    covariates: dict[str, CovariateRule] = {}
    cells: dict[str, Names] = {}

    @model_validator(mode="after")
    def _names_are_free(self) -> "Phenotypes":
        for name in self.covariates:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name) or name.startswith("cell_"):
                raise ValueError(f"the name {name!r} of a covariate is no plain word")
            if name in RESERVED:
                raise ValueError(f"a covariate cannot be called {name!r}, as another column is")
        return self


class Expected(Strict):
    """Numbers in the complete series, of the samples that have a label and values; each optional.

    Attributes
    ----------
    cases, controls, samples, subjects : int, optional
    """

    cases: PositiveInt | None = None
    controls: PositiveInt | None = None
    samples: PositiveInt | None = None
    subjects: PositiveInt | None = None

    @property
    def stated(self) -> dict[str, int]:
        """The numbers that are given, by name."""
        return self.model_dump(exclude_none=True)


class CohortManifest(Strict):
    """A cohort: its files, how its samples are described, and what it should contain.

    Attributes
    ----------
    name : str
        Accession or any short name.
    task : str
        The disease that is told apart.
    platform : {"27K", "450K", "EPIC", "EPICv2"} or several of them joined by "+"
    tissue : str
        Tissue of all samples, unless ``phenotypes.tissue`` reads it per sample.
    files : list of DataFile
    scale : {"beta", "m", "detect"}
        What the files hold; M-values are converted to beta values. "detect", for a series of which
        it is not known: M-values if more than a twentieth of the values lie outside 0 to 1.
    detection_p : float
        Values with a detection p-value above it are set missing (where the file has them).
    phenotypes : Phenotypes
    keep : dict of str to list of str
        Only samples whose characteristic (key) has one of the values (wildcards allowed).
    absent : int
        How many samples with a label may lack values; they are left out and reported.
    expected : Expected
        Enforced unless the caller allows a subset.
    confidence : dict of str to {"verified", "one source", "inferred", "unverified"}
        How well the files, the label, the covariates, the expected numbers and the citation are
        known; verified: by two or more independent sources.
    citation, doi, terms, note : str
        Citation and terms are needed where files come from the network.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    task: str = Field(min_length=1)
    platform: str = Field(pattern=r"^(27K|450K|EPIC|EPICv2)(\+(27K|450K|EPIC|EPICv2))*$")
    tissue: str
    files: list[DataFile] = Field(min_length=1)
    scale: Scale = "beta"
    detection_p: float = Field(default=0.01, gt=0, le=1)
    phenotypes: Phenotypes
    keep: dict[str, Names] = {}
    absent: NonNegativeInt = 0
    expected: Expected = Expected()
    confidence: dict[
        Literal["files", "label", "covariates", "expected", "citation"], Confidence
    ] = {}
    citation: str = ""
    doi: str | None = None
    terms: str = ""
    note: str = ""

    _path: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _public_data_are_cited(self) -> "CohortManifest":
        for name in ("citation", "terms"):
            if not getattr(self, name) and any(is_remote(file.url) for file in self.files):
                raise ValueError(f"files from the network need the key {name!r}")
        return self

    @property
    def path(self) -> Path:
        """The YAML file that was read."""
        return self._path

    def locate(self, file: DataFile) -> str:
        """Address of a file, or its path (in the manifest: relative to the manifest)."""
        return file.url if is_remote(file.url) else str(self._path.parent / file.url)


def load_manifest(name_or_yaml: str | Path) -> CohortManifest:
    """Read and validate a cohort manifest.

    Parameters
    ----------
    name_or_yaml : str or Path
        Name of a manifest that comes with the project (``"GSE42861"``), or a YAML file.

    Returns
    -------
    CohortManifest

    Raises
    ------
    MiracleError
        Unknown name, or a wrong key or value; the message names file and line.

    Examples
    --------
    >>> load_manifest("GSE42861").task
    'Rheumatoid arthritis'
    """
    path = Path(name_or_yaml)
    if path.suffix not in (".yaml", ".yml"):
        path = MANIFESTS / f"{name_or_yaml}.yaml"
    if not path.is_file():
        raise MiracleError(
            f"no cohort manifest {str(name_or_yaml)!r}; expected a YAML file or one of: "
            f"{', '.join(_names())}."
        )
    manifest = read_manifest(path, CohortManifest)
    manifest._path = path.resolve()
    return manifest


def list_cohorts() -> pd.DataFrame:
    """Table of the cohorts that come with the project.

    Returns
    -------
    DataFrame
        One row per cohort: ``name``, ``task``, ``tissue``, ``platform``, ``cases``, ``controls``
        (NA where not known), ``citation``.

    Examples
    --------
    >>> list_cohorts().set_index("name").loc["GSE42861", "tissue"]
    'peripheral blood leukocytes'
    """
    rows = []
    for name in _names():
        manifest = load_manifest(name)
        rows.append(
            {
                "name": manifest.name,
                "task": manifest.task,
                "tissue": manifest.tissue,
                "platform": manifest.platform,
                "cases": manifest.expected.cases,
                "controls": manifest.expected.controls,
                "citation": manifest.citation,
            }
        )
    return pd.DataFrame(rows).astype({"cases": "Int64", "controls": "Int64"})


def _names() -> list[str]:
    return sorted(path.stem for path in MANIFESTS.glob("*.yaml"))
