import errno

import anndata
import numpy as np
import pandas as pd
import pytest

import miracle_lib as ml
from miracle_lib.cohorts import annotate_sites, write_cohort
from miracle_lib.errors import MiracleError

STATUS = [["status: ill", "status: well", "status: Ill", "status: other"]]
SERIES = {"url": "GSE1_series_matrix.txt.gz"}
VALUES = [[0.25, 0.5, float("nan"), 0.1], [1.0, 0.0, 0.125, 0.2]]


@pytest.mark.parametrize(
    ("name", "n_sites", "cases", "controls", "female"),
    [
        ("GSE42861", 3000, 50, 50, 83),
        ("GSE125105", 591, 489, 210, 387),
        ("GSE72774", 591, 289, 219, 227),
        ("GSE66695", 1000, 80, 40, 0),
    ],
)
def test_real_series(mirror, name, n_sites, cases, controls, female):
    subset = name == "GSE42861"
    adata = ml.load_cohort(name, mirror, allow_subset=subset)
    assert adata.shape == (cases + controls, n_sites)
    assert (adata.obs["label"] == 1).sum() == cases
    assert (adata.obs["label"] == 0).sum() == controls
    assert (adata.obs["sex"] == "F").sum() == female
    assert adata.X.dtype == np.float32
    assert np.nanmin(adata.X) >= 0
    assert np.nanmax(adata.X) <= 1
    assert adata.uns["provenance"]["complete"] == str(not subset)


def test_what_is_deposited_beside_the_values_of_a_real_series(mirror):
    obs = ml.load_cohort("GSE125105", mirror).obs
    cells = obs.filter(like="cell_")
    assert list(cells) == [f"cell_{c}" for c in ("CD8T", "CD4T", "NK", "Bcell", "Mono", "Gran")]
    assert (cells.sum(axis=1) - 1).abs().median() < 0.06
    granulocytes = obs.groupby("label")["cell_Gran"].mean()
    assert 0.3 < (granulocytes[1] - granulocytes[0]) / obs["cell_Gran"].std() < 0.7
    assert obs["slide"].notna().all()
    assert obs["slide"].value_counts().max() <= 12
    assert set(obs["position"]) == {
        f"R0{row}C0{column}" for row in range(1, 7) for column in (1, 2)
    }


def test_a_subset_of_a_real_series_is_refused_unless_allowed(mirror):
    with pytest.raises(MiracleError, match=r"50 cases and 50 controls .*expected 354 cases"):
        ml.load_cohort("GSE42861", mirror)


def test_a_series_matrix_becomes_anndata(write_series, write_manifest):
    path = write_series(VALUES, characteristics=STATUS)
    adata = ml.load_cohort(write_manifest(expected={"cases": 2, "controls": 1}))
    assert adata.obs_names.tolist() == ["GSM0", "GSM1", "GSM2"]
    assert adata.var_names.tolist() == ["cg00000000", "cg00000001"]
    np.testing.assert_array_equal(adata.X, np.float32([[0.25, 1], [0.5, 0], [np.nan, 0.125]]))
    assert adata.obs["platform"].unique().tolist() == ["450K"]
    provenance = adata.uns["provenance"]
    assert all(isinstance(value, str) for value in provenance.values())
    assert provenance["complete"] == "True"
    assert path.name in "".join(provenance)


def test_what_is_written_is_read_back(write_series, write_manifest, tmp_path):
    write_series(VALUES, characteristics=STATUS)
    adata = ml.load_cohort(write_manifest())
    write_cohort(adata, tmp_path / "out" / "GSE1.h5ad")
    back = anndata.read_h5ad(tmp_path / "out" / "GSE1.h5ad")
    np.testing.assert_array_equal(back.X, adata.X)
    assert back.obs["label"].tolist() == [1, 0, 1]
    assert back.obs["sex"].isna().all()
    assert back.uns["provenance"] == adata.uns["provenance"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["GSE1.h5ad"]


def test_a_full_disk_leaves_nothing_behind(write_series, write_manifest, tmp_path, monkeypatch):
    write_series(VALUES, characteristics=STATUS)
    adata = ml.load_cohort(write_manifest())

    def full(self, path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", full)
    with pytest.raises(MiracleError, match=r"GSE1.h5ad cannot be written .* the disk is full"):
        write_cohort(adata, tmp_path / "out" / "GSE1.h5ad")
    assert list((tmp_path / "out").iterdir()) == []


def test_values_from_a_supplementary_file_joined_by_title(write_series, write_manifest, tmp_path):
    titles = ["P1", "P2", "P3", "P4"]
    write_series(np.empty((0, 4)), characteristics=STATUS, titles=titles)
    lines = ["ID\tP3\tP4\tP1\tP2", "cg01\t0.3\t0.4\t0.1\t0.2"]
    (tmp_path / "GSE1_processed.txt").write_text("\n".join(lines) + "\n")
    files = [SERIES, {"url": "GSE1_processed.txt", "layout": "supplementary"}]
    adata = ml.load_cohort(write_manifest(files=files))
    np.testing.assert_array_equal(adata.X, np.float32([[0.1], [0.2], [0.3]]))
    with pytest.raises(MiracleError, match="no values in GSE1_series.*supplementary"):
        ml.load_cohort(write_manifest(files=[{"url": "GSE1_series_matrix.txt.gz"}]))


def test_columns_called_by_titles_without_their_ending_and_samples_without_a_column(
    write_series, write_manifest, tmp_path, caplog
):
    # No title of the first header cell; columns in another order; P3 has no column; site cg02
    # has no value; sample P2 lacks a characteristic, so that its later ones stand one row up.
    write_series(
        np.empty((0, 4)),
        characteristics=[
            ["smoking: never", "status: well", "smoking: ex", "smoking: ex"],
            ["status: ill", "age: 50", "status: well", "status: well"],
            ["age: 40", "", "age: 60", "age: 70"],
        ],
        titles=[f"P{i} [Whole blood]" for i in (1, 2, 3, 4)],
    )
    lines = ["\tP4\tP1\tP2", "cg01\t0.4\t0.1\t0.2", "cg02\tNA\t\t", "cg03\t1\t0\t1"]
    (tmp_path / "GSE1_values.txt").write_text("\n".join(lines) + "\n")
    options = {
        "files": [SERIES, {"url": "GSE1_values.txt", "layout": "supplementary"}],
        "phenotypes": {
            "label": {"key": "status", "case": "ill", "control": "well"},
            "age": {"key": "age"},
            "smoking": {"key": "smoking"},
        },
        "expected": {"cases": 1, "controls": 2},
    }
    with pytest.raises(MiracleError, match="1 cases and 3 controls .*expected 2 controls"):
        ml.load_cohort(write_manifest(**options))
    with pytest.raises(MiracleError, match=r"no values for sample 'GSM2' \(1 such .*at most 0"):
        ml.load_cohort(write_manifest(**options | {"expected": {}}))
    adata = ml.load_cohort(write_manifest(absent=1, **options))
    assert adata.obs_names.tolist() == ["GSM0", "GSM1", "GSM3"]
    assert adata.obs["age"].tolist() == [40, 50, 70]
    assert adata.obs["smoking"].fillna("").tolist() == ["never", "", "former"]
    assert adata.var_names.tolist() == ["cg01", "cg03"]
    np.testing.assert_array_equal(adata.X, np.float32([[0.1, 0], [0.2, 1], [0.4, 1]]))
    assert "1 samples without values left out: GSM2" in caplog.text
    assert "1 sites without any value left out" in caplog.text
    with pytest.raises(MiracleError, match=r"1 cases and 2 controls .*expected 3 controls"):
        ml.load_cohort(write_manifest(absent=1, **options | {"expected": {"controls": 3}}))


def test_m_values_of_two_platforms_from_supplementary_files(write_series, write_manifest, tmp_path):
    for platform, samples in (("GPL13534", ["GSM1", "GSM2"]), ("GPL21145", ["GSM8", "GSM9"])):
        write_series(
            np.empty((0, 2)),
            name=f"GSE1-{platform}_series_matrix.txt.gz",
            samples=samples,
            titles=[f"{platform} {i}" for i in (1, 2)],
            characteristics=[["status: well", "status: ill"]],
            platform=platform,
        )
        lines = [f"\t{platform}_2\t{platform}_1", "cg01\t-2\t2", f"{platform}x\t0\tNA"]
        (tmp_path / f"GSE1_{platform}.txt").write_text("\n".join(lines) + "\n")
    files = [
        *({"url": f"GSE1-{p}_series_matrix.txt.gz"} for p in ("GPL13534", "GPL21145")),
        *(
            {"url": f"GSE1_{p}.txt", "layout": "supplementary", "scale": "m"}
            for p in ("GPL13534", "GPL21145")
        ),
    ]
    adata = ml.load_cohort(write_manifest(platform="450K+EPIC", files=files))
    assert adata.obs["platform"].tolist() == ["450K", "450K", "EPIC", "EPIC"]
    assert adata.var_names.tolist() == ["cg01"]
    np.testing.assert_allclose(adata.X[:, 0], [0.8, 0.2, 0.8, 0.2], rtol=1e-6)


def test_values_are_read_from_the_first_file_that_has_them(write_series, write_manifest, tmp_path):
    write_series(VALUES, characteristics=STATUS)
    (tmp_path / "GSE1_values.txt").write_text("\tGSM0\tGSM1\tGSM2\ncg01\t0.9\t0.9\t0.9\n")
    files = [SERIES, {"url": "GSE1_values.txt", "layout": "supplementary"}]
    adata = ml.load_cohort(write_manifest(files=files))
    assert adata.var_names.tolist() == ["cg00000000", "cg00000001"]


def test_two_platforms_of_one_series(write_series, write_manifest):
    write_series(VALUES, characteristics=STATUS)
    write_series(
        [[0.7, 0.8]],
        name="GSE1-GPL21145_series_matrix.txt.gz",
        sites=["cg00000001"],
        samples=["GSM8", "GSM9"],
        characteristics=[["status: well", "status: ill"]],
        platform="GPL21145",
    )
    files = [
        {"url": "GSE1_series_matrix.txt.gz"},
        {"url": "GSE1-GPL21145_series_matrix.txt.gz"},
    ]
    adata = ml.load_cohort(write_manifest(files=files, platform="450K+EPIC"))
    assert adata.obs_names.tolist() == ["GSM0", "GSM1", "GSM2", "GSM8", "GSM9"]
    assert adata.obs["platform"].tolist() == ["450K"] * 3 + ["EPIC"] * 2
    np.testing.assert_array_equal(adata.X[:, 0], np.float32([1.0, 0.0, 0.125, 0.7, 0.8]))
    with pytest.raises(MiracleError, match=r"'GSM8' is from platform GPL21145, .* says 450K\."):
        ml.load_cohort(write_manifest(files=files))


def test_a_platform_of_which_no_sample_is_kept(write_series, write_manifest):
    write_series(VALUES, characteristics=[*STATUS, ["cell: B"] * 4])
    other = "GSE1-GPL21145_series_matrix.txt.gz"
    write_series(
        [[0.7]],
        name=other,
        samples=["GSM8"],
        characteristics=[["status: well"], ["cell: T"]],
        platform="GPL21145",
    )
    files = [{"url": "GSE1_series_matrix.txt.gz"}, {"url": other}]
    adata = ml.load_cohort(write_manifest(files=files, keep={"cell": "B"}))
    assert adata.shape == (3, 2)


def test_a_users_h5ad_holds_values_and_descriptions(write_manifest, tmp_path):
    obs = pd.DataFrame({"status": ["well", "ill"]}, index=["a", "b"])
    var = pd.DataFrame(index=["cg1_TC11", "cg1_TC12", "cg2_BC11"])
    values = np.float32([[0.1, 0.3, 0.5], [0.2, np.nan, 0.6]])
    anndata.AnnData(values, obs=obs, var=var).write_h5ad(tmp_path / "mine.h5ad")
    files = [{"url": "mine.h5ad", "layout": layout} for layout in ("samples", "table")]
    adata = ml.load_cohort(write_manifest(files=files, platform="EPICv2"))
    assert adata.obs["label"].to_dict() == {"a": 0, "b": 1}
    assert adata.var_names.tolist() == ["cg1", "cg2"]
    np.testing.assert_allclose(adata.X, [[0.2, 0.5], [0.2, 0.6]], rtol=1e-6)


def test_the_detection_limit_holds_for_a_users_table(write_manifest, tmp_path):
    text = "ID\ta\tDetection Pval\tb\tDetection Pval.1\ncg1\t0.1\t0\t0.2\t0.03\n"
    (tmp_path / "beta.tsv").write_text(text)
    (tmp_path / "people.csv").write_text("id,status\na,ill\nb,well\n")
    files = [{"url": "people.csv", "layout": "samples"}, {"url": "beta.tsv", "layout": "table"}]
    adata = ml.load_cohort(write_manifest(files=files, detection_p=0.05))
    np.testing.assert_array_equal(adata.X, np.float32([[0.1], [0.2]]))
    with pytest.raises(MiracleError, match="sample 'b' has no value"):
        ml.load_cohort(write_manifest(files=files))


def test_a_sample_twice_in_a_users_table(write_manifest, tmp_path):
    pd.DataFrame([[0.1], [0.2]], index=["a", "a"], columns=["cg1"]).to_parquet(
        tmp_path / "beta.parquet"
    )
    (tmp_path / "people.csv").write_text("id,status\na,ill\nb,well\n")
    files = [
        {"url": "people.csv", "layout": "samples"},
        {"url": "beta.parquet", "layout": "table"},
    ]
    with pytest.raises(MiracleError, match=r"beta.parquet: sample 'a' occurs more than once"):
        ml.load_cohort(write_manifest(files=files))


def test_a_users_table_with_a_table_of_samples(write_manifest, tmp_path):
    frame = pd.DataFrame(
        [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], index=["c", "a", "b"], columns=["cg1", "cg2"]
    )
    frame.to_csv(tmp_path / "beta.csv")
    (tmp_path / "people.csv").write_text("id,status,age\na,ill,50\nb,well,60\n")
    files = [
        {"url": "people.csv", "layout": "samples"},
        {"url": "beta.csv", "layout": "table"},
    ]
    rules = {
        "label": {"key": "status", "case": "ill", "control": "well"},
        "age": {"key": "age"},
    }
    adata = ml.load_cohort(write_manifest(files=files, phenotypes=rules))
    assert adata.obs["age"].to_dict() == {"a": 50, "b": 60}
    np.testing.assert_array_equal(adata.X, np.float32([[0.3, 0.4], [0.5, 0.6]]))
    (tmp_path / "people.csv").write_text("id,status,age\na,ill,50\nz,well,60\n")
    with pytest.raises(MiracleError, match="no values for sample 'z'"):
        ml.load_cohort(write_manifest(files=files, phenotypes=rules))
    (tmp_path / "people.csv").write_text("id,status,age\ny,ill,50\nz,well,60\n")
    with pytest.raises(MiracleError, match=r"beta.csv: its columns \(c, a, b"):
        ml.load_cohort(write_manifest(files=files, phenotypes=rules))


def test_m_values_are_converted_when_the_manifest_says_so(write_series, write_manifest):
    write_series([[-2.0, 2.0, 0.0, 1.0]], characteristics=STATUS)
    with pytest.raises(MiracleError, match=r"GSE1_series_matrix.txt.gz: .* M-values"):
        ml.load_cohort(write_manifest())
    adata = ml.load_cohort(write_manifest(scale="m"))
    np.testing.assert_allclose(adata.X[:, 0], [0.2, 0.8, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": ["cg1", "cg1"]}, "site 'cg1' occurs more than once"),
        ({"values": [[float("nan"), 0.5, 0.5, 0.5]]}, "sample 'GSM0' has no value at all"),
        ({"values": [[0.5] * 4] * 30 + [[1.5, 0.5, 0.5, 0.5]]}, "1.5 at site 'cg00000030'"),
        ({"characteristics": [["status: ill"] * 4]}, "4 cases and 0 controls"),
    ],
)
def test_bad_content_is_named(write_series, write_manifest, options, message):
    write_series(**{"values": VALUES, "characteristics": STATUS} | options)
    with pytest.raises(MiracleError, match=message):
        ml.load_cohort(write_manifest())


def test_files_that_do_not_make_a_cohort(write_series, write_manifest, tmp_path):
    write_series(VALUES, characteristics=STATUS)
    matrix = {"url": "GSE1_series_matrix.txt.gz"}
    with pytest.raises(MiracleError, match="sample 'GSM0' is in more than one file"):
        ml.load_cohort(write_manifest(files=[matrix, matrix | {"scale": "m"}]))
    (tmp_path / "beta.csv").write_text("id,cg1\na,0.5\n")
    with pytest.raises(MiracleError, match="no file describes the samples"):
        ml.load_cohort(write_manifest(files=[{"url": "beta.csv", "layout": "table"}]))
    with pytest.raises(MiracleError, match=r"absent.txt.gz is not in"):
        ml.load_cohort(write_manifest(files=[{"url": "absent.txt.gz"}]))


def test_annotation_of_sites(write_series, write_manifest):
    write_series(VALUES, characteristics=STATUS)
    adata = ml.load_cohort(write_manifest())
    table = pd.DataFrame(
        {"position": [10.0, 20.0], "genes": ["A;B", "C"], "masked": [True, False]},
        index=["cg00000001", "cg99999999"],
    )
    annotate_sites(adata, table)
    np.testing.assert_array_equal(adata.var["position"], [np.nan, 10.0])
    assert adata.var["genes"].tolist() == ["", "A;B"]
    assert adata.var["masked"].tolist() == [False, True]
