import numpy as np
import pandas as pd
import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing.classes import two_classes


@pytest.mark.parametrize(
    ("y", "classes", "labels"),
    [
        ([1, 0, 1], [0, 1], [1, 0, 1]),
        ([2.0, np.nan, 1.0], [1, 2], [1, np.nan, 0]),
        (["b", None, "a"], ["a", "b"], [1, np.nan, 0]),
        ([True, False, True], [False, True], [1, 0, 1]),
        (pd.Series(["x", "y", "x"], dtype="category"), ["x", "y"], [0, 1, 0]),
        (pd.Series([1, pd.NA, 0], dtype="Int64"), [0, 1], [1, np.nan, 0]),
    ],
)
def test_any_two_classes_become_labels(y, classes, labels):
    found, names = two_classes(y)
    np.testing.assert_array_equal(found, labels)
    assert names.tolist() == classes


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0.1, 0.2, 0.3], "continuous; y holds numbers such as 0.1"),
        ([0, 1, 2], "y has 3 classes, expected 2"),
        (["a", "a"], "y has one class"),
        ([1, 1], "y has one class"),
        ([np.nan, np.nan], "y has no label"),
        (["a", 1], "y mixes int, str"),
        ([[0, 1], [1, 0]], r"y has shape \(2, 2\)"),
    ],
)
def test_other_labels_are_refused(y, message):
    with pytest.raises(MiracleError, match=message) as caught:
        two_classes(np.array(y, dtype=object) if "mixes" in message else y)
    assert "\n" not in str(caught.value)
