import numpy as np
import pandas as pd
import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.evaluation import make_folds


def labels(n=40):
    Y = pd.DataFrame(np.nan, index=[f"s{i}" for i in range(2 * n)], columns=["RA", "MS"])
    Y.iloc[:n, 0] = (np.arange(n) % 4 == 0).astype(float)
    Y.iloc[n:, 1] = (np.arange(n) % 2 == 0).astype(float)
    return Y


def test_every_sample_is_tested_once_per_repeat_and_strata_are_even():
    Y = labels()
    folds = list(make_folds(Y, n_splits=5, n_repeats=2))
    assert [(fold.repeat, fold.fold) for fold in folds][:6] == [(0, i) for i in range(5)] + [(1, 0)]
    for repeat in range(2):
        tested = np.concatenate([fold.test for fold in folds if fold.repeat == repeat])
        assert sorted(tested) == list(range(len(Y)))
    for fold in folds:
        assert Y.iloc[fold.test].sum().tolist() == [2, 4]
        assert not set(fold.train) & set(fold.test)
    assert not np.array_equal(folds[0].test, folds[5].test)


def test_same_seed_same_folds_and_repeat_is_the_next_seed():
    Y = labels()
    first = list(make_folds(Y, n_repeats=2, random_state=3))
    again = list(make_folds(Y, random_state=4))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(first[5:], again, strict=True))


def test_discordant_twins_stay_together():
    Y = labels()
    groups = np.arange(len(Y)) // 2  # pairs, half of them case and control
    for fold in make_folds(Y, groups, n_splits=4):
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert Y.iloc[fold.test].sum().min() > 0


def test_refuses_too_few_cases_counting_groups_not_samples():
    Y = labels(12)
    with pytest.raises(MiracleError, match="Task 'RA' has 3 independent cases; 5 folds"):
        list(make_folds(Y))
    one_patient = np.where(Y["RA"] == 1, 0, np.arange(1, len(Y) + 1))
    with pytest.raises(MiracleError, match="Task 'RA' has 1 independent cases; 2 folds"):
        list(make_folds(Y, one_patient, n_splits=2))


def test_refuses_other_labels():
    with pytest.raises(MiracleError, match="'RA' has the label 2.0 for sample 's0'; expected"):
        list(make_folds(labels().replace({"RA": {1.0: 2.0}})))


def test_subjects_in_another_order_are_aligned_by_name_and_stay_whole():
    Y = labels()
    groups = pd.Series(np.arange(len(Y)) // 2, Y.index)
    straight = list(make_folds(Y, groups, n_splits=4))
    mixed = list(make_folds(Y, groups.sample(frac=1, random_state=0), n_splits=4))
    for one, other in zip(straight, mixed, strict=True):
        assert np.array_equal(one.test, other.test)
        assert not set(groups.iloc[other.train]) & set(groups.iloc[other.test])
    with pytest.raises(MiracleError, match="subject has no entry for sample 's7'"):
        list(make_folds(Y, groups.drop("s7")))


def test_the_order_of_the_rows_does_not_change_the_folds():
    Y = labels()
    groups = pd.Series(np.arange(len(Y)) // 2, Y.index)
    other = Y.sample(frac=1, random_state=0)
    for subject in (None, groups):
        pairs = zip(make_folds(Y, subject), make_folds(other, subject), strict=True)
        for one, two in pairs:
            assert list(Y.index[one.train]) == list(other.index[two.train])
            assert list(Y.index[one.test]) == list(other.index[two.test])


def test_subjects_of_one_sample_each_make_the_folds_of_no_subjects():
    Y = labels()
    for one, two in zip(make_folds(Y), make_folds(Y, Y.index), strict=True):
        assert np.array_equal(one.test, two.test)
