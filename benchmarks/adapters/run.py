"""Train one method on one split in a process of its own: ``python run.py METHOD FOLDER``.

``FOLDER/split.npz`` is read, ``FOLDER/answer.npz`` written: score of each test sample, evidence of
each pathway (empty where the method has none), seconds of processor time and peak memory in MB.
Nothing of the project is imported unless a method is the project's own.
"""

import resource
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np


def main() -> None:
    method, folder = sys.argv[1], Path(sys.argv[2])
    module, _, variant = method.partition(":")
    split = dict(np.load(folder / "split.npz", allow_pickle=False))
    fit_predict = import_module(module).fit_predict
    start = time.process_time()
    score, pathways = fit_predict(split, *([variant] if variant else []))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    np.savez(
        folder / "answer.npz",
        score=np.asarray(score, float),
        pathways=np.asarray(pathways, float),
        seconds=time.process_time() - start + children.ru_utime,
        memory=max(own_peak(), children.ru_maxrss) / 1024,
    )


def own_peak() -> int:
    """Most memory of this process, in kB; Linux's ru_maxrss would be that of who started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
