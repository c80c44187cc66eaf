"""The book in a real browser, as a reader meets it: wide, on a phone, without a network."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import miracle_lib as ml
from miracle_lib.config import ROOT
from miracle_lib.limits import Limits
from miracle_lib.pipeline.book import JUPYTER_BOOK
from miracle_lib.reports import Evidence, write_report

WIDTHS = (1400, 390)
# What sticks out of the page and of every box around it that scrolls.
WIDER = """() => {
  const page = document.documentElement.clientWidth;
  const scrolls = (node) => {
    for (let box = node.parentElement; box && box !== document.body; box = box.parentElement)
      if (/(auto|scroll|hidden)/.test(getComputedStyle(box).overflowX)) return true;
    return false;
  };
  return [...document.querySelectorAll("article *")]
    .filter((node) => node.getBoundingClientRect().right > page + 1 && !scrolls(node))
    .map((node) => node.outerHTML.slice(0, 80));
}"""
IMAGES = """() => [...document.querySelectorAll("article img")]
  .filter((image) => !image.complete || !image.naturalWidth || image.alt.length < 20)
  .map((image) => image.src.slice(-60))"""
# Pictures to look closer at in which nothing was drawn.
EMPTY = """() => [...document.querySelectorAll(".interactive")]
  .filter((box) => !box.querySelector("path.surface, .heatmaplayer image, .gl-container canvas"))
  .map((box) => box.innerHTML.slice(0, 80))"""
LINKS = """() => [...document.querySelectorAll("a[href]")].map((link) => link.href)
  .filter((address) => address.startsWith("file:"))"""


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The built book, with the committed outputs."""
    folder = tmp_path_factory.mktemp("book")
    for name in ("book", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("_build"))
    shutil.copy(ROOT / "_config.yml", folder)
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", "book/", "--quiet"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def browser():
    """Chromium of this machine."""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=options)
        yield running
        running.close()


def pages(html):
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)


def look(browser, html, width, scheme):
    """Open every page of a folder; stop at one that is not whole, or has a link that is dead."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    problems = []
    page.on("console", lambda said: said.type == "error" and problems.append(said.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(f"not loaded: {request.url}"))
    linked = set()
    for path in pages(html):
        page.goto(path.as_uri())
        problems += [f"wider than the page: {node}" for node in page.evaluate(WIDER)]
        problems += [f"image: {source}" for source in page.evaluate(IMAGES)]
        problems += [f"nothing drawn: {box}" for box in page.evaluate(EMPTY)]
        linked.update(page.evaluate(LINKS))
        assert not problems, f"{path.relative_to(html)}: {problems[:3]}"
    known = {path.as_uri() for path in html.rglob("*") if path.is_file()}
    dead = [address for address in linked if address.split("#")[0].split("?")[0] not in known]
    assert not dead


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_whole_at_every_width(html, browser, width, scheme):
    look(browser, html, width, scheme)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report on samples with odd names, one of which is no sample of blood."""
    data = ml.simulate_cohorts({"RA": 40}, n_sites=200, random_state=0)
    X, y = data.cohorts["RA"].to_df(), data.cohorts["RA"].obs["label"].rename("RA")
    mask = ml.Hierarchy.from_tables(data.site_gene, data.gene_sets)
    training = ml.Training(epochs=(1, 2, 0), progress=False)
    model = ml.MiracleClassifier(mask, training=training).fit(X, y)
    new = X.iloc[:3].set_axis(["long_" * 30, "<script>alert(1)</script>", "100% #1?"])
    new.iloc[0] = 1 - new.iloc[0]
    scores = {"task": "RA", "cohort": "RA", "label": y, "score": np.linspace(0, 1, len(y))}
    model.keep_held_out(pd.DataFrame(scores))
    result = ml.predict(model, new, Limits(factor=100))
    result["score[RA]"] = [0.25, 0.5, 0.75]
    found = {"attribution": 0.2, "z": 5.0, "q_value": 0.01, "n_sites": 9}
    evidence = Evidence({"RA": pd.DataFrame(found, mask.pathways)})
    folder = tmp_path_factory.mktemp("report")
    return write_report(folder, model, new, result, evidence=evidence).parent


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_is_whole_at_every_width(report, browser, width):
    for scheme in ("light", "dark"):
        look(browser, report, width, scheme)


def test_the_line_of_a_report_stands_at_the_score(report, browser):
    page = browser.new_page()
    left = []
    for path in sorted((report / "samples").glob("*.html")):
        page.goto(path.as_uri())
        left.append(page.locator(".scores .sample").bounding_box()["x"])
        page.locator("summary").first.click()
        assert page.locator("details[open] td").first.is_visible()
    first, second, third = left
    axis = page.locator(".scores svg").bounding_box()["width"]
    assert third - second == pytest.approx(second - first, abs=0.5)
    assert 0.2 * axis < second - first < 0.25 * axis


def test_the_search_finds_what_is_there(html, browser):
    page = browser.new_page()
    page.goto(f"{(html / 'search.html').as_uri()}?q=pathway")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    assert page.locator("#search-results li a").count() > 3


def test_the_map_is_searched_by_words_and_comes_back_whole(html, browser):
    page = browser.new_page()
    page.goto((html / "notebooks" / "05_enrichment_validation.html").as_uri())
    rows = "() => document.getElementById('map').data[0].y"
    every = page.evaluate(rows)
    page.fill("input.search-rows", "SIMULATED 01")
    found = page.evaluate(rows)
    assert found == [name for name in every if "01" in name]
    assert 0 < len(found) < len(every)
    assert page.locator(".interactive output").inner_text() == f"{len(found)} of {len(every)}"
    page.fill("input.search-rows", "")
    assert page.evaluate(rows) == every


def test_no_page_names_a_folder_of_a_machine(html):
    for path in pages(html):
        assert str(ROOT) not in path.read_text(), path.name
