import math

import numpy as np
import pytest
import torch

from miracle_lib.errors import MiracleError
from miracle_lib.model.weighting import POLICIES, Signals, Weighting, make_weighting, register


def signals(epoch=0, losses=(1.0, 1.0), gradients=((1.0, 0.0), (0.0, 1.0)), **changes):
    n_tasks = len(losses)
    known = {
        "accuracy": [0.5] * n_tasks,
        "ceiling": [0.8] * n_tasks,
        "n_samples": [50] * n_tasks,
    } | changes
    return Signals(
        epoch,
        torch.tensor(losses),
        *(torch.tensor(known[name]) for name in ("accuracy", "ceiling", "n_samples")),
        lambda: torch.tensor(gradients),
    )


def softmax(*values):
    return np.exp(values) / np.exp(values).sum()


# Name, signals of successive epochs, weights expected after the last, up to a factor.
CASES = [
    ("uniform", [signals(losses=(0.1, 0.9))], [1, 1]),
    ("sample-size", [signals(n_samples=[50, 100])], [1 / 50, 1 / 100]),
    ("accuracy", [signals(accuracy=[0.9, 0.6])], [0.1, 0.4]),
    # Half way to the ceiling; at it; half way from it to 1.
    (
        "pwinval",
        [signals(losses=(1.0, 1.0, 1.0), accuracy=[0.4, 0.8, 0.9], ceiling=[0.8, 0.8, 0.8])],
        [0.55, 0.1, 0.05],
    ),
    ("dro", [signals(losses=(0.2, 0.6))], [0.25, 0.75]),
    # Log variances move by 0.1 (L - 1/2).
    ("uncertainty", [signals(losses=(0.5, 1.5))], [1, math.exp(-0.1)]),
    ("dwa", [signals(losses=(1.0, 1.0))], [1, 1]),
    ("dwa", [signals(losses=(1.0, 1.0)), signals(1, (0.5, 1.0))], softmax(0.25, 0.5)),
    # Norms 1 and 3 around their mean 2: weights move by 0.1 * norm / 2 towards it.
    ("gradnorm", [signals(gradients=((1.0, 0.0), (0.0, 3.0)))], [1.05, 0.85]),
    # Orthogonal gradients: weights inverse to the squared norms.
    ("mgda", [signals(gradients=((1.0, 0.0), (0.0, 2.0)))], [4 / 5, 1 / 5]),
    # g1.g2 = -1, |g2|^2 = 2: g1 + g2 / 2 and g2 + g1.
    ("pcgrad", [signals(gradients=((1.0, 0.0), (-1.0, 1.0)))], [2, 1.5]),
    ("pcgrad", [signals(gradients=((1.0, 0.0), (1.0, 1.0)))], [1, 1]),
    ("famo", [signals(losses=(0.5, 1.0))], [0.5 / 0.5, 0.5 / 1.0]),
    (
        "famo",
        [signals(losses=(1.0, 1.0)), signals(1, (0.5, 1.0))],
        softmax(-0.05 * math.log(2) / 2, 0.05 * math.log(2) / 2) / [0.5, 1.0],
    ),
]


@pytest.mark.parametrize(("name", "epochs", "expected"), CASES)
def test_policy_follows_its_formula(name, epochs, expected):
    policy = make_weighting(name, len(expected))
    for each in epochs:
        weights = policy(each)
    expected = np.array(expected) * len(expected) / np.sum(expected)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_cagrad_solves_its_dual_problem():
    gradients = np.array([[1.0, 0.0], [-0.5, 2.0]])
    mean = gradients.mean(0)
    reach = 0.4 * np.linalg.norm(mean)
    share = np.linspace(0, 1, 20001)[:, None]
    hull = share * gradients[0] + (1 - share) * gradients[1]
    length = np.linalg.norm(hull, axis=1)
    best = int(np.argmin(hull @ mean + reach * length))
    expected = 0.5 + reach / length[best] * np.array([share[best, 0], 1 - share[best, 0]])
    weights = make_weighting("cagrad", 2)(signals(gradients=gradients.tolist()))
    np.testing.assert_allclose(weights, expected * 2 / expected.sum(), rtol=1e-3)


def test_random_policy_draws_anew_each_epoch_and_repeats_for_the_same_seed():
    first, again, other = (make_weighting("random", 3, seed) for seed in (1, 1, 2))
    three = [signals(epoch, (1.0, 1.0, 1.0)) for epoch in (0, 1)]
    assert torch.equal(first(three[0]), again(three[0]))
    assert not torch.allclose(first(three[0]), first(three[1]))
    assert not torch.allclose(first(three[0]), other(three[0]))


def test_pwinval_is_continuous_at_the_ceiling():
    policy = make_weighting("pwinval", 1)
    around = [
        policy.raw(signals(losses=(1.0,), accuracy=[x], ceiling=[0.7])) for x in (0.699, 0.701)
    ]
    assert abs(float(around[0] - around[1])) < 0.003


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_weights_average_one_and_a_stored_state_continues(name):
    rng = np.random.default_rng(0)

    def draw(epoch):
        return signals(
            epoch,
            rng.uniform(0.2, 1, 3).tolist(),
            rng.normal(size=(3, 5)).tolist(),
            accuracy=rng.uniform(0.4, 0.9, 3).tolist(),
            ceiling=[0.8, 0.7, 0.9],
            n_samples=[50, 100, 80],
        )

    epochs = [draw(epoch) for epoch in range(4)]
    straight, stopped = make_weighting(name, 3, 5), make_weighting(name, 3, 5)
    for each in epochs[:2]:
        straight(each)
        stopped(each)
    resumed = make_weighting(name, 3)
    resumed.load_state_dict(stopped.state_dict())
    for each in epochs[2:]:
        weights = straight(each)
        assert torch.equal(weights, resumed(each))
        assert weights.min() >= 0
        assert float(weights.mean()) == pytest.approx(1)


def test_own_policy_is_registered_by_name():
    @register("only-first")
    class OnlyFirst(Weighting):
        def raw(self, signals):
            return torch.eye(self.n_tasks)[0]

    try:
        assert make_weighting("only-first", 3)(signals(losses=(1.0,) * 3)).tolist() == [3, 0, 0]
    finally:
        del POLICIES["only-first"]


def test_unknown_policy_is_refused_with_the_known_names():
    with pytest.raises(
        MiracleError, match=r"weighting is 'best'; expected one of accuracy, cagrad"
    ):
        make_weighting("best", 2)
