"""Progress on stderr: a bar with the time left for who looks at a terminal, nothing in a file."""

import io
import re
import sys
import time

import numpy as np
import pandas as pd
from anndata import AnnData

from miracle_lib.cohorts.by_site import site_blocks
from miracle_lib.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_many_are_done_and_the_time_left(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in progress(iter("abc"), "cohorts", 3):
        time.sleep(0.11)
    shown = sys.stderr.getvalue()
    assert "cohorts:   0%" in shown
    assert re.search(r"cohorts:  67%.* 2/3 \[00:00<00:0", shown)
    assert shown.rstrip(" ").endswith("\r")  # nothing of it stays


def test_a_pass_over_stored_values_is_progress_of_its_blocks(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    sites = pd.DataFrame(index=[f"cg{i}" for i in range(1500)])
    adata = AnnData(np.zeros((1, 1500), np.float32), var=sites)
    assert [part.stop for part, _ in site_blocks(adata)] == [1024, 1500]
    assert "blocks of sites:   0%" in sys.stderr.getvalue()
    assert "0/2" in sys.stderr.getvalue()


def test_a_file_gets_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(progress([1, 2], "cohorts")) == [1, 2]
    assert sys.stderr.getvalue() == ""
