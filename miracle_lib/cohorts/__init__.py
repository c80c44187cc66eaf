"""Cohorts: from a GEO accession, or a user's own table, to AnnData, samples x sites."""

from miracle_lib.cohorts.fetch import fetch_file
from miracle_lib.cohorts.load import load_cohort, write_cohort
from miracle_lib.cohorts.manifest import CohortManifest, list_cohorts, load_manifest
from miracle_lib.cohorts.phenotypes import read_phenotypes
from miracle_lib.cohorts.series_matrix import SeriesMatrix, read_series_matrix

__all__ = [
    "CohortManifest",
    "SeriesMatrix",
    "fetch_file",
    "list_cohorts",
    "load_cohort",
    "load_manifest",
    "read_phenotypes",
    "read_series_matrix",
    "write_cohort",
]

try:
    from miracle_lib.cohorts.merge import merge_cohorts
    from miracle_lib.cohorts.simulation import Simulation, simulate_cohorts

    __all__ += ["Simulation", "merge_cohorts", "simulate_cohorts"]
except ImportError:
    pass
