"""Cells of the grid tests, in a module that worker processes can import."""

import os
import time

import numpy as np
import pandas as pd


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
