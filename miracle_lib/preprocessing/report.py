"""Tables of what quality control found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

SUMMARY = ["cohort", "level", "check", "action", "threshold", "n_before", "n", "n_only"]


@dataclass(frozen=True)
class Check:
    """One check's findings.

    Attributes
    ----------
    level : {"value", "sample", "site"}
        What is looked at.
    check : str
        Name of the check.
    action : {"masked", "dropped", "flagged"}
        What happens to the findings.
    threshold : float
        Limit; NaN without one.
    found : ndarray of bool
        Per sample, or per site (also for level "value").
    value : ndarray
        What was measured, likewise; for level "value" the number of values found per site.
    """

    level: str
    check: str
    action: str
    threshold: float
    found: np.ndarray
    value: np.ndarray


def summary(adata: AnnData, cohort: str, checks: list[Check]) -> pd.DataFrame:
    """Count the findings of each check; see `quality_control` for the columns."""
    times = {
        level: np.sum([check.found for check in checks if check.level == level], axis=0)
        for level in ("sample", "site")
    }
    rows = []
    for check in checks:
        if check.level == "value":
            before, n = adata.n_obs * adata.n_vars, int(check.value.sum())
            only = n  # a value that is masked once is not looked at again
        else:
            before, n = len(check.found), int(check.found.sum())
            only = int((check.found & (times[check.level] == 1)).sum())
        threshold = float(check.threshold)
        rows.append((cohort, check.level, check.check, check.action, threshold, before, n, only))
    return pd.DataFrame(rows, columns=SUMMARY)


def details(adata: AnnData, checks: list[Check]) -> pd.DataFrame:
    """Name the samples and sites that each check found."""
    names = {"sample": adata.obs_names, "site": adata.var_names}
    named = [check for check in checks if check.level in names]
    times = [int(check.found.sum()) for check in named]
    return pd.DataFrame(
        {
            "level": np.repeat([check.level for check in named], times),
            "check": np.repeat([check.check for check in named], times),
            "action": np.repeat([check.action for check in named], times),
            "name": np.concatenate([names[check.level][check.found] for check in named]),
            "value": np.concatenate([check.value[check.found] for check in named]).astype(float),
        }
    )
