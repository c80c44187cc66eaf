import numpy as np
import pandas as pd
import pytest

from miracle_lib import MiracleError
from miracle_lib.plots import ewas as plots


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    n = 500
    p = np.concatenate([[1e-12, 1e-9, 0.0], np.linspace(0.001, 1, n - 3)])
    return pd.DataFrame(
        {
            "effect": np.concatenate([[0.8, -0.5, 0.9], rng.normal(0, 0.1, n - 3)]),
            "p_value": p,
            "q_value": np.where(p < 1e-6, 0.001, 0.9),
        },
        index=[f"cg{i}" for i in range(n)],
    )


def test_volcano_colours_by_direction_and_names_the_best(table):
    figure = plots.volcano({"crude": table, "adjusted": table.assign(q_value=1.0)}, top=2)
    crude, adjusted = figure.axes
    assert crude.get_title() == "crude\n2 sites more, 1 less methylated"
    assert adjusted.get_title() == "adjusted\n0 sites more, 0 less methylated"
    assert [text.get_text() for text in crude.texts] == ["cg2", "cg0"]
    assert [len(points.get_offsets()) for points in crude.collections] == [497, 2, 1]


def test_manhattan_orders_chromosomes_and_counts_sites_without_a_place(table):
    places = pd.DataFrame(
        {
            "chromosome": np.resize(["chr10", "2", "X", "chr1"], 499),
            "position": np.arange(499) * 1e5,
        },
        index=table.index[:499],
    )
    axes = plots.manhattan(table, places).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "10", "X"]
    assert axes.get_title() == "499 sites, 3 at q ≤ 0.05; 1 without a position"
    assert axes.lines[0].get_ydata()[0] == pytest.approx(9)
    nowhere = plots.manhattan(table, places.iloc[:0])
    assert nowhere.texts[0].get_text() == "no site has a known position"


def test_quantiles_show_the_inflation(table):
    axes = plots.quantiles({"all": table}).axes[0]
    points = axes.lines[0]
    assert len(points.get_xdata()) == 500
    assert points.get_xdata()[0] == pytest.approx(3)
    label = axes.get_legend().get_texts()[0].get_text()
    assert label in ("all: λ = 1.00", "all: λ = 1.01")
    many = plots.quantiles({f"task {k}": table for k in range(9)})
    assert len(many.axes[0].get_legend().get_texts()) == 9
    with pytest.raises(MiracleError, match="no table to draw"):
        plots.quantiles({})
