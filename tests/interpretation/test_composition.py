"""What adjustment for cells takes away is said pathway by pathway."""

import numpy as np
import pandas as pd

from miracle_lib.interpretation import beside_composition, explain, without_composition
from miracle_lib.samples import Samples


def test_cell_fractions_are_left_out_and_other_covariates_stay():
    values = pd.DataFrame({"cg1": [0.1, 0.9]}, index=["a", "b"])
    cells = pd.DataFrame({"cell_Gran": [0.5, 0.6]}, index=values.index)
    assert without_composition(Samples(values, covariates=cells)).covariates is None
    assert without_composition(Samples(values)) is None
    assert without_composition(Samples(values, covariates=cells.add_prefix("my_"))) is None
    both = without_composition(Samples(values, covariates=cells.assign(age=[40, 50])))
    assert both.covariates.columns.tolist() == ["age"]


def test_a_pathway_that_follows_the_cells_is_named_without_them_only(study):
    model, label = study.model, study.Y["RA"].dropna()
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({"cell_Gran": label + rng.normal(0, 0.1, len(label))})
    samples = Samples(study.X.loc[label.index], label.to_frame(), covariates=cells)
    adjusted = explain(model, samples, "RA", n_permutations=100)
    crude = explain(model, without_composition(samples), "RA", n_permutations=100)
    table = beside_composition(adjusted, crude)
    assert len(table) >= 1
    assert set(table["named"]) == {"unadjusted only"}
    assert (table["z"] < table["z_unadjusted"]).all()
    assert table["rank_unadjusted"].is_monotonic_increasing


def test_where_nothing_is_named_the_first_five_of_either_are_shown():
    names = [f"P{i}" for i in range(9)]
    first = pd.DataFrame({"z": 1.0, "rank": range(1, 10), "q_value": 0.9}, names)
    last = first.assign(rank=range(9, 0, -1))
    table = beside_composition(first, last)
    assert set(table["named"]) == {"neither"}
    assert sorted(table.index) == names
    assert len(beside_composition(first, first)) == 5
