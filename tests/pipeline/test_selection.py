import pytest
import yaml

from miracle_lib.config import Parameters
from miracle_lib.evaluation import make_folds
from miracle_lib.pipeline import answers, data, models, paper, selection
from miracle_lib.pipeline.run import STEPS, Run
from miracle_lib.pipeline.selection import (
    chosen_samples,
    fold_samples,
    mask_sizes,
    selected,
    site_selector,
    study_samples,
    used_mask,
)
from miracle_lib.preprocessing import SiteSelector
from miracle_lib.studies import AblationGrid, ablations, small_cohorts
from miracle_lib.studies import paper as paper_study
from miracle_lib.studies.first_experiments import CURVE_SPLITS

PROFILE = {
    "title": "two simulated cohorts",
    "simulation": {"sizes": {"MS": 50, "RA": 60}, "n_sites": 400, "effect": 1.0},
}
K = 60  # sites per task; there are two tasks
VARYING = {"n_sites": 30, "selection": "variance"}
LEVELS = {"miracle": {}, "logistic_l2": {"baseline": "logistic_l2"}, "all": {"selection": "none"}}
GRID = AblationGrid(
    scales={"small": {"n_splits": 2, "model": {"training__epochs": [3, 3, 0]}}},
    comparisons={"baselines": {"question": "?", "reference": "miracle", "levels": LEVELS}},
)


def open_run(folder, **values):
    (folder / "two.yaml").write_text(yaml.safe_dump(PROFILE))
    return Run(
        Parameters(
            profile=str(folder / "two.yaml"), run_dir=str(folder / "run"), n_folds=2, **values
        )
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = open_run(tmp_path_factory.mktemp("selection"), selection="ttest", n_sites=K)
    run.folder("hierarchy")
    return run


@pytest.fixture
def quick(monkeypatch):
    """Short trainings, a small grid of ablations in this process, one control of each kind."""
    full = models.classifier
    for module in (models, answers):
        monkeypatch.setattr(
            module,
            "classifier",
            lambda run: full(run).set_params(training__epochs=(3, 3, 0), training__progress=False),
        )
    monkeypatch.setattr(selection, "load_ablations", lambda: GRID)
    monkeypatch.setattr(models, "workers", lambda run: {"n_jobs": 1})
    monkeypatch.setattr(answers, "N_SEEDS", {"small": 1})
    monkeypatch.setattr(answers, "N_PERMUTATIONS", {"small": 20})


def fits_of(run, name, fits, folder):
    """Fits that one step makes itself, those before it being done."""
    for upstream in STEPS[name].after:
        run.folder(upstream)
    fits.clear()
    STEPS[name].make(run, folder)
    selectors = [fit for fit in fits if fit.kind == "SiteSelector"]
    return selectors, [fit for fit in fits if fit.kind != "SiteSelector"]


@pytest.mark.parametrize("name", ["scores", "experiments", "signs", "ablations"])
def test_in_folds_every_model_sees_sites_chosen_on_its_own_training_samples(
    run, quick, fits, tmp_path, name
):
    selectors, fitted = fits_of(run, name, fits, tmp_path)
    if name == "ablations":  # of its levels, one asks for all sites
        assert [fit.n_sites for fit in fitted[4:]] == [data.merged_samples(run).n_vars] * 2
        fitted = fitted[:4]
    assert fitted
    assert [fit.samples for fit in selectors] == [fit.samples for fit in fitted]
    n_samples = len(data.merged_samples(run))
    assert max(len(fit.samples) for fit in selectors) <= n_samples - n_samples // 3
    # The covariates-only baseline reads no site; it is given the chosen ones like the others.
    assert all(K <= fit.n_sites <= 2 * K for fit in fitted)


@pytest.mark.parametrize("name", ["model", "enriched", "stability"])
def test_on_all_samples_sites_are_chosen_once_and_every_model_sees_those(
    run, quick, fits, tmp_path, name
):
    samples = data.all_samples(run)
    sites = site_selector(run).fit(samples.values, samples.labels).sites_
    selectors, fitted = fits_of(run, name, fits, tmp_path)
    assert selectors == []  # the step before has chosen
    (width,) = {fit.n_sites for fit in fitted}
    assert K <= width <= 2 * K
    assert list(chosen_samples(run).sites) == list(sites)


def test_only_sites_that_a_fold_may_choose_are_loaded_and_every_fold_chooses_as_among_all(run):
    whole, loaded = data.all_samples(run), fold_samples(run)
    assert len(loaded.sites) < len(whole.sites)
    selector = site_selector(run)
    for part, n_splits in ((whole, 2), (whole.task("RA"), CURVE_SPLITS)):
        for fold in make_folds(part, n_splits=n_splits):
            rows = part.take(fold.train)
            sites = selector.fit(rows.values, rows.labels).sites_
            few = loaded.values.loc[rows.names]
            assert list(selector.fit(few, rows.labels).sites_) == list(sites)


@pytest.fixture
def narrow_grid(monkeypatch):
    """Ablations of which none sees all sites, and the learning curve of two sizes."""
    levels = {"miracle": {}, "few": {"n_sites": 20}, "varying": VARYING}
    comparison = {"question": "?", "reference": "miracle", "levels": levels}
    grid = AblationGrid(scales=GRID.scales, comparisons={"baselines": comparison})
    monkeypatch.setattr(selection, "load_ablations", lambda: grid)
    monkeypatch.setattr(small_cohorts, "SIZES", (20, 30))


def test_only_sites_that_a_fit_of_a_study_may_choose_are_loaded(run, narrow_grid):
    fresh = Run(run.parameters.model_copy(update={"seed": 3}))
    whole, size = data.all_samples(fresh), GRID.scales["small"]
    sets = {
        "ablations": list(ablations.training_sets(whole, size, 3)),
        "small_cohorts": list(small_cohorts.training_sets(whole, "small", 3)),
    }
    assert [len(each) for each in sets.values()] == [1 + 2, 2 * 2 * 2]
    selectors = [site_selector(fresh)]
    for study, trainings in sets.items():
        loaded = study_samples(fresh, study)
        assert len(loaded.sites) < len(whole.sites)
        for selector in selectors + [SiteSelector("variance", 30)] * (study == "ablations"):
            for rows in trainings:
                part, few = whole.take(rows), loaded.take(rows)
                among_all = selector.fit(part.values, part.labels).sites_
                assert list(selector.fit(few.values, few.labels).sites_) == list(among_all)


def test_only_sites_that_a_split_of_the_papers_protocols_may_choose_are_loaded(run, monkeypatch):
    monkeypatch.setattr(paper, "N_SITES", 20)
    whole, loaded = data.all_samples(run), selection.samples_of(run, "paper_candidates")
    assert len(loaded.sites) < len(whole.sites)
    sets = list(paper_study.training_sets(whole, 2, run.parameters.seed))
    assert [len(rows) == len(whole) for rows in sets] == [True] + [False] * 4
    for change in (lambda samples: samples, paper_study.absent_as_zero):
        every, few = change(whole), change(loaded)
        for rows in sets:
            found = [
                list(SiteSelector("ttest", 20).fit(part.values, part.labels).sites_)
                for part in (every.take(rows), few.take(rows))
            ]
            assert found[0] == found[1]


def test_a_study_with_a_level_of_all_sites_loads_all(run, quick):
    fresh = Run(run.parameters.model_copy(update={"seed": 4}))
    assert list(study_samples(fresh, "ablations").sites) == list(data.all_samples(fresh).sites)


def test_the_mask_of_the_model_is_the_mask_that_is_shown(run):
    shown, model = used_mask(run), models.fitted_model(run)
    assert shown == model.hierarchy_
    assert len(shown.pathways) < len(data.graph(run).pathways)
    assert min(len(genes) for genes in shown.gene_sets().values()) >= shown.min_genes > 1
    sizes = mask_sizes(run)
    assert sizes.loc["sites of the model", "pathways"] == len(shown.pathways)
    assert sizes.loc["all sites", "sites"] == len(data.graph(run).sites)


def test_the_kept_model_and_the_controls_have_the_chosen_sites(run):
    assert set(models.fitted_model(run).sites_) == set(chosen_samples(run).sites)


def test_the_page_says_which_p_values_hold(run, tmp_path):
    assert "chosen by the labels of the same samples" in answers.which_p_values_hold(run)
    assert "no label had a say" in answers.which_p_values_hold(open_run(tmp_path))


def test_a_run_without_selection_uses_the_tables_and_the_method_as_they_are(tmp_path):
    plain = open_run(tmp_path)
    assert site_selector(plain) is None
    assert selected(plain, "method") == "method"
    assert chosen_samples(plain) is data.all_samples(plain)
    assert fold_samples(plain) is data.all_samples(plain)
    assert used_mask(plain) is data.graph(plain)


@pytest.mark.parametrize("name", ["scores", "experiments", "signs", "ablations", "model"])
def test_another_selection_makes_another_result(run, name):
    other = Run(run.parameters.model_copy(update={"n_sites": K + 1}))
    assert other.key(name) != run.key(name)
