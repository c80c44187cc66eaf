import numpy as np
import pandas as pd

from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.preprocessing.familiarity import CLIP, leave_one_out, profile_distance


def cohort(n=12, sites=40, seed=0):
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.2, 0.8, sites)
    values = np.clip(level + rng.normal(0, 0.05, (n, sites)), 0.01, 0.99)
    values[rng.random(values.shape) < 0.05] = np.nan
    return pd.DataFrame(values, [f"s{i}" for i in range(n)], [f"cg{j:02}" for j in range(sites)])


def test_a_held_out_sample_is_as_far_as_if_the_cohort_had_been_fitted_without_it():
    X = cohort()
    z = CohortStandardizer().fit_transform(X).to_numpy()
    found = profile_distance(leave_one_out(z))
    for row, sample in enumerate(X.index):
        without = CohortStandardizer().fit(X.drop(index=sample))
        expected = profile_distance(without.transform(X.loc[[sample]]).to_numpy())[0]
        assert np.isclose(found[row], expected, rtol=1e-3), sample


def test_missing_values_do_not_count_as_typical():
    assert profile_distance(np.array([[2.0, 0.0, 0.0, 0.0]])).tolist() == [2.0]
    assert np.isnan(profile_distance(np.zeros((1, 3)))[0])


def test_one_wild_site_does_not_decide():
    quiet = np.full((1, 400), 0.9)
    wild = quiet.copy()
    wild[0, 0] = 1e6
    assert profile_distance(wild)[0] < 0.9 + CLIP**2 / 400


def test_two_samples_tell_nothing_of_a_third():
    assert leave_one_out(np.ones((2, 5))).size == 0
