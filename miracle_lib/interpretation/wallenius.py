"""Upper tail of the Wallenius noncentral hypergeometric distribution, in log space."""

import numpy as np
from scipy.special import gammaln, logsumexp

# Trapezoid nodes in standard deviations around the mode of the integrand (as a function of log u):
# it is log-concave, with a heavier left tail, so 26 to the left and 12 to the right leave < 1e-9.
_NODES = np.arange(-26.0, 12.0, 0.5)
_BLOCK = 32


def log_sf(
    count: np.ndarray, inside: np.ndarray, total: int, drawn: int, odds: np.ndarray
) -> np.ndarray:
    """Log of P(X >= count) when ``drawn`` balls leave an urn with weighted colours.

    The urn holds ``total`` balls, ``inside`` of which have weight ``odds`` and the others weight 1.
    The probability mass is Wallenius' integral with t = exp(-D u), summed over the shorter tail;
    everything stays in logs, so that 1e-300 is as exact as 0.1.

    Parameters
    ----------
    count : array of int, shape (n,)
        Least number of weighted balls drawn.
    inside : array of int, shape (n,)
        Weighted balls in the urn.
    total, drawn : int
        Balls in the urn; balls drawn without replacement.
    odds : array of float, shape (n,)
        Weight of a weighted ball, positive and finite.

    Returns
    -------
    array of float, shape (n,)
        Natural logarithm of the tail probability.

    References
    ----------
    Wallenius 1963, Stanford University; Fog 2008, doi:10.1080/03610910701790269.

    Examples
    --------
    >>> round(float(np.exp(log_sf(np.array([3]), np.array([10]), 50, 10, np.array([1.0]))[0])), 6)
    0.314392
    """
    count, inside, odds = (np.asarray(x) for x in (count, inside, odds))
    lowest = np.maximum(0, drawn - (total - inside))
    highest = np.minimum(drawn, inside)
    result = np.where(count <= lowest, 0.0, -np.inf)
    open_ = np.flatnonzero((count > lowest) & (count <= highest))
    # Below the mean the lower tail is the shorter one, and 1 - lower loses no digits there.
    below = count[open_] <= _mean(inside[open_], total, drawn, odds[open_])
    for chosen, step in ((open_[below], -1), (open_[~below], 1)):
        start = count[chosen] - (step < 0)
        end = np.where(step < 0, lowest[chosen], highest[chosen])
        tail = _sum_tail(start, end, step, inside[chosen], total, drawn, odds[chosen])
        result[chosen] = np.log1p(-np.exp(np.minimum(tail, 0.0))) if step < 0 else tail
    return np.minimum(result, 0.0)


def _sum_tail(start, end, step, inside, total, drawn, odds):
    """Log-sum the mass from ``start`` to ``end``, in blocks until the rest no longer counts."""
    result = np.full(len(start), -np.inf)
    active = np.arange(len(start))
    first = start.copy()
    while len(active):
        x = first[active, None] + step * np.arange(_BLOCK)
        valid = (x - end[active, None]) * step <= 0
        mass = np.full(x.shape, -np.inf)
        rows = np.broadcast_to(active[:, None], x.shape)[valid]
        mass[valid] = log_pmf(x[valid], inside[rows], total, drawn, odds[rows])
        result[active] = np.logaddexp(result[active], logsumexp(mass, axis=1))
        falling = mass[:, -1] < mass[:, -2]
        done = ~valid[:, -1] | (falling & (mass[:, -1] < result[active] - 30))
        first[active] += step * _BLOCK
        active = active[~done]
    return result


def log_pmf(
    x: np.ndarray, inside: np.ndarray, total: int, drawn: int, odds: np.ndarray
) -> np.ndarray:
    """Log of P(X = x); arguments as in :func:`log_sf`, every x possible, not all balls drawn."""
    rest, outside = drawn - x, total - inside
    d = odds * (inside - x) + (outside - rest)
    u = _mode(x, rest, d, odds)
    curvature = x * _slope(odds * u) + rest * _slope(u) + d * u
    v = np.log(u)[:, None] + _NODES / np.sqrt(curvature)[:, None]
    u = np.exp(v)
    height = (
        x[:, None] * np.log(-np.expm1(-odds[:, None] * u))
        + rest[:, None] * np.log(-np.expm1(-u))
        - d[:, None] * u
        + v
    )
    step = (_NODES[1] - _NODES[0]) / np.sqrt(curvature)
    integral = logsumexp(height, axis=1) + np.log(step) + np.log(d)
    return _log_choose(inside, x) + _log_choose(outside, rest) + integral


def _mode(x, rest, d, odds):
    """Root of the integrand's log-derivative: convex and falling, so Newton from the left."""
    u = (x + rest + 1) / (d + (odds * x + rest) / 2)
    for _ in range(100):
        value = x * _ratio(odds * u) + rest * _ratio(u) - d * u + 1
        derivative = -(x * _slope(odds * u) + rest * _slope(u)) / u - d
        move = value / derivative
        u = u - move
        if np.all(np.abs(move) < 1e-6 * u):
            break
    return u


def _ratio(z):
    """z / (exp(z) - 1)."""
    return z * np.exp(-z) / -np.expm1(-z)


def _slope(z):
    """Minus z times the derivative of :func:`_ratio`, written so that small z keeps its digits."""
    with np.errstate(invalid="ignore", over="ignore"):
        exact = _ratio(z) * (_ratio(z) + z - 1)
    return np.where(z < 1e-4, z / 2, exact)


def _log_choose(n, k):
    """Logarithm of the binomial coefficient."""
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _mean(inside, total, drawn, odds):
    """Approximate mean: the share left of each colour falls as exp(-odds u) and exp(-u)."""
    low, high = np.zeros(len(inside)), np.full(len(inside), 700.0)
    for _ in range(60):
        u = (low + high) / 2
        gone = -inside * np.expm1(-odds * u) - (total - inside) * np.expm1(-u)
        low, high = np.where(gone < drawn, u, low), np.where(gone < drawn, high, u)
    return -inside * np.expm1(-odds * low)
