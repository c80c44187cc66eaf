import anndata
import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import miracle_lib as ml
from miracle_lib.cli import app
from miracle_lib.cohorts.own import describe_own, write_own
from miracle_lib.config import load_profile
from miracle_lib.errors import MiracleError

RNG = np.random.default_rng(0)
SITES = [f"cg{i:08d}" for i in range(30)]
PEOPLE = pd.DataFrame(
    {
        "Diagnosis": ["PD"] * 4 + ["HC"] * 5 + ["MSA"] * 3,
        "Age": [*range(50, 61), "NA"],
        "Sex": ["F", "M"] * 6,
        "BMI": [f"2{i % 10},5" for i in range(12)],
        "batch": ["1a", "1b", "2a"] * 4,
        "person": [f"p{i // 2}" for i in range(12)],
    },
    index=[f"{i:03d}" for i in range(12)],
)
BETAS = pd.DataFrame(
    RNG.uniform(0.05, 0.95, (12, 30)).astype(np.float32), PEOPLE.index[::-1], SITES
)
OPTIONS = {"label": "diagnosis", "case": ["PD"], "control": ["HC"]}


def m_values(betas):
    return np.log2(betas / (1 - betas))


def of_r(betas, path):
    text = betas.T.rename_axis(None).to_csv(sep=" ", na_rep="NA", quoting=2)
    path.write_text(text.removeprefix('"" '))


WRITERS = {
    "betas.csv": lambda path: BETAS.to_csv(path),
    "betas.tsv": lambda path: BETAS.T.to_csv(path, sep="\t"),
    "german.csv": lambda path: BETAS.to_csv(path, sep=";", decimal=","),
    "r.txt": lambda path: of_r(BETAS, path),
    "m_values.txt": lambda path: of_r(m_values(BETAS), path),
    "betas.xlsx": lambda path: BETAS.T.to_excel(path),
    "betas.parquet": lambda path: BETAS.to_parquet(path),
    "betas.h5ad": lambda path: anndata.AnnData(BETAS).write_h5ad(path),
}


@pytest.mark.parametrize("file", WRITERS)
def test_what_is_written_runs_as_it_is_from_every_kind_of_table(tmp_path, file):
    WRITERS[file](tmp_path / file)
    PEOPLE.to_csv(tmp_path / "pheno.csv")
    own = describe_own(
        tmp_path / file,
        tmp_path / "pheno.csv",
        covariates=["age", "sex", "bmi", "batch"],
        subject="person",
        **OPTIONS,
    )
    write_own(own)
    cohort, profile = own.files
    adata = ml.load_cohort(cohort)
    assert adata.obs["label"].tolist() == [1] * 4 + [0] * 5
    assert adata.obs["age"].tolist() == [float(age) for age in range(50, 59)]
    assert adata.obs["bmi"].tolist() == [20.5 + i for i in range(9)]
    assert adata.obs["batch"].tolist() == (["1a", "1b", "2a"] * 3)
    assert adata.obs["subject"].nunique() == 5
    np.testing.assert_allclose(
        adata.to_df(), BETAS.loc[adata.obs_names], atol=1e-6 if "m_" not in file else 1e-5
    )
    assert load_profile(str(profile)).parameters == {"n_folds": 4}


@pytest.mark.parametrize("file", ["Lyon.v2.csv", "Lyon.v2.TSV.GZ"])
def test_a_cohort_is_called_as_its_file_is_spelt(tmp_path, file):
    BETAS.to_csv(tmp_path / file, compression="gzip" if file.endswith("GZ") else None)
    PEOPLE.to_csv(tmp_path / "pheno.csv")
    own = describe_own(tmp_path / file, tmp_path / "pheno.csv", **OPTIONS)
    assert own.profile.name == "Lyon.v2.profile.yaml"


def test_rows_without_data_and_data_without_rows_are_counted(tmp_path):
    BETAS.drop(index=["000", "011"]).to_csv(tmp_path / "b.csv")
    PEOPLE.drop(index=["004"]).to_csv(tmp_path / "p.csv")
    own = describe_own(tmp_path / "b.csv", tmp_path / "p.csv", **OPTIONS)
    assert (
        "11 rows, 9 of them with data; left out: 2 without data, and of the data 1 without a row"
        in own.lines[1]
    )
    write_own(own)
    cohort, _ = own.files
    assert yaml.safe_load(cohort.read_text())["absent"] == 1
    assert ml.load_cohort(cohort).n_obs == 3 + 4


def test_several_cases_share_the_controls_or_stand_against_the_rest(tmp_path):
    BETAS.to_csv(tmp_path / "b.csv")
    PEOPLE.to_csv(tmp_path / "p.csv")
    several = {"label": "Diagnosis", "case": ["PD", "MSA"]}
    own = describe_own(tmp_path / "b.csv", tmp_path / "p.csv", control=["HC"], **several)
    write_own(own)
    X, Y, obs = ml.merge_cohorts([ml.load_cohort(path) for path in list(own.files)[:-1]])
    assert X.shape == (12, 30)
    assert Y.sum().to_dict() == {"PD": 4, "MSA": 3}
    assert Y.notna().sum().to_dict() == {"PD": 9, "MSA": 8}
    assert obs["cohort"].unique().tolist() == ["b_MSA+b_PD"]
    own = describe_own(tmp_path / "b.csv", tmp_path / "p.csv", **several)
    write_own(own, overwrite=True)
    _, Y, _ = ml.merge_cohorts([ml.load_cohort(path) for path in list(own.files)[:-1]])
    assert Y.notna().all(axis=None)


def test_cases_that_would_share_a_name_are_refused(tmp_path):
    BETAS.to_csv(tmp_path / "b.csv")
    PEOPLE.replace({"MSA": "PD+", "PD": "PD-"}).to_csv(tmp_path / "p.csv")
    with pytest.raises(
        MiracleError, match=r"'PD\+' and 'PD-' of diagnosis would both be called 'PD'"
    ):
        describe_own(tmp_path / "b.csv", tmp_path / "p.csv", label="Diagnosis", case=["PD+", "PD-"])


def test_cell_fractions_are_known_by_their_column_in_any_case(tmp_path):
    BETAS.to_csv(tmp_path / "b.csv")
    PEOPLE.assign(Cell_NK=0.1).to_csv(tmp_path / "p.csv")
    own = describe_own(tmp_path / "b.csv", tmp_path / "p.csv", covariates=["Cell_NK"], **OPTIONS)
    assert next(iter(own.files.values()))["phenotypes"]["cells"] == {"NK": ["cell_nk"]}


def test_an_h5ad_file_is_its_own_table_of_samples(tmp_path):
    people = PEOPLE.loc[BETAS.index].astype(str)
    anndata.AnnData(BETAS, obs=people).write_h5ad(tmp_path / "all.h5ad")
    own = describe_own(tmp_path / "all.h5ad", covariates=["BMI"], **OPTIONS)
    write_own(own)
    adata = ml.load_cohort(next(iter(own.files)))
    assert adata.obs["bmi"].notna().all()
    assert adata.n_obs == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "disease"}, "p.csv: no column 'disease'; there are: diagnosis, age, sex"),
        ({"case": ["Parkinson"]}, "the diagnosis 'Parkinson'; there are: HC x 5, PD x 4, MSA x 3"),
        ({"covariates": ["age", "bmx"]}, "p.csv: no column 'bmx'"),
        ({"platform": "850K"}, "the array is '850K'; expected one of 27K, 450K, EPIC, EPICv2"),
        ({"name": "a/b"}, "the name 'a/b' is no plain word"),
        ({"control": ["PD"]}, "puts 'PD' into two classes"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(tmp_path, change, words):
    BETAS.to_csv(tmp_path / "b.csv")
    PEOPLE.to_csv(tmp_path / "p.csv")
    with pytest.raises(MiracleError) as caught:
        describe_own(tmp_path / "b.csv", tmp_path / "p.csv", **(OPTIONS | change))
    assert words in str(caught.value)


def test_the_command_prints_what_comes_next_and_replaces_nothing(tmp_path, monkeypatch):
    BETAS.to_csv(tmp_path / "b.csv")
    PEOPLE.to_csv(tmp_path / "p.csv")
    monkeypatch.chdir(tmp_path)
    command = ["init", "b.csv", "p.csv", "--label", "diagnosis", "--case", "PD", "--control", "HC"]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.stderr
    assert "diagnosis: 4 PD against 5 HC; 9 subjects" in answer.stdout
    assert "diagnosis: not used: MSA x 3" in answer.stdout
    last = answer.stdout.splitlines()[-1]
    assert last.endswith("miracle run --profile b.profile.yaml --run-dir runs/b")
    written = (tmp_path / "b.profile.yaml").read_text()
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 1
    assert "b.cohort.yaml is there already; --force replaces it." in answer.stderr
    assert (tmp_path / "b.profile.yaml").read_text() == written
