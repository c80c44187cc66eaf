"""Preparing beta values: quality, scale, standardisation within cohorts, choice of sites."""

from miracle_lib.preprocessing.scale import beta_to_m, m_to_beta
from miracle_lib.preprocessing.selection import SiteSelector
from miracle_lib.preprocessing.standardize import CohortStandardizer

__all__ = ["CohortStandardizer", "SiteSelector", "beta_to_m", "m_to_beta"]
