import io

import numpy as np
import pandas as pd
import pytest

from miracle_lib.errors import MiracleError
from miracle_lib.plots.training import (
    loss_curves,
    reconstruction,
    task_weights,
    what_stages_did,
)


@pytest.fixture
def history():
    stages = [("autoencoder", 3), ("heads", 2), ("finetune", 2)]
    rows = []
    for member in (0, 1):
        for stage, epochs in stages:
            for epoch in range(1, epochs + 1):
                row = {"member": member, "stage": stage, "epoch": epoch}
                if stage != "heads":
                    row |= {"reconstruction": 1.5 - epoch / 10, "kl": 0.1}
                    row |= {"validation_reconstruction": 1.6 - epoch / 10, "validation_kl": 0.1}
                if stage != "autoencoder":
                    row |= {"task": 1.0 / epoch, "validation_task": 0.6 / epoch}
                    row |= {"weight[MS]": 1 + 0.1 * epoch, "weight[RA]": 1 - 0.1 * epoch}
                rows.append(row)
    return pd.DataFrame(rows)


def drawn(figure):
    """Save the figure, as a notebook would."""
    figure.savefig(io.BytesIO(), format="png", dpi=50)
    return figure


def test_loss_curves_show_every_part_where_it_was_trained(history):
    figure = drawn(loss_curves(history))
    grid = np.array(figure.axes).reshape(3, 3)
    assert [axes.get_title() for axes in grid[0]] == [
        "1 autoencoder",
        "2 heads, encoder frozen",
        "3 fine-tuning",
    ]
    assert [len(axes.get_lines()) for axes in grid.ravel()] == [4, 0, 4, 4, 0, 4, 0, 4, 4]
    lines = {line.get_label(): line for line in grid[0, 0].get_lines()}
    assert lines["training"].get_ydata().tolist() == pytest.approx([1.4, 1.3, 1.2])
    assert lines["inner validation"].get_ydata().tolist() == pytest.approx([1.5, 1.4, 1.3])
    # The training loss is summed over two tasks; it is shown as their mean.
    assert grid[2, 1].get_lines()[0].get_ydata().tolist() == pytest.approx([0.5, 0.25])
    assert all(axes.get_xlabel() == "epoch" for axes in grid[-1])


def test_task_weights_are_drawn_for_each_task_and_stage(history):
    figure = drawn(task_weights(history))
    assert [axes.get_title() for axes in figure.axes] == [
        "2 heads, encoder frozen",
        "3 fine-tuning",
    ]
    first, second, _ = figure.axes[0].get_lines()
    assert first.get_ydata().tolist() == pytest.approx([1.1, 1.2])
    assert second.get_ydata().tolist() == pytest.approx([0.9, 0.8])
    assert first.get_color() != second.get_color()


def test_history_without_what_is_drawn_is_refused(history):
    with pytest.raises(MiracleError, match=r"no epoch"):
        loss_curves(history[:0])
    with pytest.raises(MiracleError, match=r"no heads were trained"):
        task_weights(history[history["stage"] == "autoencoder"])


def test_reconstruction_counts_variance_beyond_the_mean_and_ignores_missing():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(0.2, 0.8, (50, 4)), columns=list("abcd"))
    mean = X * 0 + X.mean()
    guess = mean + 0.5 * (X - mean)
    X.iloc[0, 0] = np.nan
    guess["d"] = mean["d"]
    figure = drawn(reconstruction(X, guess[["a", "b", "d"]].iloc[5:], mean))
    heights = {round(bar.get_x(), 3): bar.get_height() for bar in figure.axes[1].patches}
    assert sum(heights.values()) == 3
    assert sum(height for left, height in heights.items() if left > 0.7) == 2
    assert 0.4 < float(figure.axes[1].get_title().split(": ")[1]) < 0.6


def ended(stage, start, kept, member=0):
    return {
        "member": member, "stage": stage, "validation": kept,
        "validation_start": start, "validation_kept": kept,
    }  # fmt: skip


def test_what_stages_did_is_read_off_the_history():
    rows = [ended("autoencoder", 1.4, 1.4), ended("autoencoder", 1.2, 1.2, member=1)]
    rows += [ended("heads", np.nan, 0.5), ended("heads", np.nan, 0.7, member=1)]
    rows += [ended("finetune", 0.8, 0.6), ended("finetune", 0.7, 0.6, member=1)]
    said = what_stages_did(pd.DataFrame(rows), [False, True]).split("**")[2::2]
    assert said == [
        ": no epoch had a held-out loss below that of its start, 1.300, which was kept. ",
        ": solved for exactly, out-of-fold cross-entropy 0.600. ",
        ": it took the held-out loss from 0.750 to 0.600; the result was kept in 1 of 2.",
    ]
    assert what_stages_did(pd.DataFrame(rows)[["member", "stage", "validation"]][2:4], []) == (
        "**2 heads, encoder frozen**: solved for exactly, out-of-fold cross-entropy 0.600."
    )
    with pytest.raises(MiracleError, match="the history has no epoch"):
        what_stages_did(pd.DataFrame(rows[:0]), [])
