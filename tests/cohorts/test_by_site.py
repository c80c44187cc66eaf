import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from miracle_lib.cohorts import by_site
from miracle_lib.cohorts.merge import enter_values, merge_cohorts, merge_tables
from miracle_lib.cohorts.simulation import simulate_cohorts


@pytest.fixture
def three(monkeypatch):
    """Cohorts that differ in their sites and in the order of these; a sample of two of them."""
    monkeypatch.setattr(by_site, "BLOCK", 64)
    monkeypatch.setattr("miracle_lib.cohorts.merge.BLOCK", 64)
    cohorts = simulate_cohorts({"A": 30, "B": 40, "C": 24}, n_sites=300).cohorts.values()
    first, second, third = (
        AnnData(adata.X, adata.obs[["cohort", "task", "label"]], adata.var) for adata in cohorts
    )
    second, third = second[:, :20:-1].copy(), third[:, 100:].copy()
    third.obs_names = [first.obs_names[5], *third.obs_names[1:]]
    third.X[0] = first[5, third.var_names].X
    return [first, second, third]


def written(cohorts, sites, path):
    Y, obs, columns = merge_tables(cohorts, sites)
    about = AnnData(obs=obs[["cohort"]], var=pd.DataFrame(index=columns), obsm={"tasks": Y})
    filled = 0
    with by_site.new_file(path, about) as values:
        for cohort in cohorts:
            filled = enter_values(values, cohort, obs.index, columns, filled)
    assert filled == len(obs)
    return anndata.read_h5ad(path, backed="r")


@pytest.mark.parametrize("sites", ["union", "intersection"])
def test_a_file_filled_cohort_by_cohort_is_the_merge_in_memory(three, tmp_path, sites):
    X, Y, obs = merge_cohorts(three, sites)
    file = written(three, sites, tmp_path / "samples.h5ad")
    pd.testing.assert_frame_equal(by_site.read_part(file).to_df(), X, check_names=False)
    assert len(obs) == 93
    whole = anndata.read_h5ad(tmp_path / "samples.h5ad")  # a plain file for anyone else
    np.testing.assert_array_equal(whole.X, X)
    pd.testing.assert_frame_equal(whole.obsm["tasks"], Y)
    with h5py.File(tmp_path / "samples.h5ad") as stored:
        assert stored["X"].chunks == (93, 64)


def test_blocks_and_parts_are_those_of_the_whole(three, tmp_path):
    file = written(three, "union", tmp_path / "samples.h5ad")
    X = by_site.read_part(file).to_df()
    parts = list(by_site.site_blocks(file))
    assert [part.start for part, _ in parts] == [0, 64, 128, 192, 256]
    np.testing.assert_array_equal(np.hstack([values for _, values in parts]), X)
    sites, samples = X.columns[[299, 3, 70]], X.index[[80, 2]]
    some = by_site.read_part(file, sites=[*sites, "cg unknown"], samples=samples)
    pd.testing.assert_frame_equal(some.to_df(), X.iloc[[2, 80], [3, 70, 299]])
    assert some.obsm["tasks"].index.tolist() == some.obs_names.tolist()
    assert by_site.read_part(file, sites=[]).shape == (93, 0)
