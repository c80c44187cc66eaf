"""Values that stay on disk: the same model; stores that change, a disk that is full."""

import errno
import os
import pickle
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest

from miracle_lib import (
    Hierarchy,
    MiracleClassifier,
    MiracleError,
    Samples,
    Training,
    cross_validate,
    explain,
    merge_cohorts,
    read_store,
    simulate_cohorts,
)
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.preprocessing.streaming import Moments, learn_cohorts, standardized
from miracle_lib.stored import StoredValues, scratch_array

QUICK = Training(epochs=(2, 3, 1), progress=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Samples not in the order of their names, the same as two stores, and a model of them."""
    folder = tmp_path_factory.mktemp("stores")
    simulation = simulate_cohorts({"RA": 40, "SLE": 50}, n_sites=300, missing=0.02, effect=1.0)
    X, Y, obs = merge_cohorts(list(simulation.cohorts.values()))
    mixed = np.random.default_rng(0).permutation(len(X))
    samples = Samples(X, Y, cohort=obs["cohort"], subject=obs["subject"]).take(mixed)
    adata = samples.to_anndata()
    adata.write_h5ad(folder / "all.h5ad")
    with warnings.catch_warnings():  # zarr announces its next format
        warnings.simplefilter("ignore")
        adata.write_zarr(folder / "all.zarr", chunks=(16, 100))
    mask = Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    model = MiracleClassifier(mask, training=QUICK).fit(samples)
    return folder, samples, mask, model


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr("miracle_lib.stored.PART", 7 * 300)  # seven samples at a time


@pytest.mark.parametrize("name", ["all.h5ad", "all.zarr"])
def test_model_and_answers_are_those_of_values_in_memory(study, name):
    folder, samples, mask, model = study
    store = read_store(folder / name)
    assert isinstance(Samples.from_anndata(store).values, StoredValues)
    other = MiracleClassifier(mask, training=QUICK).fit(store)
    for part, weight in model.members_[0].state_dict().items():
        np.testing.assert_allclose(
            other.members_[0].state_dict()[part], weight, atol=2e-5, err_msg=part
        )
    pd.testing.assert_frame_equal(
        other.predict_proba(store), model.predict_proba(samples), atol=1e-5
    )
    activities = other.transform(store).obsm["pathways"]
    pd.testing.assert_frame_equal(activities, model.transform(samples), atol=1e-4)
    assert other.score(store) == pytest.approx(model.score(samples))
    one, same = (
        explain(m, X, "RA", n_permutations=50) for m, X in ((model, samples), (other, store))
    )
    pd.testing.assert_frame_equal(one, same.loc[one.index], atol=1e-3)


def test_sites_a_store_lacks_are_missing(study):
    folder, samples, _, model = study
    store = read_store(folder / "all.h5ad")
    few = Samples.from_anndata(store).values.reindex(samples.sites[:250])
    pd.testing.assert_frame_equal(
        model.predict_proba(few), model.predict_proba(samples.values.iloc[:, :250]), atol=1e-5
    )


def test_cross_validation_has_the_scores_of_values_in_memory(study):
    folder, samples, mask, _ = study
    model = MiracleClassifier(mask, training=Training(epochs=(0, 3, 0), progress=False))
    stored = Samples.from_anndata(read_store(folder / "all.h5ad"))
    found, expected = (
        cross_validate(model, each, n_splits=2).attrs["predictions"] for each in (stored, samples)
    )
    assert found["sample"].tolist() == expected["sample"].tolist()
    given = MiracleClassifier(mask, training=Training(epochs=(0, 1, 0), progress=False))
    given.fit(stored.values, stored.labels, cohort=stored.cohort)
    assert given.feature_names_in_.tolist() == samples.sites.tolist()
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-3)


@pytest.mark.parametrize("name", ["all.h5ad", "all.zarr"])
def test_another_process_opens_the_store_for_itself(study, name):
    values = Samples.from_anndata(read_store(study[0] / name)).values.iloc[[3, 1]]
    sent = pickle.loads(pickle.dumps(values))
    pd.testing.assert_frame_equal(sent.load(), values.load())


def test_rows_are_chosen_without_reading_and_come_in_the_order_asked_for(study):
    folder, samples, _, _ = study
    values = Samples.from_anndata(read_store(folder / "all.zarr")).values
    rows = [30, 2, 77, 3, 41]
    pd.testing.assert_frame_equal(
        values.iloc[rows].load(), samples.values.iloc[rows].astype("float32"), check_names=False
    )
    places, part = next(values.iloc[rows].parts(2))
    assert places.tolist() == [1, 3]
    assert list(part.index) == list(values.index[[2, 3]])


@pytest.mark.parametrize("scale", ["m", "beta"])
def test_one_pass_over_a_store_learns_what_the_standardizer_learns(study, scale):
    _, samples, _, _ = study
    cohort = samples.cohort.to_numpy()
    values = samples.values.copy()
    values.iloc[:, 0] = np.nan
    values.iloc[1:, 1] = np.nan  # one value only
    stored = StoredValues(values.to_numpy(), values.index, values.columns)
    here = CohortStandardizer(scale).fit(values, cohort=cohort)
    there = learn_cohorts(stored, cohort, scale)
    pd.testing.assert_frame_equal(here.mean_, there.mean_, rtol=1e-5)
    pd.testing.assert_frame_equal(here.sd_, there.sd_, rtol=1e-5)
    assert there.mean_.iloc[:, 0].isna().all()


def test_a_store_without_a_site_of_the_standardizer_is_refused(study):
    _, samples, _, _ = study
    fitted = CohortStandardizer().fit(samples, cohort="A")
    few = samples.values.iloc[:, ::-1].drop(columns=samples.sites[7])
    stored = StoredValues(few.to_numpy(), few.index, few.columns)
    with pytest.raises(MiracleError, match=f"X lacks 1 of the 300 .*first: {samples.sites[7]}"):
        standardized(fitted, stored, np.full(len(few), "A"))


def test_moments_of_large_values_do_not_cancel():
    found = Moments(1)
    for part in ([[1e6]], [[1e6 + 1]], [[np.nan]], [[1e6 + 2]]):
        found.add(slice(0, 1), np.array(part))
    assert found.mean.tolist() == [1e6 + 1]
    assert found.variance.tolist() == [1.0]


def test_values_outside_zero_to_one_are_named(study):
    _, samples, mask, _ = study
    values = samples.values.copy()
    values.iloc[60, 7] = 1.5
    stored = samples.replace(values=StoredValues(values.to_numpy(), values.index, values.columns))
    message = f"Sample '{values.index[60]}' has 1.5 at site '{values.columns[7]}'"
    with pytest.raises(MiracleError, match=message):
        MiracleClassifier(mask, training=QUICK).fit(stored)


def test_what_needs_the_values_in_memory_says_so(study):
    store = read_store(study[0] / "all.h5ad")
    with pytest.raises(MiracleError, match=r"90 samples x 300 sites stay on disk.*load\(\)"):
        CohortStandardizer().fit(Samples.from_anndata(store))


def test_a_store_that_loses_chunks_while_it_is_read_is_refused(study, tmp_path):
    path = shutil.copytree(study[0] / "all.zarr", tmp_path / "all.zarr")
    store, mask = read_store(path), study[2]
    chunk = next(file for file in sorted((path / "X").rglob("5*")) if file.is_file())
    chunk.unlink()  # zarr itself would read zeros
    with pytest.raises(
        MiracleError, match=r"all.zarr.*1 of its 18 .*chunks are gone.*Was it changed"
    ):
        MiracleClassifier(mask, training=QUICK).fit(store)


def test_a_file_that_is_cut_while_it_is_read_is_refused(study, tmp_path):
    path = shutil.copy(study[0] / "all.h5ad", tmp_path / "all.h5ad")
    store, mask = read_store(path), study[2]
    os.truncate(path, 4096)
    with pytest.raises(
        MiracleError, match=r"all.h5ad cannot be read any more: [\d,]+ of its [\d,]+ bytes"
    ):
        MiracleClassifier(mask, training=QUICK).fit(store)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(study, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("miracle_lib.stored._reserve", full)
    folder, samples, mask, model = study
    again = MiracleClassifier(mask, training=QUICK).fit(samples)
    with pytest.raises(MiracleError, match=r"no room for the standardised values .*No space left"):
        again.fit(read_store(folder / "all.h5ad"))
    assert not list(tmp_path.iterdir())
    pd.testing.assert_frame_equal(again.predict_proba(samples), model.predict_proba(samples))


def test_a_system_that_cannot_reserve_a_file_fills_it(monkeypatch):
    monkeypatch.delattr("os.posix_fallocate", raising=False)
    monkeypatch.setattr("miracle_lib.stored.PART", 50)
    array = scratch_array((9, 3), "a test", np.float64)
    assert array.shape == (9, 3)
    assert not array.any()
    array[8, 2] = 1.0
    assert array.sum() == 1.0


def test_a_path_that_is_no_store_is_one_sentence(tmp_path):
    with pytest.raises(MiracleError, match="absent.h5ad is absent"):
        read_store(tmp_path / "absent.h5ad")
    (tmp_path / "text.h5ad").write_text("no HDF5")
    (tmp_path / "empty.zarr").mkdir()
    for name in ("text.h5ad", "empty.zarr"):
        with pytest.raises(MiracleError, match=f"{name} is no store of an AnnData"):
            read_store(tmp_path / name)
