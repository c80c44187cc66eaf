"""Quality control finds the defects put in, says so, and changes nothing else."""

import anndata
import numpy as np
import pandas as pd
import pytest

from miracle_lib.cohorts.simulation import simulate_cohorts
from miracle_lib.errors import MiracleError
from miracle_lib.preprocessing import quality_control
from miracle_lib.preprocessing.samples import duplicate_pairs, outlier_scores, predict_sex


@pytest.fixture
def cohort():
    return simulate_cohorts({"RA": 60}, n_sites=1000, missing=0).cohorts["RA"]


def finding(clean, report, check):
    """One check's row of the report, and the names it found."""
    row = report.set_index("check").loc[check]
    details = clean.uns["quality"]
    return row, details.loc[details["check"] == check, "name"].tolist()


def test_a_clean_cohort_loses_only_its_sex_chromosomes(cohort):
    before = cohort.copy()
    clean, report = quality_control(cohort)
    row, names = finding(clean, report, "sex chromosomes")
    expected = cohort.var_names[cohort.var["chromosome"].isin(["X", "Y"])]
    assert names == expected.tolist()
    assert (row["n"], row["n_only"], row["n_before"]) == (len(expected),) * 2 + (1000,)
    assert report.loc[report["check"] != "sex chromosomes", "n"].sum() == 0
    assert clean.n_obs == 60
    assert np.array_equal(clean.X, cohort[:, clean.var_names].X, equal_nan=True)
    assert (clean.obs["flags"] == "").all()
    assert clean.obs["sex_predicted"].tolist() == cohort.obs["sex"].tolist()
    # the input is left as it was
    assert cohort.obs.equals(before.obs)
    assert np.array_equal(cohort.X, before.X, equal_nan=True)


def test_low_call_rate_and_missing_sites_are_dropped(cohort):
    cohort.X[3, :150] = np.nan
    cohort.X[20:33, 500] = np.nan
    cohort.X[20:30, 501] = np.nan
    clean, report = quality_control(cohort, sex_chromosomes=True)
    row, names = finding(clean, report, "call rate")
    assert names == ["RA-004"]
    assert row["action"] == "dropped"
    assert clean.uns["quality"].loc[0, "value"] == pytest.approx(0.85)
    row, names = finding(clean, report, "missing")
    assert names == [cohort.var_names[500]]
    assert clean.shape == (59, 999)


def test_a_bad_sample_does_not_take_sites_with_it(cohort):
    cohort.X[:2] = np.nan  # both all missing: dropped before the sites are counted
    cohort.X[10:21, 7] = np.nan  # 11 of 58 remain under a fifth
    clean, _ = quality_control(cohort, sex_chromosomes=True)
    assert clean.shape == (58, 1000)


def test_probe_masks_are_switchable_and_counted(cohort):
    sites = cohort.var_names
    masks = pd.DataFrame({"snp": False, "cross": False, "extra": False}, index=sites[:500])
    masks.loc[sites[:10], "snp"] = True
    masks.loc[sites[5:25], "cross"] = True
    masks.loc[sites[30:40], "extra"] = True
    clean, report = quality_control(
        cohort, probe_masks=masks, masks=["snp", "cross"], sex_chromosomes=True
    )
    assert clean.var_names.tolist() == sites[25:].tolist()
    snp, names = finding(clean, report, "snp")
    assert names == sites[:10].tolist()
    assert (snp["n"], snp["n_only"]) == (10, 5)
    cross, _ = finding(clean, report, "cross")
    assert (cross["n"], cross["n_only"]) == (20, 15)
    with pytest.raises(MiracleError, match="no list 'quality'; they have snp, cross, extra"):
        quality_control(cohort, probe_masks=masks, masks=["quality"])
    with pytest.raises(MiracleError, match="no list 'zhou_general'"):
        quality_control(cohort, probe_masks=masks, masks=["zhou_general"])


@pytest.mark.parametrize("suffix", ["", "_TC11"])
def test_probes_with_suffixes_are_masked_by_their_name_or_their_site(cohort, suffix):
    masks = pd.DataFrame({"snp": True}, index=cohort.var_names[:10] + suffix)
    cohort.var_names = cohort.var_names + "_TC11"
    clean, _ = quality_control(cohort, probe_masks=masks, sex_chromosomes=True)
    assert clean.var_names.tolist() == cohort.var_names[10:].tolist()


def test_probe_masks_of_no_site_are_said(cohort, caplog):
    masks = pd.DataFrame({"snp": True}, index=cohort.var_names[:1])
    quality_control(cohort, probe_masks=masks)
    assert not caplog.messages
    quality_control(cohort, probe_masks=masks.set_axis(["cg1_TC11"]))
    said = "no probe is masked; the probe masks (cg1_TC11, ...) hold none of its 1000 sites"
    assert said in caplog.text


def test_probe_masks_without_a_choice_are_the_recommended_ones_or_all(cohort):
    sites = cohort.var_names
    masks = pd.DataFrame({"MASK_general": False, "MASK_snp5": False}, index=sites)
    masks.loc[sites[:10], "MASK_general"] = True
    masks.loc[sites[10:30], "MASK_snp5"] = True
    clean, report = quality_control(cohort, probe_masks=masks, sex_chromosomes=True)
    assert clean.var_names.tolist() == sites[10:].tolist()
    assert "MASK_snp5" not in set(report["check"])
    own = masks.rename(columns={"MASK_general": "ours", "MASK_snp5": "theirs"})
    clean, _ = quality_control(cohort, probe_masks=own, sex_chromosomes=True)
    assert clean.var_names.tolist() == sites[30:].tolist()


def test_probes_that_are_not_cpg(cohort):
    names = cohort.var_names.tolist()
    names[:2] = ["ch.1.100F", "rs123"]
    cohort.var_names = names
    clean, report = quality_control(cohort, sex_chromosomes=True)
    assert finding(clean, report, "not CpG")[1] == ["ch.1.100F", "rs123"]
    assert clean.n_vars == 998
    assert quality_control(cohort, sex_chromosomes=True, non_cpg=True)[0].n_vars == 1000


def test_values_that_failed_detection_become_missing(cohort):
    p = np.zeros(cohort.shape)
    p[4, 10], p[5, 10], p[6, 10] = 0.5, 0.011, 0.01
    cohort.X[5, 10] = np.nan  # missing already
    beads = np.full(cohort.shape, 10)
    beads[7, 12] = 2
    cohort.layers["detection_p"], cohort.layers["beads"] = p, beads
    clean, report = quality_control(cohort, sex_chromosomes=True)
    assert finding(clean, report, "detection_p")[0]["n"] == 1
    assert finding(clean, report, "beads")[0]["n"] == 1
    expected = np.isnan(cohort.X)
    expected[4, 10] = expected[7, 12] = True
    assert np.array_equal(np.isnan(clean.X), expected)
    assert not np.isnan(cohort.X[4, 10])


def test_swapped_sex_is_flagged(cohort):
    swapped = cohort.obs_names[[2, 9]]
    cohort.obs.loc[swapped, "sex"] = cohort.obs.loc[swapped, "sex"].map({"F": "M", "M": "F"})
    clean, report = quality_control(cohort)
    assert finding(clean, report, "sex")[1] == swapped.tolist()
    assert clean.obs.index[clean.obs["flags"] == "sex"].tolist() == swapped.tolist()
    assert clean.n_obs == 60
    assert quality_control(cohort, drop=["sex"])[0].n_obs == 58


def test_sex_is_not_guessed_without_evidence(cohort):
    women = cohort[cohort.obs["sex"] == "F"].copy()
    assert predict_sex(women).isna().all()
    assert predict_sex(cohort[:, ~cohort.var["chromosome"].isin(["X", "Y"])]).isna().all()
    del cohort.var["chromosome"]
    assert predict_sex(cohort).isna().all()
    clean, report = quality_control(cohort)
    assert finding(clean, report, "sex")[0]["n"] == 0


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_failed_array_makes_no_men_of_women(cohort, share):
    women = cohort[cohort.obs["sex"] == "F"].copy()
    women.X[0] = 0.5 + share * (women.X[0] - 0.5)
    assert predict_sex(women).isna().all()


def test_one_man_among_women_is_found(cohort):
    rows = cohort.obs["sex"] == "F"
    rows.iloc[np.flatnonzero(~rows)[0]] = True
    mixed = cohort[rows].copy()
    assert predict_sex(mixed).tolist() == mixed.obs["sex"].tolist()


def test_outlier_is_flagged_and_only_it(cohort):
    rng = np.random.default_rng(0)
    m = np.log2(cohort.X[11] / (1 - cohort.X[11])) + rng.normal(0, 3, cohort.n_vars)
    cohort.X[11] = 1 / (1 + 2.0**-m)
    clean, report = quality_control(cohort)
    assert finding(clean, report, "outlier")[1] == ["RA-012"]
    assert clean.obs["outlier_score"].idxmax() == "RA-012"
    assert quality_control(cohort, drop=["outlier"])[0].n_obs == 59


@pytest.mark.parametrize("seed", range(5))
def test_ordinary_samples_are_no_outliers_and_no_copies(seed):
    for cohort in simulate_cohorts(random_state=seed).cohorts.values():
        assert (outlier_scores(cohort) > 6).sum() <= 1
        assert duplicate_pairs(cohort).empty


def test_copy_is_flagged_at_its_second_place(cohort):
    rng = np.random.default_rng(0)
    cohort.X[30] = np.clip(cohort.X[8] + rng.normal(0, 0.002, cohort.n_vars), 0.001, 0.999)
    clean, report = quality_control(cohort, drop=["duplicate"])
    assert finding(clean, report, "duplicate")[1] == ["RA-031"]
    assert "RA-031" not in clean.obs_names
    assert "RA-009" in clean.obs_names
    pairs = duplicate_pairs(cohort)
    assert pairs[["sample", "copy"]].values.tolist() == [["RA-009", "RA-031"]]


def test_labels_are_never_read(cohort):
    other = cohort.copy()
    other.obs["label"] = other.obs["label"].to_numpy()[::-1]
    first, report = quality_control(cohort)
    second, same = quality_control(other)
    assert np.array_equal(first.X, second.X)
    pd.testing.assert_frame_equal(report, same)
    pd.testing.assert_frame_equal(first.uns["quality"], second.uns["quality"])


@pytest.mark.parametrize("sex_known", [True, False])
def test_result_is_written_and_read_back(cohort, tmp_path, sex_known):
    cohort.X[3, :150] = np.nan
    if not sex_known:
        del cohort.var["chromosome"]
    clean, _ = quality_control(cohort)
    clean.write_h5ad(tmp_path / "clean.h5ad")
    back = anndata.read_h5ad(tmp_path / "clean.h5ad")
    assert np.array_equal(back.X, clean.X, equal_nan=True)
    assert back.uns["quality"]["name"].tolist() == clean.uns["quality"]["name"].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_call_rate": 1.5}, "min_call_rate is 1.5"),
        ({"max_missing": -1}, "max_missing is -1"),
        ({"drop": ["age"]}, "drop names 'age'; expected any of sex, outlier, duplicate"),
    ],
)
def test_refuses_parameters(cohort, arguments, message):
    with pytest.raises(MiracleError, match=message):
        quality_control(cohort, **arguments)


def test_refuses_when_nothing_is_left(cohort):
    masks = pd.DataFrame({"all": True}, index=cohort.var_names)
    with pytest.raises(MiracleError, match="no site is left of 1000; the check 'all' alone"):
        quality_control(cohort, probe_masks=masks, masks=["all"])
    cohort.X[:, ::2] = np.nan
    with pytest.raises(MiracleError, match="Simulated RA: no sample reaches .* best has 0.500"):
        quality_control(cohort)


@pytest.mark.mirror
def test_real_cohort_with_published_masks(mirror):
    from miracle_lib.cohorts import load_cohort

    cohort = load_cohort("GSE42861", mirror=mirror, allow_subset=True)
    masks = pd.read_csv(mirror / "HM450_probe_masks.csv.gz", index_col=0)
    clean, report = quality_control(cohort, probe_masks=masks)
    counts = report.set_index("check")["n"]
    assert counts[["zhou_general", "chen2013_crossreactive", "not CpG"]].tolist() == [568, 253, 5]
    assert report.loc[report["level"] == "sample", "n"].sum() == 0
    assert clean.shape == (100, 2413)
    assert not masks.loc[clean.var_names, ["zhou_general", "chen2013_crossreactive"]].any().any()
