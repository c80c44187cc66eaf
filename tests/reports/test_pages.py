"""Reports: what stands on the pages, and that nothing else gets onto them."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest

import miracle_lib as ml
from miracle_lib.errors import MiracleError
from miracle_lib.estimator.reliability import site_weights
from miracle_lib.preprocessing.scale import m_to_beta
from miracle_lib.reports import Evidence, write_report

HOSTILE = ["<script>alert(1)</script>", "../../above", "con", "CON", 'a"b&c', "ü" * 120]


def survived(model, task, names, q_value=0.01):
    """A table as `explain` gives it, in which some pathways survived."""
    pathways = model.hierarchy_.pathways
    table = pd.DataFrame({"attribution": 0.3, "z": 4.2, "n_sites": 9}, index=pathways)
    return Evidence({task: table.assign(q_value=np.where(pathways.isin(names), q_value, 0.5))})


def report(folder, model, X, **options):
    """Text of the page of the batch, and of each sample."""
    index = write_report(folder / "report", model, X, ml.predict(model, X), **options)
    pages = sorted((folder / "report" / "samples").glob("*.html"))
    return index.read_text(), [page.read_text() for page in pages]


def text_of(page):
    """What a reader sees, on one line."""
    body = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_every_page_says_what_it_is_for_and_that_the_model_is_simulated(tmp_path, model, X):
    index, pages = report(tmp_path, model, X, title="new.csv")
    assert len(pages) == len(X)
    for page in [index, *pages]:
        said = text_of(page)
        assert said.count("For research use, not diagnosis.") == 2
        assert said.index("trained on simulated cohorts") < said.index("probability of a case")
        assert not re.search("https?:", re.sub(r'xmlns(:xlink)?="[^"]*"', "", page))
        assert "<script" not in page


def test_warnings_come_first(tmp_path, model, X):
    X.iloc[0] = 1 - X.iloc[0]
    X.iloc[1] = np.nan
    index, pages = report(tmp_path, model, X)
    assert text_of(index).index("samples with a warning") < text_of(index).index("Tasks")
    said = text_of(pages[0])
    assert said.index(": not to be used: ") < said.index("In short")
    assert "No probability is given" in said
    assert text_of(pages[1]).count("no value at all") == 1


def test_the_heaviest_missing_sites_are_named(tmp_path, model, X):
    task = model.tasks_[0]
    weights = site_weights(model, task).sort_values(ascending=False)
    X = X.iloc[[5]].fillna(0.5).drop(columns=weights.index[[0, 3]])
    _, (page,) = report(tmp_path, model, X)
    said = text_of(page)
    lost = weights.iloc[[0, 3]]
    assert f"weight of {task} that rests on missing sites {lost.sum():.0%}" in said
    assert ", ".join(f"{site} {share:.1%}" for site, share in lost.items()) in said


def test_hostile_names_are_text_and_no_paths(tmp_path, model, X):
    X.index = HOSTILE
    index, pages = report(tmp_path, model, X, title="<b>bold</b>")
    assert len(pages) == len(HOSTILE)
    for page in [index, *pages]:
        assert "<script" not in page
        assert "<b>" not in page
    assert [re.search("<h1>(.*)</h1>", page)[1] for page in pages] == [
        *("&lt;script&gt;alert(1)&lt;/script&gt;", "../../above", "con", "CON", "a&#34;b&amp;c"),
        "ü" * 120,
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report"]


def test_the_score_lies_among_held_out_ones(tmp_path, model, X):
    """Ten controls score 0.05 to 0.5, ten cases 0.55 to 1."""
    result = ml.predict(model, X.iloc[:1])
    task = next(t for t in model.tasks_ if result[f"verdict[{t}]"].item() != "not to be used")
    result[f"score[{task}]"] = 0.72
    index = write_report(tmp_path, model, X.iloc[:1], result)
    page = next(index.parent.glob("samples/*")).read_text()
    assert "Score 0.72: higher than 100% of 10 controls and 40% of 10 cases" in text_of(page)
    assert "--score: 0.72; --width: " in page
    assert re.search(r"Standardised by Simulated \w+: the same alone and in a batch", text_of(page))


def test_only_pathways_that_survived_are_named_down_to_sites(tmp_path, model, X):
    task, names = model.tasks_[0], list(model.hierarchy_.pathways[:2])
    index, pages = report(tmp_path, model, X, evidence=survived(model, task, names))
    assert f"2 of {len(model.hierarchy_.pathways)} pathways survived" in text_of(index)
    (part,) = re.findall(rf"<h2>{task} .*?</section>", pages[0], re.DOTALL)
    assert set(re.findall(r'class="pathway">(.*?)<', part)) == set(names)
    others = [name for name in model.hierarchy_.pathways if name not in names]
    assert not any(name in pages[0] for name in others)
    contribution = ml.interpretation.attribute(model, X.iloc[:1], task)[names[0]].item()
    assert f"{contribution:+.2f}".replace("-", "−") in part
    first = re.search(rf"{names[0]}<.*?<tbody>(.*?)</tbody>", part, re.DOTALL)[1]
    site = re.findall("<td>(cg[0-9]*)</td>", first)[0]
    usual = m_to_beta(model.standardizer_.mean_.loc["Simulated RA", site])
    assert f'>{X.iloc[0][site]:.2f}</td>\n<td class="number">{usual:.2f}</td>' in first
    assert f"No pathway of {model.tasks_[1]} survived" in text_of(pages[0]) or (
        "no pathway is named" in text_of(pages[0])
    )


def test_without_a_run_no_pathway_is_named(tmp_path, model, X):
    index, pages = report(tmp_path, model, X)
    assert "No controls exist" in text_of(pages[0])
    assert "used without its run" in text_of(index)
    assert not any(name in pages[0] for name in model.hierarchy_.pathways)


def test_the_evidence_of_a_run_is_read_with_its_limit(tmp_path, model):
    folder = tmp_path / "tables" / "explained" / "tasks"
    assert Evidence.of_run(tmp_path) is None
    folder.mkdir(parents=True)
    table = survived(model, "a/b", [model.hierarchy_.pathways[0]], q_value=0.15).tables["a/b"]
    table.to_csv(folder / "a%2Fb.csv")
    given = tmp_path / "parameters.json"
    given.write_text('{"q_threshold": 0.2, "selection": "variance"}')
    found = Evidence.of_run(tmp_path)
    assert not found.caveat
    assert list(found.survivors("a/b").index) == [model.hierarchy_.pathways[0]]
    assert found.survivors("another").empty
    given.write_text('{"q_threshold": 0.2, "selection": "ttest"}')
    assert "read the pathways as a ranking" in Evidence.of_run(tmp_path).caveat


def test_pathways_of_sites_that_the_labels_chose_are_no_more_than_a_ranking(tmp_path, model, X):
    task = model.tasks_[0]
    evidence = survived(model, task, model.hierarchy_.pathways[:2])
    for caveat in ("", "Q-values are too small."):
        said = report(tmp_path, model, X.iloc[:1], evidence=replace(evidence, caveat=caveat))
        for page in (said[0], said[1][0]):
            assert ("Q-values are too small." in text_of(page)) is bool(caveat)


def test_pages_go_first_to_samples_that_need_a_look(tmp_path, model, X):
    result = ml.predict(model, X).assign(warning="")
    result[f"verdict[{model.tasks_[0]}]"] = "reliable"
    result.loc[X.index[4], "warning"] = "something odd"
    path = write_report(tmp_path, model, X, result, max_pages=1)
    (page,) = path.parent.glob("samples/*.html")
    assert f"<h1>{X.index[4]}</h1>" in page.read_text()
    index = path.read_text()
    assert all(name in index for name in X.index)
    assert index.count("<a href") == 1
    assert "1 of them with a page of their own" in text_of(index)


def test_a_report_is_replaced_and_nothing_else(tmp_path, model, X):
    report(tmp_path, model, X)
    _, pages = report(tmp_path, model, X.iloc[:2])
    assert len(pages) == 2
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "index.html").write_text("my page")
    with pytest.raises(MiracleError, match=r"holds 'index.html' and no report; name another"):
        write_report(tmp_path / "own", model, X, ml.predict(model, X))


def test_cells_are_estimated_in_models_of_blood_only(tmp_path, model, X):
    rng = np.random.default_rng(0)
    reference = pd.DataFrame(rng.uniform(size=(200, 2)), X.columns, ["Mono", "Gran"])
    X.iloc[0] = reference @ [0.25, 0.75]
    result = ml.predict(model, X)
    result.loc[X.index[0], f"verdict[{model.tasks_[0]}]"] = "uncertain"  # the mixture looks unusual
    result.loc[X.index[0], f"cohort[{model.tasks_[0]}]"] = model.standardizer_.cohorts_[0]
    index = write_report(tmp_path, model, X, result, cell_reference=reference)
    page = sorted(index.parent.glob("samples/*"))[0].read_text()
    assert re.search(r"Mono .*25% .*Gran .*75%", text_of(page))
    of_blood, model.card_ = model.card_, None
    index = write_report(tmp_path, model, X, result, cell_reference=reference)
    model.card_ = of_blood
    page = sorted(index.parent.glob("samples/*"))[0].read_text()
    assert "needs a reference of sorted cells, and a model of blood" in text_of(page)
    assert "does not say what it was trained on" in text_of(page)
