import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from miracle_lib.errors import MiracleError
from miracle_lib.estimator.calibration import at_prevalence, classes, merge, venn_abers


def draw(rng, n, tilt=1.5):
    score = rng.normal(size=n)
    return score, (rng.random(n) < 1 / (1 + np.exp(-tilt * score))).astype(float)


def test_the_interval_is_isotonic_regression_with_the_sample_as_either_class():
    rng = np.random.default_rng(0)
    score, label = draw(rng, 120)
    score = score.round(1)  # with ties
    new = np.append(rng.normal(size=8), [score[3], score.min() - 1, score.max() + 1])
    for end, found in enumerate(venn_abers(score, label, new)):
        for each, value in zip(new, found, strict=True):
            fit = IsotonicRegression().fit(np.append(score, each), np.append(label, end))
            assert value == pytest.approx(fit.predict([each])[0])


def test_one_end_of_the_interval_is_calibrated():
    """Of held-out samples whose own end says so much, so many are cases."""
    rng = np.random.default_rng(1)
    ends, labels = [], []
    for _ in range(60):
        low, high = venn_abers(*draw(rng, 60), (new := draw(rng, 50))[0])
        ends.append(np.where(new[1] == 1, high, low))
        labels.append(new[1])
    ends, labels = np.concatenate(ends), np.concatenate(labels)
    for bottom in (0, 0.25, 0.5, 0.75):
        here = (ends >= bottom) & (ends <= bottom + 0.25)
        assert labels[here].mean() == pytest.approx(ends[here].mean(), abs=0.04)


def test_the_merged_probability_lies_in_the_interval():
    low, high = np.array([0.0, 0.2, 0.5]), np.array([0.1, 0.9, 0.5])
    merged = merge(low, high)
    assert ((low <= merged) & (merged <= high)).all()
    assert merged[2] == 0.5


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_named_classes_cover_cases_and_controls_alike(coverage):
    rng = np.random.default_rng(2)
    held = {1: [], 0: []}
    for _ in range(40):
        score, label = draw(rng, 200, tilt=4)
        new, truth = draw(rng, 200, tilt=4)
        named = classes(score, label, new, coverage)
        for value, word in ((1, "case"), (0, "control")):
            held[value] += [word in text.split(" or ") for text in named[truth == value]]
    for value in (1, 0):
        assert np.mean(held[value]) == pytest.approx(coverage, abs=0.02)


def test_with_few_held_out_samples_nothing_is_ruled_out():
    named = classes(np.arange(8.0), np.arange(8) >= 4, np.array([-9.0, 9.0]))
    assert named.tolist() == ["case or control"] * 2


def test_prevalence_moves_the_odds():
    assert at_prevalence(np.array([0.5]), 0.5, 0.2).item() == pytest.approx(0.2)
    there = at_prevalence(np.array([0.3]), 0.4, 0.01)
    assert at_prevalence(there, 0.01, 0.4).item() == pytest.approx(0.3)
    with pytest.raises(MiracleError, match="prevalence is 1; expected a share between 0 and 1"):
        at_prevalence(np.array([0.3]), 0.4, 1)
