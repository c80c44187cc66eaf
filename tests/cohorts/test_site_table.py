import numpy as np
import pandas as pd
import pytest

from miracle_lib.cohorts import SiteTable
from miracle_lib.cohorts.site_table import (
    average_replicates,
    check_names,
    close_up,
    drop_empty,
    stack,
    to_beta,
)
from miracle_lib.errors import MiracleError

NAN = np.nan


def table(values, sites=None, samples=None):
    values = np.array(values, dtype=np.float32)
    sites = sites or [f"cg{i}" for i in range(values.shape[1])]
    samples = samples or [f"s{i}" for i in range(values.shape[0])]
    return SiteTable(values, pd.Index(samples), pd.Index(sites))


@pytest.mark.parametrize("keep", [slice(2), np.array([0, 2, 3]), np.array([3]), slice(4)])
def test_close_up_equals_indexing(keep):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = values[:, keep].copy()
    np.testing.assert_array_equal(close_up(values, keep), expected)
    view = np.arange(12, dtype=np.float32).reshape(3, 4)[:, :]
    np.testing.assert_array_equal(close_up(view, keep), expected)


def test_epicv2_replicates_are_averaged_without_missing_values():
    result = average_replicates(
        table(
            [[0.1, 0.2, 0.4, 0.9, NAN], [0.3, NAN, 0.5, 0.8, NAN]],
            ["cg1_TC21", "cg2_BC11", "cg1_TC22", "cg3", "cg2_BO12"],
        )
    )
    assert list(result.sites) == ["cg1", "cg2", "cg3"]
    np.testing.assert_allclose(result.values, [[0.25, 0.2, 0.9], [0.4, NAN, 0.8]], rtol=1e-6)


def test_450k_names_stay_as_they_are():
    names = ["cg00000029", "ch.1.109690R", "rs1019916"]
    assert list(average_replicates(table([[0.1, 0.2, 0.3]], names)).sites) == names


def test_m_values_are_recognised_and_converted_only_on_request():
    rng = np.random.default_rng(0)
    beta = rng.uniform(0.05, 0.95, (5, 40))
    m_values = table(np.log2(beta / (1 - beta)))
    with pytest.raises(MiracleError, match=r"^f.txt: values from -.* are M-values.*'scale: m'"):
        to_beta(m_values, "beta", "f.txt")
    to_beta(m_values, "m", "f.txt")
    np.testing.assert_allclose(m_values.values, beta, rtol=1e-5)


def test_the_scale_is_detected_where_it_is_not_known():
    m_values, values = table([[-1.0, 1.0], [0.0, NAN]]), table([[0.2, 0.5], [0.9, NAN]])
    to_beta(m_values, "detect", "f.txt")
    to_beta(values, "detect", "f.txt")
    np.testing.assert_allclose(m_values.values, [[1 / 3, 2 / 3], [0.5, NAN]], rtol=1e-6)
    np.testing.assert_array_equal(values.values, np.float32([[0.2, 0.5], [0.9, NAN]]))


def test_extreme_m_values_and_missing_ones():
    extreme = table([[-200.0, 200.0, NAN, 0.0]])
    to_beta(extreme, "m", "f.txt")
    np.testing.assert_array_equal(extreme.values, np.float32([[0, 1, NAN, 0.5]]))


def test_beta_values_called_m_values_are_refused():
    with pytest.raises(MiracleError, match=r"f.txt: the manifest says M-values .* 0.1 to 0.2"):
        to_beta(table([[0.1, 0.2]]), "m", "f.txt")


def test_single_values_outside_the_range_are_named():
    values = np.full((3, 50), 0.5)
    values[1, 7] = 1.25
    with pytest.raises(MiracleError, match=r"f.txt: 1.25 at site 'cg7' of sample 's1' .*; 1 such"):
        to_beta(table(values), "beta", "f.txt")


def test_percentages_are_not_taken_for_m_values():
    with pytest.raises(MiracleError, match=r"f.txt: 40 at site 'cg0' .* \(0 to 1\); 2 such values"):
        to_beta(table([[40.0, 99.5]]), "beta", "f.txt")


@pytest.mark.parametrize(
    ("sites", "samples", "message"),
    [
        (["cg1", "cg1"], ["a", "b"], "f.txt: site 'cg1' occurs more than once"),
        (["cg1", "cg2"], ["a", "a"], "f.txt: sample 'a' occurs more than once"),
        (["cg1", ""], ["a", "b"], r"f.txt: site 2 has no name \(1 such sites\)"),
        (["cg1", "cg2"], ["", ""], r"f.txt: sample 1 has no name \(2 such samples\)"),
    ],
)
def test_names_that_tell_nothing_apart_are_refused(sites, samples, message):
    with pytest.raises(MiracleError, match=message):
        check_names(table([[0.1, 0.2], [0.3, 0.4]], sites, samples), "f.txt")


def test_samples_and_sites_without_values(caplog):
    with pytest.raises(MiracleError, match="f.txt: sample 's1' has no value at all"):
        drop_empty(table([[0.1, 0.2], [NAN, NAN]]), "f.txt")
    kept = drop_empty(table([[0.1, NAN, 0.3], [0.2, NAN, NAN]]), "f.txt")
    assert "f.txt: 1 sites without any value left out" in caplog.text
    assert list(kept.sites) == ["cg0", "cg2"]
    np.testing.assert_array_equal(kept.values, np.float32([[0.1, 0.3], [0.2, NAN]]))


def test_files_of_several_platforms_meet_at_the_shared_sites():
    first = table([[0.1, 0.2, 0.3]], ["cg1", "cg2", "cg3"], ["a"])
    second = table([[0.9, 0.8]], ["cg3", "cg1"], ["b"])
    result = stack([first, second], "GSE1")
    assert list(result.sites) == ["cg1", "cg3"]
    assert list(result.samples) == ["a", "b"]
    np.testing.assert_array_equal(result.values, np.float32([[0.1, 0.3], [0.8, 0.9]]))
    with pytest.raises(MiracleError, match="GSE1: its 2 files share no site"):
        stack([first, table([[0.9]], ["cg7"], ["b"])], "GSE1")
