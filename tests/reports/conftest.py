import numpy as np
import pandas as pd
import pytest

import miracle_lib as ml
from miracle_lib.training.storage import Card, CohortCard


@pytest.fixture(scope="session")
def model_and_samples():
    """A small model of two tasks with held-out scores, and samples that it has not seen."""
    data = ml.simulate_cohorts({"RA": 60, "SLE": 60}, n_sites=200, random_state=0)
    X, Y, obs = ml.merge_cohorts(list(data.cohorts.values()))
    hierarchy = ml.Hierarchy.from_tables(data.site_gene, data.gene_sets, sites=X.columns)
    new = obs.index[obs["cohort"] == obs["cohort"].iloc[0]][:6]
    seen = X.index.difference(new)
    training = ml.Training(epochs=(2, 5, 0), progress=False)
    model = ml.MiracleClassifier(hierarchy, training=training)
    model.fit(X.loc[seen], Y.loc[seen], cohort=obs.loc[seen, "cohort"])
    scores = [
        {"task": task, "cohort": task, "label": label, "score": score}
        for task in model.tasks_
        for label, score in zip([0] * 10 + [1] * 10, np.linspace(0.05, 1, 20), strict=True)
    ]
    model.keep_held_out(pd.DataFrame(scores))
    cohorts = [
        CohortCard(name=n, task=n, tissue="whole blood", platform="450K", cases=30, controls=30)
        for n in model.tasks_
    ]
    model.card_ = Card(simulated=True, cohorts=cohorts)
    return model, X.loc[new]


@pytest.fixture
def model(model_and_samples):
    return model_and_samples[0]


@pytest.fixture
def X(model_and_samples):
    return model_and_samples[1].copy()
