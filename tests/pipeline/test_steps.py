import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from anndata import AnnData

from miracle_lib.config import Parameters
from miracle_lib.estimator import MiracleClassifier, describe_model, predict
from miracle_lib.pipeline import answers, data, models, selection
from miracle_lib.pipeline.notebooks import open_profile_run
from miracle_lib.pipeline.run import Run

PROFILE = {
    "title": "two simulated cohorts",
    "simulation": {"sizes": {"MS": 60, "RA": 80}, "n_sites": 400, "effect": 1.0},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    (folder / "two.yaml").write_text(yaml.safe_dump(PROFILE))
    return Run(
        Parameters(
            profile=str(folder / "two.yaml"),
            run_dir=str(folder / "run"),
            selection="ttest",
            n_sites=150,
            n_folds=2,
        )
    )


def test_samples_keep_labels_subjects_and_covariates(run):
    samples = data.all_samples(run)
    assert len(samples) == 140
    assert samples.tasks == ["MS", "RA"]
    assert samples.labels.notna().sum(axis=1).eq(1).all()
    assert samples.subject.nunique() < len(samples)
    assert {"age", "sex", "smoking", "cell_Gran"} <= set(samples.covariates)
    assert "label" not in samples.covariates
    assert {"label", "call_rate"} <= set(data.sample_table(run))


def test_the_mask_is_built_over_the_sites_that_were_kept(run):
    assert set(data.graph(run).sites) <= set(data.all_samples(run).sites)


def test_parts_of_genes_that_leave_no_pathway_are_said(run, monkeypatch):
    promoters = data.site_gene(run).assign(group="TSS200")
    monkeypatch.setattr(data, "site_gene", lambda run: promoters)
    table = data.mask_choices(run)
    assert table.loc["promoter"].equals(table.loc["all groups"].rename("promoter"))
    assert table.loc["promoter", "pathways"] == len(data.graph(run).pathways)
    assert table.loc["body"].tolist() == [0, 0, 0]


def test_scores_come_from_folds_with_the_selection_inside(run):
    tables = models.score_tables(run)
    assert list(tables) == ["MIRACLE", *models.REFERENCES]
    for table in tables.values():
        predictions = table.attrs["predictions"]
        assert len(predictions) == 140
        assert set(predictions["fold"]) == {0, 1}
    estimator = selection.selected(run, models.classifier(run))
    assert [name for name, _ in estimator.steps] == ["siteselector", "miracleclassifier"]
    assert tables["MIRACLE"]["auroc"].mean() > 0.7


def test_the_fitted_model_is_kept_and_reads_the_selected_sites(run):
    model = models.fitted_model(run)
    assert len(model.sites_) <= 300
    proba = model.predict_proba(data.all_samples(run).values)
    assert np.isfinite(proba.to_numpy()).all()


def test_a_model_without_scores_says_what_it_was_trained_on(run):
    """As after chapter 5 alone."""
    card = describe_model(run.folder("model") / "model")
    labels = data.all_samples(run).labels["MS"].value_counts()
    assert f"MS: Simulated MS, {labels[1]} cases and {labels[0]} controls" in card
    assert "Its cohorts are simulated" in card
    assert "sex from" in card
    assert "not known: this model was saved without them" in card


def test_the_model_of_a_run_knows_what_a_new_sample_needs(run, tmp_path):
    """Copied elsewhere, without the run."""
    shutil.copytree(run.folder("calibrated") / "model", tmp_path / "copied")
    model = MiracleClassifier.load(tmp_path / "copied")
    X = data.all_samples(run).values
    assert model.held_out_.groupby("task").size().to_dict() == {"MS": 60, "RA": 80}
    raw = pd.concat([adata.to_df() for adata in data.raw_cohorts(run)]).loc[X.index]
    result = predict(model, raw, covariates=data.sample_table(run))
    assert result["sex_predicted"].isin(["F", "M"]).mean() > 0.95
    assert not result["warning"].str.contains("sex").any()
    ms = data.all_samples(run).task("MS").names
    assert result.loc[ms, "low[MS]"].notna().mean() > 0.9
    card = describe_model(tmp_path / "copied")
    assert "60 held-out samples" in card
    assert "simulated" in card
    for task in ("MS", "RA"):
        (line,) = [line for line in card.splitlines() if line.startswith(f"  {task}, held-out")]
        assert re.findall(r"(\w+) 0\.\d{3} \(", line) == ["AUROC", "AUPRC", "score"]
    assert "all, held-out" not in card


def test_planted_pathways_are_named_and_counted(run):
    table = answers.recovery(run)
    assert table["planted"].tolist() == [5, 5]
    assert (table["named and planted"] <= table["named"]).all()
    assert table["named and planted"].sum() >= 2


def test_named_pathways_stand_with_and_without_adjustment_for_cells(run):
    table = answers.beside_composition(run, "RA")
    assert {"z", "z_unadjusted", "named"} <= set(table)
    named = answers.explanations(run)["RA"].query("q_value <= 0.05").index
    assert set(table.index[table["named"].isin(["both", "adjusted only"])]) == set(named)


def test_real_cohorts_take_the_same_path(mirror, tmp_path):
    real = open_profile_run("blood", str(tmp_path), {}, str(mirror))
    samples = data.all_samples(real)
    assert len(samples) == 100 + 699 + 508
    assert set(samples.tasks) == {"Rheumatoid arthritis", "Depression", "Parkinson"}
    assert set(samples.cohort) == {"GSE42861", "GSE125105", "GSE72774"}
    assert set(data.validation_sets(real)) == {"Reactome", "KEGG"}
    assert len(data.graph(real).pathways) > 500
    assert "Real cohorts" in real.banner
    assert "except in sections that say that their data are simulated" in real.banner
    real.write_provenance()
    assert "GSE42861_series_matrix.txt.gz" in (tmp_path / "provenance.json").read_text()


def test_cell_fractions_are_those_deposited_else_estimated_in_blood_only(caplog):
    reference = pd.DataFrame({"Mono": [0.1, 0.9], "Gran": [0.8, 0.2]}, index=["cg1", "cg2"])

    def columns(tissue, platform="450K", **deposited):
        obs = pd.DataFrame({"cohort": ["GSE1"], "tissue": tissue, **deposited}, index=["s1"])
        obs["platform"] = platform
        adata = AnnData(np.float32([[0.1, 0.9]]), obs, pd.DataFrame(index=["cg1", "cg2"]))
        data._add_cell_fractions(adata, {"450K": reference})
        return adata.obs.filter(like="cell_").round(2).iloc[0].to_dict()

    caplog.set_level("INFO")
    assert columns("whole blood") == {"cell_Mono": 1.0, "cell_Gran": 0.0}
    assert "GSE1: cell fractions of 450K from 100% of the reference's sites" in caplog.text
    assert columns("whole blood", "EPICv2") == {}
    assert "no cell fractions, the profile has no reference for EPICv2" in caplog.text
    assert columns("whole blood", cell_NK=0.25) == {"cell_NK": 0.25}
    assert columns("skin") == {}
    assert "GSE1: no cell fractions, its tissue is not whole blood" in caplog.text


def test_each_sample_is_estimated_with_the_reference_of_its_array():
    by_450k = pd.DataFrame({"Mono": [0.1, 0.9], "Gran": [0.8, 0.2]}, index=["cg1", "cg2"])
    by_epic = pd.DataFrame({"Mono": [0.8, 0.2], "Gran": [0.1, 0.9]}, index=["cg1", "cg2"])
    epic = pd.concat([by_epic, pd.DataFrame(0.5, ["cg3"], by_epic.columns)])
    obs = pd.DataFrame({"cohort": "GSE1", "tissue": "whole blood"}, index=["s1", "s2"])
    obs["platform"] = ["450K", "EPIC"]
    adata = AnnData(np.float32([[0.1, 0.9]] * 2), obs, pd.DataFrame(index=["cg1", "cg2"]))
    (report,) = data._add_cell_fractions(adata, {"450K": by_450k, "EPIC": epic})
    assert adata.obs["cell_Mono"].round(3).tolist() == [1, 0]
    assert adata.obs["cell_Gran"].round(3).tolist() == [0, 1]
    assert report[["n_before", "n"]].to_numpy().tolist() == [[2, 2], [3, 2]]
