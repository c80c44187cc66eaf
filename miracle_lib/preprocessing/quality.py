"""Quality control of one cohort, with a report of everything dropped, masked or flagged.

What needs raw intensities is left out: background correction, normalisation with control probes,
and BMIQ, which needs the design type of every probe and fails on samples with missing values.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.cohorts.site_table import without_suffix
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.report import Check, details, summary
from miracle_lib.preprocessing.samples import (
    autosomal,
    duplicate_pairs,
    outlier_scores,
    predict_sex,
)
from miracle_lib.preprocessing.table import BLOCK

_log = logging.getLogger(__name__)
SAMPLE_CHECKS = ("sex", "outlier", "duplicate")
# Lists to apply unless others are named; Zhou et al. call theirs MASK_general in their own file.
RECOMMENDED_MASKS = ("zhou_general", "MASK_general", "chen2013_crossreactive")


def quality_control(
    adata: AnnData,
    *,
    min_call_rate: float = 0.9,
    max_missing: float = 0.2,
    probe_masks: pd.DataFrame | None = None,
    masks: Collection[str] | None = None,
    sex_chromosomes: bool = False,
    non_cpg: bool = False,
    max_detection_p: float = 0.01,
    min_beads: int = 3,
    max_outlier_score: float = 6.0,
    max_correlation: float = 0.99,
    drop: Collection[str] = (),
) -> tuple[AnnData, pd.DataFrame]:
    """Mask unreliable values, drop bad samples and sites, and flag suspicious samples.

    In this order: values that failed detection become missing; samples with a low call rate are
    dropped; sex is compared with the metadata; sites that are often missing, listed in a probe
    mask, on X or Y, or not CpG are dropped; outliers and copies are looked for in what is left.
    Nothing is learned that would have to be fitted on training samples: every threshold is fixed
    and no label is read. Missing values stay missing; see `SiteImputer`.

    Parameters
    ----------
    adata : AnnData
        One cohort, samples x sites of beta values. Layers "detection_p" and "beads" are used if
        present, and the columns "chromosome" of ``var`` and "sex" and "subject" of ``obs``.
    min_call_rate : float, default 0.9
        Smallest share of sites with a value in a sample.
    max_missing : float, default 0.2
        Largest share of samples in which a site may be missing.
    probe_masks : DataFrame of bool, optional
        Published lists of unreliable probes, sites x lists; a warning where they hold none of the
        cohort's sites.
    masks : collection of str, optional
        Columns of ``probe_masks`` to apply. Default: those among "zhou_general", "MASK_general"
        and "chen2013_crossreactive", which take most probes of HLA-DRB1 away; all columns of a
        table that has none of these.
    sex_chromosomes, non_cpg : bool, default False
        Keep sites on X and Y, and probes whose name does not begin with "cg".
    max_detection_p : float, default 0.01
        Values with a larger detection p-value become missing.
    min_beads : int, default 3
        Values measured on fewer beads become missing.
    max_outlier_score : float, default 6
        Samples with a larger `outlier_scores` are flagged.
    max_correlation : float, default 0.99
        The later sample of a pair that correlates at least so (`duplicate_pairs`) is flagged.
    drop : collection of str, default ()
        Of "sex", "outlier", "duplicate": drop what these flag. By default samples are only
        flagged, because an outlier may be a very ill patient.

    Returns
    -------
    adata : AnnData
        A new object; ``obs`` gains call_rate, sex_predicted, outlier_score and flags (names of
        the checks, joined by "; "). ``uns["quality"]`` names what was found: one row per sample or
        site and check, with the columns level, check, action, name and value (what was measured;
        NaN for a list of probes).
    report : DataFrame
        One row per check: cohort, level ("value", "sample", "site"), check, action ("masked",
        "dropped", "flagged"), threshold, n_before (looked at), n (found), n_only (found by this
        check and no other of its level).

    Raises
    ------
    MiracleError
        If a parameter is out of range, a probe mask does not exist, or no sample or site is left.

    References
    ----------
    Defaults follow ChAMP (Morris et al. 2014, doi:10.1093/bioinformatics/btt684); probe lists:
    Zhou et al. 2017, doi:10.1093/nar/gkw967, and Chen et al. 2013, doi:10.4161/epi.23470.

    Examples
    --------
    >>> from miracle_lib.cohorts.simulation import simulate_cohorts
    >>> cohort = simulate_cohorts({"RA": 40}).cohorts["RA"]
    >>> clean, report = quality_control(cohort)
    >>> report.loc[report["check"] == "sex chromosomes", "n"].item() > 0
    True
    """
    _check_parameters(min_call_rate, max_missing, max_correlation, max_detection_p, drop)
    name = _cohort_name(adata)
    values, checks = _mask_values(adata, max_detection_p, min_beads)

    call_rate = 1 - _missing(values, axis=1)
    low = call_rate < min_call_rate
    if low.all():
        raise MiracleError(
            f"Cohort {name}: no sample reaches the call rate of {min_call_rate}; the best has "
            f"{call_rate.max():.3f}."
        )
    checks.append(Check("sample", "call rate", "dropped", min_call_rate, low, call_rate))

    site_checks = [_site_missing(values, ~low, max_missing), *_listed(adata, probe_masks, masks)]
    if not sex_chromosomes:
        site_checks.append(_site_check(adata, "sex chromosomes", ~autosomal(adata)))
    if not non_cpg:
        site_checks.append(_site_check(adata, "not CpG", ~adata.var_names.str.startswith("cg")))
    bad = np.any([check.found for check in site_checks], axis=0)
    if bad.all():
        worst = max(site_checks, key=lambda check: check.found.sum())
        raise MiracleError(
            f"Cohort {name}: no site is left of {adata.n_vars}; the check {worst.check!r} alone "
            f"drops {worst.found.sum()}."
        )

    clean = _part(adata, values, ~low, ~bad)
    clean.obs["call_rate"] = call_rate[~low]
    clean.obs["sex_predicted"] = predict_sex(_part(adata, values, ~low, ~autosomal(adata)))
    flagged = _flag_samples(adata, clean, max_outlier_score, max_correlation, drop)
    found = np.array([check.found for check in flagged])[:, ~low]
    names = np.array([check.check for check in flagged])
    clean.obs["flags"] = ["; ".join(names[sample]) for sample in found.T]
    gone = found[[check.action == "dropped" for check in flagged]].any(axis=0)
    if gone.all():
        raise MiracleError(f"Cohort {name}: the checks {', '.join(drop)} drop every sample.")

    checks += [*flagged, *site_checks]
    clean.uns["quality"] = details(adata, checks)
    return (clean[~gone].copy() if gone.any() else clean), summary(adata, name, checks)


def _check_parameters(
    min_call_rate: float,
    max_missing: float,
    max_correlation: float,
    max_detection_p: float,
    drop: Collection[str],
) -> None:
    """Refuse thresholds that are not shares and checks that do not exist."""
    shares = {
        "min_call_rate": min_call_rate,
        "max_missing": max_missing,
        "max_correlation": max_correlation,
        "max_detection_p": max_detection_p,
    }
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise MiracleError(f"{name} is {value}; it must lie between 0 and 1.")
    unknown = sorted(set(drop).difference(SAMPLE_CHECKS))
    if unknown:
        raise MiracleError(
            f"drop names {unknown[0]!r}; expected any of {', '.join(SAMPLE_CHECKS)}."
        )


def _cohort_name(adata: AnnData) -> str:
    """Return the cohort's name."""
    if "cohort" not in adata.obs:
        return "unnamed"
    return ", ".join(map(str, adata.obs["cohort"].unique()))


def _mask_values(
    adata: AnnData, max_detection_p: float, min_beads: int
) -> tuple[np.ndarray, list[Check]]:
    """Set values that were not measured reliably to missing, in a copy if there are any."""
    values, checks = adata.X, []
    for layer, threshold in (("detection_p", max_detection_p), ("beads", min_beads)):
        if layer not in adata.layers:
            continue
        measured = np.asarray(adata.layers[layer])
        bad = measured > threshold if layer == "detection_p" else measured < threshold
        bad &= ~np.isnan(values)
        values = values.copy() if values is adata.X else values
        values[bad] = np.nan
        per_site = bad.sum(axis=0)
        checks.append(Check("value", layer, "masked", threshold, per_site > 0, per_site))
    return values, checks


def _missing(values: np.ndarray, axis: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the share of missing values per sample (axis 1) or per site (axis 0), by blocks."""
    count = np.zeros(values.shape[1 - axis])
    for start in range(0, values.shape[1], BLOCK):
        absent = np.isnan(values[:, start : start + BLOCK])
        if axis == 1:
            count += absent.sum(axis=1)
        else:
            kept = absent if rows is None else absent[rows]
            count[start : start + BLOCK] = kept.sum(axis=0)
    if axis == 1:
        return count / values.shape[1]
    return count / (len(values) if rows is None else rows.sum())


def _site_missing(values: np.ndarray, rows: np.ndarray, max_missing: float) -> Check:
    """Find sites that are missing in too many of the samples kept."""
    share = _missing(values, 0, rows)
    return Check("site", "missing", "dropped", max_missing, share > max_missing, share)


def _site_check(adata: AnnData, check: str, found: np.ndarray) -> Check:
    """Make a check of sites that measures nothing."""
    nothing = np.full(adata.n_vars, np.nan)
    return Check("site", check, "dropped", np.nan, np.asarray(found), nothing)


def _listed(
    adata: AnnData, probe_masks: pd.DataFrame | None, masks: Collection[str] | None
) -> list[Check]:
    """Find the sites of each probe mask."""
    if probe_masks is None:
        return []
    if masks is None:
        masks = [m for m in RECOMMENDED_MASKS if m in probe_masks] or list(probe_masks)
    unknown = [mask for mask in masks if mask not in probe_masks.columns]
    if unknown:
        raise MiracleError(
            f"The probe masks have no list {unknown[0]!r}; they have "
            f"{', '.join(map(str, probe_masks.columns))}."
        )
    # A probe of EPICv2 that has kept its suffix is listed by its own name or by that of its site.
    own, site = map(
        probe_masks.index.get_indexer, (adata.var_names, without_suffix(adata.var_names))
    )
    where = np.where(own < 0, site, own)
    if (where < 0).all():
        _log.warning(
            "Cohort %s: no probe is masked; the probe masks (%s, ...) hold none of its %d sites "
            "(%s, ...)",
            _cohort_name(adata),
            ", ".join(map(str, probe_masks.index[:3])),
            adata.n_vars,
            ", ".join(adata.var_names[:3]),
        )
    return [
        _site_check(adata, mask, (where >= 0) & probe_masks[mask].to_numpy(bool)[where])
        for mask in masks
    ]


def _part(adata: AnnData, values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> AnnData:
    """Make a new object of some samples and sites, without layers."""
    return AnnData(
        values[np.ix_(rows, columns)],
        obs=adata.obs[rows].copy(),
        var=adata.var[columns].copy(),
        uns=dict(adata.uns),
    )


def _flag_samples(
    adata: AnnData,
    clean: AnnData,
    max_outlier_score: float,
    max_correlation: float,
    drop: Collection[str],
) -> list[Check]:
    """Run the checks that compare samples; findings are per sample of ``adata``."""

    def spread(values: pd.Series) -> np.ndarray:
        return values.reindex(adata.obs_names).to_numpy(float)

    obs = clean.obs
    reported = obs["sex"].astype(object) if "sex" in obs else pd.Series(np.nan, obs.index)
    predicted = obs["sex_predicted"].astype(object)
    known = reported.isin(["F", "M"]) & predicted.notna()
    mismatch = spread((known & (reported != predicted)).astype(float))
    pairs = duplicate_pairs(clean, max_correlation)
    copies = spread(pairs.groupby("copy")["correlation"].max())
    # A sample and its copy lie far out together, so only the first of them is scored.
    obs["outlier_score"] = outlier_scores(clean, exclude=pairs["copy"])
    score = spread(obs["outlier_score"])

    def check(name: str, threshold: float, found: np.ndarray, value: np.ndarray) -> Check:
        action = "dropped" if name in drop else "flagged"
        return Check("sample", name, action, threshold, found, value)

    return [
        check("sex", np.nan, mismatch == 1, np.full(adata.n_obs, np.nan)),
        check("outlier", max_outlier_score, score > max_outlier_score, score),
        check("duplicate", max_correlation, ~np.isnan(copies), copies),
    ]
