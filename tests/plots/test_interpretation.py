import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from miracle_lib import MiracleError
from miracle_lib.plots import interpretation as plots
from miracle_lib.samples import Samples


@pytest.fixture
def explanation():
    rng = np.random.default_rng(0)
    n = 40
    z = np.sort(rng.normal(size=n))[::-1] + np.where(np.arange(n) < 3, 6, 0)
    return pd.DataFrame(
        {
            "attribution": rng.normal(0, 0.01, n),
            "rank": np.arange(1.0, n + 1),
            "degree": rng.integers(5, 200, n),
            "direction": np.where(rng.random(n) < 0.5, "hyper", "hypo"),
            "directed": rng.normal(size=n),
            "z": z,
            "p_value": rng.random(n),
            "q_value": np.where(np.arange(n) < 3, 0.01, 0.8),
        },
        index=[f"A pathway of a rather long name, number {i}" for i in range(n)],
    )


def test_ranking_fills_what_is_named_only(explanation):
    left, right = plots.pathway_ranking(explanation, "RA", top=10).axes
    points = [line for line in left.lines if line.get_marker() == "o"]
    filled = [line for line in points if to_hex(line.get_markerfacecolor()) != "#ffffff"]
    assert (len(points), len(filled)) == (10, 3)
    assert left.get_yticklabels()[-1].get_text().endswith("number 0")
    assert "all 40 pathways" in right.get_title("right")
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels == ["not named: 37", "named (q ≤ 0.05): 3"]


def test_tree_shows_the_largest_genes_and_counts_the_rest():
    paths = pd.DataFrame(
        {
            "gene": ["A"] * 6 + ["B", "C"],
            "site": [f"cg{i}" for i in range(8)],
            "contribution": [0.6, 0.5, 0.4, 0.3, 0.2, 0.1, -0.5, 0.01],
            "difference": 0.5,
        }
    )
    axes = plots.pathway_tree(paths, "Pathway", top_genes=2, top_sites=4).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert "A (+2 sites)" in texts
    assert "B" in texts
    assert not any(text.startswith("C") for text in texts)
    assert "cg0  +0.50 SD" in texts
    assert axes.get_title() == "Pathway; 1 more genes"
    with pytest.raises(MiracleError, match="no path to draw"):
        plots.pathway_tree(paths.iloc[:0], "Pathway")


def test_shared_map_marks_every_named_cell(explanation):
    tables = {"RA": explanation, "MS": explanation.assign(q_value=0.9), "SLE": explanation}
    figure = plots.shared_map(tables, top=5)
    heat, bars = figure.axes[:2]
    assert heat.images[0].get_array().shape == (5, 3)
    assert len(heat.lines[0].get_xdata()) == 6
    assert sorted(p.get_width() for p in bars.patches) == [0, 0, 2, 2, 2]


def test_enrichment_shows_the_share_of_genes_hit():
    table = pd.DataFrame(
        {"n_genes": [10, 20], "n_significant": [5.0, 2.0], "q_value": [0.01, 0.5]}, index=["S", "T"]
    )
    axes = plots.enrichment_dots({"Reactome": table, "KEGG": table}, top=5).axes[0]
    assert sorted(axes.collections[0].get_offsets()[:, 0]) == [10, 50]
    assert axes.get_title() == "Reactome: 1 of 2 sets at q ≤ 0.05"
    axes = plots.enrichment_dots({"Reactome": table}, q_value=table["q_value"].max()).axes[0]
    assert axes.get_title().startswith("Reactome: 2 of 2 sets")


def test_audit_tells_why_markers_are_missing():
    audit = pd.DataFrame(
        {
            "panel": ["SLE"] * 3 + ["Smoking"],
            "kind": ["disease"] * 3 + ["control"],
            "status": ["ranked", "filtered out", "not measured", "ranked"],
            "percentile": [99, np.nan, np.nan, 20],
            "agrees": [True, None, None, False],
        }
    )
    axes = plots.audit_plot(audit).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["SLE (3)", "Smoking (1)"]
    assert axes.texts[0].get_text() == "1 filtered out, 1 not measured"
    with pytest.raises(MiracleError, match="audit is empty"):
        plots.audit_plot(audit.iloc[:0])


def test_activity_draws_every_labelled_sample_of_every_cohort():
    """Two diseases share the controls of cohort Y: each has them beside its own cases."""
    rng = np.random.default_rng(0)
    ra, ms = [0.0, 1.0, np.nan] * 20, [np.nan] * 30 + [0.0, np.nan, 1.0] * 10
    samples = Samples(np.zeros((60, 1)), np.array([ra, ms]).T, cohort=["X"] * 30 + ["Y"] * 30)
    tasks = samples.tasks
    test = pd.DataFrame(
        {"task": [tasks[0], *tasks], "cohort": ["X", "Y", "Y"], "pathway": "P"}
    ).assign(difference=[0.5, -0.2, 0.1], p_value=[0.01, 0.4, 0.5])
    activity = {task: pd.Series(rng.normal(size=60)) for task in tasks}
    axes = plots.activity_plot(activity, samples, "P", test).axes[0]
    drawn = [len(points.get_offsets()) for points in axes.collections]
    assert drawn == [10] * 6
    shared = np.asarray(axes.collections[4].get_offsets())[:, 1]  # controls of the second task in Y
    np.testing.assert_array_equal(shared, activity[tasks[1]][30::3])
    assert axes.texts[0].get_text() == "+0.50 SD\np = 0.01"
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    assert names == ["X", f"{tasks[0]}, Y", f"{tasks[1]}, Y"]


def test_rank_controls_draws_each_control_there_is():
    table = pd.DataFrame(
        {"rank": [1.0, 2, 3], "rank_sd": [0.5, 0.1, np.nan], "permuted mask": [2.0, 2, 2]},
        index=list("ABC"),
    )
    figure = plots.rank_controls(table)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "permuted mask" in labels
    assert "shuffled labels" not in labels
