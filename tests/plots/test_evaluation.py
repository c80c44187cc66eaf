import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from miracle_lib.plots import evaluation as plots


def summary(shift):
    rows = [
        {"task": task, "metric": metric, "estimate": value + shift, "prevalence": 0.4}
        | {"low": value + shift - 0.1, "high": value + shift + 0.05}
        for task, value in (("RA", 0.8), ("MS", 0.7), ("all", 0.75))
        for metric in ("auroc", "auprc")
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("metric", "chance"), [("auroc", 0.5), ("auprc", 0.4)])
def test_forest_shows_every_method_with_its_interval(metric, chance):
    figure = plots.score_forest({"model": summary(0.1), "baseline": summary(0)}, metric)
    first = figure.axes[0]
    assert [axes.get_title() for axes in figure.axes] == ["RA", "MS", "mean of tasks"]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["model", "baseline"]
    spans = [tuple(line.get_xdata()) for line in first.lines if len(line.get_xdata()) == 2]
    assert spans[0] == pytest.approx((0.8, 0.95))
    assert spans[1] == pytest.approx((0.7, 0.85))
    assert spans[-1] == (chance, chance)
    assert plots.NAMES[metric] in figure.get_supxlabel()


def effects():
    rows = []
    for comparison, level, value in (("mask", "permuted", -0.05), ("tasks", "multi", 0.4)):
        for task, extra in (("RA", 0.02), ("MS", -0.02), ("all", 0)):
            difference = value + extra
            row = {"comparison": comparison, "level": level, "reference": "before", "task": task}
            row |= {"difference": difference, "low": difference - 0.03, "high": difference + 0.03}
            rows.append(row)
    return pd.DataFrame(rows)


def test_effects_are_grouped_by_comparison_and_arrows_mark_the_limit():
    figure = plots.ablation_effects(effects(), limit=0.25)
    axes = figure.axes[0]
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == ["mask (against before)", "permuted", "tasks (against before)", "multi"]
    # only the second interval leaves the axis, with both of its ends beyond the right limit
    arrows = [line.get_marker() for line in axes.lines if line.get_marker() in ("<", ">")]
    assert arrows == [">", ">"]
    assert axes.get_xlim() == (-0.25, 0.25)
    assert "AUROC" in axes.get_xlabel()


def test_sharing_has_one_line_per_sample_size():
    table = pd.DataFrame(
        {"share": [0.0, 1.0] * 2, "n": [40, 40, 80, 80], "mean": [0, 0.1, 0, 0.05]}
    )
    table = table.assign(low=table["mean"] - 0.01, high=table["mean"] + 0.01)
    figure = plots.sharing_sweep(table)
    _, labels = figure.axes[0].get_legend_handles_labels()
    assert labels == ["40 samples per task", "80 samples per task"]


def test_site_curve_puts_all_at_the_right_end():
    curve = pd.DataFrame(
        {"level": ["all", "50", "200"], "n_sites": [np.nan, 50, 200], "auroc": [0.8, 0.7, 0.75]}
    )
    curve = curve.assign(low=0.6, high=0.9, spearman=0.5, top_overlap=0.3, expected_overlap=0.1)
    figure = plots.site_curve(curve)
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert labels == ["50", "200", "all"]
    (said,) = plots.site_curve(curve.iloc[:0]).texts
    assert "no more sites than the smallest choice of the grid" in said.get_text()


def test_calibration_and_patterns_and_policies_draw_what_they_are_given():
    curve = pd.DataFrame({"task": "RA", "predicted": [0.2, 0.8], "observed": [0.1, 0.9]})
    curve = curve.assign(low=0.05, high=0.95)
    panel = plots.calibration(curve).axes[0]
    assert panel.get_title() == "RA"
    assert panel.lines[1].get_ydata().tolist() == [0.1, 0.9]
    patterns = pd.DataFrame(
        {"outside": [0.0, 1.0] * 2, "model": ["masked"] * 2 + ["dense"] * 2, "seed": 0}
    ).assign(auroc=0.8, found_inside=[0.9, np.nan] * 2, found_outside=[np.nan, 0.5] * 2)
    figure = plots.hidden_patterns(patterns)
    assert len(figure.axes) == 3
    assert figure.axes[0].get_legend_handles_labels()[1] == ["masked", "dense"]
    table = pd.DataFrame({"level": ["pwinval", "uniform"], "epochs_to_best": [5.0, 9.0]})
    table = table.assign(difference=[np.nan, 0.01], low=[np.nan, 0], high=[np.nan, 0.02])
    figure = plots.policies(table.assign(epochs_to_best=[5.0, 109.0]))
    FigureCanvasAgg(figure).draw()
    right = figure.axes[1]
    ends = [text.get_window_extent().x1 for text in right.texts]
    assert max(ends) < right.get_window_extent().x1  # no number is cut off
    left, right = plots.policies(table).axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["pwinval", "uniform"]
    assert [bar.get_width() for bar in right.patches] == [5, 9]
