"""Interpretable multi-task learning on DNA methylation arrays."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("miracle-lib")
except PackageNotFoundError:  # sources on the path that nobody installed
    __version__ = "0+unknown"

# Public name -> module; resolved on first use, so that a short command does not import torch.
_PUBLIC = {
    "Hierarchy": "miracle_lib.hierarchy",
    "MaskedLinear": "miracle_lib.model",
    "MaskedVAE": "miracle_lib.model",
    "MiracleClassifier": "miracle_lib.estimator",
    "MiracleError": "miracle_lib.errors",
    "Samples": "miracle_lib.samples",
    "Training": "miracle_lib.estimator",
    "cross_validate": "miracle_lib.evaluation",
    "ewas": "miracle_lib.interpretation",
    "explain": "miracle_lib.interpretation",
    "load_cohort": "miracle_lib.cohorts",
    "merge_cohorts": "miracle_lib.cohorts",
    "meta_analysis": "miracle_lib.interpretation",
    "overrepresentation": "miracle_lib.interpretation",
    "predict": "miracle_lib.estimator",
    "read_gene_sets": "miracle_lib.hierarchy",
    "read_illumina_manifest": "miracle_lib.hierarchy",
    "read_store": "miracle_lib.stored",
    "simulate_cohorts": "miracle_lib.cohorts",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
