from types import SimpleNamespace

import pytest
import torch

from miracle_lib import Hierarchy, MiracleClassifier, Training, merge_cohorts, simulate_cohorts


@pytest.fixture(scope="session")
def study():
    """Two simulated cohorts with strong planted pathways and a model trained briefly."""
    torch.set_num_threads(1)
    simulation = simulate_cohorts(
        {"RA": 80, "SLE": 90}, n_sites=600, n_planted=2, shared=0.5, effect=0.6, random_state=3
    )
    X, Y, obs = merge_cohorts(list(simulation.cohorts.values()))
    hierarchy = Hierarchy.from_tables(simulation.site_gene, simulation.gene_sets)
    model = MiracleClassifier(
        hierarchy, device="cpu", training=Training(epochs=(5, 5, 0), progress=False)
    )
    model.fit(X, Y, cohort=obs["cohort"])
    return SimpleNamespace(simulation=simulation, X=X, Y=Y, obs=obs, model=model, mask=hierarchy)
