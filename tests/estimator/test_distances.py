import numpy as np
import pandas as pd
import pytest
import torch

import miracle_lib as ml
from miracle_lib.estimator.distances import Familiarity


@pytest.fixture(scope="module")
def fitted():
    data = ml.simulate_cohorts({"RA": 80}, n_sites=300, missing=0.02, random_state=0)
    X, y = data.cohorts["RA"].to_df(), data.cohorts["RA"].obs["label"].rename("RA")
    hierarchy = ml.Hierarchy.from_tables(data.site_gene, data.gene_sets)
    model = ml.MiracleClassifier(hierarchy, training=ml.Training(epochs=(2, 3, 0), progress=False))
    return model.fit(X, y.to_frame()), X


def test_distances_are_those_of_what_the_model_says(fitted):
    """Pathway activities and reconstruction, taken by the methods that everybody has."""
    model, X = fitted
    (cohort,) = model.standardizer_.cohorts_
    z = model.standardizer_.transform(X)
    found = model.familiarity_.measure(
        model.members_[0], torch.from_numpy(z.to_numpy()), torch.zeros(len(X), 0), cohort
    )
    scaled = (model.transform(X) - model.familiarity_.mean.loc[cohort]) / (
        model.familiarity_.sd.loc[cohort]
    )
    expected = np.sqrt(np.square(scaled.clip(-10, 10)).mean(axis=1))
    np.testing.assert_allclose(found["latent"], expected, rtol=1e-3)
    sites = model.hierarchy_.sites
    rebuilt = model.reconstruct(X).reindex(columns=model.sites_).fillna(0.5)
    left = (z - model.standardizer_.transform(rebuilt))[sites].where(X[sites].notna())
    expected = np.sqrt(np.square(left.clip(-10, 10)).mean(axis=1))
    np.testing.assert_allclose(found["reconstruction"], expected, rtol=0.02)


def test_only_samples_that_the_network_has_not_seen_are_its_held_out_ones(fitted):
    model, X = fitted
    held_out = model.familiarity_.held_out
    sizes = {kind: len(next(iter(found.values()))) for kind, found in held_out.items()}
    assert sizes["distance"] == len(X)
    assert sizes["latent"] == sizes["reconstruction"] == pytest.approx(len(X) / 5, abs=2)
    for found in held_out.values():
        assert (np.diff(next(iter(found.values()))) >= 0).all()


def test_the_limit_allows_for_how_few_samples_there_are():
    rng = np.random.default_rng(0)
    many, few = np.exp(rng.normal(0, 0.2, 5000)), np.exp(rng.normal(0, 0.2, (400, 15)))
    known = Familiarity(pd.DataFrame(), pd.DataFrame(), {"latent": {"many": many}})
    assert known.limit("latent", "many", 0.99) == pytest.approx(np.exp(0.2 * 2.326), rel=0.03)
    beyond = []
    for held_out in few:
        known.held_out["latent"] = {"few": held_out}
        beyond.append(np.mean(many > known.limit("latent", "few", 0.99)))
    assert np.mean(beyond) == pytest.approx(0.01, abs=0.004)
    by_hand = np.exp(np.log([1.0, 2.0, 3.0]).mean())
    known.held_out["latent"] = {"three": np.array([1.0, 2.0, 3.0]), "two": np.array([1.0, 3.0])}
    assert known.limit("latent", "three", 0.5) == max(2.0, by_hand)
    assert known.limit("latent", "two", 0.5) == np.inf
    assert known.limit("latent", "none", 0.5) == np.inf
