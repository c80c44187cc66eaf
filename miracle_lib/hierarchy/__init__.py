"""From array annotation and gene sets to the sparse masks of the network."""

from miracle_lib.hierarchy.array import ArrayAnnotation, read_illumina_manifest
from miracle_lib.hierarchy.gene_sets import read_gene_sets, redundant_sets
from miracle_lib.hierarchy.graph import Hierarchy

__all__ = [
    "ArrayAnnotation",
    "Hierarchy",
    "read_gene_sets",
    "read_illumina_manifest",
    "redundant_sets",
]
