"""The six series of the paper in the layouts they have in GEO, with simulated values.

A tool that stands beside the folder of real files writes them; without it, nothing is tested here.
"""

import subprocess
import sys

import numpy as np
import pytest

import miracle_lib as ml
from miracle_lib.cohorts import covariate_names

pytestmark = pytest.mark.mirror


@pytest.fixture(scope="module")
def rehearsal(mirror, tmp_path_factory):
    tool = mirror.parents[1] / "tools" / "geo_rehearsal.py"
    if not tool.is_file():
        pytest.skip("no tool that writes the series")
    folder = tmp_path_factory.mktemp("rehearsal")
    command = [sys.executable, str(tool), str(mirror), str(folder), "--sites", "600"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("name", "cases", "controls", "covariates"),
    [
        ("GSE42861", 354, 335, ["age", "sex", "smoking"]),
        ("GSE59250", 228, 206, []),
        ("GSE106648", 140, 139, ["age", "sex", "ever_smoked"]),
        ("GSE87648", 204, 100, ["age", "sex", "smoking"]),
        ("GSE73894", 155, 64, ["sex"]),
    ],
)
def test_series_of_the_paper(rehearsal, name, cases, controls, covariates):
    adata = ml.load_cohort(name, rehearsal)
    assert (adata.obs["label"] == 1).sum() == cases
    assert (adata.obs["label"] == 0).sum() == controls
    assert covariate_names(adata.obs) == covariates
    assert 500 < adata.n_vars <= 665
    assert np.nanmin(adata.X) >= 0
    assert np.nanmax(adata.X) <= 1
    assert adata.uns["provenance"]["complete"] == "True"


def test_both_platforms_of_the_sixth_series(rehearsal):
    adata = ml.load_cohort("GSE142512", rehearsal)
    assert adata.obs["platform"].value_counts().to_dict() == {"450K": 184, "EPIC": 211}
    assert adata.obs["subject"].nunique() == 174
    assert covariate_names(adata.obs) == ["age", "sex"]
    assert np.nanmax(adata.X) <= 1


def test_batches(rehearsal):
    adata = ml.load_cohort("GSE106648", rehearsal)
    assert adata.obs["position"].unique().tolist() == ["R01C01"]
    assert adata.obs["slide"].nunique() == 279
    assert ml.load_cohort("GSE87648", rehearsal).obs["scan_date"].unique() == ["2012-05-01"]
