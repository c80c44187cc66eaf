import json
import re

import numpy as np
import pandas as pd
import pytest

from miracle_lib.plots import interactive


def explanation(shift):
    return pd.DataFrame(
        {
            "z": [3.0 + shift, 0.5],
            "q_value": [0.01, 0.6],
            "attribution": [0.4, 0.1],
            "degree": [12, 5],
            "direction": ["hyper", "hypo"],
        },
        index=["immune response", "<script>alert(1)</script>"],
    )


def test_the_map_shows_evidence_with_its_direction_and_numbers():
    picture = interactive.pathway_map({"RA": explanation(0), "MS": explanation(1)}, "map")
    (heat,) = picture.figure.data
    assert list(heat.x) == ["RA", "MS"]
    assert heat.y[-1] == "immune response"
    assert list(heat.z[-1]) == [3.0, 4.0]
    assert list(heat.z[0]) == [-0.5, -0.5]
    assert list(heat.customdata[-1][0]) == [3.0, "0.01", " (named)", 0.4, 12]
    assert list(heat.customdata[0][0]) == [0.5, "0.6", "", 0.1, 5]


def test_the_map_holds_more_pathways_than_are_in_sight_and_a_field_to_find_them():
    tables = [
        explanation(0).assign(z=[k, 0.0]).rename(lambda name, k=k: f"{name} {k}") for k in range(60)
    ]
    picture = interactive.pathway_map({"RA": pd.concat(tables)}, "map", shown=10, most=50)
    (heat,) = picture.figure.data
    assert len(heat.y) == 50
    assert heat.y[-1] == "immune response 59"
    assert list(picture.figure.layout.yaxis.range) == [39.5, 49.5]
    assert "Find a pathway: <input" in picture._repr_html_()


def test_names_that_look_alike_when_shortened_stay_two_rows():
    name = "regulation of {} in the immune system of T cells (GO:0050863)"
    table = explanation(0).set_axis([name.format("growth"), name.format("death")])
    figure = interactive.pathway_map({"RA": table}, "map").figure
    assert len(set(figure.data[0].y)) == 2
    assert max(map(len, figure.layout.yaxis.ticktext)) == interactive.NAME


@pytest.fixture
def sites():
    return pd.DataFrame(
        {
            "effect": [0.5, -0.5, 0.1, 0.2],
            "p_value": [1e-8, 1e-6, 0.5, np.nan],
            "q_value": [1e-6, 1e-4, 0.9, np.nan],
        },
        index=["cg1", "cg2", "cg3", "cg4"],
    )


def test_the_volcano_shows_the_best_sites_and_says_how_many_there_are(sites, monkeypatch):
    figure = interactive.volcano(sites, "volcano").figure
    assert [list(trace.text) for trace in figure.data] == [["cg1"], ["cg2"], ["cg3"]]
    assert figure.data[1].y == (6.0,)
    assert figure.layout.title.text is None
    monkeypatch.setattr(interactive, "POINTS", 2)
    figure = interactive.volcano(sites, "volcano").figure
    assert [len(trace.x) for trace in figure.data] == [1, 1, 0]
    assert figure.layout.title.text == "2 of 3 sites, those with the smallest p"


def test_the_manhattan_lays_chromosomes_side_by_side(sites):
    places = pd.DataFrame(
        {"chromosome": ["chr2", "1", "1"], "position": [5, 10, 20]}, ["cg1", "cg2", "cg3"]
    )
    figure = interactive.manhattan(sites, places, "manhattan").figure
    named, rest = figure.data
    assert list(named.x) == [1e7 + 25, 10]
    assert list(rest.text) == ["cg3"]
    assert list(figure.layout.xaxis.ticktext) == ["1", "2"]


def test_a_page_gets_the_picture_without_the_script_of_the_library():
    html = interactive.pathway_map({"RA": explanation(0)}, "map of RA")._repr_html_()
    assert len(html) < 20_000
    assert 'id="map-of-ra"' in html
    assert "Plotly.newPlot" in html
    assert "<script>alert" not in html  # names come from files of strangers


def test_parts_of_a_pathway_add_up():
    paths = pd.DataFrame(
        {
            "gene": ["A", "A", "B"],
            "site": ["cg1", "cg2", "cg1"],
            "contribution": [0.3, -0.1, 0.2],
            "difference": [1.0, 0.5, 1.0],
        }
    )
    (tree,) = interactive.pathway_parts(paths, "P", "parts").figure.data
    area = dict(zip(tree.ids, tree.values, strict=True))
    assert area["A"] == area["A/cg1"] + area["A/cg2"] == 0.4
    assert area["P"] == 0.6
    colour = dict(zip(tree.ids, tree.marker.colors, strict=True))
    assert np.isclose(colour["A"], 0.2)
    assert colour["A/cg2"] < 0


def test_no_part_is_larger_than_its_whole():
    """Plotly draws nothing at all then, and says nothing."""
    rng = np.random.default_rng(0)
    paths = pd.DataFrame(
        {
            "gene": rng.choice(list("ABC"), 60),
            "site": [f"cg{k}" for k in range(60)],
            "contribution": rng.normal(0, 0.003, 60),
            "difference": 0.0,
        }
    )
    (tree,) = interactive.pathway_parts(paths, "P", "parts").figure.data
    area = pd.Series(tree.values, tree.ids)
    parts = area.groupby(list(tree.parents)).sum().drop("")
    assert (parts <= area[parts.index] + 1e-9).all()


def test_a_menu_chooses_what_colours_the_samples():
    obs = pd.DataFrame(
        {"cohort": ["a", "a", "b"], "label": [1.0, 0.0, np.nan]}, index=["s1", "s2", "s3"]
    )
    figure = interactive.sample_map(np.zeros((3, 2)), obs, "samples").figure
    assert [trace.name for trace in figure.data] == ["a", "b", "case", "control", "not known"]
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["cohort", "label"]
    assert buttons[1].args[0]["visible"] == [False, False, True, True, True]
    shown = json.loads(re.sub(r"\bnan\b", "null", json.dumps([t.visible for t in figure.data])))
    assert shown == [True, True, False, False, False]
