"""What a profile names outside the run: cohorts, array annotation and gene sets."""

import json
from typing import Any

import pandas as pd
from anndata import AnnData

from miracle_lib.cohorts import (
    Simulation,
    annotate_sites,
    fetch_cohorts,
    load_cohort,
    simulate_cohorts,
)
from miracle_lib.config import Profile
from miracle_lib.files import sha256
from miracle_lib.hierarchy import PathwayTree, annotation_files, load_annotation_source

GeneSets = dict[str, list[str]]


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
    fetched = fetch_cohorts(profile.cohorts, mirror=mirror)
    hashes |= dict(zip(fetched["file"], fetched["sha256"], strict=True))
    for name in _annotation_names(profile):
        hashes |= {path.name: sha256(path) for path in annotation_files(name, mirror=mirror)}
    return hashes


def _annotation_names(profile: Profile) -> list[str]:
    """Every annotation source of a profile."""
    spec = profile.annotation
    optional = [name for name in (spec.probe_masks, spec.cell_reference) if name]
    return [spec.array, spec.mask, *spec.validation.values(), *optional]


def load_cohorts(profile: Profile, seed: int, mirror: str | None) -> list[AnnData]:
    """Simulate or read the cohorts of a profile, in its order, sites with their positions."""
    if profile.simulated:
        return list(simulate(profile, seed).cohorts.values())
    positions = _source(profile.annotation.array, mirror).sites[["chromosome", "position"]]
    cohorts = []
    for name in profile.cohorts:
        adata = load_cohort(name, mirror=mirror, allow_subset=profile.allow_subset)
        annotate_sites(adata, positions)
        cohorts.append(adata)
    return cohorts


def load_annotation(
    profile: Profile, seed: int, mirror: str | None
) -> tuple[pd.DataFrame, GeneSets, dict[str, GeneSets]]:
    """Give the site-gene table, the mask's gene sets and the validation libraries by title."""
    if profile.simulated:
        simulation = simulate(profile, seed)
        return simulation.site_gene, simulation.gene_sets, simulation.validation_sets
    spec = profile.annotation
    libraries = {title: _gene_sets(name, mirror) for title, name in spec.validation.items()}
    return _source(spec.array, mirror).site_gene, _gene_sets(spec.mask, mirror), libraries


def optional_table(name: str | None, mirror: str | None) -> pd.DataFrame | None:
    """Give a table that a profile may name, such as probe masks, or None."""
    return None if name is None else _source(name, mirror)


def _source(name: str, mirror: str | None) -> Any:
    """One annotation source, read as what it is."""
    return load_annotation_source(name, mirror=mirror)


def _gene_sets(name: str, mirror: str | None) -> GeneSets:
    """Gene sets of a source, flat or a tree."""
    loaded = _source(name, mirror)
    return loaded.gene_sets if isinstance(loaded, PathwayTree) else loaded
