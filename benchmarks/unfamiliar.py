"""Which samples a model says it must not be used for: real held-out samples, and wrong ones.

    python -m benchmarks unfamiliar

Five folds of each public series of the mirror (MIRACLE_TEST_MIRROR): statistics of the cohort are
learnt on four, and the fifth is judged as it is and changed. No network is needed: the verdict
rests on distances alone.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold

import miracle_lib as ml
from miracle_lib.estimator import Limits
from miracle_lib.preprocessing import CohortStandardizer
from miracle_lib.preprocessing.familiarity import leave_one_out, profile_distance

SERIES = ("GSE42861", "GSE125105", "GSE72774", "GSE66695")
MIRROR = Path(os.environ.get("MIRACLE_TEST_MIRROR", "../shared/data/mirror"))


def wrong_samples(X: pd.DataFrame, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What is no sample of the cohort, or one with values moved."""
    beta = X.to_numpy()
    return {
        "as it is": beta,
        "noise": rng.random(beta.shape),
        "zeros": np.zeros_like(beta),
        "1 - X": 1 - beta,
        "sites shuffled": rng.permuted(beta, axis=1),
        "half of the sites 0.5": np.where(rng.random(beta.shape) < 0.5, 0.5, beta),
        "0.1 added": np.clip(beta + 0.1, 0, 1),
    }


def judge(train: pd.DataFrame, new: pd.DataFrame, limits: Limits) -> np.ndarray:
    """0 reliable, 1 uncertain, 2 not to be used."""
    statistics = CohortStandardizer().fit(train)
    held_out = profile_distance(leave_one_out(statistics.transform(train).to_numpy()))
    limit = np.quantile(held_out, limits.quantile)
    distance = profile_distance(statistics.transform(new).to_numpy())
    return (distance > limit).astype(int) + (distance > limits.factor * limit)


def main() -> None:
    rng, limits = np.random.default_rng(0), Limits()
    tables = {
        name: ml.load_cohort(name, mirror=MIRROR, allow_subset=True).to_df() for name in SERIES
    }
    rows = []
    for name, X in tables.items():
        verdicts: dict[str, list[np.ndarray]] = {}
        for train, test in KFold(5, shuffle=True, random_state=0).split(X):
            for what, values in wrong_samples(X.iloc[test], rng).items():
                new = pd.DataFrame(values, X.index[test], X.columns)
                verdicts.setdefault(what, []).append(judge(X.iloc[train], new, limits))
        rows += [(name, what, np.concatenate(found)) for what, found in verdicts.items()]
    for trained, other in (("GSE125105", "GSE72774"), ("GSE72774", "GSE125105")):
        sites = tables[trained].columns.intersection(tables[other].columns)
        found = judge(tables[trained][sites], tables[other][sites], limits)
        rows.append((trained, f"blood of {other}", found))
    print("| series | samples | reliable | uncertain | not to be used |\n|---|---|---|---|---|")
    for name, what, found in rows:
        shares = [f"{np.mean(found == verdict):.1%}" for verdict in range(3)]
        print(f"| {name} | {what} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
