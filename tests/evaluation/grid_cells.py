"""Cells of the grid tests, in a module that worker processes can import."""

import os
import signal
import time

import numpy as np
import pandas as pd

from miracle_lib.evaluation import PerTaskBaseline


def count(x, log, wait=0.0, values=None):
    """Leave a line per execution, so that a test can see what ran."""
    time.sleep(wait)
    with open(log, "a") as file:
        file.write(f"{x} {os.getpid()}\n")
    total = x if values is None else x + float(np.nansum(values.to_numpy()))
    return {"result": pd.DataFrame({"x": [x], "total": [total], "missing": [np.nan]})}


def fail(x, log):
    if x == 3:
        raise RuntimeError("cell three")
    return count(x, log)


KEPT = []


def grow(x, log):
    """Keep 400 MB from the second cell of a process on."""
    KEPT.append(np.ones(50_000_000 if KEPT else 1))
    return count(x, log, wait=1.1)


def die(x, log):
    os.kill(os.getpid(), signal.SIGKILL)


class Logged(PerTaskBaseline):
    """Leave a line per fit, and take a while."""

    def __init__(self, name="naive_bayes", n_inner=2, log=None, wait=0.0):
        super().__init__(name, n_inner)
        self.log, self.wait = log, wait

    def fit(self, X, Y):
        count(len(X), self.log, self.wait)
        return super().fit(X, Y)
