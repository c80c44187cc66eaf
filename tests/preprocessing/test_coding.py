import numpy as np
import pandas as pd
import pytest

from miracle_lib.preprocessing.coding import CovariateCoder


def test_numbers_and_text_are_coded_as_learned():
    table = pd.DataFrame(
        {"age": [40.0, 60, np.nan], "smoking": ["never", "current", None], "empty": [None] * 3}
    )
    coder = CovariateCoder.learn(table)
    assert list(coder.mean) == ["age", "smoking=never"]
    assert coder.encode(table).tolist() == [[-1, 1], [1, -1], [0, 0]]


def test_what_is_unknown_counts_as_average():
    coder = CovariateCoder.learn(pd.DataFrame({"age": [40.0, 60], "sex": ["F", "M"]}))
    new = pd.DataFrame({"sex": ["M", "X", None], "height": [1.8, 1.7, 1.6]})
    assert coder.encode(new).tolist() == [[0, 1], [0, 0], [0, 0]]


def test_a_constant_column_says_nothing():
    coder = CovariateCoder.learn(pd.DataFrame({"age": [50.0, 50]}))
    assert coder.encode(pd.DataFrame({"age": [50.0, 51]})).ravel().tolist() == pytest.approx([0, 1])
    coder = CovariateCoder.learn(pd.DataFrame({"bmi": [24.1] * 3}))  # whose mean is rounded
    assert coder.encode(pd.DataFrame({"bmi": [24.1, 25.1]})).ravel().tolist() == pytest.approx(
        [0, 1], abs=1e-6
    )
