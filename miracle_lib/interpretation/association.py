"""Association of every site with being a case: moderated t-tests on M-values, as limma does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special
from scipy.stats import chi2

from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.coding import CovariateCoder
from miracle_lib.preprocessing.scale import beta_to_m
from miracle_lib.preprocessing.table import as_frame
from miracle_lib.samples import align, covariate_table, label_numbers

log = logging.getLogger(__name__)

_BLOCK = 2048  # sites handled at a time: 700 samples of them take 11 MB
_DEPENDENT = 1e-7  # share of a column's length that must be left beside the columns before it
_LOST = 0.9  # leverage of the missing samples up to which the design surely keeps its rank


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
    fits = [_fit_block(design, beta_to_m(beta)) for beta in _blocks(values, design, names, sites)]
    fit = Fit(*(np.concatenate(parts) for parts in zip(*fits, strict=True)))
    prior_df, prior_variance = fit_prior(fit.variance, fit.df)
    table = _moderated(fit, prior_df, prior_variance).set_index(sites)
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


class Fit(NamedTuple):
    """Least squares per site, shape (n_sites,) each; NaN where the label cannot be told apart.

    Attributes
    ----------
    effect : ndarray
        Coefficient of the label.
    unscaled : ndarray
        Its standard error per unit of the residual standard deviation.
    variance : ndarray
        Residual variance.
    df : ndarray
        Residual degrees of freedom.
    """

    effect: np.ndarray
    unscaled: np.ndarray
    variance: np.ndarray
    df: np.ndarray


class Design(NamedTuple):
    """The samples used and their linear model, the label in its last column."""

    rows: np.ndarray  # positions in X
    label: np.ndarray
    columns: np.ndarray  # intercept, coded covariates, label
    basis: np.ndarray  # orthonormal, of the same span column by column
    length: float  # of the label beside all other columns


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
        if share < _DEPENDENT:
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


def _fit_block(design: Design, m: np.ndarray) -> Fit:
    """Fit every site of a block on the samples that it has."""
    missing = np.isnan(m)
    leverage = (design.basis**2).sum(axis=1)
    lost = leverage @ missing
    fit = Fit(*np.full((4, m.shape[1]), np.nan))
    complete = ~missing.any(axis=0)
    _put(fit, complete, _fit_complete(design.basis, design.length, m[:, complete]))
    few = ~complete & (lost < _LOST)
    if few.any():
        _put(fit, few, _fit_with_gaps(design, m[:, few], missing[:, few]))
    rest = np.flatnonzero(~complete & ~few)
    if len(rest):
        patterns, group = np.unique(missing[:, rest], axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            chosen = rest[group == number]
            _put(fit, chosen, _fit_part(design.columns[~pattern], m[~pattern][:, chosen]))
    return fit


def _put(fit: Fit, where: np.ndarray, part: Fit) -> None:
    """Enter the results of some sites."""
    for whole, values in zip(fit, part, strict=True):
        whole[where] = values


def _fit_complete(basis: np.ndarray, length: float, m: np.ndarray) -> Fit:
    """Fit sites without a gap on an orthonormal basis whose last column is the label's."""
    centred = m - m.mean(axis=0)
    projected = basis.T @ centred
    total = (centred**2).sum(axis=0)
    return _summary(
        projected[-1] / length,
        np.full(m.shape[1], 1 / abs(length)),
        total,
        (projected**2).sum(axis=0),
        np.full(m.shape[1], float(np.subtract(*basis.shape))),
    )


def _fit_with_gaps(design: Design, m: np.ndarray, missing: np.ndarray) -> Fit:
    """Fit sites with a few gaps, each on the samples it has, all at once."""
    basis, width = design.basis, design.basis.shape[1]
    counts = (~missing).sum(axis=0)
    centred = np.where(missing, 0, m - np.nansum(m, axis=0) / counts)
    centred[missing] = 0
    # The basis is orthonormal over all samples: what the missing ones held is taken off.
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), -1)
    gram = np.eye(width) - (products.T @ missing).T.reshape(-1, width, width)
    inverse = np.linalg.inv(gram)
    projected = basis.T @ centred
    coefficients = np.einsum("sij,js->is", inverse, projected)
    return _summary(
        coefficients[-1] / design.length,
        np.sqrt(inverse[:, -1, -1]) / abs(design.length),
        (centred**2).sum(axis=0),
        (projected * coefficients).sum(axis=0),
        (counts - width).astype(float),
    )


def _fit_part(columns: np.ndarray, m: np.ndarray) -> Fit:
    """Fit sites of one pattern of gaps, without the columns that say nothing in what is left."""
    others, label = columns[:, :-1], columns[:, -1]
    undefined = Fit(*np.full((4, m.shape[1]), np.nan))
    if not len(label):
        return undefined
    left, lengths, _ = np.linalg.svd(others, full_matrices=False)
    span = left[:, lengths > _DEPENDENT * lengths[0]]
    own = label - span @ (span.T @ label)
    length = float(np.linalg.norm(own))
    if length <= _DEPENDENT * np.sqrt(len(label)) or len(label) <= span.shape[1] + 1:
        return undefined
    return _fit_complete(np.column_stack([span, own / length]), length, m)


def _summary(
    effect: np.ndarray,
    unscaled: np.ndarray,
    total: np.ndarray,
    explained: np.ndarray,
    df: np.ndarray,
) -> Fit:
    """Give the residual variance; what is left of rounding counts as none."""
    rest = total - explained
    rest = np.where(rest > 1e-12 * total, rest, 0)
    return Fit(effect, unscaled, rest / df, df)


def fit_prior(variance: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """Estimate the prior of the sites' variances from the moments of their logarithms.

    A variance divided by the prior one follows an F distribution with ``df`` and the prior's
    degrees of freedom.

    Parameters
    ----------
    variance : ndarray of shape (n_sites,)
        Residual variances; NaN is left out.
    df : ndarray of shape (n_sites,)
        Their degrees of freedom.

    Returns
    -------
    prior_df, prior_variance : float
        ``inf`` and the mean variance if the variances differ no more than by chance; 0 and the
        variance itself for one site.

    References
    ----------
    Smyth 2004, section 6.2, doi:10.2202/1544-6115.1027.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> df, variance = fit_prior(0.04 * rng.f(20, 8, 50_000), np.full(50_000, 20.0))
    >>> round(df, 1), round(variance, 3)
    (8.0, 0.04)
    """
    usable = np.isfinite(variance) & (df > 0)
    variance, df = variance[usable], df[usable]
    if not len(variance):
        raise MiracleError("No site has cases and controls beside its missing values.")
    if len(variance) == 1:
        return 0.0, float(variance[0])
    middle = np.median(variance)
    variance = np.maximum(variance, 1e-5 * (middle if middle > 0 else 1))
    logs = np.log(variance) - special.digamma(df / 2) + np.log(df / 2)
    spread = logs.var(ddof=1) - special.polygamma(1, df / 2).mean()
    if spread <= 0:
        return float("inf"), float(variance.mean())
    prior = 2 * _trigamma_inverse(spread)
    return prior, float(np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2)))


def _trigamma_inverse(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method on 1 / trigamma, which is convex."""
    if value > 1e7:
        return value**-0.5
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = special.polygamma(1, x)
        step = trigamma * (1 - trigamma / value) / special.polygamma(2, x)
        x += step
        if -step / x < 1e-10:
            break
    return float(x)


def _moderated(fit: Fit, prior_df: float, prior_variance: float) -> pd.DataFrame:
    """Turn fits into moderated t-tests."""
    if np.isinf(prior_df):
        variance = np.where(np.isnan(fit.variance), np.nan, prior_variance)
    else:
        variance = (fit.df * fit.variance + prior_df * prior_variance) / (fit.df + prior_df)
    se = fit.unscaled * np.sqrt(variance)
    # One site cannot know its variance better than all sites together do.
    df = np.minimum(fit.df + prior_df, np.nansum(fit.df))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = fit.effect / se
    p = two_sided(t, df)
    return pd.DataFrame(
        {"effect": fit.effect, "se": se, "t": t, "df": df, "p_value": p, "q_value": q_values(p)}
    )


def two_sided(t: Any, df: Any) -> np.ndarray:
    """Return two-sided p-values of t, exact in the far tail.

    Parameters
    ----------
    t, df : array or Series
        Statistic and degrees of freedom.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> two_sided([0.0, 1.0], [1.0, 1.0]).round(3).tolist()
    [1.0, 0.5]
    """
    t, df = np.asarray(t, float), np.asarray(df, float)
    finite = np.where(np.isinf(df), 1, df)
    p = special.betainc(finite / 2, 0.5, finite / (finite + t**2))
    return np.where(np.isinf(df), 2 * special.ndtr(-np.abs(t)), p)


def q_values(p: np.ndarray) -> np.ndarray:
    """Return Benjamini-Hochberg q-values; NaN stays NaN and does not count.

    Examples
    --------
    >>> q_values(np.array([0.01, np.nan, 0.5])).tolist()
    [0.02, nan, 0.5]
    """
    known = np.flatnonzero(~np.isnan(p))
    ranked = known[np.argsort(p[known], kind="stable")]
    scaled = p[ranked] * len(ranked) / np.arange(1, len(ranked) + 1)
    q = np.full(len(p), np.nan)
    q[ranked] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return q


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
        Without columns that are the same in all samples or known of too few, and without the
        most abundant cell type: fractions sum to one, so that one follows from the others.

    Examples
    --------
    >>> cells = pd.DataFrame({"cell_B": [0.2, 0.3], "cell_T": [0.8, 0.7], "sex": ["F", "F"]})
    >>> list(separable_covariates(cells))
    ['cell_B']
    """
    known = covariates.loc[:, covariates.notna().mean() >= min_known]
    kept = known.loc[:, known.nunique() > 1]
    fractions = [name for name in kept if str(name).startswith("cell_")]
    return kept.drop(columns=kept[fractions].mean().nlargest(1).index)
