"""What a trained model says, and whether it survives its controls."""

from importlib import import_module
from typing import Any

# Public name -> module; resolved on first use, so that an enrichment test does not import torch.
_PUBLIC = {
    "activity_test": "common",
    "against_controls": "stability",
    "agreement": "attribution",
    "attribute": "attribution",
    "beside_composition": "composition",
    "beyond_panels": "common",
    "common_pathways": "common",
    "composition_panel": "markers",
    "degree_dependence": "stability",
    "ewas": "association",
    "explain": "explanation",
    "explain_paths": "explanation",
    "path_contributions": "explanation",
    "gene_scores": "ranked",
    "genomic_control": "association",
    "inflation": "association",
    "library_agreement": "validation",
    "load_markers": "markers",
    "marker_audit": "markers",
    "meta_analysis": "meta",
    "oriented_activity": "common",
    "overrepresentation": "enrichment",
    "panel_scores": "common",
    "panel_test": "markers",
    "prerank": "ranked",
    "refit_attributions": "stability",
    "ssgsea": "ranked",
    "task_attributions": "attribution",
    "top_overlap": "stability",
    "weight_products": "attribution",
    "without_composition": "composition",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
