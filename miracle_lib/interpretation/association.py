"""Association of every site with being a case: moderated t-tests on M-values, as limma does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from miracle_lib.errors import MiracleError
from miracle_lib.interpretation.least_squares import DEPENDENT, Design, Fit, fit_block
from miracle_lib.interpretation.moderated import fit_prior, moderated_tests, q_values, two_sided
from miracle_lib.preprocessing.coding import CovariateCoder
from miracle_lib.preprocessing.scale import beta_to_m
from miracle_lib.preprocessing.table import as_frame
from miracle_lib.samples import align, covariate_table, label_numbers

log = logging.getLogger(__name__)

_WHOLE = 0.9  # sum of cell fractions from which one follows from the others
_BLOCK = 2048  # sites handled at a time: 700 samples of them take 11 MB


def ewas(X: Any, y: Any, covariates: pd.DataFrame | None = None) -> pd.DataFrame:
    """Test every site for a difference of M-values between cases and controls.

    A linear model per site, with the covariates beside the label; the residual variances of all
    sites are shrunken towards a common one, which makes small cohorts usable (moderated t). A
    value that is missing is left out at its site only. Sites are read in blocks, so that little is
    held beside ``X``.

    Parameters
    ----------
    X : DataFrame, AnnData, Samples or array, shape (n_samples, n_sites)
        Beta values, NaN where missing. An AnnData may be backed by its file. Labels and covariates
        that it holds are not used: give them.
    y : Series or array, shape (n_samples,)
        1 case, 0 control, NaN: the sample is left out. A Series is aligned by sample name.
    covariates : DataFrame, optional
        Numbers or text, aligned by sample name. A sample that lacks one is left out, with a
        warning. Default: none.

    Returns
    -------
    DataFrame
        Indexed by site, in the order of ``X``: ``effect`` (M-value of cases minus controls),
        ``se`` (its standard error, from the moderated variance), ``t``, ``df`` (its degrees of
        freedom), ``p_value``, ``q_value`` (Benjamini-Hochberg). NaN where the samples present
        do not tell cases from controls. ``attrs``: "n_cases", "n_controls", "prior_df",
        "prior_variance" and "inflation" (see `inflation`).

    Raises
    ------
    MiracleError
        Fewer than two classes, a value outside [0, 1], a covariate that is constant or follows
        from others (named), too few samples.

    References
    ----------
    Smyth 2004, doi:10.2202/1544-6115.1027.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.uniform(0.4, 0.6, (40, 50))).add_prefix("cg")
    >>> y = pd.Series([0, 1] * 20)
    >>> X.loc[y == 1, "cg7"] += 0.2
    >>> table = ewas(X, y, covariates=pd.DataFrame({"age": rng.normal(50, 9, 40)}))
    >>> table.index[table["q_value"] < 0.05].tolist()
    ['cg7']
    """
    names, sites, values = _source(X)
    label = _labels(y, names)
    design = _design(label, names, covariates)
    fits = [fit_block(design, beta_to_m(beta)) for beta in _blocks(values, design, names, sites)]
    fit = Fit(*(np.concatenate(parts) for parts in zip(*fits, strict=True)))
    prior_df, prior_variance = fit_prior(fit.variance, fit.df)
    table = moderated_tests(fit, prior_df, prior_variance).set_index(sites)
    table.attrs = {
        "n_cases": int(design.label.sum()),
        "n_controls": int((1 - design.label).sum()),
        "prior_df": prior_df,
        "prior_variance": prior_variance,
        "inflation": inflation(table["p_value"]),
    }
    return table


def inflation(p_values: Any) -> float:
    """Return the genomic inflation factor: the median of the tests' chi-squared over its null.

    Parameters
    ----------
    p_values : array or Series
        NaN is left out.

    Returns
    -------
    float
        1 without inflation; NaN without any p-value. A disease that changes many sites inflates
        it too: it tells bias from signal only where little is associated.

    References
    ----------
    Devlin & Roeder 1999, doi:10.1111/j.0006-341x.1999.00997.x.

    Examples
    --------
    >>> round(inflation(np.linspace(0, 1, 1001)), 3)
    1.0
    """
    p = np.asarray(p_values, dtype=float)
    p = p[~np.isnan(p)]
    if not len(p):
        return float("nan")
    return float(chi2.isf(np.median(p), 1) / chi2.median(1))


def genomic_control(table: pd.DataFrame) -> pd.DataFrame:
    """Widen the standard errors of `ewas` by the root of the inflation factor.

    Parameters
    ----------
    table : DataFrame
        From `ewas`.

    Returns
    -------
    DataFrame
        As given, with ``se``, ``t``, ``p_value`` and ``q_value`` corrected where the factor is
        above 1; ``attrs`` keep the factor found before as "inflation".

    Examples
    --------
    >>> t = np.linspace(-4, 4, 99)
    >>> table = pd.DataFrame({"se": 0.1, "t": t, "df": np.inf, "p_value": two_sided(t, np.inf)})
    >>> corrected = genomic_control(table)
    >>> round(corrected.attrs["inflation"], 1), round(inflation(corrected["p_value"]), 1)
    (9.2, 1.0)
    """
    factor = inflation(table["p_value"])
    corrected = table.copy()
    if factor > 1:
        corrected["se"] = table["se"] * np.sqrt(factor)
        corrected["t"] = table["t"] / np.sqrt(factor)
        corrected["p_value"] = two_sided(corrected["t"], corrected["df"])
        corrected["q_value"] = q_values(corrected["p_value"].to_numpy())
    corrected.attrs["inflation"] = factor
    return corrected


def _source(X: Any) -> tuple[pd.Index, pd.Index, Any]:
    """Return the names of samples and sites, and what can be sliced for values."""
    if hasattr(X, "obs_names") and not hasattr(X.X, "tocsr") and X.X is not None:
        return X.obs_names, X.var_names, X.X
    frame = as_frame(X)
    return frame.index, frame.columns, frame.to_numpy()


def _labels(y: Any, names: pd.Index) -> pd.Series:
    """Return the labels of the samples, 1, 0 or NaN, both classes present."""
    if isinstance(y, pd.Series):
        label = label_numbers(align(y, names, "y").rename("y"))
    else:
        array = np.asarray(y)
        if array.shape != (len(names),):
            raise MiracleError(f"y has shape {array.shape}; expected {len(names)} labels.")
        label = label_numbers(pd.Series(array, names, name="y"))
    _refuse_one_class(label, "y")
    return label


def _refuse_one_class(label: pd.Series, where: str) -> None:
    """Refuse labels without a case or without a control."""
    cases, controls = (int((label == value).sum()) for value in (1, 0))
    if not cases or not controls:
        raise MiracleError(
            f"{where} has {cases} cases and {controls} controls; expected some of each."
        )


def _design(label: pd.Series, names: pd.Index, covariates: pd.DataFrame | None) -> Design:
    """Code the covariates of the labelled samples, and refuse what cannot be told apart."""
    keep = label.notna()
    coded, titles = pd.DataFrame(index=names), []
    table = covariate_table(covariates, names)
    if table is not None:
        known = table.notna().all(axis=1)
        _refuse_empty(table[keep])
        if (keep & ~known).any():
            log.warning(
                "%d of %d samples lack a covariate and are left out",
                (keep & ~known).sum(),
                keep.sum(),
            )
        keep &= known
        _refuse_one_class(label[keep], "y, among the samples that have all covariates,")
        coder = CovariateCoder.learn(table[keep])
        _refuse_constant(table[keep])
        titles = list(coder.mean)
        # Not `encode`, which rounds to the precision of a network.
        coded = ((coder.numbers(table) - pd.Series(coder.mean)) / pd.Series(coder.sd))[titles]
    rows = np.flatnonzero(keep)
    case = label.to_numpy()[rows]
    columns = np.column_stack([np.ones(len(rows)), coded.iloc[rows], case])
    if len(rows) <= columns.shape[1]:
        raise MiracleError(
            f"{len(rows)} samples are labelled and have all covariates; expected more than the "
            f"{columns.shape[1]} coefficients of the model."
        )
    basis, triangle = np.linalg.qr(columns)
    centred = columns[:, 1:] - columns[:, 1:].mean(axis=0)
    own = np.abs(np.diag(triangle))[1:] / np.linalg.norm(centred, axis=0)
    for name, share in zip([*(f"Covariate {title!r}" for title in titles), "y"], own, strict=True):
        if share < DEPENDENT:
            raise MiracleError(
                f"{name} follows from the covariates before it in the {len(rows)} samples used; "
                "expected columns that say something of their own: leave one out."
            )
    return Design(rows, case, columns, basis, triangle[-1, -1])


def _refuse_empty(table: pd.DataFrame) -> None:
    """Refuse a covariate that no sample has."""
    for name, column in table.items():
        if column.isna().all():
            raise MiracleError(f"Covariate {name!r} is missing in all {len(table)} samples.")


def _refuse_constant(table: pd.DataFrame) -> None:
    """Refuse a covariate that is the same in all samples."""
    for name, column in table.items():
        if column.nunique() < 2:
            raise MiracleError(
                f"Covariate {name!r} is {column.iloc[0]} in all {len(table)} samples used; "
                "expected at least two values: leave it out."
            )


def _blocks(values: Any, design: Design, names: pd.Index, sites: pd.Index) -> Iterator[np.ndarray]:
    """Yield the beta values of the samples used, some sites at a time, checked for range."""
    whole = len(design.rows) == len(names)
    for start in range(0, len(sites), _BLOCK):
        beta = np.asarray(values[:, start : start + _BLOCK], dtype=np.float64)
        beta = beta if whole else beta[design.rows]
        wrong = (beta < 0) | (beta > 1)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise MiracleError(
                f"Sample {names[design.rows[row]]!r} has {beta[row, column]:g} at site "
                f"{sites[start + column]!r}; expected beta values in [0, 1]."
            )
        yield beta


def separable_covariates(covariates: pd.DataFrame, min_known: float = 0.9) -> pd.DataFrame:
    """Choose the covariates that a linear model can tell apart.

    Parameters
    ----------
    covariates : DataFrame of shape (n_samples, n_covariates)
        Of the samples to be used. Columns ``cell_...`` are fractions of cells.
    min_known : float, default 0.9
        Share of the samples that must have a covariate: `ewas` leaves out those that lack one.

    Returns
    -------
    DataFrame
        Without columns that are the same in all samples or known of too few. Of fractions that
        sum to about one the most abundant is left out: it follows from the others.

    Examples
    --------
    >>> cells = pd.DataFrame({"cell_B": [0.2, 0.3], "cell_T": [0.8, 0.7], "sex": ["F", "F"]})
    >>> list(separable_covariates(cells))
    ['cell_B']
    """
    known = covariates.loc[:, covariates.notna().mean() >= min_known]
    kept = known.loc[:, known.nunique() > 1]
    fractions = [name for name in kept if str(name).startswith("cell_")]
    if kept[fractions].sum(axis=1).mean() < _WHOLE:
        return kept
    return kept.drop(columns=kept[fractions].mean().nlargest(1).index)
