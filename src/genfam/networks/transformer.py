"""Causal Transformer with a key–value cache.

References:
    Vaswani, A. et al. 2017. Attention is all you need. https://arxiv.org/abs/1706.03762 (section 3.2)
    Radford, A. et al. 2019. Language models are unsupervised multitask learners (GPT-2), section 2.3: pre-norm,
    a final norm, residual branches scaled by 1/√(number of branches) at the start.
    Shazeer, N. 2019. Fast Transformer decoding. https://arxiv.org/abs/1911.02150 (section 2.4.1: the cache)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FUSED_FROM = 32  # positions


@dataclass
class Cache:
    """Keys and values of the positions decoded so far; allocated once for the whole sequence.

    Attributes:
        keys, values: per layer (B, heads, length, head size); rows at and after `filled` are not yet written.
        length: number of positions there is room for.
        filled: number of positions decoded.
    """

    keys: list[Tensor]
    values: list[Tensor]
    length: int
    filled: int = 0


def head_size_for(width: int, heads: int) -> int:
    """Channels per head: all heads together about as wide as the residual stream."""
    return max(1, round(width / heads))


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q Kᵀ / √d + mask) V (Vaswani et al. 2017, equation 1).

    Args:
        q: (B, heads, S, d).
        k: (B, heads, T, d).
        v: (B, heads, T, d).
        mask: (S, T), added to the scores.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return torch.softmax(scores if mask is None else scores + mask, dim=-1) @ v


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of each position to itself and those before it: (B, heads, S, d) each -> the same shape.

    Written out for short sequences, where the fused CPU kernel takes two to five times as long.
    """
    length = q.shape[2]
    if length == 1:
        return v
    if length >= FUSED_FROM:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return attention(q, k, v, torch.full((length, length), -math.inf, device=q.device).triu(1))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)).

    Args:
        width: size of the residual stream; any number, the heads have their own size.
        heads: attention heads, each of round(width / heads) channels.
        dropout: on both residual branches while training. Not on the attention weights: that would leave the
            fused CPU kernel for one several times slower.
        branches: residual branches in the whole network, for the scale of the last layer of each.
    """

    def __init__(self, width: int, heads: int, dropout: float, branches: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_size = head_size = head_size_for(width, heads)
        self.dropout = dropout
        inner = heads * head_size
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * inner)
        self.attention_exit = nn.Linear(inner, width)
        self.forward_norm = nn.LayerNorm(width)
        self.forward_enter = nn.Linear(width, 4 * width)
        self.forward_exit = nn.Linear(4 * width, width)
        for layer, fan_in, gain in (
            (self.query_key_value, width, 1.0),
            (self.attention_exit, inner, branches**-0.5),
            (self.forward_enter, width, 1.0),
            (self.forward_exit, 4 * width, branches**-0.5),
        ):
            nn.init.normal_(layer.weight, std=gain * fan_in**-0.5)
            nn.init.zeros_(layer.bias)

    def _split(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, width) -> queries, keys, values, each (B, heads, S, head size)."""
        fused = self.query_key_value(self.attention_norm(h))
        q, k, v = fused.unflatten(-1, (3, self.heads, self.head_size)).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def _branches(self, h: Tensor, attended: Tensor) -> Tensor:
        """Add the attention branch, then the feed-forward branch."""
        branch = self.attention_exit(attended.transpose(1, 2).flatten(2))
        h = h + F.dropout(branch, self.dropout, self.training)
        branch = self.forward_exit(F.gelu(self.forward_enter(self.forward_norm(h)), approximate="tanh"))
        return h + F.dropout(branch, self.dropout, self.training)

    def forward(self, h: Tensor) -> Tensor:
        """(B, S, width) -> (B, S, width); position i sees positions 0..i."""
        q, k, v = self._split(h)
        return self._branches(h, causal_attention(q, k, v))

    def step(self, h: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor:
        """One position: (B, 1, width) -> (B, 1, width); writes its key and value at `position`."""
        q, k, v = self._split(h)
        keys[:, :, position : position + 1] = k
        values[:, :, position : position + 1] = v
        seen_keys, seen_values = keys[:, :, : position + 1], values[:, :, : position + 1]
        return self._branches(h, attention(q, seen_keys, seen_values))


class CausalTransformer(nn.Module):
    """Blocks and a final norm over a sequence of vectors.

    Args:
        width: size of the vectors.
        depth: number of blocks.
        heads: attention heads per block.
        dropout: on residual branches.
    """

    def __init__(self, width: int, depth: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.depth, self.heads, self.head_size = depth, heads, head_size_for(width, heads)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, 2 * depth) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, h: Tensor) -> Tensor:
        """(B, S, width) -> (B, S, width), all positions at once."""
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.norm(h)
        return out

    def cache(self, batch: int, length: int) -> Cache:
        """An empty cache for `batch` sequences of `length` positions."""
        weight = self.norm.weight
        shape = (batch, self.heads, length, self.head_size)
        keys, values = ([weight.new_empty(shape) for _ in range(self.depth)] for _ in range(2))
        return Cache(keys, values, length)

    def cache_bytes(self, length: int) -> int:
        """Bytes that the cache of one sequence takes."""
        return 2 * self.depth * self.heads * self.head_size * length * self.norm.weight.element_size()

    def step(self, h: Tensor, cache: Cache) -> Tensor:
        """The next position: (B, width) -> (B, width), the same as `forward` gives there.

        Raises:
            ValueError: the cache is full.
        """
        if cache.filled >= cache.length:
            raise ValueError(f"expected fewer than {cache.length} positions in the cache, got {cache.filled}")
        h = h[:, None]
        for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
            h = block.step(h, keys, values, cache.filled)  # type: ignore[operator]  # ModuleList's items are typed as Module
        cache.filled += 1
        out: Tensor = self.norm(h[:, 0])
        return out


class AxisEmbedding(nn.Module):
    """Learned positions of an array in raster order: the sum of one vector per axis (row + column + channel).

    Axes share what they know: a table of H + W vectors sees each row W times as often as one of H·W would.

    Args:
        shape: of the array.
        width: size of the vectors.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.shape = shape
        self.axes = nn.ParameterList(
            nn.Parameter(torch.randn(size, width) * (width * len(shape)) ** -0.5) for size in shape
        )

    def forward(self) -> Tensor:
        """-> (∏ shape, width)."""
        total: Tensor | None = None
        for axis, table in enumerate(self.axes):
            view = [1] * len(self.shape) + [table.shape[1]]
            view[axis] = self.shape[axis]
            term = table.view(view)
            total = term if total is None else total + term
        assert total is not None
        return total.expand(*self.shape, -1).reshape(math.prod(self.shape), -1)
