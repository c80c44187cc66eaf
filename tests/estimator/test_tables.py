import gzip

import numpy as np
import pandas as pd
import pytest

import miracle_lib as ml
from miracle_lib.errors import MiracleError
from miracle_lib.estimator.tables import predict_table, read_new_samples


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model on disk, and samples of its cohort."""
    data = ml.simulate_cohorts({"RA": 60}, n_sites=200, random_state=0)
    X, y = data.cohorts["RA"].to_df(), data.cohorts["RA"].obs["label"].rename("RA")
    hierarchy = ml.Hierarchy.from_tables(data.site_gene, data.gene_sets)
    training = ml.Training(epochs=(1, 3, 0), progress=False)
    path = tmp_path_factory.mktemp("saved") / "model"
    ml.MiracleClassifier(hierarchy, training=training).fit(X, y).save(path)
    return path, X


def test_each_bad_sample_has_its_sentence_and_the_others_are_predicted(saved, tmp_path):
    path, X = saved
    X = X.iloc[:7].copy()
    X.iloc[1] = np.log2(X.iloc[1] / (1 - X.iloc[1]))
    X.iloc[2] *= 100
    X.iloc[3, 90:] = np.nan
    X.iloc[4] = np.nan
    X.iloc[5] = X.iloc[0]
    X.index = [*X.index[:6], X.index[0]]
    X.to_csv(tmp_path / "new.csv")
    result = predict_table(path, tmp_path / "new.csv", tmp_path / "out.csv")
    refused = result["verdict[RA]"] == "not to be used"
    assert refused.tolist() == [False, False, True, True, True, False, False]
    said = [
        "",
        "M-values, converted to beta values",
        "beta values lie from 0 to 1 (percents?)",
        "45.0% of the model's sites are measured, 50% are needed",
        "no value at all",
        f"the same values as sample {X.index[0]!r}",
        f"named {X.index[0]!r} as a sample before it",
    ]
    for words, warning in zip(said, result["warning"], strict=True):
        assert words in warning
        assert bool(words) == bool(warning)
    assert (result["reason[RA]"][refused] == result["warning"][refused]).all()
    assert (result["reason[RA]"][~refused & (result["verdict[RA]"] == "reliable")] == "").all()
    assert result.index[6] == f"{X.index[0]} (2)"
    alone = saved[1].iloc[[1]]
    expected = ml.predict(ml.MiracleClassifier.load(path), alone)["probability[RA]"].item()
    assert result["probability[RA]"].iloc[1] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["parquet", "h5ad"])
def test_formats_give_the_same_answer(saved, tmp_path, kind):
    path, X = saved
    X = X.iloc[:4]
    X.to_csv(tmp_path / "new.csv")
    expected = predict_table(path, tmp_path / "new.csv", tmp_path / "out.csv")
    if kind == "parquet":
        X.to_parquet(tmp_path / "new.parquet")
    else:
        ml.Samples(X).to_anndata().write_h5ad(tmp_path / "new.h5ad")
    found = predict_table(path, tmp_path / f"new.{kind}", tmp_path / "out.csv")
    pd.testing.assert_frame_equal(found, expected, atol=1e-5, check_names=False)


@pytest.mark.parametrize("suffix", ["_TC21", "_BO11"])
def test_probe_names_of_newer_arrays_are_known(saved, tmp_path, suffix):
    path, X = saved
    X.iloc[:3].add_suffix(suffix).to_csv(tmp_path / "new.csv")
    found = predict_table(path, tmp_path / "new.csv", tmp_path / "out.csv")
    measured = X.iloc[:3].notna().mean(axis=1)
    np.testing.assert_allclose(found["sites_present"], measured)


def series_matrix(X, rows):
    samples = "\t".join(f'"{name}"' for name in X.index)
    lines = [
        '!Series_geo_accession\t"GSE1"',
        f"!Sample_geo_accession\t{samples}",
        "!Sample_characteristics_ch1\t" + "\t".join(['"gender: F"'] * len(X)),
        "!series_matrix_table_begin",
        f'"ID_REF"\t{samples}',
        *(f'"{site}"\t' + "\t".join(map(str, X[site])) for site in X.columns[:rows]),
        "!series_matrix_table_end",
    ]
    return gzip.compress("\n".join(lines).encode() + b"\n")


def test_a_series_of_geo_is_read_by_its_accession(saved, tmp_path):
    _, X = saved
    X = X.iloc[:3].set_axis(["GSM1", "GSM2", "GSM3"])
    file = tmp_path / "GSE1_series_matrix.txt.gz"
    file.write_bytes(series_matrix(X, None))
    new = read_new_samples("GSE1", mirror=tmp_path)
    pd.testing.assert_frame_equal(new.values, X, check_names=False, atol=1e-6)
    assert new.covariates["sex"].to_dict() == dict.fromkeys(X.index, "F")
    file.write_bytes(series_matrix(X, 0))
    with pytest.raises(MiracleError, match="GSE1: its series matrix holds no values; 'miracle"):
        read_new_samples("GSE1", mirror=tmp_path)


def test_sex_comes_from_a_table_of_samples(saved, tmp_path):
    _, X = saved
    X.iloc[:2].to_csv(tmp_path / "new.csv")
    (tmp_path / "samples.csv").write_text(f"id,Gender\n{X.index[1]},male\n")
    new = read_new_samples(tmp_path / "new.csv", samples=tmp_path / "samples.csv")
    assert new.covariates["sex"].to_dict() == {X.index[1]: "male"}
    (tmp_path / "samples.csv").write_text("id,Gender\nanna,female\n")
    with pytest.raises(MiracleError, match="samples.csv: none of its 1 rows names a sample of"):
        read_new_samples(tmp_path / "new.csv", samples=tmp_path / "samples.csv")


def test_a_file_without_samples_is_one_sentence(saved, tmp_path):
    path, X = saved
    for name, text in {"empty.csv": "", "header.csv": ",".join(["id", *X.columns]) + "\n"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(MiracleError, match=name) as caught:
            predict_table(path, tmp_path / name, tmp_path / "out.csv")
        assert "\n" not in str(caught.value)
