"""Pathways that contain pathways: the Gene Ontology and Reactome."""

import io
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import obonet
import pandas as pd

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy.build import check_acyclic
from miracle_lib.hierarchy.gene_sets import read_gmt_lines, refuse_dated_genes
from miracle_lib.hierarchy.text import one_line, read_text
from miracle_lib.spreadsheet import refuse_dates


class PathwayTree(NamedTuple):
    """Gene sets, and which of them lies within which.

    Attributes
    ----------
    gene_sets : dict of str to list of str
        Genes of every pathway, those of its descendants included.
    parents : DataFrame
        Columns ``child`` and ``parent``, sorted; both are names of ``gene_sets``.
    """

    gene_sets: dict[str, list[str]]
    parents: pd.DataFrame


def read_go(
    obo: str | Path,
    gaf: str | Path,
    *,
    namespace: str = "biological_process",
    relations: Collection[str] = ("is_a", "part_of"),
    exclude_evidence: Collection[str] = ("ND",),
) -> PathwayTree:
    """Make gene sets from the Gene Ontology and its annotations.

    A gene annotated to a term is a member of every term above it (the true-path rule). Terms
    without a gene are left out.

    Parameters
    ----------
    obo : str or Path
        Ontology (``go-basic.obo``), plain or gzipped. Obsolete terms are skipped.
    gaf : str or Path
        Annotations (GAF 2.x, for example ``goa_human.gaf.gz``). Annotations with the qualifier
        NOT are skipped; alternative term ids are followed.
    namespace : str, default "biological_process"
        Branch of the ontology.
    relations : collection of str
        Relations along which genes are passed up, within the branch.
    exclude_evidence : collection of str
        Evidence codes to skip; add "IEA" to leave out what no curator has seen.

    Returns
    -------
    PathwayTree
        Sets are named as in Enrichr's libraries: "term name (GO:0006281)".

    Raises
    ------
    MiracleError
        An unreadable file, a broken line (named by number), a namespace without terms, a cyclic
        ontology, or no annotation for any of its terms.

    References
    ----------
    Ashburner et al. 2000, doi:10.1038/75556.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.obo").write_text(
    ...     "[Term]\\nid: GO:1\\nname: root\\nnamespace: p\\n\\n"
    ...     "[Term]\\nid: GO:2\\nname: leaf\\nnamespace: p\\nis_a: GO:1\\n"
    ... )
    >>> fields = ["UniProtKB", "P1", "TP53", "", "GO:2", "x", "IDA"] + [""] * 8
    >>> _ = (folder / "a.gaf").write_text("!gaf-version: 2.2\\n" + "\\t".join(fields) + "\\n")
    >>> read_go(folder / "a.obo", folder / "a.gaf", namespace="p").gene_sets
    {'leaf (GO:2)': ['TP53'], 'root (GO:1)': ['TP53']}
    """
    graph, primary = _read_obo(Path(obo), namespace, relations)
    genes: dict[str, set[str]] = {term: set() for term in graph}
    for symbol, term in _read_gaf(Path(gaf), exclude_evidence):
        if (term := primary.get(term, term)) in genes:
            genes[term].add(symbol)
    for term in nx.topological_sort(graph):  # children come before their parents
        for parent in graph.successors(term):
            genes[parent] |= genes[term]
    names = {term: f"{graph.nodes[term]['name']} ({term})" for term in graph if genes[term]}
    if not names:
        raise MiracleError(
            f"no annotation of {Path(gaf).name} is to a term of {namespace!r} in {Path(obo).name}"
        )
    sets = {name: sorted(genes[term]) for term, name in sorted(names.items(), key=lambda x: x[1])}
    edges = [(names[c], names[p]) for c, p in graph.edges if c in names and p in names]
    return PathwayTree(sets, _parent_table(edges))


def read_reactome(gmt: str | Path, relations: str | Path) -> PathwayTree:
    """Read Reactome's pathways with their parent-child relations.

    Parameters
    ----------
    gmt : str or Path
        ``ReactomePathways.gmt.zip``; its second column holds the stable ids (R-HSA-...).
    relations : str or Path
        ``ReactomePathwaysRelation.txt``: parent id and child id, tab-separated, of all species.
        Relations of ids that the GMT does not hold are left out.

    Returns
    -------
    PathwayTree

    Raises
    ------
    MiracleError
        A broken line (named by number), relations that fit no pathway, or cyclic ones.

    References
    ----------
    Milacic et al. 2024, doi:10.1093/nar/gkad1025.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.gmt").write_text("Repair\\tR-HSA-1\\tTP53\\tATM\\nBER\\tR-HSA-2\\tTP53\\n")
    >>> _ = (folder / "a.txt").write_text("R-HSA-1\\tR-HSA-2\\nR-MMU-1\\tR-MMU-2\\n")
    >>> read_reactome(folder / "a.gmt", folder / "a.txt").parents.values.tolist()
    [['BER', 'Repair']]
    """
    sets = read_gmt_lines(gmt)
    name_of = {stable_id: name for name, stable_id, _ in sets}
    edges = []
    path = Path(relations)
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) != 2:
            raise MiracleError(
                f"{path.name}, line {number}: expected a parent and a child separated by a tab, "
                f"found {line[:60]!r}"
            )
        parent, child = (field.strip() for field in fields)
        if parent in name_of and child in name_of:
            edges.append((name_of[child], name_of[parent]))
    if not edges:
        raise MiracleError(
            f"no relation of {path.name} is between two pathways of {Path(gmt).name} (whose ids "
            f"look like {sets[0][1]!r})"
        )
    parents = _parent_table(edges)
    check_acyclic(parents, path.name)
    gene_sets = {name: genes for name, _, genes in sets}
    refuse_dated_genes(gene_sets, f"{Path(gmt).name}, ")
    return PathwayTree(gene_sets, parents)


def _read_obo(
    path: Path, namespace: str, relations: Collection[str]
) -> tuple[nx.DiGraph, dict[str, str]]:
    """Terms of a branch with edges from child to parent, and primary ids of alternative ones."""
    try:
        ontology = obonet.read_obo(io.StringIO(read_text(path)))
    except (ValueError, KeyError, AssertionError) as error:
        raise MiracleError(f"{path.name} is no ontology in OBO format: {one_line(error)}") from None
    default = ontology.graph.get("default-namespace")
    terms = {
        term: data
        for term, data in ontology.nodes(data=True)
        if "name" in data and data.get("namespace", default) == namespace
    }
    if not terms:
        found = {data.get("namespace", default) for _, data in ontology.nodes(data=True)}
        raise MiracleError(
            f"{path.name} has no term of the namespace {namespace!r}; it has "
            f"{', '.join(sorted(map(str, found - {None}))) or 'none'}"
        )
    graph = nx.DiGraph()
    graph.add_nodes_from((term, {"name": data["name"]}) for term, data in terms.items())
    graph.add_edges_from(
        (child, parent)
        for child, parent, relation in ontology.edges(keys=True)
        if relation in relations and child in terms and parent in terms
    )
    edges = pd.DataFrame(list(graph.edges), columns=["child", "parent"])
    check_acyclic(edges, path.name)
    return graph, {alt: term for term, data in terms.items() for alt in data.get("alt_id", [])}


def _read_gaf(path: Path, exclude_evidence: Collection[str]) -> list[tuple[str, str]]:
    """Gene symbol and term of every annotation."""
    found = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith("!"):
            continue
        fields = line.split("\t")
        if len(fields) < 15:
            raise MiracleError(
                f"{path.name}, line {number}: expected at least 15 tab-separated fields (GAF), "
                f"found {len(fields)}"
            )
        symbol, qualifier, term, evidence = fields[2], fields[3], fields[4], fields[6]
        if "NOT" not in qualifier.split("|") and evidence not in exclude_evidence:
            found.append((symbol, term))
    refuse_dates(dict.fromkeys(symbol for symbol, _ in found), f"{path.name}, field 3 (symbol)")
    return found


def _parent_table(edges: list[tuple[str, str]]) -> pd.DataFrame:
    """Distinct edges from child to parent, sorted."""
    return pd.DataFrame(sorted(set(edges)), columns=["child", "parent"], dtype=object)
