"""Tables of what quality control found."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

_SUMMARY = ["cohort", "level", "check", "action", "threshold", "n_before", "n", "n_only"]
_DETAILS = ["cohort", "level", "check", "action", "name", "value"]


@dataclass(frozen=True)
class QualityReport:
    """What quality control found.

    Attributes
    ----------
    summary : DataFrame
        One row per check: cohort, level ("value", "sample", "site"), check, action ("masked",
        "dropped", "flagged"), threshold, n_before (looked at), n (found), n_only (found by this
        check and no other of the level).
    details : DataFrame
        One row per sample or site and check that found it: cohort, level, check, action, name,
        value (what was measured; NaN for a list of probes).
    """

    summary: pd.DataFrame
    details: pd.DataFrame

    @classmethod
    def concat(cls, reports: Collection[QualityReport]) -> QualityReport:
        """Stack the reports of several cohorts."""
        return cls(
            pd.concat([report.summary for report in reports], ignore_index=True),
            pd.concat([report.details for report in reports], ignore_index=True),
        )


@dataclass(frozen=True)
class Check:
    """One check's findings: which of the samples or sites, and what was measured."""

    level: str
    check: str
    action: str
    threshold: float
    found: np.ndarray
    value: np.ndarray


def tabulate(adata: AnnData, name: str, checks: list[Check]) -> QualityReport:
    """Tabulate the checks of one cohort."""
    total = {
        level: np.sum([c.found for c in checks if c.level == level], axis=0)
        for level in {c.level for c in checks}
    }
    names = {"sample": adata.obs_names, "site": adata.var_names, "value": adata.var_names}
    rows, details = [], []
    for c in checks:
        per_value = c.level == "value"
        rows.append(
            (
                name,
                c.level,
                c.check,
                c.action,
                float(c.threshold),
                adata.n_obs * adata.n_vars if per_value else len(c.found),
                int(c.value.sum() if per_value else c.found.sum()),
                int(c.value.sum() if per_value else (c.found & (total[c.level] == 1)).sum()),
            )
        )
        if not per_value:
            details.append(
                pd.DataFrame(
                    {
                        "cohort": name,
                        "level": c.level,
                        "check": c.check,
                        "action": c.action,
                        "name": names[c.level][c.found],
                        "value": c.value[c.found],
                    }
                )
            )
    filled = [part for part in details if len(part)] or details[:1]
    return QualityReport(
        pd.DataFrame(rows, columns=_SUMMARY),
        pd.concat(filled, ignore_index=True)[_DETAILS],
    )
