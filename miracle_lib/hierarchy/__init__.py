"""From array annotation and gene sets to the sparse masks of the network."""

from miracle_lib.hierarchy.array import ArrayAnnotation
from miracle_lib.hierarchy.array_files import read_illumina_manifest, read_probe_masks
from miracle_lib.hierarchy.gene_sets import read_gene_sets, redundant_sets
from miracle_lib.hierarchy.graph import Hierarchy
from miracle_lib.hierarchy.ontology import PathwayTree, read_go, read_reactome
from miracle_lib.hierarchy.sources import (
    AnnotationSource,
    annotation_files,
    list_annotation_sources,
    load_annotation_source,
)
from miracle_lib.hierarchy.symbols import SymbolTable, read_hgnc

__all__ = [
    "AnnotationSource",
    "ArrayAnnotation",
    "Hierarchy",
    "PathwayTree",
    "SymbolTable",
    "annotation_files",
    "list_annotation_sources",
    "load_annotation_source",
    "read_gene_sets",
    "read_go",
    "read_hgnc",
    "read_illumina_manifest",
    "read_probe_masks",
    "read_reactome",
    "redundant_sets",
]
