"""What a profile names outside the run: cohorts, array annotation and gene sets."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd
from anndata import AnnData

from miracle_lib.cohorts import (
    Simulation,
    annotate_sites,
    list_pairs,
    load_cohort,
    simulate_cohorts,
)
from miracle_lib.cohorts.fetch import fetch_file, file_hash
from miracle_lib.cohorts.manifest import CohortManifest, load_manifest
from miracle_lib.config import AnnotationSpec, Profile, SimulationSpec
from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import PathwayTree, load_annotation_source
from miracle_lib.hierarchy.sources import annotation_content, annotation_files
from miracle_lib.interpretation import load_markers
from miracle_lib.preprocessing import read_cell_reference
from miracle_lib.resources import MANIFEST
from miracle_lib.studies import load_ablations

GeneSets = dict[str, list[str]]
Reader = Callable[[Profile, str | None, int], Any]  # profile, mirror, seed


def simulate(profile: Profile, seed: int) -> Simulation:
    """Simulate the cohorts of a profile."""
    if profile.simulation is None:
        raise MiracleError(f"the profile of {profile.title} has no 'simulation'.")
    return simulate_cohorts(**dict(profile.simulation), random_state=seed)


def _simulated_content(simulation: SimulationSpec, seed: int, hospitals: bool = False) -> Any:
    """What a simulation depends on; only tests elsewhere see its other hospitals."""
    return simulation.model_dump(exclude=None if hospitals else {"hospitals"}) | {"seed": seed}


def _cohort_content(names: Callable[[Profile], list[str]], hospitals: bool = False) -> Reader:
    """Give the reader of some cohorts: how each is described, and the checksums of its files."""

    def read(profile: Profile, mirror: str | None, seed: int) -> Any:
        if profile.simulation is not None:
            return _simulated_content(profile.simulation, seed, hospitals)
        content = {name: _described(name, mirror) for name in names(profile)}
        return {"cohorts": content, "allow_subset": profile.allow_subset}

    return read


def _described(name: str, mirror: str | None) -> Any:
    """One cohort: its description, and the checksum of each of its files."""
    manifest = load_manifest(name)
    files = {
        file.url: file_hash(fetch_file(manifest.locate(file), mirror, checksum=file.sha256))
        for file in manifest.files
    }
    return {"manifest": manifest.model_dump(), "files": files}


def _source_content(names: Callable[[AnnotationSpec], Iterable[str | None]]) -> Reader:
    """Give the reader of some annotation sources: their entries, and their files' checksums."""

    def read(profile: Profile, mirror: str | None, seed: int) -> Any:
        if profile.simulation is not None:
            return _simulated_content(profile.simulation, seed)
        return {
            name: annotation_content(name, mirror=mirror)
            for name in names(profile.sources)
            if name is not None
        }

    return read


# What steps and notebooks read from outside: kind -> content that decides on making them again.
READERS: dict[str, Reader] = {
    "cohorts": _cohort_content(lambda profile: profile.cohorts),
    "external": _cohort_content(lambda profile: profile.external, hospitals=True),
    "array": _source_content(lambda spec: [spec.array]),
    "gene_sets": _source_content(lambda spec: [spec.mask, *spec.validation.values()]),
    "titles": lambda profile, *_: list(profile.annotation.validation) if profile.annotation else [],
    "quality": _source_content(lambda spec: [spec.probe_masks, *spec.cell_reference.values()]),
    "cell_reference": lambda profile, *_: (
        profile.annotation.cell_reference if profile.annotation else {}
    ),
    "merging": lambda profile, *_: profile.sites,
    "ablations": lambda *_: load_ablations(MANIFEST / "ablations.yaml").model_dump(),
    "markers": lambda *_: load_markers(MANIFEST / "markers.yaml").model_dump(),
    "pairs": lambda *_: list_pairs().to_dict("records"),
}


def refuse_alike(names: Iterable[str], what: str) -> None:
    """Refuse names that differ in case only: some file systems hold them for one.

    Raises
    ------
    MiracleError
        The first two that are alike.

    Examples
    --------
    >>> refuse_alike(["SLE", "RA", "SLE"], "tasks")
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            raise MiracleError(
                f"the {what} {first!r} and {name!r} differ in case only; expected one spelling of "
                "a name, or two names."
            )


def check_cohort_names(manifests: list[CohortManifest]) -> None:
    """Refuse cohorts of one name, which would be standardised as one, and names alike."""
    first: dict[str, CohortManifest] = {}
    for manifest in manifests:
        if (other := first.setdefault(manifest.name, manifest)) is not manifest:
            raise MiracleError(
                f"{other.path} and {manifest.path} are both of a cohort {manifest.name!r}; "
                "expected a 'name' of its own for each."
            )
    refuse_alike((manifest.task for manifest in manifests), "tasks")
    refuse_alike(first, "cohorts")


def load_cohorts(profile: Profile, seed: int, mirror: str | None) -> Iterator[AnnData]:
    """Simulate or read the cohorts of a profile, one by one, sites with their positions."""
    if profile.simulation is not None:
        refuse_alike(profile.simulation.sizes, "tasks")
        yield from simulate(profile, seed).cohorts.values()
    else:
        yield from _read_cohorts(profile.cohorts, profile, mirror)


def load_external(profile: Profile, seed: int, mirror: str | None) -> Iterator[AnnData]:
    """Simulate or read the cohorts that only test, one by one."""
    if profile.simulation is not None:
        yield from simulate(profile, seed).hospitals
    else:
        yield from _read_cohorts(profile.external, profile, mirror)


def _read_cohorts(names: list[str], profile: Profile, mirror: str | None) -> Iterator[AnnData]:
    """Read cohorts one by one, sites with their positions."""
    check_cohort_names([load_manifest(name) for name in [*profile.cohorts, *profile.external]])
    positions = _source(profile.sources.array, mirror).sites[["chromosome", "position"]]
    for name in names:
        adata = load_cohort(name, mirror=mirror, allow_subset=profile.allow_subset)
        annotate_sites(adata, positions)
        yield adata


def load_annotation(
    profile: Profile, seed: int, mirror: str | None
) -> tuple[pd.DataFrame, GeneSets, dict[str, GeneSets]]:
    """Give the site-gene table, the mask's gene sets and the validation libraries by title."""
    if profile.simulated:
        simulation = simulate(profile, seed)
        return simulation.site_gene, simulation.gene_sets, simulation.validation_sets
    spec = profile.sources
    refuse_alike(spec.validation, "libraries")
    libraries = {title: _gene_sets(name, mirror) for title, name in spec.validation.items()}
    return _source(spec.array, mirror).site_gene, _gene_sets(spec.mask, mirror), libraries


def optional_table(name: str | None, mirror: str | None) -> pd.DataFrame | None:
    """Give a table that a profile may name, such as probe masks, or None."""
    return None if name is None else _source(name, mirror)


def cell_reference(name: str | None, mirror: str | None) -> pd.DataFrame | None:
    """Give the means of sorted cells of a source or of a user's file, or None."""
    return None if name is None else read_cell_reference(annotation_files(name, mirror)[0])


def _source(name: str, mirror: str | None) -> Any:
    """One annotation source, read as what it is."""
    return load_annotation_source(name, mirror=mirror)


def _gene_sets(name: str, mirror: str | None) -> GeneSets:
    """Gene sets of a source, flat or a tree."""
    loaded = _source(name, mirror)
    return loaded.gene_sets if isinstance(loaded, PathwayTree) else loaded
