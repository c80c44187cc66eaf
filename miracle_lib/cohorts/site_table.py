"""Values of many samples at many sites: checks and changes that need no second copy."""

import logging
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from miracle_lib.errors import MiracleError

_log = logging.getLogger(__name__)
# Probe names of Infinium arrays; EPICv2 adds strand, conversion, design and replicate: _TC21.
PROBE = re.compile(r"(cg|ch|rs|nv)[-.0-9A-Za-z]*\d[-.0-9A-Za-z]*(_[TB][CO]\d+)?")
_SUFFIX = r"_[TB][CO]\d+$"


@dataclass
class SiteTable:
    """Values as read from one file.

    Attributes
    ----------
    values : ndarray of float32, shape (n_samples, n_sites)
        NaN = missing.
    samples, sites : Index
        Names of rows and columns.
    """

    values: np.ndarray
    samples: pd.Index
    sites: pd.Index


def close_up(values: np.ndarray, keep: slice | np.ndarray) -> np.ndarray:
    """Keep some columns of a matrix, in place where it owns its memory."""
    n_kept = len(range(values.shape[1])[keep]) if isinstance(keep, slice) else len(keep)
    if n_kept == values.shape[1]:
        return values
    if not (values.flags.owndata and values.flags.c_contiguous):
        return np.ascontiguousarray(values[:, keep])
    n_samples = len(values)
    flat = values.reshape(-1)
    for i in range(n_samples):  # row i moves to the left, never onto a row not yet moved
        flat[i * n_kept : (i + 1) * n_kept] = values[i, keep].copy()
    del flat
    values.resize((n_samples, n_kept), refcheck=False)
    return values


def without_suffix(names: pd.Index) -> pd.Index:
    """Name the sites of EPICv2's probes, whose suffixes tell the replicates of a site apart.

    Examples
    --------
    >>> without_suffix(pd.Index(["cg00000029_TC21", "cg00000108"])).tolist()
    ['cg00000029', 'cg00000108']
    """
    return names.str.replace(_SUFFIX, "", regex=True)


def average_replicates(table: SiteTable) -> SiteTable:
    """Strip the suffixes of EPICv2 probe names and average the replicates of a site."""
    names = without_suffix(table.sites)
    if names.equals(table.sites):
        return table
    codes, sites = pd.factorize(names)
    first = np.flatnonzero(~names.duplicated())
    repeated = names.duplicated(keep=False)
    if repeated.any():
        members = np.flatnonzero(repeated)
        group, groups = pd.factorize(codes[members])
        for row in table.values:
            present = ~np.isnan(row[members])
            total = np.bincount(group[present], row[members][present], len(groups))
            count = np.bincount(group[present], minlength=len(groups))
            with np.errstate(invalid="ignore"):
                row[first[groups]] = total / count
    _log.info("EPICv2 probe names: %d probes averaged to %d sites", len(table.sites), len(sites))
    return SiteTable(close_up(table.values, first), table.samples, pd.Index(sites))


def check_names(table: SiteTable, source: str) -> None:
    """Stop if a site or a sample has no name or occurs twice."""
    for what, names in (("sample", table.samples), ("site", table.sites)):
        if len(nameless := np.flatnonzero(names == "")):
            raise MiracleError(
                f"{source}: {what} {nameless[0] + 1} has no name ({len(nameless)} such {what}s)."
            )
        if not names.is_unique:
            repeated = names[names.duplicated()].unique()
            raise MiracleError(
                f"{source}: {what} {repeated[0]!r} occurs more than once "
                f"({len(repeated)} such {what}s)."
            )


def to_beta(table: SiteTable, scale: str, source: str) -> None:
    """Check that values are on the scale that the manifest gives; turn M-values into beta."""
    low, high, outside = _range(table)
    looks_like_m = low < 0 and outside > 0.05 * table.values.size
    if scale == "detect":
        scale = "m" if looks_like_m else "beta"
        _log.info("%s: %s", source, "M-values" if looks_like_m else "beta values")
    if scale == "m":
        if not outside:
            raise MiracleError(
                f"{source}: the manifest says M-values (scale: m), but all values lie in "
                f"{low:.4g} to {high:.4g}, as beta values do."
            )
        for row in table.values:
            with np.errstate(invalid="ignore", over="ignore"):
                np.exp2(row, out=row)
                row[:] = np.where(np.isinf(row), 1, row / (1 + row))
        return
    if looks_like_m:
        raise MiracleError(
            f"{source}: values from {low:.4g} to {high:.4g} are M-values, not beta values; "
            "'scale: m' in a manifest converts them."
        )
    if outside:
        i, j = _first_outside(table)
        raise MiracleError(
            f"{source}: {table.values[i, j]:.6g} at site {table.sites[j]!r} of sample "
            f"{table.samples[i]!r} is no beta value (0 to 1); {outside} such values."
        )


def drop_empty(table: SiteTable, source: str) -> SiteTable:
    """Leave out, and count, sites without any value; stop at a sample without any."""
    empty_samples = [
        name for name, row in zip(table.samples, table.values, strict=True) if np.isnan(row).all()
    ]
    if empty_samples:
        raise MiracleError(
            f"{source}: sample {empty_samples[0]!r} has no value at all "
            f"({len(empty_samples)} such samples)."
        )
    empty = np.ones(len(table.sites), dtype=bool)
    for row in table.values:
        empty &= np.isnan(row)
    if not empty.any():
        return table
    _log.warning("%s: %d sites without any value left out", source, empty.sum())
    kept = np.flatnonzero(~empty)
    return SiteTable(close_up(table.values, kept), table.samples, table.sites[kept])


def stack(tables: list[SiteTable], source: str) -> SiteTable:
    """Put the samples of several files together, at the sites that all of them have."""
    if len(tables) == 1:
        return tables[0]
    sites = tables[0].sites
    for table in tables[1:]:
        sites = sites[sites.isin(table.sites)]
    if sites.empty:
        raise MiracleError(f"{source}: its {len(tables)} files share no site.")
    samples = tables[0].samples.append([table.samples for table in tables[1:]])
    values = np.empty((len(samples), len(sites)), dtype=np.float32)
    start = 0
    for table in tables:
        _log.info("%s: %d of %d sites shared", source, len(sites), len(table.sites))
        columns = table.sites.get_indexer(sites)
        for row in table.values:
            values[start] = row[columns]
            start += 1
    return SiteTable(values, samples, sites)


def _range(table: SiteTable) -> tuple[float, float, int]:
    """Smallest and largest value, and how many lie outside 0 to 1."""
    low, high, outside = np.inf, -np.inf, 0
    for row in table.values:
        low, high = min(low, np.fmin.reduce(row)), max(high, np.fmax.reduce(row))
        outside += int(np.count_nonzero((row < 0) | (row > 1)))
    return float(low), float(high), outside


def _first_outside(table: SiteTable) -> tuple[int, int]:
    """Position of the first value outside 0 to 1."""
    for i, row in enumerate(table.values):
        if len(found := np.flatnonzero((row < 0) | (row > 1))):
            return i, int(found[0])
    raise AssertionError("called without such a value")
