import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from miracle_lib.errors import MiracleError
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.plots.hierarchy import coverage, degree_distributions, pathway_tree

PAIRS = pd.DataFrame(
    [
        ("s1", "A", "TSS200"),
        ("s2", "A", "Body"),
        ("s3", "A", "TSS200;Body"),
        ("s3", "B", ""),
        ("s4", "C", "Body"),
        ("s5", np.nan, ""),
    ],
    columns=["site", "gene", "group"],
)


@pytest.fixture
def mask():
    sites = pd.DataFrame({"reason": ["", "", "", "", "", "masked: snp"]})
    sites.index = [f"s{i}" for i in range(1, 7)]
    sets = {"P": ["A", "B"], "Q": ["B"]}
    return Hierarchy.from_tables(PAIRS, sets, sites=sites, min_genes=1)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_coverage_counts_every_given_site(mask):
    figure = coverage(mask)
    (axes,) = figure.axes
    assert sorted(bar.get_width() for bar in axes.patches) == [1, 1, 1, 3]
    labels = {label.get_text().replace("\n", " ") for label in axes.get_yticklabels()}
    assert labels == {
        "reach a pathway",
        "its genes are in no gene set",
        "no gene in the annotation",
        "masked probe",
    }
    assert "3 (50.0%)" in texts(figure)
    assert axes.get_xlabel() == "sites"


def test_degrees_are_the_share_of_nodes_with_at_least_as_many(mask):
    figure = degree_distributions(mask)
    panels = {axes.get_xlabel(): axes.lines[0].get_xydata().tolist() for axes in figure.axes}
    assert panels == {
        "genes per site": [[1, 1], [2, 1 / 3]],
        "sites per gene": [[1, 1], [3, 0.5]],
        "pathways per gene": [[1, 1], [2, 0.5]],
        "genes per pathway": [[1, 1], [2, 0.5]],
    }


def test_a_permuted_mask_lies_on_top_of_the_original(mask):
    figure = degree_distributions(mask, {"permuted": mask.permuted(1)})
    for axes in figure.axes:
        first, second = (line.get_xydata() for line in axes.lines)
        np.testing.assert_array_equal(first, second)
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["annotation", "permuted"]
    with pytest.raises(MiracleError, match="at most three"):
        degree_distributions(mask, dict.fromkeys("abcd", mask))


def test_the_tree_shows_each_site_in_the_colour_of_its_place(mask):
    figure = pathway_tree(mask, "P")
    (axes,) = figure.axes
    first, second = axes.collections
    assert [to_hex(colour) for colour in first.get_facecolors()] == [
        "#0072b2",
        "#009e73",
        "#e69f00",
    ]
    assert [to_hex(colour) for colour in second.get_facecolors()] == ["#999999"]
    assert texts(figure) == ["A", "B"]
    assert axes.get_title(loc="left") == "P\n2 genes, 3 sites"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["promoter", "body", "both", "unknown"]


def test_what_does_not_fit_into_the_tree_is_counted(mask):
    figure = pathway_tree(mask, "P", max_genes=1, max_sites=2)
    assert texts(figure) == ["A", "+1"]
    assert "the 1 with most sites are drawn" in figure.axes[0].get_title(loc="left")
    name = "incorporation of one atom of oxygen " * 4 + "(GO:0016709)"
    named = Hierarchy.from_tables(PAIRS, {name: ["A", "B"]}, min_genes=1)
    figure = pathway_tree(named, name)
    FigureCanvasAgg(figure).draw()
    (title,) = (text for text in figure.axes[0].get_children() if "GO:0016709" in str(text))
    assert title.get_window_extent().x1 < figure.bbox.x1  # the name is not cut off
    with pytest.raises(MiracleError, match="no pathway 'X'"):
        pathway_tree(mask, "X")


def test_figures_can_be_drawn(mask, tmp_path):
    for figure in (coverage(mask), degree_distributions(mask), pathway_tree(mask, "P")):
        figure.savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 5_000
