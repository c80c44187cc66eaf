"""Heads: blocks that add up, sharing as a ratio of penalties."""

import pytest
import torch

from miracle_lib.errors import MiracleError
from miracle_lib.model import DeepHeads, Heads, TaskHeads, masked_task_loss

WIDTHS = {"pathways": 3, "genes": 4, "residual": 0}


@pytest.fixture
def blocks() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(20, width, generator=generator) for name, width in WIDTHS.items()}


def randomised(heads: TaskHeads) -> TaskHeads:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.normal_(generator=generator)
    return heads


@pytest.mark.parametrize("hidden", [None, 5])
def test_contributions_and_bias_add_up_to_the_logits(blocks, hidden):
    heads = randomised(TaskHeads(WIDTHS, ["MS", "RA"], hidden=hidden))
    logits = heads(blocks)
    parts = heads.contributions(blocks)
    assert logits.shape == (20, 2)
    assert list(parts) == ["pathways", "genes"]
    torch.testing.assert_close(sum(parts.values()) + heads.bias, logits)


def test_linear_logits_written_out():
    heads = TaskHeads({"pathways": 2}, 2)
    layer = heads.blocks["pathways"].output
    with torch.no_grad():
        layer.shared.copy_(torch.tensor([[1.0, 2.0]]))
        layer.specific.copy_(torch.tensor([[[0.0, 0.0]], [[10.0, 0.0]]]))
        heads.bias.copy_(torch.tensor([0.5, -0.5]))
    assert heads({"pathways": torch.tensor([[3.0, 4.0]])}).tolist() == [[11.5, 40.5]]
    assert heads.penalty(2.0, sharing=5.0).item() == pytest.approx(2 * (100 + 5 / 5))


def test_shares_follow_the_spread_of_each_block(blocks):
    heads = randomised(TaskHeads(WIDTHS, 2))
    with torch.no_grad():
        heads.blocks["genes"].output.shared.zero_()
        heads.blocks["genes"].output.specific[0].zero_()
    shares = heads.shares(blocks)
    torch.testing.assert_close(sum(shares.values()), torch.ones(2))
    assert shares["pathways"][0] == 1
    assert 0 < shares["genes"][1] < 1
    shifted = {name: block + 100 for name, block in blocks.items()}
    torch.testing.assert_close(heads.shares(shifted)["genes"], shares["genes"], atol=1e-4, rtol=0)


def fitted(sharing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of two tasks with opposite labels on the same single feature."""
    x = torch.linspace(-1, 1, 40)[:, None]
    labels = torch.cat([(x > 0).float(), (x < 0.5).float()], 1)
    heads = TaskHeads({"pathways": 1}, 2)
    optimizer = torch.optim.LBFGS(heads.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = masked_task_loss(heads({"pathways": x}), labels).sum()
        loss = loss + heads.penalty(0.01, sharing)
        loss.backward()
        return loss

    optimizer.step(closure)
    return heads.blocks["pathways"].output.weight.detach().flatten()


def test_sharing_ties_tasks_or_lets_them_go():
    free, tied = fitted(1e-6), fitted(1e6)
    assert free[0] > 1
    assert free[1] < -1
    assert (tied[0] - tied[1]).abs() < (free[0] - free[1]).abs()
    assert (tied - tied.mean()).square().sum() < (free - free.mean()).square().sum()


def test_seeds_reinitialise_every_hidden_weight_and_linear_heads_start_at_zero(blocks):
    assert torch.count_nonzero(TaskHeads(WIDTHS, 2)(blocks)) == 0
    heads = TaskHeads(WIDTHS, 2, hidden=3, seed=0)
    first = [block.hidden.specific.detach().clone() for block in heads.blocks.values()]
    offsets = [block.offset.detach().clone() for block in heads.blocks.values()]
    randomised(heads).reset_parameters(1)
    for block, before in zip(heads.blocks.values(), first, strict=True):
        assert torch.all(block.hidden.specific != before)
        assert torch.all(block.offset != offsets[0])
        assert torch.count_nonzero(block.output.weight) == 0
    randomised(heads).reset_parameters(0)
    for block, before in zip(heads.blocks.values(), first, strict=True):
        assert torch.equal(block.hidden.specific, before)


def test_a_hidden_layer_can_learn_from_its_start(blocks):
    heads = TaskHeads(WIDTHS, 2, hidden=3, seed=0)
    heads(blocks).sum().backward()
    assert all(block.output.specific.grad.abs().sum() > 0 for block in heads.blocks.values())


def test_a_hidden_layer_learns_an_interaction_that_linear_heads_cannot():
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    labels = (x[:, :1] * x[:, 1:] > 0).float()
    losses = {}
    for hidden in (None, 8):
        heads = TaskHeads({"pathways": 2}, 1, hidden=hidden, seed=0)
        optimizer = torch.optim.Adam(heads.parameters(), lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            loss = masked_task_loss(heads({"pathways": x}), labels).sum()
            loss.backward()
            optimizer.step()
        losses[hidden] = loss.item()
    assert losses[None] > 0.65
    assert losses[8] < 0.2


def test_heads_without_input_or_task_are_refused():
    with pytest.raises(MiracleError, match="heads for 2 tasks on 0 features"):
        TaskHeads({"pathways": 0}, 2)
    with pytest.raises(MiracleError, match="heads for 0 tasks"):
        TaskHeads({"pathways": 3}, [])


@pytest.mark.parametrize("hidden", [None, 5])
def test_what_is_said_of_any_heads_is_what_is_said_of_a_sum(blocks, hidden):
    heads = randomised(TaskHeads(WIDTHS, 2, hidden=hidden))
    read = {name: block for name, block in blocks.items() if block.shape[1]}
    own, general = (kind.contributions(heads, read) for kind in (TaskHeads, Heads))
    for name, part in own.items():
        torch.testing.assert_close(part - part.mean(0), general[name] - general[name].mean(0))


def test_deep_heads_are_four_layers_per_task_from_all_blocks(blocks):
    heads = DeepHeads({"pathways": 3, "genes": 4}, 2, seed=0)
    for layers in heads.tasks:
        linear = [each for each in layers if isinstance(each, torch.nn.Linear)]
        assert [each.in_features for each in linear] == [7, 4, 3, 2]
        assert linear[-1].out_features == 1
    x = torch.cat([blocks["pathways"], blocks["genes"]], dim=1)
    first, *rest = (each for each in heads.tasks[1] if isinstance(each, torch.nn.Linear))
    for layer in rest:
        first, x = layer, first(x).relu()
    torch.testing.assert_close(heads(blocks)[:, 1:], first(x))
    wide = DeepHeads({"pathways": 3}, 1, hidden=6)
    assert [p.shape[0] for p in wide.parameters() if p.ndim == 2] == [6, 6, 6, 1]


def test_deep_heads_start_as_their_seed_says():
    before = torch.random.get_rng_state()
    one, same, other = (DeepHeads({"pathways": 9}, 2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
