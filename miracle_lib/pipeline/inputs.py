"""What a profile names outside the run: cohorts, array annotation and gene sets."""

import json
from pathlib import Path

import pandas as pd
from anndata import AnnData

from miracle_lib.cohorts import Simulation, simulate_cohorts
from miracle_lib.config import Profile
from miracle_lib.files import sha256

Annotation = tuple[pd.DataFrame, dict[str, list[str]], dict[str, dict[str, list[str]]]]


def simulate(profile: Profile, seed: int) -> Simulation:
    """Simulate the cohorts of a profile."""
    return simulate_cohorts(**profile.simulation.model_dump(), random_state=seed)


def input_hashes(profile: Profile, mirror: str | None) -> dict[str, str]:
    """Hash every outside file that a profile names, and the profile itself.

    Parameters
    ----------
    profile : Profile
        What the run works on.
    mirror : str or None
        Folder or URL that replaces the network.

    Returns
    -------
    dict of str to str
        Name of the file, or ``profile``, to its SHA-256 or content.
    """
    content = profile.model_dump(exclude={"title", "parameters"})
    hashes = {"profile": json.dumps(content, sort_keys=True)}
    if profile.simulated:
        return hashes
    from miracle_lib.cohorts import cohort_files
    from miracle_lib.hierarchy import annotation_file

    files = [path for name in profile.cohorts for path in cohort_files(name, mirror=mirror)]
    files += [annotation_file(name, mirror=mirror) for name in _annotation_names(profile)]
    return hashes | {Path(path).name: sha256(path) for path in files}


def _annotation_names(profile: Profile) -> list[str]:
    """Every annotation source of a profile."""
    spec = profile.annotation
    optional = [name for name in (spec.probe_masks, spec.cell_reference) if name]
    return [spec.array, spec.mask, *spec.validation.values(), *optional]


def load_cohorts(profile: Profile, seed: int, mirror: str | None) -> list[AnnData]:
    """Simulate or read the cohorts of a profile, in its order."""
    if profile.simulated:
        return list(simulate(profile, seed).cohorts.values())
    from miracle_lib.cohorts import load_cohort

    subset = profile.allow_subset
    return [load_cohort(name, mirror=mirror, allow_subset=subset) for name in profile.cohorts]


def load_annotation(profile: Profile, seed: int, mirror: str | None) -> Annotation:
    """Give the site-gene table, the mask's gene sets and the validation libraries."""
    if profile.simulated:
        simulation = simulate(profile, seed)
        return simulation.site_gene, simulation.gene_sets, simulation.validation_sets
    from miracle_lib.hierarchy import load_annotation_source

    spec = profile.annotation
    validation = {
        title: load_annotation_source(name, mirror=mirror)
        for title, name in spec.validation.items()
    }
    site_gene = load_annotation_source(spec.array, mirror=mirror)
    return site_gene, load_annotation_source(spec.mask, mirror=mirror), validation
