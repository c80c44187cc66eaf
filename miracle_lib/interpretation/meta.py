"""One estimate per site from several cohorts, and how far the cohorts differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy import special
from scipy.stats import chi2

from miracle_lib.errors import MiracleError
from miracle_lib.interpretation.moderated import q_values


def meta_analysis(tables: Mapping[str, pd.DataFrame] | Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Combine the effects of every site over cohorts, weighted by their inverse variances.

    Fixed effect: all cohorts share one effect. Random effects (DerSimonian and Laird): the
    effects of cohorts scatter around a mean, which widens its standard error.

    Parameters
    ----------
    tables : list of DataFrame, or mapping of str to DataFrame
        Per cohort, a table of `ewas`: indexed by site, with ``effect`` and ``se``. A cohort
        without a site, or with NaN there, is left out at that site.

    Returns
    -------
    DataFrame
        Indexed by site, in the order in which the tables name them: ``n_cohorts``; ``effect``,
        ``se``, ``p_value``, ``q_value`` of the fixed effect; the same with ``random_`` before;
        heterogeneity: Cochran's ``Q``, ``heterogeneity_p_value`` (of Q), ``I2`` (share of the
        variation that is not chance, 0 to 1), ``tau2`` (variance between cohorts). With one cohort
        the heterogeneity is NaN and both estimates are those of the cohort.

    Raises
    ------
    MiracleError
        No table, one without ``effect`` or ``se``, a site named twice, a standard error that is
        not positive.

    References
    ----------
    DerSimonian & Laird 1986, doi:10.1016/0197-2456(86)90046-2; Higgins & Thompson 2002,
    doi:10.1002/sim.1186.

    Examples
    --------
    >>> one = pd.DataFrame({"effect": [0.4, 1.0], "se": [0.1, 0.5]}, index=["cg1", "cg2"])
    >>> two = pd.DataFrame({"effect": [0.2], "se": [0.1]}, index=["cg1"])
    >>> meta_analysis([one, two])[["n_cohorts", "effect", "Q", "I2"]].round(2).values.tolist()
    [[2.0, 0.3, 2.0, 0.5], [1.0, 1.0, nan, nan]]
    """
    sites, effects, errors = _stacked(tables)
    present = ~np.isnan(effects)
    weight = np.where(present, errors**-2.0, 0)
    effects = np.where(present, effects, 0)
    count = present.sum(axis=0)
    fixed = _weighted(effects, weight)
    several = count > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        q = np.where(several, (weight * (effects - fixed[0]) ** 2).sum(axis=0), np.nan)
        excess = np.maximum(0, q - (count - 1))
        total = weight.sum(axis=0)
        tau2 = excess / (total - (weight**2).sum(axis=0) / total)
        wider = np.where(present, 1 / (errors**2 + np.nan_to_num(tau2)), 0)
        columns = {
            "n_cohorts": count,
            **_test(*fixed),
            **{f"random_{name}": part for name, part in _test(*_weighted(effects, wider)).items()},
            "Q": q,
            "heterogeneity_p_value": chi2.sf(q, np.maximum(count - 1, 1)),
            "I2": np.where(q > 0, excess / q, q),
            "tau2": np.where(several, tau2, np.nan),
        }
    return pd.DataFrame(columns, index=sites)


def _stacked(tables) -> tuple[pd.Index, np.ndarray, np.ndarray]:
    """Return the sites, and effects and errors, cohorts x sites, NaN where absent."""
    named = tables if isinstance(tables, Mapping) else dict(enumerate(tables, start=1))
    if not named:
        raise MiracleError("There is no table; expected one of ewas per cohort.")
    for name, table in named.items():
        _check(table, f"Table {name!r}")
    sites = pd.Index(list(dict.fromkeys(site for table in named.values() for site in table.index)))
    parts = [table.reindex(sites) for table in named.values()]
    effects, errors = (
        np.array([part[column].to_numpy(np.float64) for part in parts])
        for column in ("effect", "se")
    )
    absent = np.isnan(effects) | np.isnan(errors)
    effects[absent] = errors[absent] = np.nan
    return sites, effects, errors


def _check(table: pd.DataFrame, name: str) -> None:
    """Refuse a table that cannot be combined."""
    for column in ("effect", "se"):
        if column not in table:
            raise MiracleError(f"{name} has no column {column!r}; expected a table of ewas.")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise MiracleError(f"{name} has site {twice!r} more than once.")
    wrong = table["se"] <= 0
    if wrong.any():
        raise MiracleError(
            f"{name} has the standard error {table['se'][wrong].iloc[0]:g} at site "
            f"{table.index[wrong][0]!r}; expected a positive one."
        )


def _weighted(effects: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean per site and its standard error, NaN without a cohort."""
    total = weight.sum(axis=0)
    total = np.where(total > 0, total, np.nan)
    return (weight * effects).sum(axis=0) / total, total**-0.5


def _test(effect: np.ndarray, se: np.ndarray) -> dict[str, np.ndarray]:
    """Test the effects against none."""
    p = 2 * special.ndtr(-np.abs(effect / se))
    return {"effect": effect, "se": se, "p_value": p, "q_value": q_values(p)}
