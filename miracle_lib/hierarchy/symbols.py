"""Gene symbols brought up to date; what cannot be told for certain is reported, not guessed."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy.text import one_line, read_text
from miracle_lib.spreadsheet import read_date, refuse_dates

_COLUMNS = {
    "approved": ("symbol", "Approved symbol"),
    "previous": ("prev_symbol", "Previous symbols", "Previous symbol"),
    "alias": ("alias_symbol", "Alias symbols", "Alias symbol"),
}


class SymbolTable:
    """Approved gene symbols, with the previous symbols and aliases that stand for them.

    Parameters
    ----------
    approved : iterable of str, optional
        Approved symbols. Without any, only names damaged by spreadsheets are repaired.
    previous, alias : mapping of str to iterable of str, optional
        Approved symbols that a former symbol, or an alias, may stand for.

    Examples
    --------
    >>> table = SymbolTable(["VMP1", "AGO2"], {"TMEM49": ["VMP1"]}, {"EIF2C2": ["AGO2"]})
    >>> table.update(["TMEM49", "EIF2C2", "2-Sep", "XYZ"])
    ['VMP1', 'AGO2', 'SEPTIN2', 'XYZ']
    """

    def __init__(
        self,
        approved: Iterable[str] = (),
        previous: Mapping[str, Iterable[str]] | None = None,
        alias: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self._approved = frozenset(approved)
        self._previous = {name: frozenset(of) for name, of in (previous or {}).items()}
        self._alias = {name: frozenset(of) for name, of in (alias or {}).items()}
        self._by_case: dict[str, set[str]] = {}
        for name in self._approved:
            self._by_case.setdefault(name.upper(), set()).add(name)

    def lookup(self, symbols: Iterable[str]) -> pd.DataFrame:
        """Say what each symbol stands for today.

        Parameters
        ----------
        symbols : iterable of str

        Returns
        -------
        DataFrame
            Indexed by the distinct symbols in order of appearance: ``updated`` (the symbol itself
            where nothing certain is known), ``status`` and ``candidates``. Status is one of
            "approved", "previous", "alias", "case" (written in other letters), "spreadsheet"
            (turned into a date), "ambiguous" (several candidates, left as it is) or "unknown".

        Examples
        --------
        >>> SymbolTable().lookup(["1-Mar"])[["status", "candidates"]].values.tolist()
        [['ambiguous', 'MARCHF1;MTARC1']]
        """
        index = pd.Index(pd.unique(pd.Series(list(symbols), dtype=object)), name="symbol")
        rows = [self._lookup(symbol) for symbol in index]
        return pd.DataFrame(rows, index=index, columns=["updated", "status", "candidates"])

    def update(self, symbols: Iterable[str]) -> list[str]:
        """Replace every symbol whose present form is certain.

        Parameters
        ----------
        symbols : iterable of str

        Returns
        -------
        list of str
            One per symbol given.
        """
        symbols = list(symbols)
        return pd.Series(symbols, dtype=object).map(self.lookup(symbols)["updated"]).tolist()

    def update_sets(self, gene_sets: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Replace the symbols of gene sets; a gene that comes out twice counts once.

        Parameters
        ----------
        gene_sets : mapping of str to sequence of str

        Returns
        -------
        dict of str to list of str
        """
        genes = {gene for members in gene_sets.values() for gene in members}
        updated = self.lookup(sorted(genes))["updated"].to_dict()
        return {
            name: list(dict.fromkeys(updated[gene] for gene in members))
            for name, members in gene_sets.items()
        }

    def _lookup(self, symbol: str) -> tuple[str, str, str]:
        """Present symbol, status and candidates of one symbol."""
        if symbol in self._approved:
            return symbol, "approved", symbol
        for status, found in (
            ("spreadsheet", _undated(symbol)),
            ("previous", self._previous.get(symbol, frozenset()) | self._alias.get(symbol, set())),
            ("case", self._by_case.get(symbol.upper(), ())),
        ):
            if len(found) > 1:
                return symbol, "ambiguous", ";".join(sorted(found))
            if found:
                if status == "previous" and symbol not in self._previous:
                    status = "alias"
                (only,) = found
                return only, status, only
        return symbol, "unknown", ""


def read_hgnc(path: str | Path) -> SymbolTable:
    """Read the table of approved symbols of the HUGO Gene Nomenclature Committee.

    Parameters
    ----------
    path : str or Path
        Tab-separated ``hgnc_complete_set.txt`` or a custom download of genenames.org with the
        approved, previous and alias symbols; plain, gzipped or zipped. Withdrawn entries are
        skipped.

    Returns
    -------
    SymbolTable

    Raises
    ------
    MiracleError
        If there is no column of approved symbols, or Excel turned one into a date.

    References
    ----------
    Seal et al. 2023, doi:10.1093/nar/gkac888.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "hgnc.txt"
    >>> _ = path.write_text("symbol\\tprev_symbol\\talias_symbol\\nTSBP1\\tC6orf10\\tTSBP\\n")
    >>> read_hgnc(path).update(["C6orf10"])
    ['TSBP1']
    """
    path = Path(path)
    text = io.StringIO(read_text(path))
    try:
        table = pd.read_csv(text, sep="\t", dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise MiracleError(f"{path.name} is not a regular table: {one_line(error)}") from None
    columns = {
        role: next((name for name in names if name in table), None)
        for role, names in _COLUMNS.items()
    }
    if columns["approved"] is None:
        raise MiracleError(
            f"{path.name} has no column 'symbol' or 'Approved symbol'; its columns are "
            f"{', '.join(table.columns[:12])}"
        )
    status = next((table[name] for name in ("status", "Status") if name in table), None)
    if status is not None:
        table = table[~status.str.contains("withdrawn", case=False)]
    approved = table[columns["approved"]]
    refuse_dates(approved, f"{path.name}, column {columns['approved']!r}")
    former: dict[str, dict[str, set[str]]] = {"previous": {}, "alias": {}}
    for role, names in former.items():
        if columns[role] is None:
            continue
        for current, listed in zip(approved, table[columns[role]], strict=True):
            for name in re.split(r"[|,]", listed.strip('"')) if listed else ():
                names.setdefault(name.strip(), set()).add(current)
    return SymbolTable(approved, former["previous"], former["alias"])


def _undated(symbol: str) -> frozenset[str]:
    """Present symbols that a spreadsheet may have turned into this date (Zeeberg et al. 2004)."""
    date = read_date(symbol)
    if date is None:
        return frozenset()
    number, month = date
    if month == "sep" and number == 15:
        return frozenset({"SELENOF"})
    if month == "sep" and 1 <= number <= 14:
        return frozenset({f"SEPTIN{number}"})
    if month == "mar" and 1 <= number <= 11:
        return frozenset({f"MARCHF{number}"} | ({f"MTARC{number}"} if number <= 2 else set()))
    if month == "dec" and number == 1:
        return frozenset({"DELEC1"})
    return frozenset()
