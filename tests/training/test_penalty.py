from types import SimpleNamespace

import numpy as np
import pytest
import torch

from miracle_lib.model import TaskHeads
from miracle_lib.training.penalty import head_penalty
from miracle_lib.training.prior import Prior


@pytest.mark.parametrize(("found", "used"), [(3.0, 3.0), (0.01, 1.0)])
def test_penalty_of_a_hidden_layer_is_the_length_of_its_weights_in_prior_sds(found, used):
    x = torch.randn(50, 2, dtype=torch.float64) * torch.tensor([1.0, 5.0])
    block = SimpleNamespace(unit=x.std(0, correction=0))
    heads = TaskHeads({"genes": 2}, 1, hidden=3, seed=0).double()
    with torch.no_grad():
        heads.blocks["genes"].output.specific.copy_(torch.tensor([[[1.0, 2.0, 0.0]]]))
    inner = heads.blocks["genes"].hidden.weight[0] * block.unit * 2**0.5
    expected = 0.5 * (inner.square().sum() + 3 * (1 + 4) / used**2)
    got = head_penalty(heads, Prior(np.array([[found]]), 0.0), {"genes": block})
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_penalty_of_linear_heads_is_the_length_of_their_weights_in_prior_sds():
    variance = np.array([[0.75], [0.25]])
    block = SimpleNamespace(unit=torch.tensor([1.0, 5.0]), variances=[variance])
    heads = TaskHeads({"genes": 2}, 1)
    with torch.no_grad():
        heads.blocks["genes"].output.specific.copy_(torch.tensor([[[3.0, 1.0]]]))
    got = head_penalty(heads, Prior(np.array([[2.0]]), 0.0), {"genes": block})
    assert got.item() == pytest.approx(0.5 * (9 / 0.75 + 25 / 0.25) / 4, rel=1e-5)
