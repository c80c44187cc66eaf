"""Tables for a page: p-values, counts and long texts written as a reader wants them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

_P_VALUE = re.compile(r"(^|[_ ])(p|q)([_ ]value)?$|^(p|q)[_ ]")
_NUMBER = re.compile(r"<td>(?=[-+]?[\d,]*\.?\d+(e[-+]\d+)?</td>|–</td>)")
_TEXT = 40  # characters from which a cell may wrap


@dataclass(frozen=True)
class Table:
    """Formatted cells; a notebook shows them as HTML, a terminal as text."""

    cells: pd.DataFrame
    indexed: bool

    def _repr_html_(self) -> str:
        html = self.cells.to_html(index=self.indexed, border=0, escape=True)
        html = _NUMBER.sub('<td class="number">', html)
        return re.sub(f"<td>(?=[^<]{{{_TEXT},}})", '<td class="text">', html)

    def __repr__(self) -> str:
        return self.cells.to_string(index=self.indexed)


def as_table(frame: pd.DataFrame, digits: int = 2, names: Mapping[str, str] | None = None) -> Table:
    """Format a table for a page.

    Parameters
    ----------
    frame : DataFrame
        Columns named ``p_value``, ``q_value`` or alike hold p-values. A running index is left out.
    digits : int, default 2
        Decimal places of numbers that are no p-values and no counts; those that would be 0 keep two
        significant digits.
    names : mapping of str to str, optional
        What columns are called on the page; default: their names with spaces.

    Returns
    -------
    Table

    Examples
    --------
    >>> print(as_table(pd.DataFrame({"z": [3.14159], "n_genes": [1200], "p_value": [2e-7]}), 1))
      z n genes p value
    3.1   1,200   2e-07
    """
    shown = pd.DataFrame(
        {name: _column(frame[name], str(name), digits) for name in frame}, index=frame.index
    )
    shown = shown.rename(columns=lambda name: (names or {}).get(name, _words(name)))
    if frame.index.nlevels == 1 and frame.columns.nlevels == 1:
        # Above the index, not in a row of its own.
        shown = shown.rename_axis(index=None, columns=_words(frame.index.name))
    return Table(shown, indexed=not isinstance(frame.index, pd.RangeIndex))


def p_text(value: float) -> str:
    """Write a p-value: three decimals, or the power of ten where they would all be 0.

    Examples
    --------
    >>> p_text(0.0312), p_text(4.2e-9)
    ('0.031', '4e-09')
    """
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _column(values: pd.Series, name: str, digits: int) -> list[str]:
    """All cells of a column; whole numbers are counts or ranks, also beside shares below 1."""
    places = pd.Series(digits, values.index)
    if values.dtype.kind == "f" and not _P_VALUE.search(name):
        whole, large = values == values.round(), values.abs() > 1
        finite = np.isfinite(values)
        if whole[finite].all() and large[finite].any():
            places = places * 0
        elif whole[finite & large].all():
            places = places.where(~large, 0)
    return [_cell(v, name, int(place)) for v, place in zip(values, places, strict=True)]


def _cell(value: Any, column: str, digits: int) -> str:
    """One cell as text."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return "–"
        if _P_VALUE.search(column):
            return p_text(float(value))
        return _number(float(value), digits)
    return "–" if value is None or value is pd.NA else str(value)


def _number(value: float, digits: int) -> str:
    """Decimal places, or significant digits where a small number would be 0."""
    if 1e-6 <= abs(value) < 0.5 * 10**-digits:
        return np.format_float_positional(value, precision=2, fractional=False, trim="-")
    if 0 < abs(value) < 1e-6:
        return f"{value:.1e}"
    return f"{value:,.{digits}f}".replace("-0." + "0" * digits, "0." + "0" * digits)


def _words(name: Any) -> Any:
    """A column's name without underscores."""
    if isinstance(name, tuple):
        return tuple(_words(part) for part in name)
    return name.replace("_", " ") if isinstance(name, str) else name


def parameter_box(values: Mapping[str, Any]) -> str:
    """Return the parameters of a run as one small HTML table, folded.

    Parameters
    ----------
    values : mapping of str to object

    Returns
    -------
    str

    Examples
    --------
    >>> "<td>seed</td><td>0</td>" in parameter_box({"seed": 0})
    True
    """
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in values.items()
    )
    return (
        "<details><summary>Parameters of this run</summary>"
        f'<table class="run-parameters"><tbody>{rows}</tbody></table></details>'
    )
