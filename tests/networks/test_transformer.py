"""The causal Transformer against its definition."""

import pytest
import torch
from torch import Tensor

from genfam.networks.transformer import FUSED_FROM, AxisEmbedding, Block, CausalTransformer, causal_attention


def transformer(length: int, **options: float) -> tuple[CausalTransformer, Tensor]:
    torch.manual_seed(0)
    network = CausalTransformer(width=18, depth=3, heads=4, **options)  # type: ignore[arg-type]
    for parameter in network.parameters():  # zero biases would hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network, torch.randn(5, length, 18)


@pytest.mark.parametrize("length", [1, 2, 7, FUSED_FROM, FUSED_FROM + 5])
def test_causal_attention_is_the_written_out_sum(length: int) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 3, length, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    expected = torch.zeros_like(v)
    for i in range(length):
        weights = torch.exp((q[:, :, i : i + 1] * k[:, :, : i + 1]).sum(-1) / 2.0)  # √d = 2
        expected[:, :, i] = (weights[..., None] * v[:, :, : i + 1]).sum(2) / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(causal_attention(q.float(), k.float(), v.float()).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [6, FUSED_FROM + 5])
def test_later_positions_do_not_reach_earlier_ones(length: int) -> None:
    network, h = transformer(length)
    h.requires_grad_()
    for i in (0, length // 2, length - 1):
        (slope,) = torch.autograd.grad(network(h)[:, i].square().sum(), h)
        reached = slope.abs().sum((0, 2)) > 0
        assert reached[: i + 1].all()
        assert not reached[i + 1 :].any()


@pytest.mark.parametrize("length", [1, 6, FUSED_FROM + 5])
def test_cache_gives_what_the_full_pass_gives(length: int) -> None:
    network, h = transformer(length)
    cache = network.cache(5, length)
    with torch.no_grad():
        steps = torch.stack([network.step(h[:, i], cache) for i in range(length)], dim=1)
        torch.testing.assert_close(steps, network(h), atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match=f"fewer than {length}"):
            network.step(h[:, 0], cache)


def test_cache_bytes_are_those_of_its_tensors() -> None:
    network, _ = transformer(1)
    cache = network.cache(7, 9)
    assert sum(t.numel() * 4 for t in cache.keys + cache.values) == 7 * network.cache_bytes(9)


def test_branches_are_scaled_so_that_depth_does_not_raise_the_variance() -> None:
    torch.manual_seed(0)
    h = torch.randn(64, 8, 64)
    growth = []
    for depth in (2, 16):
        blocks = torch.nn.Sequential(*[Block(64, 4, 0.0, 2 * depth) for _ in range(depth)])
        growth.append(float(blocks(h).detach().var()))
    assert growth[1] < 1.5 * growth[0] < 4.0


def test_dropout_only_while_training() -> None:
    network, h = transformer(6, dropout=0.5)
    assert not torch.equal(network(h), network(h))
    network.eval()
    assert torch.equal(network(h), network(h))


def test_axis_embedding_is_the_sum_of_its_tables_in_raster_order() -> None:
    embedding = AxisEmbedding((2, 3, 4), 5)
    channel, row, column = embedding.axes
    expected = [channel[c] + row[i] + column[j] for c in range(2) for i in range(3) for j in range(4)]
    torch.testing.assert_close(embedding(), torch.stack(expected))
