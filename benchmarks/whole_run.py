"""The six series at full size: seconds and peak memory of a whole run, step by step.

``MIRACLE_MIRROR`` names a folder with the files of the profile ``geo``; ``MIRACLE_RUN`` may name
the folder of the run, whose finished steps are not made again. Memory is that of all processes of
the run, sampled five times a second, without what they share and pages of files. The largest series
alone is then taken to the sites of five folds in three ways: as a run does, with everything in
memory, and with pandas and SciPy.
"""

import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import yaml
from scipy.stats import ttest_ind
from sklearn.model_selection import StratifiedKFold

from miracle_lib.cohorts import load_cohort, load_manifest, merge_cohorts, read_series_matrix
from miracle_lib.evaluation import make_folds
from miracle_lib.pipeline.notebooks import open_profile_run
from miracle_lib.preprocessing import SiteSelector, quality_control
from miracle_lib.resources import MANIFEST

LARGEST, N_SITES, N_FOLDS = "GSE42861", 2000, 5


class Watch(threading.Thread):
    """Seconds and peak memory of a process and those below it, for each thing that it does.

    Attributes
    ----------
    at : str
        What it does now.
    seconds, peak : dict of str to float
        Peaks in GB.
    """

    def __init__(self, pid: int, at: str) -> None:
        super().__init__(daemon=True)
        self.tree, self.at = psutil.Process(pid), at
        self.seconds: dict[str, float] = defaultdict(float)
        self.peak: dict[str, float] = defaultdict(float)
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        last = time.perf_counter()
        while not self.ended.wait(0.2):
            at, now = self.at, time.perf_counter()
            self.seconds[at] += now - last
            self.peak[at] = max(self.peak[at], sum(map(_own_memory, _with_children(self.tree))))
            last = now

    def end(self) -> None:
        """Stop watching."""
        self.ended.set()
        self.join()

    def show(self) -> None:
        """Print a row for each thing that was done."""
        for name, seconds in self.seconds.items():
            print(f"| {name} | {seconds:.0f} | {self.peak[name]:.2f} |", flush=True)


def _with_children(tree: psutil.Process) -> list[psutil.Process]:
    """A process and those below it; itself alone when it has just ended."""
    try:
        return [tree, *tree.children(recursive=True)]
    except psutil.Error:
        return [tree]


def _own_memory(process: psutil.Process) -> float:
    """Memory of a process that it does not share, in GB."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0.0
    return (memory.rss - memory.shared) / 1e9


def _size(folder: Path) -> float:
    """Size of the files of a folder in GB; a file with two names counts once."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({file.st_ino: file.st_size for file in files}.values()) / 1e9


def whole_run(profile: str, folder: str) -> Watch:
    """Run ``miracle run`` and watch its steps and the notebooks that show them."""
    command = [sys.executable, "-m", "miracle_lib.cli", "run"]
    options = ["--profile", profile, "--run-dir", folder]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        watch, chapter = Watch(process.pid, "start"), "start"
        for line in process.stderr or ():
            sys.stderr.write(line)
            if found := re.match(r"chapter \d+ of \d+: (\w+)", line):
                watch.at = chapter = found[1]
            elif found := re.match(r"(\w+): (running|done in)", line):
                watch.at = found[1] if found[2] == "running" else chapter
    watch.end()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return watch


def watched(title: str, function: Callable[..., Any], *arguments: Any) -> Watch:
    """Call a function in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    watch = Watch(process.pid, title)
    process.join()
    watch.end()
    if process.exitcode:
        raise SystemExit(f"{title}: failed")
    return watch


def as_a_run(folder: str) -> None:
    """Take the largest series to the sites of five folds, as a run does."""
    geo = yaml.safe_load((MANIFEST / "profiles" / "geo.yaml").read_text())
    profile = Path(folder) / "one.yaml"
    profile.write_text(yaml.safe_dump(geo | {"cohorts": [LARGEST]}))
    given = {"n_sites": N_SITES, "n_folds": N_FOLDS, "n_repeats": 1}
    open_profile_run(str(profile), str(Path(folder) / "one"), given).folder("candidates")


def in_memory() -> None:
    """The same with the functions for data in memory, a selector fitted in each fold."""
    cohort, _ = quality_control(load_cohort(LARGEST, os.environ["MIRACLE_MIRROR"]))
    X, Y, _ = merge_cohorts([cohort])
    for fold in make_folds(Y, n_splits=N_FOLDS):
        SiteSelector(k=N_SITES).fit(X.iloc[fold.train], Y.iloc[fold.train])


def with_pandas() -> None:
    """What a user would write: pandas reads the series matrix, a t-test per fold chooses sites."""
    manifest = load_manifest(LARGEST)
    path = Path(os.environ["MIRACLE_MIRROR"]) / manifest.files[0].name
    samples = read_series_matrix(path, samples=[]).samples
    rule = manifest.phenotypes.label
    case = samples[rule.key].isin(rule.case if isinstance(rule.case, list) else [rule.case])
    X = pd.read_csv(path, sep="\t", comment="!", index_col=0).T
    X = X.loc[:, X.isna().mean() <= 0.2]
    M = np.log2(X.clip(0.001, 0.999) / (1 - X.clip(0.001, 0.999)))
    y = case.loc[X.index].to_numpy()
    for train, _ in StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(M, y):
        part, label = M.iloc[train], y[train]
        p = ttest_ind(part[label], part[~label], equal_var=False, nan_policy="omit").pvalue
        part.columns[np.argsort(p)[:N_SITES]]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.environ.get("MIRACLE_RUN", str(Path(temporary) / "geo"))
        watch = whole_run("geo", folder)
        print("| step | seconds | peak, GB |\n|---|---|---|")
        watch.show()
        print(f"| all | {sum(watch.seconds.values()):.0f} | {max(watch.peak.values()):.2f} |")
        print(f"\nOn disk: {_size(Path(folder)):.1f} GB.\n")
        print(f"| {LARGEST} to the sites of five folds | seconds | peak, GB |\n|---|---|---|")
        watched("steps of a run", as_a_run, temporary).show()
        watched("in memory", in_memory).show()
        watched("pandas and SciPy", with_pandas).show()


if __name__ == "__main__":
    main()
