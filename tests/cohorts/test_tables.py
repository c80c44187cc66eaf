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
        case "xlsx":
            frame.to_excel(path)
        case "h5ad":
            anndata.AnnData(frame).write_h5ad(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "txt", "xlsx", "parquet", "h5ad"])
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
        (
            "id,anna,bert\ncg01,0.1,x\ncg02,0.2,0.3\n",
            r"line 2 \('cg01'\), sample 'bert': 'x' is no number",
        ),
        ("", "is empty"),
    ],
)
def test_bad_text(tmp_path, text, message):
    path = tmp_path / "beta.csv"
    path.write_text(text)
    with pytest.raises(MiracleError, match=rf"^beta.csv.*{message}"):
        read_table(path)


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_delimiter_is_told_from_commas_in_names_and_numbers(tmp_path, quote):
    path = tmp_path / "beta.txt"
    names = [f"{quote}Smith, {letter}, left{quote}" for letter in "AB"]
    path.write_text("\t".join(["id", *names]) + "\ncg01\t0,5\t0,25\n")
    table = read_table(path)
    assert table.samples.tolist() == ["Smith, A, left", "Smith, B, left"]
    assert table.values.tolist() == [[0.5], [0.25]]


@pytest.mark.parametrize("read", [read_table, read_samples])
def test_excels_unicode_text_is_refused_with_what_to_do(tmp_path, read):
    path = tmp_path / "beta.txt"
    path.write_text("id\tcg01\nanna\t0.1\n", encoding="utf-16")
    with pytest.raises(MiracleError, match=r"^beta.txt is text in UTF-16.*expected UTF-8: save"):
        read(path)


@pytest.mark.parametrize("read", [read_table, read_samples])
@pytest.mark.parametrize("text", ["id,cg01,cg02\nJörg,0.1,0.2\n", "id,Jörg,anna\ncg01,0.1,0.2\n"])
def test_names_in_another_encoding_are_refused_by_their_place(tmp_path, read, text):
    path = tmp_path / "beta.csv"
    path.write_text(text, encoding="cp1252")
    with pytest.raises(MiracleError, match=r"^beta.csv: the byte 0xf6 after '.*J' is not UTF-8"):
        read(path)
    path.write_text(text, encoding="utf-8-sig")
    read(path)


@pytest.mark.parametrize("kind", ["xlsx", "parquet", "h5ad"])
def test_damaged_binary_files(tmp_path, kind):
    path = write(FRAME, tmp_path / f"beta.{kind}")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MiracleError, match=rf"beta.{kind}: damaged or no"):
        read_table(path)


def test_text_in_parquet_and_unknown_formats(tmp_path):
    path = tmp_path / "beta.parquet"
    FRAME.astype(object).assign(rs1019916=["a", "b"]).to_parquet(path)
    with pytest.raises(MiracleError, match="'a' in column 'rs1019916', row 'anna', is no"):
        read_table(path)
    with pytest.raises(MiracleError, match=r"beta.ods: a table is .csv"):
        read_table(tmp_path / "beta.ods")


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


@pytest.mark.parametrize("sep", [" ", "\t", ","])
@pytest.mark.parametrize("sites_first", [False, True])
def test_a_table_of_r_without_a_corner_cell_keeps_its_first_column(tmp_path, sep, sites_first):
    frame = FRAME.T if sites_first else FRAME
    frame.index.name = None
    text = frame.to_csv(sep=sep, na_rep="NA", quoting=2)
    path = tmp_path / "beta.txt"
    path.write_text(text.removeprefix('""' + sep))
    table = read_table(path)
    pd.testing.assert_frame_equal(
        pd.DataFrame(table.values, table.samples, table.sites), FRAME, check_index_type=False
    )


def test_names_that_are_no_probes_are_refused_or_dropped(tmp_path):
    wide, tall = FRAME.assign(status=[0, 1]), FRAME.T.assign(CHR=[1, 2, 3])
    for kind in ("csv", "xlsx", "parquet", "h5ad"):
        path = write(wide, tmp_path / f"wide.{kind}")
        with pytest.raises(MiracleError, match=rf"^wide.{kind}: column 'status' is no probe"):
            read_table(path)
        table = read_table(path, drop_other=True)
        assert list(table.sites) == list(FRAME.columns)
        np.testing.assert_array_equal(table.values, FRAME)
        path = write(tall, tmp_path / f"tall.{kind}")
        with pytest.raises(MiracleError, match=rf"^tall.{kind}: column 'CHR' is no sample"):
            read_table(path)
        table = read_table(path, drop_other=True)
        assert list(table.samples) == ["anna", "bert"]
        np.testing.assert_array_equal(table.values, FRAME)


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_samples_that_are_numbers_keep_their_names(tmp_path, kind):
    frame = FRAME.reset_index(drop=True).assign(id=[7, 8], sex=[0, 1])[["id", "sex", *FRAME]]
    path = tmp_path / f"beta.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "xlsx":
        frame.to_excel(path)  # with a running number before the names
    else:
        frame.to_csv(path)
    assert read_table(path, drop_other=True).samples.tolist() == ["7", "8"]


def test_columns_and_rows_of_text_are_dropped_too(tmp_path):
    path = tmp_path / "beta.csv"
    path.write_text("id,nearest,anna\ncg01,AHRR,0.5\ncg02,F2RL3,0.25\nctl_1,x,0.1\n")
    with pytest.raises(MiracleError, match="column 'nearest' is no sample"):
        read_table(path)
    table = read_table(path, drop_other=True)
    assert (list(table.samples), list(table.sites)) == (["anna"], ["cg01", "cg02"])
    assert table.values.tolist() == [[0.5, 0.25]]


def test_rows_that_are_no_probes(tmp_path):
    path = tmp_path / "beta.csv"
    path.write_text("id,anna,bert\ncg01,0.5,0.1\ncg02,0.25,0.2\nstatus,0,1\n")
    with pytest.raises(MiracleError, match="^beta.csv: row 'status' is no probe"):
        read_table(path)
    assert read_table(path, drop_other=True).sites.tolist() == ["cg01", "cg02"]


def test_rows_that_begin_with_a_running_number(tmp_path):
    path = tmp_path / "beta.csv"
    path.write_text(",ID,anna,bert\n0,cg01,0.5,0.1\n1,cg02,0.25,0.2\n")
    table = read_table(path)
    assert table.sites.tolist() == ["cg01", "cg02"]
    assert table.values.tolist() == np.float32([[0.5, 0.25], [0.1, 0.2]]).tolist()
    path.write_text(",sample,cg01,cg02\n0,anna,0.5,0.1\n1,bert,0.25,0.2\n")
    assert read_table(path).samples.tolist() == ["anna", "bert"]
    path.write_text(",sex,cg01,cg02\n1,0,0.5,0.1\n2,1,0.25,0.2\n3,0,0.5,0.5\n")
    with pytest.raises(MiracleError, match="column 'sex' is no probe"):
        read_table(path)
    assert read_table(path, drop_other=True).samples.tolist() == ["1", "2", "3"]


def test_excel_cells_of_text_with_decimal_commas(tmp_path):
    path = tmp_path / "beta.xlsx"
    pd.DataFrame([["0,5", "NA"], ["1", "0,25"]], ["cg01", "cg02"], ["anna", "bert"]).to_excel(path)
    assert read_table(path).values[0].tolist() == [0.5, 1.0]
    assert read_table(path).values[1, 1] == 0.25
    assert np.isnan(read_table(path).values[1, 0])


def test_m_values_become_beta_values(tmp_path, caplog):
    path = tmp_path / "m.csv"
    path.write_text("id,cg01,cg02\nanna,-1,0\nbert,2,-2\n")
    np.testing.assert_allclose(read_beta_values(path).values, [[1 / 3, 0.5], [0.8, 0.2]], rtol=1e-6)
    assert "m.csv: M-values" in caplog.text


def test_detection_p_values_beside_the_samples(tmp_path):
    path = tmp_path / "beta.tsv"
    path.write_text(
        "ID\tS-1.AVG_Beta\tS-1.Detection Pval\tS 1.AVG_Beta\tS 1.Detection Pval\n"
        "cg01\t0.5\t0\t0.25\t0.9\n"
    )
    frame = pd.read_csv(path, sep="\t", index_col=0)
    frame.to_parquet(tmp_path / "beta.parquet")
    frame.to_excel(tmp_path / "beta.xlsx")
    for kind in ("tsv", "parquet", "xlsx"):
        table = read_table(tmp_path / f"beta.{kind}")
        assert table.samples.tolist() == ["S-1", "S 1"]
        np.testing.assert_array_equal(table.values, [[0.5], [np.nan]])
        lax = read_table(tmp_path / f"beta.{kind}", detection_p=0.95)
        np.testing.assert_array_equal(lax.values, [[0.5], [0.25]])


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(
        st.lists(st.one_of(st.none(), st.integers(0, 10000)), min_size=3, max_size=3),
        min_size=1,
        max_size=6,
    ),
    sep=st.sampled_from(["\t", ",", ";", " "]),
    decimal=st.sampled_from([".", ","]),
    corner=st.sampled_from(["ID", "", None]),
    quote=st.booleans(),
    missing=st.sampled_from(["NA", "NaN"]),
    sites_first=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_texts_of_every_dialect_are_read_as_pandas_reads_them(
    tmp_path, values, sep, decimal, corner, quote, missing, sites_first, end
):
    if sep == ",":
        decimal = "."
    rows = [f"sample {i}".replace(" ", "" if sep == " " else " ") for i in range(len(values))]
    columns = ["cg00000029", "rs1019916", "ch.1.109690R"]
    cells = [
        [missing if v is None else f"{v / 10000:.4f}".replace(".", decimal) for v in row]
        for row in values
    ]
    if sites_first:
        rows, columns, cells = columns, rows, [list(row) for row in zip(*cells, strict=True)]
    mark = '"' if quote else ""
    names = [f"{mark}{name}{mark}" for name in columns]
    lines = [sep.join(names if corner is None else [f"{mark}{corner}{mark}", *names])]
    lines += [
        sep.join([f"{mark}{name}{mark}", *row]) for name, row in zip(rows, cells, strict=True)
    ]
    path = tmp_path / "beta.txt"
    path.write_bytes((end.join(lines) + end).encode())
    oracle = pd.read_csv(path, sep=sep, decimal=decimal, index_col=0)
    table = read_table(path)
    oracle = oracle.T if sites_first else oracle
    assert table.samples.tolist() == oracle.index.tolist()
    assert table.sites.tolist() == oracle.columns.tolist()
    np.testing.assert_array_equal(table.values, oracle.to_numpy(np.float32))
