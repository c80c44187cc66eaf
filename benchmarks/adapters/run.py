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
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    np.savez(
        folder / "answer.npz",
        score=np.asarray(score, float),
        pathways=np.asarray(pathways, float),
        seconds=time.process_time() - start + usage[1].ru_utime,
        memory=max(each.ru_maxrss for each in usage) / 1024,
    )


if __name__ == "__main__":
    main()
