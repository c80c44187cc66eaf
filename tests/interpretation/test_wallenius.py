import math

import mpmath
import numpy as np
import pytest
from scipy.stats import hypergeom

from miracle_lib.interpretation.wallenius import log_pmf, log_sf


def exact_log_pmf(x, inside, total, drawn, odds):
    """Wallenius' integral term by term: both powers expanded, with digits enough to cancel."""
    with mpmath.workdps(600):
        outside, odds, rest = total - inside, mpmath.mpf(odds), drawn - x
        d = odds * (inside - x) + outside - rest
        left = [(-1) ** j * mpmath.binomial(x, j) for j in range(x + 1)]
        right = [(-1) ** k * mpmath.binomial(rest, k) for k in range(rest + 1)]
        integral = mpmath.fsum(
            a * b * d / (odds * j + k + d) for j, a in enumerate(left) for k, b in enumerate(right)
        )
        ways = mpmath.binomial(inside, x) * mpmath.binomial(outside, rest)
        return mpmath.log(ways * integral)


CASES = [
    (2, 5, 30, 6, 2.5),
    (0, 5, 30, 6, 2.5),
    (6, 10, 30, 6, 0.3),
    (1, 1, 30, 1, 7.0),
    (12, 40, 400, 60, 0.7),
    (38, 40, 400, 60, 0.2),
    (57, 60, 900, 70, 0.9),
]


@pytest.mark.parametrize(("x", "inside", "total", "drawn", "odds"), CASES)
def test_mass_agrees_with_the_exact_integral(x, inside, total, drawn, odds):
    got = log_pmf(np.array([x]), np.array([inside]), total, drawn, np.array([odds]))[0]
    assert got == pytest.approx(float(exact_log_pmf(x, inside, total, drawn, odds)), abs=1e-8)


@pytest.mark.parametrize(
    ("count", "inside", "total", "drawn", "odds", "below"),
    [(8, 20, 80, 15, 1.7, 1.0), (40, 60, 900, 70, 0.9, 1e-30), (200, 210, 3000, 260, 1.3, 1e-150)],
)
def test_tail_is_the_sum_of_the_mass_in_600_digits(count, inside, total, drawn, odds, below):
    top = min(drawn, inside)
    # Terms fall fast in a far tail: 25 are more than six digits.
    terms = range(count, min(count + 25, top) + 1)
    exact = mpmath.fsum(mpmath.exp(exact_log_pmf(x, inside, total, drawn, odds)) for x in terms)
    got = log_sf(np.array([count]), np.array([inside]), total, drawn, np.array([odds]))[0]
    assert np.exp(got) < below
    assert got == pytest.approx(float(mpmath.log(exact)), abs=1e-7)


def test_odds_of_one_is_the_central_distribution_down_to_1e_300():
    rng = np.random.default_rng(0)
    inside = rng.integers(1, 1500, 60)
    count = (np.minimum(inside, 900) * rng.random(60) ** 2).astype(int)
    got = log_sf(count, inside, 19000, 900, np.ones(60))
    expected = [central_log_sf(c, i, 19000, 900) for c, i in zip(count, inside, strict=True)]
    deep = got > -690.0
    assert deep.sum() > 40
    assert got[deep].min() < -600
    np.testing.assert_allclose(got[deep], np.array(expected)[deep], atol=1e-7, rtol=0)


def central_log_sf(count, inside, total, drawn):
    """Whole numbers, exactly: no library's tail is trusted at 1e-300."""
    tail = sum(
        math.comb(inside, x) * math.comb(total - inside, drawn - x)
        for x in range(count, min(count + 300, inside, drawn) + 1)
    )
    return float(mpmath.log(mpmath.mpf(tail)) - mpmath.log(mpmath.mpf(math.comb(total, drawn))))


def test_impossible_and_certain_counts():
    got = log_sf(np.array([0, 3, 6, 4]), np.array([5, 5, 5, 9]), 10, 8, np.ones(4) * 2)
    np.testing.assert_array_equal(np.exp(got[[0, 1, 2, 3]]), [1, 1, 0, 1])


def test_bulk_agrees_with_scipy_at_odds_of_one():
    inside, count = np.arange(1, 200), np.arange(1, 200) // 4
    got = np.exp(log_sf(count, inside, 2000, 400, np.ones(199)))
    np.testing.assert_allclose(got, hypergeom.sf(count - 1, 2000, inside, 400), rtol=1e-9)
