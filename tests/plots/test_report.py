import re

import numpy as np

from miracle_lib.plots.report import as_svg, held_out_scores


def test_bars_are_the_shares_of_each_class():
    axes = held_out_scores(np.array([0.01, 0.02, 0.5, 0.5]), np.array([0.99])).axes[0]
    heights = [patch.get_height() for patch in axes.patches]
    cases, controls = heights[:25], heights[25:]
    assert cases == [0] * 24 + [1]
    assert controls[0] == -0.5
    assert sum(controls) == -1
    assert [text.get_text() for text in axes.texts] == ["1 cases", "4 controls"]


def test_a_page_can_move_the_line_by_the_width_of_the_axis():
    drawing = as_svg(held_out_scores(np.array([0.2]), np.array([0.9])))
    (line,) = re.findall(r'class="sample">\s*<path d="M ([\d.]+)', drawing.svg)
    right = max(float(x) for x in re.findall(r"L ([\d.]+) [\d.]+ \n", drawing.svg))
    assert float(line) + drawing.width <= right + 1
    assert "Date" not in drawing.svg
    assert 'id="figure' not in drawing.svg


def test_new_samples_are_ticks_and_no_line():
    figure = held_out_scores(np.array([0.2]), np.array([0.9]), new=np.array([0.1, 0.8]))
    assert figure.axes[0].lines[-1].get_xdata().tolist() == [0.1, 0.8]
    assert 'class="sample"' not in as_svg(figure).svg
