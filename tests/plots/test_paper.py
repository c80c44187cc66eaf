import pandas as pd

from miracle_lib.plots import paper


def test_protocols_are_drawn_one_line_per_method():
    rows = [
        (method, protocol, 0.6 + 0.1 * k, 0.02)
        for method in ("ours", "paper")
        for k, protocol in enumerate(("ours", "split once"))
    ]
    table = pd.DataFrame(rows, columns=["method", "protocol", "mean", "sd"])
    (axes,) = paper.protocols(table).axes
    drawn = [container.lines[0] for container in axes.containers]
    assert [line.get_ydata().tolist() for line in drawn] == [[0.6, 0.7]] * 2
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ours", "+ split once"]


def test_changes_are_drawn_alone_and_one_after_the_other():
    table = pd.DataFrame(
        {
            "how": ["alone", "alone", "one after the other"],
            "change": ["paper, as described", "no ReLU", "ours"],
            "mean": [0.6, 0.7, 0.8],
            "sd": [0.1, None, 0.1],
        }
    )
    one, other = paper.changes(table).axes
    names = [label.get_text() for label in one.get_yticklabels()]
    assert names == ["paper, as described", "no ReLU"]
    assert other.collections[-1].get_offsets()[0].tolist() == [0.8, 0]
    assert (one.get_title("left"), other.get_title("left")) == (
        "changed alone",
        "changed one after the other",
    )
