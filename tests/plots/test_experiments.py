import pandas as pd
import pytest

from miracle_lib.plots.experiments import rebuilt_by_epochs


def test_every_fold_is_a_dot_and_the_line_goes_through_their_means():
    curve = pd.DataFrame(
        {"fold": [0, 1, 0, 1], "epochs": [1, 1, 20, 20], "share": [0.0, 0.2, 0.1, 0.5]}
    )
    _, dots, line = rebuilt_by_epochs(curve).axes[0].get_lines()
    assert list(dots.get_ydata()) == [0.0, 0.2, 0.1, 0.5]
    assert list(line.get_ydata()) == pytest.approx([0.1, 0.3])
    assert list(line.get_xdata()) == [1, 20]
