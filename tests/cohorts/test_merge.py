"""Merging keeps every value where it belongs and marks what is not labelled."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from miracle_lib.cohorts.merge import merge_cohorts
from miracle_lib.cohorts.simulation import simulate_cohorts
from miracle_lib.errors import MiracleError


def cohort(name, sites, labels=(0, 1, 1), task=None, **columns):
    n = len(labels)
    obs = pd.DataFrame(
        {"cohort": name, "task": task or name, "label": labels, **columns},
        index=[f"{name}-{i}" for i in range(n)],
    )
    # each value tells its sample and site
    values = np.array([[int(s[2:]) / 100 + i / 1000 for s in sites] for i in range(n)], np.float32)
    return AnnData(values.reshape(n, len(sites)), obs=obs, var=pd.DataFrame(index=list(sites)))


@pytest.fixture
def pair():
    return [
        cohort("RA", ["cg1", "cg2", "cg3"]),
        cohort("MS", ["cg4", "cg3", "cg1"], labels=(0.0, 1.0, np.nan), age=[30.0, 40, 50]),
    ]


def test_intersection(pair):
    X, Y, obs = merge_cohorts(pair)
    assert X.columns.tolist() == ["cg1", "cg3"]
    assert X.dtypes.unique().tolist() == [np.dtype(np.float32)]
    assert X.index.tolist() == Y.index.tolist() == obs.index.tolist()
    expected = [[0.010, 0.030], [0.011, 0.031], [0.012, 0.032]] * 2
    np.testing.assert_allclose(X, expected, atol=1e-6)
    nan = np.nan
    np.testing.assert_array_equal(
        Y[["RA", "MS"]], [[0, nan], [1, nan], [1, nan], [nan, 0], [nan, 1], [nan, nan]]
    )
    assert obs["cohort"].tolist() == ["RA"] * 3 + ["MS"] * 3
    assert obs["age"].isna().tolist() == [True] * 3 + [False] * 3


def test_union_leaves_absent_sites_missing(pair):
    X, _, _ = merge_cohorts(pair, sites="union")
    assert sorted(X.columns) == ["cg1", "cg2", "cg3", "cg4"]
    assert X.loc[X.index.str.startswith("RA"), "cg4"].isna().all()
    assert X.loc[X.index.str.startswith("MS"), "cg2"].isna().all()
    assert X.loc["MS-1", "cg4"] == pytest.approx(0.041)
    assert X.isna().to_numpy().sum() == 6


def test_keeps_every_simulated_value():
    cohorts = simulate_cohorts({"A": 20, "B": 30}, n_sites=200).cohorts
    X, Y, _ = merge_cohorts(list(cohorts.values()))
    for task, data in cohorts.items():
        assert np.array_equal(X.loc[data.obs_names], data.X, equal_nan=True)
        assert Y.loc[data.obs_names, task].equals(data.obs["label"].rename(task))
    assert Y.notna().sum(axis=1).eq(1).all()


def test_two_cohorts_of_one_task_share_a_column():
    parts = [
        cohort("first", ["cg1"], labels=(0, 1), task="RA"),
        cohort("second", ["cg1"], labels=(1, 0), task="RA"),
    ]
    _, Y, _ = merge_cohorts(parts)
    assert Y["RA"].tolist() == [0, 1, 1, 0]


def sharing(**columns):
    """Two diseases with the control "C"; the second file has fewer digits, other sites, a gap."""
    first = cohort("RA", ["cg1", "cg2"], labels=(1, 0), subject=["RA-0", "C"])
    second = cohort("MS", ["cg3", "cg2", "cg1"], labels=(0, 1), subject=["P7", "MS-1"], **columns)
    first.obs_names, second.obs_names = ["RA-0", "C"], ["C", "MS-1"]
    first.X[1], second.X[0] = [0.25, np.nan], [0.75, 0.5, 0.2504]
    return first, second


def test_a_control_of_two_diseases_is_one_sample_with_two_labels():
    X, Y, obs = merge_cohorts(sharing(age=[40.0, 50.0]), sites="union")
    assert obs.index.tolist() == ["RA-0", "C", "MS-1"]
    np.testing.assert_array_equal(Y, [[1, np.nan], [0, 0], [np.nan, 1]])
    np.testing.assert_array_equal(X.loc["C", ["cg1", "cg2", "cg3"]], np.float32([0.25, 0.5, 0.75]))
    np.testing.assert_allclose(X.loc["MS-1", ["cg1", "cg2", "cg3"]], [0.011, 0.021, 0.031])
    np.testing.assert_array_equal(obs["age"], [np.nan, 40, 50])
    assert obs["subject"].tolist() == ["RA-0", "P7", "MS-1"]
    assert obs["cohort"].tolist() == ["MS+RA"] * 3
    X, _, _ = merge_cohorts(sharing())
    np.testing.assert_array_equal(X.loc["C"], np.float32([0.25, 0.5]))


def test_two_samples_of_one_name_are_refused():
    first, second = sharing(age=[40.0, 50.0])
    second.X[0, 2] = 0.26
    with pytest.raises(MiracleError, match=r"'C' .*again in MS.*: 0.25 and 0.26 at site 'cg1'"):
        merge_cohorts([first, second])
    first, second = sharing(age=[40.0, 50.0])
    first.obs["age"] = [30.0, 41.0]
    with pytest.raises(MiracleError, match="'C' is in RA and MS with different values of age: 41"):
        merge_cohorts([first, second])


def test_unlabelled_cohort_is_kept_for_pretraining():
    _, Y, obs = merge_cohorts(
        [cohort("RA", ["cg1"]), cohort("other", ["cg1"], labels=(np.nan, np.nan))]
    )
    assert Y.columns.tolist() == ["RA"]
    assert len(obs) == 5


@pytest.mark.filterwarnings("error")
def test_sample_columns_keep_their_type_where_a_cohort_knows_nothing(pair):
    pair[0].obs["sex"] = pd.Categorical(["F", "M", "F"])
    pair[1].obs["sex"] = pd.Categorical([np.nan] * 3, ["F", "M"])
    pair[0].obs["age"] = np.nan
    pair[0].obs["smoking"] = pair[1].obs["smoking"] = np.nan
    _, _, obs = merge_cohorts(pair)
    assert obs["age"].dtype == float
    assert obs["sex"].tolist()[:3] == ["F", "M", "F"]
    assert obs["sex"].dtype == object
    assert obs["smoking"].isna().all()
    assert obs.columns.tolist() == ["cohort", "task", "label", "sex", "age", "smoking"]


def test_a_subject_of_two_cohorts_is_one_person_which_is_said(caplog):
    first = cohort("RA", ["cg1"], subject=["1", "2", "2"])
    _, _, obs = merge_cohorts([first, cohort("MS", ["cg1"], subject=["2", "MS3", "MS4"])])
    assert obs["subject"].tolist() == ["1", "2", "2", "2", "MS3", "MS4"]
    assert caplog.messages == [
        "1 subjects are in several cohorts ('2' in RA and MS): they are taken for the same people"
    ]
    caplog.clear()
    merge_cohorts([first, cohort("MS", ["cg1"], subject=["MS2", "MS3", "MS4"])])
    assert not caplog.messages


def test_order_of_sites_does_not_matter(pair):
    flipped = [pair[0][:, ::-1], pair[1][:, ::-1]]
    X, _, _ = merge_cohorts(pair)
    Z, _, _ = merge_cohorts(flipped)
    pd.testing.assert_frame_equal(X, Z[X.columns])


@settings(max_examples=40, deadline=None)
@given(
    lists=st.lists(
        st.lists(st.integers(0, 9), min_size=1, max_size=8, unique=True), min_size=1, max_size=4
    ),
    sites=st.sampled_from(["intersection", "union"]),
)
def test_every_value_is_where_it_belongs(lists, sites):
    parts = [cohort(f"c{i}", [f"cg{s}" for s in own]) for i, own in enumerate(lists)]
    shared = set(lists[0]).intersection(*lists) if sites == "intersection" else set().union(*lists)
    running = set(lists[0])
    for own in lists[1:]:
        if not running & set(own):
            with pytest.raises(MiracleError, match="shares no site"):
                merge_cohorts(parts, sites)
            return
        running = running & set(own) if sites == "intersection" else running | set(own)
    X, _, _ = merge_cohorts(parts, sites)
    assert sorted(X.columns) == sorted(f"cg{s}" for s in shared)
    for part in parts:
        expected = part.to_df().reindex(columns=X.columns)
        assert np.array_equal(X.loc[part.obs_names], expected, equal_nan=True)


def one_sample_of_two_tasks():
    adata = cohort("RA", ["cg1"], labels=(0, 0, 1, 1), task=["RA", "MS", "RA", "MS"])
    adata.obs_names = ["a", "a", "b", "c"]
    return adata


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "No cohort"),
        ([cohort("RA", ["cg1"]), cohort("MS", ["cg2"])], "Cohort MS shares no site with RA"),
        ([cohort("RA", ["cg1"], labels=(1, 1))], "Task 'RA' has only cases"),
        ([cohort("RA", ["cg1"], labels=(0, 0, np.nan))], "has only controls"),
        (
            [cohort("RA", ["cg1"], labels=("case", "control"))],
            "label case for sample 'RA-0'",
        ),
        ([cohort("RA", ["cg1"], labels=(0, 2))], "'RA' has the label 2 for sample 'RA-1'"),
        ([cohort("RA", ["cg1"]), cohort("RA", ["cg1"])], r"'RA-0' occurs .* \(in RA, RA\)"),
        ([cohort("RA", ["cg1", "cg1"])], "has site 'cg1' more than once"),
        (
            [cohort("RA", ["cg1"], plate=[1.0, 2, 3]), cohort("MS", ["cg1"], plate=list("abc"))],
            "plate holds numbers in cohort RA, but text in MS",
        ),
        ([one_sample_of_two_tasks()], "Cohort RA has sample 'a' more than once"),
        ([AnnData(np.zeros((2, 1)), obs=pd.DataFrame({"task": ["a", "b"]}))], "column 'cohort'"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_refuses(parts, message):
    with pytest.raises(MiracleError, match=message):
        merge_cohorts(parts)


def test_refuses_unknown_mode(pair):
    with pytest.raises(MiracleError, match="sites is 'outer'"):
        merge_cohorts(pair, sites="outer")
