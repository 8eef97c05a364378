"""FLOP counts against counts by hand; a multiply-add is two."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genfam.families.base import Family, Optimisation
from genfam.running.flops import count_flops
from genfam.running.training import plan
from genfam.sources.known import Grid
from genfam.types import Batch, Event, Likelihood


def test_linear_forward_and_backward() -> None:
    layer, x = nn.Linear(6, 7), torch.randn(4, 6, requires_grad=True)
    product = 2 * 4 * 6 * 7
    assert count_flops(lambda: layer(x)) == product
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * product  # output, dx, dW
    assert count_flops(lambda: layer(x.detach()).sum().backward()) == 2 * product  # no dx wanted


def test_convolution_forward_and_backward() -> None:
    layer, x = nn.Conv2d(3, 5, 3, padding=1), torch.randn(4, 3, 8, 8, requires_grad=True)
    product = 2 * 4 * 5 * 3 * 9 * 64
    assert count_flops(lambda: layer(x)) == product
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * product


@pytest.mark.parametrize("layer_and_event", ["linear", "convolution"])
def test_double_backward_to_a_leaf(layer_and_event: str) -> None:
    """A gradient penalty: PyTorch's own counter raises here, because of its module hooks."""
    if layer_and_event == "linear":
        layer: nn.Module = nn.Linear(6, 7)
        x, product = torch.randn(4, 6, requires_grad=True), 2 * 4 * 6 * 7
    else:
        layer = nn.Conv2d(3, 5, 3, padding=1)
        x, product = torch.randn(4, 3, 8, 8, requires_grad=True), 2 * 4 * 5 * 3 * 9 * 64

    def penalty() -> None:
        (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward()

    # y; dx = Wᵀ g; then through dx: to g and to W; through y: to x and to W
    assert count_flops(penalty) == 6 * product


@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_forward_and_backward(causal: bool) -> None:
    b, h, s, d = 2, 3, 40, 8
    q, k, v = (torch.randn(b, h, s, d, requires_grad=True) for _ in range(3))

    def forward() -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    product = 2 * b * h * s * s * d
    assert count_flops(forward) == 2 * product
    assert count_flops(lambda: forward().sum().backward()) == 7 * product  # the backward recomputes the scores


def test_fused_attention_counts_like_the_same_attention_written_out() -> None:
    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    k, v = torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    fused = count_flops(lambda: F.scaled_dot_product_attention(q, k, v))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as reference:
        F.scaled_dot_product_attention(q, k, v)
    assert fused == reference.get_total_flops() == 2 * 2 * 2 * 3 * 5 * 9 * 8


def test_products_with_a_vector() -> None:
    matrix, vector = torch.randn(4, 6), torch.randn(6)
    assert count_flops(lambda: matrix @ vector) == 2 * 4 * 6
    assert count_flops(lambda: vector @ vector) == 2 * 6
    assert count_flops(lambda: torch.addmv(torch.zeros(4), matrix, vector)) == 2 * 4 * 6


def test_agrees_with_pytorch_where_pytorch_counts() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    x = torch.randn(3, 1, 8, 8)
    with FlopCounterMode(display=False) as reference:
        network(x).sum().backward()
    assert count_flops(lambda: network(x).sum().backward()) == reference.get_total_flops()


def test_is_linear_in_the_batch_and_runs_the_step_once() -> None:
    layer, calls = nn.Linear(6, 7), []

    def step(n: int) -> None:
        calls.append(n)
        layer(torch.randn(n, 6)).sum().backward()

    assert count_flops(lambda: step(12)) == 3 * count_flops(lambda: step(4))
    assert calls == [12, 4]


def test_a_family_of_which_nothing_is_counted_cannot_have_a_budget() -> None:
    class Scale(Family):
        likelihood = Likelihood.NONE

        def __init__(self) -> None:
            super().__init__(Event((2,)), Optimisation(), batch_size=4)
            self.register_players(model=nn.ParameterList([torch.ones(2)]))

        def loss(self, batch: Batch, player: str) -> torch.Tensor:
            return (batch.event * self.model[0]).square().mean()

        def draw(self, n: int, condition: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
            return torch.randn(n, 2, generator=generator) * self.sampler[0]

    with pytest.raises(ValueError, match=r"Scale: expected an update with matrix products.*trains = False"):
        plan(Scale(), Grid(), 1e6)
