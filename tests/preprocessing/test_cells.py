"""Cell fractions: known mixtures come back, constraints hold, real blood looks like blood."""

import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from miracle_lib.cohorts import load_manifest
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing import estimate_cell_fractions, is_blood, read_cell_reference

CELLS = ["CD8T", "CD4T", "NK", "Bcell", "Mono", "Gran"]


@pytest.fixture(scope="module")
def reference():
    rng = np.random.default_rng(0)
    sites = [f"cg{number:08d}" for number in range(400)]
    return pd.DataFrame(rng.beta(0.5, 0.5, (400, 6)), index=sites, columns=CELLS)


def mixtures(reference, fractions, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    beta = np.asarray(fractions) @ reference.to_numpy().T
    beta = np.clip(beta + rng.normal(0, noise, beta.shape), 0, 1)
    return pd.DataFrame(beta, columns=reference.index).add_prefix("")


def test_known_mixtures_come_back(reference):
    truth = np.random.default_rng(1).dirichlet(np.ones(6), 20)
    exact = estimate_cell_fractions(mixtures(reference, truth), reference)
    np.testing.assert_allclose(exact, truth, atol=1e-6)
    noisy = estimate_cell_fractions(mixtures(reference, truth, noise=0.05), reference)
    assert np.abs(noisy.to_numpy() - truth).max() < 0.1
    assert exact.columns.tolist() == [f"cell_{cell}" for cell in CELLS]


def test_unknown_content_leaves_the_sum_below_one(reference):
    truth = 0.8 * np.random.default_rng(1).dirichlet(np.ones(6), 5)
    found = estimate_cell_fractions(mixtures(reference, truth), reference)
    np.testing.assert_allclose(found.sum(axis=1), 0.8, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_constraints_hold_and_no_better_point_exists(seed):
    rng = np.random.default_rng(seed)
    reference = pd.DataFrame(rng.random((30, 3)), columns=list("abc")).rename("cg{}".format)
    sample = pd.DataFrame(rng.random((1, 30)), columns=reference.index)
    found = estimate_cell_fractions(sample, reference, n_sites=30).to_numpy()[0]
    assert (found >= 0).all()
    assert found.sum() <= 1 + 1e-6

    def error(x):
        return ((reference.to_numpy() @ x - sample.to_numpy()[0]) ** 2).sum()

    best = minimize(
        error,
        np.full(3, 0.3),
        bounds=[(0, None)] * 3,
        constraints={"type": "ineq", "fun": lambda x: 1 - x.sum()},
        options={"ftol": 1e-12},
    )
    assert error(found) <= best.fun + 1e-5


def test_missing_values_and_absent_sites(reference, caplog):
    truth = np.random.default_rng(1).dirichlet(np.ones(6), 3)
    samples = mixtures(reference, truth)
    complete = estimate_cell_fractions(samples, reference)
    samples.iloc[0, ::3] = np.nan
    samples.iloc[1, :] = np.nan
    found = estimate_cell_fractions(samples.iloc[:, :380], reference)
    np.testing.assert_allclose(found.iloc[[0, 2]], complete.iloc[[0, 2]], atol=1e-6)
    assert found.iloc[1].isna().all()
    assert 0.8 < found.attrs["share_present"] < 1
    assert found.attrs["n_sites"] < complete.attrs["n_sites"]
    assert not caplog.records
    few = estimate_cell_fractions(samples.iloc[:, :100], reference)
    assert few.isna().all().all()
    assert 0 < few.attrs["share_present"] < 0.5
    assert re.search(r"have \d+ of the \d+ sites .* 50% are needed", caplog.text)


def test_takes_anndata(reference):
    samples = mixtures(reference, [np.full(6, 1 / 6)])
    adata = AnnData(samples.to_numpy(np.float32), var=pd.DataFrame(index=samples.columns))
    found = estimate_cell_fractions(adata, reference)
    np.testing.assert_allclose(found, 1 / 6, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpg,a,b\ncg1,0.1,2\n", "bad.csv: site 'cg1' has a value .* outside"),
        ("cpg,a,b\ncg1,0.1,\n", "bad.csv: site 'cg1' has a value that is missing"),
        ("cpg,a,b\ncg1,0.1,x\n", "bad.csv: cell type 'b' holds object"),
        ("cpg,a\ncg1,0.1\n", "1 sites and 1 cell types"),
        ("cpg,a,b\ncg1,0.1,0.2\ncg1,0.1,0.2\n", "site 'cg1' occurs more than once"),
        ("", "bad.csv cannot be read"),
    ],
)
def test_refuses_a_bad_reference(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(MiracleError, match=message):
        read_cell_reference(path)


def test_replicates_of_a_site_are_averaged_as_those_of_values_are(tmp_path):
    path = tmp_path / "reference.csv"
    path.write_text("cpg,a,b\ncg2_TC11,0.25,0\ncg1,0.5,1\ncg2_TC12,0.75,1\n")
    assert read_cell_reference(path).T.to_dict("list") == {"cg2": [0.5, 0.5], "cg1": [0.5, 1]}


def test_refuses_a_missing_or_damaged_file(tmp_path):
    with pytest.raises(MiracleError, match=r"none.csv cannot be read"):
        read_cell_reference(tmp_path / "none.csv")
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00cut")
    with pytest.raises(MiracleError, match=r"cut.csv.gz cannot be read"):
        read_cell_reference(tmp_path / "cut.csv.gz")


@pytest.mark.mirror
def test_real_blood_is_mostly_granulocytes(mirror):
    from miracle_lib.cohorts import load_cohort

    reference = read_cell_reference(mirror / "blood_reference_6celltypes.csv.gz")
    cohort = load_cohort("GSE42861", mirror=mirror, allow_subset=True)
    found = estimate_cell_fractions(cohort, reference)
    assert found.attrs["share_present"] == 1
    assert (found.sum(axis=1) > 0.85).all()
    assert (found.sum(axis=1) <= 1 + 1e-6).all()
    assert (found.idxmax(axis=1) == "cell_Gran").mean() > 0.95
    assert 0.45 < found["cell_Gran"].mean() < 0.75
    # granulocytes are raised in rheumatoid arthritis
    case = cohort.obs["label"] == 1
    assert found.loc[case, "cell_Gran"].mean() > found.loc[~case, "cell_Gran"].mean() + 0.03


def test_long_names_of_cell_types_become_those_of_deposited_fractions():
    reference = pd.DataFrame(
        {"neutrophil": [0.1, 0.9], "nk_cell": [0.8, 0.2], "eosinophil": [0.5, 0.6]}, ["cg1", "cg2"]
    )
    found = estimate_cell_fractions(pd.DataFrame([[0.1, 0.9]], columns=["cg1", "cg2"]), reference)
    assert list(found) == ["cell_Gran", "cell_NK", "cell_eosinophil"]


@pytest.mark.parametrize("name", ["GSE42861", "GSE106648", "GSE87648", "GSE142512", "GSE111942"])
def test_cohorts_of_blood(name):
    assert is_blood(load_manifest(name).tissue)


@pytest.mark.parametrize(
    "tissue",
    [
        "skin", "breast", "monocytes", "B cells", "sorted blood cells", "CD14+ Monocytes",
        "CD4+ T-cells", "regulatory T-cells", "intestinal mucosa",
    ],
)  # fmt: skip
def test_cohorts_of_other_tissue_or_one_kind_of_cells(tissue):
    assert not is_blood(tissue)
