"""MaskedLinear against a dense layer times its mask."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from miracle_lib.errors import MiracleError
from miracle_lib.model import MaskedLinear, sparse_product

KERNELS = ("sparse", "dense")
MASK = sp.random(30, 12, 0.2, format="csr", random_state=0)
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


def dense_reference(layer: MaskedLinear) -> nn.Linear:
    """An ordinary layer whose matrix holds the same weights, written edge by edge."""
    reference = nn.Linear(layer.in_features, layer.out_features).to(layer.weight)
    edges = MASK.tocoo()
    with torch.no_grad():
        reference.weight.zero_()
        for k, (i, o) in enumerate(zip(*edges.coords, strict=True)):
            reference.weight[o, i] = layer.weight[k]
        reference.bias.copy_(layer.bias)
    return reference


def edge_values(matrix: torch.Tensor) -> torch.Tensor:
    """The entries of an (out, in) matrix at the edges, in the layer's order."""
    rows, columns = MASK.tocoo().coords
    return matrix[columns, rows]


@pytest.mark.parametrize("kernel", KERNELS)
def test_five_node_graph(kernel):
    """Sites 0 and 1 in gene 0, sites 1 and 2 in gene 1: every output is written out."""
    layer = MaskedLinear([[1, 0], [1, 1], [0, 1]], kernel=kernel)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        layer.bias.copy_(torch.tensor([0.5, -0.5]))
    y = layer(torch.tensor([[1.0, 10.0, 100.0]]))
    assert y.tolist() == [[1 + 20 + 0.5, 30 + 400 - 0.5]]
    assert layer.dense_weight().tolist() == [[1, 0], [2, 3], [0, 4]]
    assert layer.in_degree.tolist() == [2, 2]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("by_feature", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_value_and_every_gradient_equal_dense(kernel, by_feature, device):
    layer = MaskedLinear(MASK, kernel=kernel).double().to(device)
    reference = dense_reference(layer)
    x = torch.randn(7, 30, dtype=torch.double, device=device)
    x = x.t().contiguous().t() if by_feature else x
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [module(x) for module, x in zip((layer, reference), inputs, strict=True)]
    weights = torch.randn_like(outputs[1])
    for y in outputs:
        (y.sin() * weights).sum().backward()
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(layer.bias.grad, reference.bias.grad)
    torch.testing.assert_close(layer.weight.grad, edge_values(reference.weight.grad))


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradcheck(kernel):
    layer = MaskedLinear(MASK, kernel=kernel).double()
    x = torch.randn(4, 30, dtype=torch.double, requires_grad=True)

    def call(weight, bias, x):
        return functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(call, (layer.weight, layer.bias, x))


def test_array_scale_needs_no_dense_matrix():
    """100,000 x 100,000 would be 40 GB; values and gradients are those of one edge at a time."""
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 100_000, (2, 150_000))
    mask = sp.csr_matrix((np.ones(150_000, bool), (rows, columns)), (100_000, 100_000))
    layer = MaskedLinear(mask)
    assert layer.kernel == "sparse"
    x = torch.randn(4, 100_000, requires_grad=True)
    edges = mask.tocoo()
    rows, columns = (torch.from_numpy(i.astype(np.int64)) for i in edges.coords)
    weight = layer.weight.detach().clone().requires_grad_()
    expected = torch.zeros(4, 100_000).index_add(1, columns, x[:, rows] * weight)
    reference = torch.autograd.grad(expected.square().sum(), (x, weight))
    y = layer(x)
    ours = torch.autograd.grad(y.square().sum(), (x, layer.weight))
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(ours, reference)


def test_only_the_gradients_asked_for_are_computed():
    layer = MaskedLinear(MASK, kernel="sparse")
    layer.weight.requires_grad_(False)
    x = torch.randn(4, 30, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


@pytest.mark.parametrize("large", [1, 2**20])
def test_transposed_copy_and_its_gradient(large, monkeypatch):
    monkeypatch.setattr(sparse_product, "LARGE", large)
    for x in (torch.randn(4, 7), torch.randn(4, 9)[:, 1:8], torch.randn(1, 3), torch.randn(5, 1)):
        x = x.double().requires_grad_()
        assert sparse_product.by_feature(x).is_contiguous()
        assert torch.equal(sparse_product.by_feature(x), x.t())
        assert torch.autograd.gradcheck(sparse_product.by_feature, x)


def test_wide_and_tall_masks_take_either_product():
    """More outputs than inputs and the reverse run through different CPU routines."""
    for shape in ((40, 5), (5, 40)):
        mask = sp.random(*shape, 0.3, format="csr", random_state=1)
        layers = [MaskedLinear(mask, kernel=kernel).double() for kernel in KERNELS]
        layers[1].load_state_dict(layers[0].state_dict())
        x = torch.randn(3, shape[0], dtype=torch.double)
        results = []
        for layer in layers:
            y = layer(x.requires_grad_())
            results.append((y, *torch.autograd.grad(y.square().sum(), (x, layer.weight))))
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    "optimiser",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.5),
        lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.5),
        lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.9, weight_decay=0.5),
        lambda p: torch.optim.Adagrad(p, 0.1, weight_decay=0.5),
    ],
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_no_optimiser_creates_influence_off_the_mask(kernel, optimiser):
    layer = MaskedLinear(MASK, kernel=kernel)
    before = layer.weight.detach().clone()
    optimizer = optimiser(layer.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(8, 30)).square().sum().backward()
        optimizer.step()
    jacobian = layer(torch.eye(30)) - layer(torch.zeros(1, 30))
    assert not torch.equal(layer.weight, before)
    assert torch.count_nonzero(jacobian[torch.from_numpy(~MASK.toarray().astype(bool))]) == 0


def test_state_dict_does_not_depend_on_the_kernel():
    sparse, dense = (MaskedLinear(MASK, kernel=kernel) for kernel in KERNELS)
    assert list(sparse.state_dict()) == ["weight", "bias"]
    assert sparse.state_dict()["weight"].shape == (MASK.nnz,)
    dense.load_state_dict(sparse.state_dict())
    x = torch.randn(3, 30)
    torch.testing.assert_close(sparse(x), dense(x))
    assert list(MaskedLinear(MASK, bias=False).state_dict()) == ["weight"]


def test_start_has_unit_variance_whatever_the_degree():
    """Outputs with 1, 10 and 200 inputs."""
    mask = np.zeros((211, 300), bool)
    mask[0, 0::3] = mask[1:11, 1::3] = mask[11:, 2::3] = True
    layer = MaskedLinear(mask)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    y = layer(torch.randn(4000, 211, generator=torch.Generator().manual_seed(1)))
    variance = y.var(0).view(100, 3).mean(0)
    assert torch.all((variance - 1).abs() < 0.35), variance
    assert torch.count_nonzero(layer.bias) == 0


def test_reset_is_reproducible():
    layer = MaskedLinear(MASK)
    draws = []
    for seed in (0, 0, 1):
        layer.reset_parameters(torch.Generator().manual_seed(seed))
        draws.append(layer.weight.detach().clone())
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_bfloat16(kernel, device):
    layer = MaskedLinear(MASK, kernel=kernel).to(device)
    half = MaskedLinear(MASK, kernel=kernel).to(device, torch.bfloat16)
    half.load_state_dict(layer.state_dict())
    x = torch.randn(5, 30, device=device)
    y = half(x.bfloat16())
    y.sum().backward()
    layer(x).sum().backward()
    assert y.dtype == half.weight.grad.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), atol=0.1, rtol=0.05)
    torch.testing.assert_close(half.weight.grad.float(), layer.weight.grad, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("kernel", KERNELS)
def test_compiles_in_one_graph(kernel):
    layer = MaskedLinear(MASK, kernel=kernel)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    gradients = []
    for module in (layer, compiled):
        layer.zero_grad()
        module(torch.ones(3, 30)).sin().sum().backward()
        gradients.append(layer.weight.grad.clone())
    torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("error")
def test_dense_kernel_runs_as_a_stack_of_models():
    layers = [MaskedLinear(MASK, kernel="dense") for _ in range(3)]
    parameters, buffers = stack_module_state(layers)
    x = torch.randn(4, 30)

    def loss(parameters, buffers):
        return functional_call(layers[0], (parameters, buffers), (x,)).square().sum()

    shared = dict(layers[0].named_buffers())
    stacks = (vmap(grad(loss))(parameters, buffers),
              vmap(grad(loss), (0, None))(parameters, shared),
              grad(lambda p: vmap(loss, (0, None))(p, shared).sum())(parameters))  # fmt: skip
    for k, layer in enumerate(layers):
        layer(x).square().sum().backward()
        for gradients in stacks:
            torch.testing.assert_close(gradients["weight"][k], layer.weight.grad)
            torch.testing.assert_close(gradients["bias"][k], layer.bias.grad)


def test_auto_takes_sparse_for_annotations_and_dense_for_full_or_tiny_masks():
    def chosen(n_inputs: int, n_outputs: int, density: float) -> str:
        mask = sp.random(n_inputs, n_outputs, density, format="csr", random_state=0)
        return MaskedLinear(mask).kernel

    assert chosen(2000, 1500, 0.001) == "sparse"
    assert chosen(1500, 800, 0.015) == "sparse"
    assert chosen(1500, 800, 0.3) == "dense"
    assert chosen(100, 50, 0.02) == "dense"


@pytest.mark.parametrize("kernel", ["sparse", "dense"])
def test_edges_are_known_whatever_the_kernel_keeps(kernel):
    layer = MaskedLinear([[1, 0, 1], [0, 0, 1]], kernel=kernel)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 0.0]))
    assert layer.edge_output.tolist() == [0, 2, 2]
    assert layer.in_degree.tolist() == [1, 0, 2]
    assert layer.csr_weight().toarray().tolist() == [[1, 0, 2], [0, 0, 0]]
    assert layer.csr_weight().nnz == 3


def test_a_layer_with_every_edge_keeps_no_index_of_them():
    layer = MaskedLinear(np.ones((3, 2)))
    assert not list(layer.buffers())
    assert layer.edge_output.tolist() == [0, 1] * 3
    assert layer.in_degree.tolist() == [3, 3]
    assert layer.csr_weight().shape == (3, 2)
    x = torch.randn(4, 3)
    torch.testing.assert_close(layer(x), x @ layer.weight.view(3, 2))


def test_every_kind_of_mask_gives_the_same_edges():
    array = MASK.toarray() != 0
    with_zero = sp.csr_matrix(array.astype(float))
    with_zero.data[0] = 0.0
    kinds = [array, array.tolist(), MASK, MASK.tocsc(), sp.coo_array(MASK), torch.from_numpy(array)]
    kinds += [torch.from_numpy(array).float().to_sparse(), torch.from_numpy(array).to_sparse_csr()]
    for mask in kinds:
        dense = MaskedLinear(mask, kernel="sparse").dense_weight()
        assert np.array_equal(dense.detach().numpy() != 0, array)
    assert MaskedLinear(with_zero).weight.numel() == MASK.nnz - 1


def test_refused_masks_are_named():
    with pytest.raises(MiracleError, match=r"mask has 1 dimensions; expected inputs x outputs"):
        MaskedLinear([1, 0])
    with pytest.raises(MiracleError, match=r"mask of shape \(2, 3\) has no edge"):
        MaskedLinear(np.zeros((2, 3)))
    with pytest.raises(MiracleError, match="kernel is 'fast'"):
        MaskedLinear([[1]], kernel="fast")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_moves_to_the_gpu_and_back():
    layer = MaskedLinear(MASK, kernel="sparse")
    x = torch.randn(3, 30)
    expected = layer(x)
    on_gpu = layer.cuda()(x.cuda())
    assert on_gpu.is_cuda
    assert all(index.is_cuda for index in layer.pattern)
    torch.testing.assert_close(on_gpu.cpu(), expected)
    torch.testing.assert_close(layer.cpu()(x), expected)
