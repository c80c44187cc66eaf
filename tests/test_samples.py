import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from miracle_lib import MiracleError, Samples

NAMES = ["a", "b", "c", "d"]


@pytest.fixture
def parts():
    return {
        "values": pd.DataFrame({"cg1": [0.1, 0.2, 0.3, 0.4], "cg2": [0.5, None, 0.7, 0.8]}, NAMES),
        "labels": pd.DataFrame({"RA": [0, 1, None, None], "MS": [None, None, 0, 1]}, NAMES),
        "cohort": pd.Series(["X", "X", "Y", "Y"], NAMES),
        "subject": pd.Series([1, 1, 2, 3], NAMES),
        "covariates": pd.DataFrame(
            {"age": [40, 50, None, 70], "sex": ["F", "M", None, "F"]}, NAMES
        ),
    }


def test_tables_in_any_order_are_aligned_by_name(parts):
    straight = Samples(**parts)
    mixed = {name: table.iloc[[2, 0, 3, 1]] for name, table in parts.items() if name != "values"}
    aligned = Samples(parts["values"], **mixed)
    for name in parts:
        table = getattr(aligned, name)
        assert list(table.index) == NAMES
        assert table.equals(getattr(straight, name))
    assert list(aligned.subject) == ["1", "1", "2", "3"]


def test_entries_of_other_samples_are_left_out(parts):
    parts["values"] = parts["values"].loc[["d", "a"]]
    samples = Samples(**parts)
    assert list(samples.cohort) == ["Y", "X"]
    assert len(samples) == 2


@pytest.mark.parametrize("part", ["labels", "cohort", "subject", "covariates"])
def test_a_missing_sample_is_refused(parts, part):
    parts[part] = parts[part].drop("c")
    with pytest.raises(MiracleError, match=f"{part} has no entry for sample 'c'"):
        Samples(**parts)


@pytest.mark.parametrize("part", ["values", "labels", "cohort", "subject", "covariates"])
def test_a_sample_named_twice_is_refused(parts, part):
    parts[part] = pd.concat([parts[part], parts[part].loc[["b"]]])
    with pytest.raises(MiracleError, match=f"{part} has sample 'b' more than once"):
        Samples(**parts)


def test_arrays_are_taken_by_position(parts):
    samples = Samples(
        parts["values"].to_numpy(), [0, 1, 0, 1], cohort="X", subject=np.array([1, 1, 2, 2])
    )
    assert list(samples.names) == [0, 1, 2, 3]
    assert samples.labels["task"].tolist() == [0, 1, 0, 1]
    assert samples.cohort.tolist() == ["X"] * 4
    with pytest.raises(MiracleError, match=r"labels has shape \(3, 1\); expected 4 rows"):
        Samples(parts["values"], [0, 1, 0])
    with pytest.raises(MiracleError, match=r"subject has shape \(2,\); expected 4 entries"):
        Samples(parts["values"], [0, 1, 0, 1], subject=[1, 2])


def test_names_are_refused_where_the_values_have_none(parts):
    array = parts["values"].to_numpy()
    shuffled = pd.Series([0, 1, 0, 1], [2, 0, 3, 1])
    for index in ([2, 0, 3, 1], [7, 5, 4, 2], list("abcd")):
        with pytest.raises(MiracleError, match=f"labels calls its samples {index[0]}, .* no names"):
            Samples(array, shuffled.set_axis(index))
    assert Samples(array, shuffled.sort_index()).labels["task"].tolist() == [1, 1, 0, 0]
    part = Samples(array[:3], shuffled.sort_index())
    assert part.labels["task"].tolist() == [1, 1, 0]


def test_numbers_among_objects_are_numbers(parts):
    parts["covariates"] = pd.DataFrame({"age": [40, None, 61.5, pd.NA]}, NAMES, dtype=object)
    age = Samples(**parts).covariates["age"]
    assert age.dtype == float
    assert age.fillna(-1).tolist() == [40, -1, 61.5, -1]


@pytest.mark.parametrize("label", [2, -1, "case", np.inf, 0.5])
def test_a_label_other_than_0_1_and_nan_is_refused(parts, label):
    parts["labels"] = parts["labels"].astype(object)
    parts["labels"].loc["c", "RA"] = label
    with pytest.raises(MiracleError, match=f"'RA' has the label {label} for sample 'c'; expected"):
        Samples(**parts)


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "Float32", "object", "category"])
def test_labels_of_any_type_become_floats(parts, dtype):
    label = pd.Series([0, 1, pd.NA, 1], NAMES, name="RA", dtype="Int64").astype(dtype)
    found = Samples(parts["values"], label).labels
    assert found["RA"].tolist()[:2] == [0.0, 1.0]
    assert found["RA"].isna().tolist() == [False, False, True, False]
    assert found["RA"].dtype == float


@pytest.mark.parametrize("dtype", ["Float64", pd.SparseDtype(float)])
def test_nullable_and_sparse_values_become_floats(parts, dtype):
    found = Samples(parts["values"].astype(dtype)).values
    assert found.equals(parts["values"])
    assert set(found.dtypes) == {np.dtype(float)}


@pytest.mark.parametrize("dtype", [bool, str, "datetime64[ns]"])
def test_values_that_are_no_numbers_are_refused(parts, dtype):
    parts["values"] = parts["values"].fillna(0).astype({"cg2": dtype})
    with pytest.raises(MiracleError, match="Column 'cg2' of values holds .*, not numbers"):
        Samples(**parts)


def test_values_that_numpy_holds_are_not_copied(parts):
    array = np.zeros((4, 2), np.float32)
    assert np.shares_memory(Samples(array).values.to_numpy(), array)


@pytest.mark.parametrize("dtype", [float, "Float64"])
def test_an_infinite_covariate_is_refused(parts, dtype):
    parts["covariates"]["age"] = pd.Series([40, 50, np.inf, 70], NAMES, dtype=dtype)
    with pytest.raises(MiracleError, match="Covariate 'age' of sample 'c' is inf"):
        Samples(**parts)


def test_covariates_become_floats_or_text(parts):
    parts["covariates"]["smoking"] = pd.Categorical([0, 1, None, 1])
    parts["covariates"]["cell_B"] = pd.Series([1, 0, None, 1], NAMES, dtype="Int64")
    found = Samples(**parts).covariates
    assert found["smoking"].tolist()[:2] == ["0", "1"]
    assert found["sex"].tolist() == ["F", "M", None, "F"]
    assert found["cell_B"].dtype == float
    parts["covariates"]["drawn"] = pd.Timestamp("2020-01-01")
    with pytest.raises(MiracleError, match="Covariate 'drawn' holds datetime64"):
        Samples(**parts)


def test_a_missing_cohort_is_refused(parts):
    parts["cohort"]["c"] = None
    with pytest.raises(MiracleError, match="cohort of sample 'c' is missing"):
        Samples(**parts)


def test_take_and_task_keep_all_parts_together(parts):
    samples = Samples(**parts)
    some = samples.take([3, 0])
    assert [list(some.names), list(some.cohort)] == [["d", "a"], ["Y", "X"]]
    assert some.covariates["age"].tolist() == [70, 40]
    mask = pd.Series([True, False, True, False], ["d", "c", "b", "a"])
    assert list(samples.take(mask).names) == ["b", "d"]
    task = samples.task("MS")
    assert (task.tasks, list(task.names)) == (["MS"], ["c", "d"])
    with pytest.raises(MiracleError, match="no task 'SLE'; expected one of RA, MS"):
        samples.task("SLE")
    with pytest.raises(MiracleError, match="more than once"):
        samples.take([0, 0])
    with pytest.raises(MiracleError, match=r"rows has shape \(2,\)"):
        samples.take([True, False])


def test_parts_are_replaced_and_checked(parts):
    samples = Samples(**parts)
    other = samples.replace(labels=parts["labels"][["MS"]].iloc[::-1])
    assert other.tasks == ["MS"]
    assert other.cohort.equals(samples.cohort)
    with pytest.raises(MiracleError, match="label 3"):
        samples.replace(labels=parts["labels"].replace(1, 3))
    with pytest.raises(MiracleError, match="a task 'all', as tables of scores call the mean"):
        samples.replace(labels=parts["labels"].rename(columns={"MS": "all"}))


def test_anndata_holds_all_parts_and_gives_them_back(parts, tmp_path):
    import anndata

    parts["covariates"]["weight"] = [60.0, 70, 80, 90]
    samples = Samples(**parts)
    samples.to_anndata().write_h5ad(tmp_path / "samples.h5ad")
    adata = anndata.read_h5ad(tmp_path / "samples.h5ad")
    assert list(adata.obsm["tasks"]) == ["RA", "MS"]
    again = Samples.from_anndata(adata)
    for name in parts:
        assert getattr(again, name).equals(getattr(samples, name)), name


def test_a_cohort_as_loaded_is_read_too():
    import miracle_lib as ml

    cohort = ml.simulate_cohorts({"RA": 20}, n_sites=200).cohorts["RA"]
    samples = Samples.from_anndata(cohort)
    assert samples.tasks == ["RA"]
    assert samples.labels["RA"].tolist() == cohort.obs["label"].tolist()
    assert samples.subject.tolist() == cohort.obs["subject"].astype(str).tolist()
    assert {"age", "sex"} <= set(samples.covariates)
    with pytest.raises(MiracleError, match="no obs column 'height'"):
        Samples.from_anndata(cohort, covariates=["height"])


def test_a_table_without_covariates_has_no_column(parts):
    obs = pd.DataFrame({"cohort": "X"}, NAMES)
    adata = AnnData(parts["values"].to_numpy(), obs=obs)
    samples = Samples.from_anndata(adata)
    assert samples.covariates.shape == (4, 0)
    assert samples.tasks == []


def test_cell_fractions_estimated_after_a_cohort_was_read_are_covariates():
    obs = pd.DataFrame({"bmi": [20.0, 30.0], "label": [0, 1], "task": "RA"}, index=["a", "b"])
    adata = AnnData(np.zeros((2, 1)), obs, uns={"covariates": ["bmi"]})
    assert list(Samples.from_anndata(adata).covariates) == ["bmi"]
    adata.obs["cell_Gran"] = [0.5, 0.6]
    assert list(Samples.from_anndata(adata).covariates) == ["bmi", "cell_Gran"]
