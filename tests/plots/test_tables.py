import numpy as np
import pandas as pd
import pytest

from miracle_lib.plots.tables import as_table, p_text, parameter_box


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.500"), (0.00099, "1e-03"), (3e-12, "3e-12"), (0.0, "0e+00")]
)
def test_no_p_value_is_rounded_to_nothing(value, text):
    assert p_text(value) == text


def test_each_kind_of_cell_is_written_as_it_is_read():
    frame = pd.DataFrame(
        {
            "p_value": [1e-5, 0.2],
            "n_genes": [12345, 3],
            "n_cases": [1200.0, np.nan],
            "difference": [-0.0004, 0.25],
            "failed": [True, False],
            "note": ["all", None],
            "share": [np.nan, -0.0],
        },
        index=pd.Index(["a", "b"], name="gene_set"),
    )
    cells = as_table(frame).cells
    assert list(cells.columns) == [
        "p value",
        "n genes",
        "n cases",
        "difference",
        "failed",
        "note",
        "share",
    ]
    assert cells.loc["a"].tolist() == ["1e-05", "12,345", "1,200", "-0.0004", "yes", "all", "–"]
    assert cells.loc["b"].tolist() == ["0.200", "3", "–", "0.25", "no", "–", "0.00"]
    assert cells.columns.name == "gene set"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9.31e-5, "0.000093"),
        (-4e-4, "-0.0004"),
        (0.0005, "0.001"),
        (2.5e-9, "2.5e-09"),
        (0.0, "0.000"),
    ],
)
def test_a_small_spread_keeps_two_digits(value, text):
    cell = as_table(pd.DataFrame({"sd": [value, 0.25]}), 3).cells.loc[0, "sd"]
    assert cell == text


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1929.0, 0.7491, 86.0], ["1,929", "0.75", "86"]),
        ([2.0, 3.5], ["2.00", "3.50"]),
        ([1.0, 0.5], ["1.00", "0.50"]),
        ([12.0, np.nan, 0.25], ["12", "–", "0.25"]),
    ],
)
def test_counts_beside_shares_have_no_decimals(values, texts):
    assert as_table(pd.DataFrame({"value": values})).cells["value"].tolist() == texts


def test_a_running_index_is_left_out_and_a_named_one_kept():
    frame = pd.DataFrame({"x": [1.0]})
    assert "<th>0</th>" not in as_table(frame)._repr_html_()
    assert "<th>RA</th>" in as_table(frame.set_axis(["RA"]))._repr_html_()


def test_numbers_are_marked_so_that_they_align():
    html = as_table(pd.DataFrame({"z": [-1.5], "p_value": [1e-9], "task": ["RA"]}))._repr_html_()
    assert html.count('class="number"') == 2
    assert "<td>RA</td>" in html


def test_long_cells_wrap_and_markup_in_names_is_shown_not_run():
    html = as_table(pd.DataFrame({"advice": ["<b>" + "word " * 20]}))._repr_html_()
    assert '<td class="text">' in html
    assert "<b>" not in html


def test_columns_of_two_levels_keep_both():
    frame = pd.concat({"alone": pd.DataFrame({"p_value": [0.04]}, ["RA"])}, axis=1)
    assert as_table(frame).cells.columns.tolist() == [("alone", "p value")]


def test_parameters_are_escaped():
    assert "&lt;x&gt;" in parameter_box({"profile": "<x>"})
