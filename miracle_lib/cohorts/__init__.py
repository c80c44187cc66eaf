"""Cohorts: from a GEO accession, or a user's own table, to AnnData, samples x sites."""

from miracle_lib.cohorts.describe import describe_cohorts
from miracle_lib.cohorts.fetch import cache_folder, fetch_cohorts, fetch_file
from miracle_lib.cohorts.idats import read_idats
from miracle_lib.cohorts.load import annotate_sites, load_cohort, write_cohort
from miracle_lib.cohorts.manifest import CohortManifest, list_cohorts, load_manifest
from miracle_lib.cohorts.merge import merge_cohorts
from miracle_lib.cohorts.pairs import list_pairs
from miracle_lib.cohorts.phenotypes import covariate_names, read_phenotypes
from miracle_lib.cohorts.sample_tables import read_samples
from miracle_lib.cohorts.series_matrix import SeriesMatrix, read_series_matrix
from miracle_lib.cohorts.simulated_hospital import Hospital
from miracle_lib.cohorts.simulation import Simulation, simulate_cohorts
from miracle_lib.cohorts.site_table import SiteTable
from miracle_lib.cohorts.supplementary import read_supplementary
from miracle_lib.cohorts.tables import read_beta_values, read_table

__all__ = [
    "CohortManifest",
    "Hospital",
    "SeriesMatrix",
    "Simulation",
    "SiteTable",
    "annotate_sites",
    "cache_folder",
    "covariate_names",
    "describe_cohorts",
    "fetch_cohorts",
    "fetch_file",
    "list_cohorts",
    "list_pairs",
    "load_cohort",
    "load_manifest",
    "merge_cohorts",
    "read_beta_values",
    "read_idats",
    "read_phenotypes",
    "read_samples",
    "read_series_matrix",
    "read_supplementary",
    "read_table",
    "simulate_cohorts",
    "write_cohort",
]
