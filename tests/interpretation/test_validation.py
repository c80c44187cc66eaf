import numpy as np
import pandas as pd
import pytest

from miracle_lib import MiracleError
from miracle_lib.interpretation import library_agreement


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    genes = list(rng.permutation([f"G{i:03d}" for i in range(300)]))
    table = pd.DataFrame({"site": [f"c{i}" for i in range(1500)], "gene": genes * 5})
    mask = {f"P{i}": genes[i * 10 : i * 10 + 10] for i in range(30)}
    other = {f"O{i}": genes[i * 10 + 2 : i * 10 + 12] for i in range(29)}
    hit = [g for i in range(5) for g in mask[f"P{i}"]]
    sites = table.loc[table["gene"].isin(hit), "site"].sample(60, random_state=0)
    z = pd.Series(rng.normal(size=30), index=list(mask))
    z[[f"P{i}" for i in range(5)]] += 6
    return table, mask, other, sites, pd.DataFrame({"z": z}), rng


def test_agreement_is_seen_in_another_library_and_circularity_is_labelled(world):
    table, mask, other, sites, explanation, rng = world
    permuted = [pd.DataFrame({"z": rng.permutation(explanation["z"])}, list(mask))]
    found = library_agreement(
        explanation, mask, sites, table["site"], table, {"other": other, "mask": mask},
        permuted=permuted,
    )  # fmt: skip
    assert found["circular"].to_dict() == {"other": False, "mask": True}
    assert found.loc["other", "agreement"] > 0.4
    assert found.loc["other", "p_value"] < 0.01
    assert found.loc["other", "permuted_max"] < found.loc["other", "agreement"]
    assert found.loc["other", "n_enriched"] >= 4


def test_a_control_that_lacks_pathways_is_compared_on_those_it_has(world):
    table, mask, other, sites, explanation, _ = world
    arguments = (explanation, mask, sites, table["site"], table, {"other": other})
    found = library_agreement(*arguments, permuted=[explanation.drop(["P0", "P7"])])
    assert found.loc["other", "permuted_max"] == pytest.approx(
        found.loc["other", "agreement"], abs=0.15
    )


def test_evidence_that_is_noise_does_not_agree(world):
    table, mask, other, sites, _, rng = world
    p = []
    for _ in range(20):
        noise = pd.DataFrame({"z": rng.normal(size=30)}, list(mask))
        found = library_agreement(
            noise, mask, sites, table["site"], table, {"other": other}, n_shuffles=99
        )
        p.append(found.loc["other", "p_value"])
    assert 0.25 < np.mean(p) < 0.75
    assert np.mean(np.array(p) <= 0.05) <= 0.2


def test_refused_input(world):
    table, mask, other, sites, explanation, _ = world
    with pytest.raises(MiracleError, match="No pathway of the explanation"):
        library_agreement(explanation, other, sites, table["site"], table, {"other": other})
    silent = explanation.assign(z=np.nan)
    with pytest.raises(
        MiracleError, match=r"lacks evidence \(z\); explain the task with its labels"
    ):
        library_agreement(silent, mask, sites, table["site"], table, {"other": other})
