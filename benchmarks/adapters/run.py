"""Train one method on some splits in a process of its own: ``python run.py METHOD FOLDER``.

Each ``.npz`` of the folder is read as a split and written over by its answer: score of each test
sample, evidence of each pathway (empty where the method has none), seconds of processor time and
peak memory in MB so far. Nothing of the project is imported unless a method is the project's own.
"""

import os
import resource
import sys
from importlib import import_module
from pathlib import Path

import numpy as np


def main() -> None:
    method, folder = sys.argv[1], Path(sys.argv[2])
    module, _, variant = method.partition(":")
    fit_predict = import_module(module).fit_predict
    for file in sorted(folder.glob("*.npz")):
        split, start = dict(np.load(file)), spent()
        score, pathways = fit_predict(split, *([variant] if variant else []))
        np.savez(
            file,
            score=np.asarray(score, float),
            pathways=np.asarray(pathways, float),
            seconds=spent() - start,
            memory=max(own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024,
        )


def spent() -> float:
    """Processor time of this process and of those that it ran, in seconds."""
    return sum(os.times()[:4])


def own_peak() -> int:
    """Most memory of this process, in kB; Linux's ru_maxrss would be that of who started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
