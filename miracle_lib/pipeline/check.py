"""Everything about a profile that can be known before any work, in one page."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from miracle_lib.cohorts import covariate_names, load_manifest, read_phenotypes
from miracle_lib.cohorts.fetch import fetch_file, fetch_head
from miracle_lib.cohorts.load import describe_samples
from miracle_lib.cohorts.manifest import CohortManifest, is_remote
from miracle_lib.cohorts.phenotypes import count
from miracle_lib.config import Parameters, Profile, check_parameters, load_profile
from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import annotation_files
from miracle_lib.pipeline.inputs import check_cohort_names
from miracle_lib.studies.variants import WIDE

_TABLE = b"!series_matrix_table_begin"
_SITES = {"27K": 27_578, "450K": 485_577, "EPIC": 866_836, "EPICv2": 937_055}  # of the arrays
_FIT_PEAK = 2.8  # measured: peak of a fit, in sizes of the float32 matrix that it is given
_READ_PEAK = 2.1  # measured: the same of reading and controlling the largest cohort
_PROGRAM = 0.4e9  # bytes of the program and the annotation
_FOLDS_CHOOSE = 2  # sites that all folds choose together, in numbers that one chooses
_VALUES_PER_SECOND = (18e6, 4.4e6)  # measured: reading text on an idle and on a busy machine


@dataclass
class Check:
    """A page of lines, and what stops a run."""

    lines: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)


def check_profile(name: str, mirror: str | Path | None = None) -> Check:
    """Say what each cohort of a profile will give, from headers only.

    Parameters
    ----------
    name : str
        Name or path of a profile.
    mirror : str or Path, optional
        As in `miracle_lib.cohorts.fetch_file`.

    Returns
    -------
    Check
        ``stops`` is empty if nothing that can be known now is in the way.

    Raises
    ------
    MiracleError
        The profile itself cannot be read.
    """
    profile = load_profile(name)
    page = Check([f"{profile.title}"])
    if profile.simulated:
        page.lines.append("simulated cohorts: nothing to fetch")
        return page
    shapes: list[tuple[int, int]] = []
    manifests: list[CohortManifest] = []
    for cohort in [*profile.cohorts, *profile.external]:
        try:
            manifest = load_manifest(cohort)
            page.lines += ["", f"{manifest.name}: {manifest.task}"]
            check_cohort_names([*manifests, manifest])
            manifests.append(manifest)
            only_tests = cohort in profile.external
            samples, n_samples = _check_samples(manifest, profile, mirror, page, only_tests)
            n_sites, said = _sites(samples, manifest)
            shapes.append((n_samples, n_sites))
            page.lines.append(f"  sites: {n_sites:,} ({said})")
            page.lines += [f"  file: {line}" for line in _files(manifest, mirror)]
        except MiracleError as error:
            page.stops.append(str(error))
            page.lines.append(f"  STOPS: {error}")
    page.lines += ["", *_annotation(profile, mirror, page)]
    page.lines += _costs(shapes, check_parameters(profile.parameters))
    return page


def _costs(shapes: list[tuple[int, int]], parameters: Parameters) -> Iterator[str]:
    """Estimated memory, disk and time of cohorts of so many samples and sites."""
    n_values = sum(n_samples * n_sites for n_samples, n_sites in shapes)
    widest = max((n_sites for _, n_sites in shapes), default=0)
    n_chosen = widest
    if parameters.selection != "none":
        n_chosen = min(widest, _FOLDS_CHOOSE * parameters.n_sites * len(shapes))
    reading = 4 * _READ_PEAK * max((np.prod(shape) for shape in shapes), default=0)
    every = 4 * _FIT_PEAK * n_values
    fitting = every * n_chosen / max(widest, 1)
    yield f"memory: about {(_PROGRAM + max(reading, fitting)) / 1e9:.1f} GB"
    if n_chosen < widest <= WIDE:
        yield (
            f"memory of chapter 4, which compares with a model of all sites: about "
            f"{(_PROGRAM + every) / 1e9:.1f} GB"
        )
    yield f"disk: about {2 * 4 * n_values / 1e9:.1f} GB"
    fast, slow = (n_values / speed for speed in _VALUES_PER_SECOND)
    yield f"reading the values: {max(fast, 1):.0f} to {max(slow, 1):.0f} s"


def _check_samples(
    manifest: CohortManifest,
    profile: Profile,
    mirror: str | Path | None,
    page: Check,
    only_tests: bool,
) -> tuple[pd.DataFrame, int]:
    """Samples, classes and covariates; returns what the files say of the samples."""
    described = {
        file: fetch_head(manifest.locate(file), _TABLE, mirror)
        for file in manifest.files
        if file.layout in ("series_matrix", "samples")
    }
    samples = describe_samples(manifest, described)
    obs = read_phenotypes(samples, manifest, profile.allow_subset)
    found = count(obs)
    page.lines.append(
        f"  samples: {found['samples']} of {len(samples)}: {found['cases']} cases, "
        f"{found['controls']} controls, {found['subjects']} subjects"
    )
    known = [f"{name} {obs[name].notna().mean():.0%}" for name in covariate_names(obs)]
    page.lines.append(f"  covariates: {', '.join(known) or 'none'}")
    n_folds = check_parameters(profile.parameters).n_folds
    smallest = obs.groupby("label")["subject"].nunique().min()
    if smallest < n_folds and not only_tests:
        sentence = (
            f"{manifest.name}: a class of {smallest} subjects cannot be split into {n_folds} "
            "folds; n_folds under 'parameters' sets fewer."
        )
        page.stops.append(sentence)
        page.lines.append(f"  STOPS: {sentence}")
    return samples, found["samples"]


def _sites(samples: pd.DataFrame, manifest: CohortManifest) -> tuple[int, str]:
    """Sites that files or cohort file state, else those of the array, and which of them."""
    stated = pd.to_numeric(samples.get("data_row_count", pd.Series(dtype=float)), errors="coerce")
    if stated.max() > 0:
        return int(stated.max()), "stated by the files"
    noted = [file.n_sites for file in manifest.files if file.n_sites is not None]
    if noted:
        return max(noted), "stated by the cohort file"
    most = min(_SITES[name] for name in manifest.platform.split("+"))
    return most, "of the array, as headers do not say"


def _files(manifest: CohortManifest, mirror: str | Path | None) -> Iterator[str]:
    """Where each file is; one of a folder that is not there stops."""
    for file in manifest.files:
        place = manifest.locate(file)
        if is_remote(place) and (mirror is None or is_remote(str(mirror))):
            yield f"{file.name} (from the network)"
        else:
            yield f"{file.name} ({fetch_file(place, mirror).stat().st_size:,} bytes)"


def _annotation(profile: Profile, mirror: str | Path | None, page: Check) -> Iterator[str]:
    """Sources of the annotation; those of a mirror or a path must be there."""
    spec = profile.sources
    names = [spec.array, spec.mask, *spec.validation.values(), spec.probe_masks]
    for name in dict.fromkeys([*names, *spec.cell_reference.values()]):
        if name is None:
            continue
        if mirror is None and not Path(name).suffix:
            yield f"annotation {name}: from the network, or fetched before"
            continue
        try:
            annotation_files(name, mirror)
            yield f"annotation {name}: there"
        except MiracleError as error:
            page.stops.append(str(error))
            yield f"annotation {name}: STOPS: {error}"
