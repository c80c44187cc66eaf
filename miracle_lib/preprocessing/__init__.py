"""Preparing beta values: quality, scale, standardisation within cohorts, choice of sites."""

from miracle_lib.preprocessing.cells import estimate_cell_fractions, is_blood, read_cell_reference
from miracle_lib.preprocessing.covariates import CovariateResidualizer
from miracle_lib.preprocessing.imputation import SiteImputer
from miracle_lib.preprocessing.quality import quality_control
from miracle_lib.preprocessing.samples import duplicate_pairs, outlier_scores, predict_sex
from miracle_lib.preprocessing.scale import beta_to_m, m_to_beta
from miracle_lib.preprocessing.selection import SiteSelector
from miracle_lib.preprocessing.standardize import CohortStandardizer
from miracle_lib.preprocessing.survey import Survey, survey_values

__all__ = [
    "CohortStandardizer",
    "CovariateResidualizer",
    "SiteImputer",
    "SiteSelector",
    "Survey",
    "beta_to_m",
    "duplicate_pairs",
    "estimate_cell_fractions",
    "is_blood",
    "m_to_beta",
    "outlier_scores",
    "predict_sex",
    "quality_control",
    "read_cell_reference",
    "survey_values",
]
