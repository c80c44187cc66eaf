import gzip
import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from miracle_lib.cli import app
from miracle_lib.cohorts.fetch import fetch_head
from miracle_lib.config import Parameters, load_profile
from miracle_lib.errors import MiracleError
from miracle_lib.pipeline.check import _costs, check_profile
from miracle_lib.pipeline.inputs import load_cohorts

COHORT = """
name: ours
task: Lupus
platform: 450K
tissue: blood
files: [{url: pheno.csv, layout: samples}, {url: beta.csv, layout: table}]
phenotypes:
  label: {key: status, case: ill, control: well}
  age: {key: age}
"""
PROFILE = """
title: ours
cohorts: [ours.yaml]
annotation: {array: array.csv, mask: sets.gmt, validation: {Other: other.gmt}}
parameters: {n_folds: 2}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MIRACLE_MIRROR", raising=False)
    (tmp_path / "ours.yaml").write_text(COHORT)
    (tmp_path / "profile.yaml").write_text(PROFILE)
    (tmp_path / "pheno.csv").write_text("id,status,age\na,ill,50\nb,ill,\nc,well,40\nd,well,41\n")
    (tmp_path / "beta.csv").write_text("id,cg01\na,0.5\nb,0.4\nc,0.3\nd,0.1\n")
    for name in ("array.csv", "sets.gmt", "other.gmt"):
        (tmp_path / name).write_text("content")
    return tmp_path


def test_a_page_says_what_there_will_be(folder):
    page = check_profile(str(folder / "profile.yaml"))
    assert page.stops == []
    assert "  samples: 4 of 4: 2 cases, 2 controls, 4 subjects" in page.lines
    assert "  covariates: age 75%" in page.lines
    assert "  sites: 485,577 (of the array, as headers do not say)" in page.lines
    assert "  file: beta.csv (32 bytes)" in page.lines


def test_sites_that_the_cohort_file_states_are_those_of_the_page(folder):
    path = folder / "ours.yaml"
    path.write_text(path.read_text().replace("layout: table}", "layout: table, n_sites: 1}"))
    page = check_profile(str(folder / "profile.yaml"))
    assert "  sites: 1 (stated by the cohort file)" in page.lines


def test_sites_that_a_series_states_are_those_of_the_page(folder):
    cells = {"geo_accession": "abcd", "data_row_count": ["485512"] * 4}
    cells["characteristics_ch1"] = ["status: ill", "status: ill", "status: well", "status: well"]
    lines = ["\t".join([f"!Sample_{name}", *said]) for name, said in cells.items()]
    text = "\n".join([*lines, "!series_matrix_table_begin", ""])
    (folder / "GSE1_series_matrix.txt").write_text(text)
    path = folder / "ours.yaml"
    files = "[{url: GSE1_series_matrix.txt}]\n"
    path.write_text(re.sub(r"\[.*\n", files, path.read_text()).partition("  age")[0])
    page = check_profile(str(folder / "profile.yaml"))
    assert "  sites: 485,512 (stated by the files)" in page.lines


def test_everything_that_stops_is_said_at_once_and_the_exit_status_says_so(folder):
    (folder / "profile.yaml").write_text(PROFILE.replace("n_folds: 2", "n_folds: 3"))
    (folder / "other.gmt").unlink()
    (folder / "beta.csv").unlink()
    answer = CliRunner().invoke(app, ["check", str(folder / "profile.yaml")])
    assert answer.exit_code == 1
    assert "a class of 2 subjects cannot be split into 3 folds" in answer.stdout
    assert "other.gmt" in answer.stdout
    assert "STOPS: beta.csv is not in" in answer.stdout
    assert "3 in the way" in answer.stdout


def test_two_cohorts_of_one_name_are_refused(folder):
    """They would be standardised as one."""
    (folder / "theirs.yaml").write_text(COHORT.replace("Lupus", "Arthritis"))
    profile = folder / "profile.yaml"
    profile.write_text(PROFILE.replace("[ours.yaml]", "[ours.yaml, theirs.yaml]"))
    message = r"ours.yaml and .*theirs.yaml are both of a cohort 'ours'; expected a 'name' of its"
    (stop,) = check_profile(str(profile)).stops
    assert re.search(message, stop)
    with pytest.raises(MiracleError, match=message):
        next(load_cohorts(load_profile(str(profile)), 0, None))


def test_a_cohort_that_only_tests_needs_no_folds(folder):
    (folder / "far.yaml").write_text(COHORT.replace("name: ours", "name: far"))
    profile = PROFILE.replace("n_folds: 2", "n_folds: 3") + "external: [far.yaml]\n"
    (folder / "profile.yaml").write_text(profile)
    page = check_profile(str(folder / "profile.yaml"))
    assert [stop.split(":")[0] for stop in page.stops] == ["ours"]
    assert any(line.startswith("far: ") for line in page.lines)


def test_simulated_cohorts_need_nothing():
    assert check_profile("demo").stops == []


def test_costs_follow_the_largest_cohort_and_the_sites_that_are_chosen():
    shapes = [(700, 500_000), (300, 500_000)]  # 1.4 and 0.6 GB
    whole = list(_costs(shapes, Parameters()))
    assert whole[:2] == ["memory: about 6.0 GB", "disk: about 4.0 GB"]
    some = list(_costs(shapes, Parameters(selection="ttest", n_sites=2000)))
    # Of whole arrays chapter 4 has no model of all sites.
    assert some[:2] == ["memory: about 3.3 GB", "disk: about 4.0 GB"]
    narrow = list(_costs([(700, 50_000)], Parameters(selection="ttest", n_sites=2000)))
    assert narrow[1].endswith("all sites: about 0.8 GB")


@pytest.mark.mirror
def test_real_cohorts_are_checked_from_their_headers(mirror):
    page = check_profile("blood", mirror)
    assert page.stops == []
    assert any("354" in line or "50 cases" in line for line in page.lines)


@pytest.fixture
def address():
    head = b'!Series_title\t"x"\n!series_matrix_table_begin\n'
    content = gzip.compress(head + b"0.123456789\n" * 10, 0) + b"damaged beyond the head" * 10**5

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if "matrix" in self.path else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # the rest is not wanted
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_only_the_head_of_a_file_is_downloaded(address, tmp_path, monkeypatch):
    monkeypatch.delenv("MIRACLE_MIRROR", raising=False)
    end = b"!series_matrix_table_begin"
    path = fetch_head(f"{address}/matrix.txt.gz", end, cache=tmp_path)
    assert path.read_bytes() == b'!Series_title\t"x"\n!series_matrix_table_begin\n'
    other = fetch_head(f"{address}/matrix.txt.gz?another", end, cache=tmp_path)
    assert other.name == path.name == "matrix.txt"
    assert other != path
    with pytest.raises(MiracleError, match="the server answered 404"):
        fetch_head(f"{address}/absent.txt.gz", end, cache=tmp_path)
