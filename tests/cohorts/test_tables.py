import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miracle_lib.cohorts import read_beta_values, read_samples, read_table
from miracle_lib.errors import MiracleError

FRAME = pd.DataFrame(
    np.float32([[0.1, 0.2, np.nan], [0.4, 1.0, 0.0]]),
    index=["anna", "bert"],
    columns=["cg00000029", "rs1019916", "ch.1.109690R"],
)


def write(frame: pd.DataFrame, path):
    match path.name.removesuffix(".gz").rsplit(".", 1)[-1]:
        case "csv":
            frame.to_csv(path)
        case "tsv":
            frame.to_csv(path, sep="\t", na_rep="NA")
        case "txt":
            frame.to_csv(path, sep=";", na_rep="NaN")
        case "parquet":
            frame.to_parquet(path)
        case "h5ad":
            anndata.AnnData(frame).write_h5ad(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "txt", "parquet", "h5ad"])
@pytest.mark.parametrize("sites_first", [False, True])
def test_every_format_in_either_orientation(tmp_path, caplog, kind, sites_first):
    path = write(FRAME.T if sites_first else FRAME, tmp_path / f"beta.{kind}")
    with caplog.at_level(logging.INFO):
        table = read_table(path)
    pd.testing.assert_frame_equal(
        pd.DataFrame(table.values, table.samples, table.sites), FRAME, check_index_type=False
    )
    assert table.values.dtype == np.float32
    assert ("sites x samples" if sites_first else "samples x sites") in caplog.text


def test_parquet_with_names_in_a_column(tmp_path):
    path = tmp_path / "beta.parquet"
    FRAME.reset_index(names="sample").to_parquet(path)
    table = read_table(path)
    assert list(table.samples) == ["anna", "bert"]
    assert list(table.sites) == list(FRAME.columns)


@pytest.mark.parametrize("kind", ["csv", "parquet", "h5ad"])
def test_tables_without_probe_names_are_refused(tmp_path, kind):
    frame = FRAME.set_axis(["AHRR", "F2RL3", "IFI44L"], axis=1)
    with pytest.raises(MiracleError, match=r"^beta.*AHRR.* are probe names such as cg00000029"):
        read_table(write(frame, tmp_path / f"beta.{kind}"))


@pytest.mark.parametrize("date", ["1-Mar", "Sep-02", "2023-03-01"])
def test_gene_names_damaged_by_excel_are_named(tmp_path, date):
    frame = FRAME.set_axis([date, "F2RL3", "IFI44L"], axis=1)
    with pytest.raises(MiracleError, match=f"'{date}' is a gene name that Excel turned into a"):
        read_table(write(frame, tmp_path / "beta.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,cg01,cg02\nanna,0.1\n", r"line 2 \('anna'\): 1 values, expected 2"),
        ("id,cg01,cg02\nanna,0.1,x\n", r"line 2 \('anna'\), site 'cg02': 'x' is no number"),
        ("id,cg01,cg02\n", "no row below the header"),
        ("id,anna,anna\ncg01,0.1,0.2\n", "sample 'anna' occurs more than once"),
        ("id,anna,bert\ncg01,0.1,x\n", r"line 2 \('cg01'\), sample 'bert': 'x' is no number"),
        ("", "is empty"),
    ],
)
def test_bad_text(tmp_path, text, message):
    path = tmp_path / "beta.csv"
    path.write_text(text)
    with pytest.raises(MiracleError, match=rf"^beta.csv.*{message}"):
        read_table(path)


@pytest.mark.parametrize("kind", ["parquet", "h5ad"])
def test_damaged_binary_files(tmp_path, kind):
    path = write(FRAME, tmp_path / f"beta.{kind}")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MiracleError, match=rf"beta.{kind}: damaged or no"):
        read_table(path)


def test_text_in_parquet_and_unknown_formats(tmp_path):
    path = tmp_path / "beta.parquet"
    FRAME.astype(object).assign(rs1019916=["a", "b"]).to_parquet(path)
    with pytest.raises(MiracleError, match="column 'rs1019916' holds no numbers"):
        read_table(path)
    with pytest.raises(MiracleError, match=r"beta.xlsx: a table is .csv"):
        read_table(tmp_path / "beta.xlsx")


def test_samples_of_every_format(tmp_path):
    frame = pd.DataFrame({"Status": ["ill", "well"], "Age": [61, np.nan]}, index=["a", "b"])
    frame.to_csv(tmp_path / "s.csv")
    frame.to_csv(tmp_path / "s.tsv", sep="\t")
    frame.to_parquet(tmp_path / "s.parquet")
    anndata.AnnData(np.zeros((2, 1), np.float32), obs=frame).write_h5ad(tmp_path / "s.h5ad")
    for kind in ("csv", "tsv", "parquet", "h5ad"):
        samples = read_samples(tmp_path / f"s.{kind}")
        assert samples["status"].tolist() == ["ill", "well"]
        assert samples["age"].tolist()[0] == "61.0"
        assert np.isnan(samples["age"].tolist()[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,status\na,ill\na,well\n", "sample 'a' occurs more than once"),
        ("id,Status,status\na,ill,1\nb,well,2\n", "column 'status' occurs more than once"),
        ("id,status\na,ill\n,well\n", "sample 2 has no name"),
    ],
)
def test_samples_and_columns_need_names_of_their_own(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(MiracleError, match=rf"^s.csv: {message}"):
        read_samples(tmp_path / "s.csv")


def test_h5ad_without_numbers(tmp_path):
    obs, var = pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["cg01", "cg02"])
    anndata.AnnData(None, obs=obs, var=var).write_h5ad(tmp_path / "none.h5ad")
    with pytest.raises(MiracleError, match="none.h5ad: X is absent; expected a matrix of beta"):
        read_table(tmp_path / "none.h5ad")
    texts = np.array([["x", "y"], ["z", "w"]], dtype=object)
    anndata.AnnData(texts, obs=obs, var=var).write_h5ad(tmp_path / "text.h5ad")
    with pytest.raises(MiracleError, match="text.h5ad: X holds no numbers"):
        read_table(tmp_path / "text.h5ad")


def test_beta_values_for_a_model_are_checked_and_replicates_averaged(tmp_path):
    path = tmp_path / "beta.csv"
    path.write_text("id,cg01_TC11,cg01_TC12,cg02_BC11\nanna,0.2,0.4,0.5\nbert,,0.6,0.7\n")
    table = read_beta_values(path)
    assert table.sites.tolist() == ["cg01", "cg02"]
    np.testing.assert_allclose(table.values, [[0.3, 0.5], [0.6, 0.7]], rtol=1e-6)
    path.write_text("id,cg01,cg02\nanna,0.2,1.4\n")
    with pytest.raises(MiracleError, match=r"^beta.csv: 1.4 at site 'cg02' of sample 'anna' is no"):
        read_beta_values(path)
    path.write_text("id,cg01,cg01\nanna,0.2,0.4\n")
    with pytest.raises(MiracleError, match=r"^beta.csv: site 'cg01' occurs more than once"):
        read_beta_values(path)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kind=st.sampled_from(["csv", "tsv", "parquet"]),
    sites_first=st.booleans(),
)
def test_random_tables_are_read_back_exactly(tmp_path, data, shape, kind, sites_first):
    value = st.one_of(st.floats(0, 1, width=32), st.just(float("nan")))
    rows = data.draw(
        st.lists(
            st.lists(value, min_size=shape[1], max_size=shape[1]),
            min_size=shape[0],
            max_size=shape[0],
        )
    )
    frame = pd.DataFrame(
        np.array(rows, np.float32),
        index=[f"sample {i}" for i in range(shape[0])],
        columns=[f"cg{i:08d}" for i in range(shape[1])],
    )
    table = read_table(write(frame.T if sites_first else frame, tmp_path / f"beta.{kind}"))
    np.testing.assert_array_equal(table.values, frame.to_numpy())


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), kind=st.sampled_from(["csv", "tsv", "parquet"]))
def test_mutated_tables_raise_nothing_but_our_error(tmp_path, data, kind):
    path = write(FRAME, tmp_path / f"beta.{kind}")
    content = path.read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 30)))
        content = content[:start] + data.draw(st.binary(max_size=8)) + content[stop:]
    path.write_bytes(content)
    try:
        table = read_table(path)
    except MiracleError:
        return
    assert table.values.shape == (len(table.samples), len(table.sites))
