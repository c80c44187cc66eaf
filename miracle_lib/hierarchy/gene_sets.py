"""Gene sets: reading GMT files, and telling which sets repeat or contain one another."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy.symbols import SymbolTable
from miracle_lib.hierarchy.text import read_text
from miracle_lib.spreadsheet import read_date, refuse_dates

_WEIGHT = re.compile(r",\d+(\.\d+)?$")  # names may hold a comma too ("18S rRNA, 28S rRNA")


def read_gene_sets(path: str | Path, *, symbols: SymbolTable | None = None) -> dict[str, list[str]]:
    """Read gene sets from a GMT file.

    Parameters
    ----------
    path : str or Path
        Plain, gzipped or zipped GMT (recognised by content): per line a set's name, a description
        (may be empty, as in Enrichr's libraries) and its genes, separated by tabs. Genes given
        with a weight ("TP53,1.0") lose it; a gene repeated within a set counts once.
    symbols : SymbolTable, optional
        Brings the genes up to date; repairs, where that is certain, what Excel turned into dates.

    Returns
    -------
    dict of str to list of str
        Genes per set, in the file's order.

    Raises
    ------
    MiracleError
        A line without tabs, a set without genes, or a name used twice; the line is named. A gene
        that Excel turned into a date; the set is named.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "sets.gmt"
    >>> _ = path.write_text("Repair\\t\\tBRCA1\\tTP53\\n")
    >>> read_gene_sets(path)
    {'Repair': ['BRCA1', 'TP53']}
    """
    sets = {name: genes for name, _, genes in read_gmt_lines(path)}
    if symbols is not None:
        sets = symbols.update_sets(sets)
    refuse_dated_genes(sets, f"{Path(path).name}, ")
    return sets


def read_gmt_lines(path: str | Path) -> list[tuple[str, str, list[str]]]:
    """Read name, description and genes of every set of a GMT file.

    Parameters
    ----------
    path : str or Path
        As in `read_gene_sets`.

    Returns
    -------
    list of (str, str, list of str)
        Name, description (Reactome writes its stable id there) and genes.

    Raises
    ------
    MiracleError
        As in `read_gene_sets`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "sets.gmt"
    >>> _ = path.write_text("Repair\\tR-HSA-1\\tTP53\\n")
    >>> read_gmt_lines(path)
    [('Repair', 'R-HSA-1', ['TP53'])]
    """
    path = Path(path)
    sets: list[tuple[str, str, list[str]]] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        if " \t" in line or "\t " in line or line != line.strip():
            name, *rest = (field.strip() for field in (name, *rest))
        if not name or not rest:
            raise MiracleError(
                f"{path.name}, line {number}: expected a set's name, a description and genes "
                f"separated by tabs, found {line[:60]!r}"
            )
        if "," in line:
            rest[1:] = (_WEIGHT.sub("", gene) for gene in rest[1:])
        genes = [gene for gene in dict.fromkeys(rest[1:]) if gene]
        if not genes:
            raise MiracleError(f"{path.name}, line {number}: the set {name!r} has no genes")
        if name in first_line:
            raise MiracleError(
                f"{path.name}, line {number}: the set name {name!r} is used already in line "
                f"{first_line[name]}; names must be unique"
            )
        first_line[name] = number
        sets.append((name, rest[0], genes))
    if not sets:
        raise MiracleError(f"{path.name} holds no gene set; expected a GMT file")
    return sets


def refuse_dated_genes(gene_sets: Mapping[str, Iterable[str]], source: str = "") -> None:
    """Refuse genes that Excel turned into dates, naming the set; ``source`` leads the sentence."""
    dated = {gene for gene in set().union(*gene_sets.values()) if read_date(gene)}
    if dated:
        name = next(name for name, genes in gene_sets.items() if not dated.isdisjoint(genes))
        refuse_dates(gene_sets[name], f"{source}gene set {name!r}")


def check_gene_sets(gene_sets: Mapping[str, Sequence[str]]) -> None:
    """Refuse what is not a mapping of set names to non-empty collections of gene symbols."""
    if not isinstance(gene_sets, Mapping) or not gene_sets:
        raise MiracleError("gene_sets must map at least one set's name to its genes")
    for name, genes in gene_sets.items():
        if isinstance(genes, str) or not all(isinstance(gene, str) for gene in genes):
            raise MiracleError(f"gene set {name!r} must be a list of gene symbols (text)")
        if not len(genes):
            raise MiracleError(f"gene set {name!r} is empty")
    refuse_dated_genes(gene_sets)


def redundant_sets(gene_sets: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """List the sets that equal, or lie within, another set.

    Parameters
    ----------
    gene_sets : mapping of str to sequence of str

    Returns
    -------
    DataFrame
        One row per pair: ``set``, ``relation`` ("duplicate of" or "nested in"), ``other``,
        ``n_genes`` and ``n_genes_other``. A duplicate pair is listed once, the later name first.

    Raises
    ------
    MiracleError
        If a set is empty.

    Examples
    --------
    >>> sets = {"A": ["g1"], "B": ["g1", "g2"], "C": ["g2", "g1"]}
    >>> redundant_sets(sets)[["set", "relation", "other"]].values.tolist()
    [['A', 'nested in', 'B'], ['A', 'nested in', 'C'], ['C', 'duplicate of', 'B']]
    """
    check_gene_sets(gene_sets)
    names = np.array(sorted(gene_sets), dtype=object)
    members = [sorted(set(gene_sets[name])) for name in names]
    sizes = np.array([len(genes) for genes in members])
    codes = pd.factorize(np.concatenate([np.array(genes, dtype=object) for genes in members]))[0]
    of_set = np.repeat(np.arange(len(names)), sizes)
    incidence = csr_matrix((np.ones(len(codes), dtype=np.int32), (of_set, codes)))
    shared = (incidence @ incidence.T).tocoo()
    inner, outer = shared.row, shared.col
    within = (shared.data == sizes[inner]) & (inner != outer)
    same = sizes[inner] == sizes[outer]
    within &= ~same | (inner > outer)  # a duplicate pair once
    inner, outer, same = inner[within], outer[within], same[within]
    order = np.lexsort((outer, inner))
    inner, outer, same = inner[order], outer[order], same[order]
    return pd.DataFrame(
        {
            "set": names[inner],
            "relation": np.where(same, "duplicate of", "nested in"),
            "other": names[outer],
            "n_genes": sizes[inner],
            "n_genes_other": sizes[outer],
        }
    )
