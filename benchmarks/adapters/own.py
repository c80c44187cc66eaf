"""MIRACLE and the baselines of this project, run as the peers are."""

import numpy as np
import pandas as pd

from miracle_lib.estimator import MiracleClassifier
from miracle_lib.evaluation import PerTaskBaseline
from miracle_lib.hierarchy import Hierarchy
from miracle_lib.interpretation import explain


def fit_predict(split: dict, baseline: str = "") -> tuple[np.ndarray, np.ndarray]:
    sites = pd.Index([f"cg{i}" for i in range(split["beta_train"].shape[1])])
    train, test = (
        pd.DataFrame(split[name], [f"{name}{i:05}" for i in range(len(split[name]))], sites)
        for name in ("beta_train", "beta_test")
    )
    Y = pd.DataFrame({"task": split["y_train"].astype(float)}, train.index)
    if baseline:
        model = PerTaskBaseline(baseline, random_state=int(split["seed"])).fit(train, Y)
        return model.predict_proba(test)["task"].to_numpy(), np.empty(0)
    pairs = pd.DataFrame(
        {
            "site": sites[split["site_gene"][:, 0]],
            "gene": [f"g{i}" for i in split["site_gene"][:, 1]],
            "group": "",
        }
    )
    n_pathways = split["mask"].shape[1]
    sets = {
        f"p{j}": [f"g{i}" for i in np.flatnonzero(split["mask"][:, j])] for j in range(n_pathways)
    }
    hierarchy = Hierarchy.from_tables(pairs, sites=sites, gene_sets=sets, min_genes=1)
    model = MiracleClassifier(hierarchy, random_state=int(split["seed"]))
    model.set_params(training__progress=False).fit(train, Y)
    evidence = explain(model, train, "task", Y, random_state=int(split["seed"]))["z"]
    return (
        model.predict_proba(test)["task"].to_numpy(),
        evidence.reindex([f"p{j}" for j in range(n_pathways)]).to_numpy(),
    )
