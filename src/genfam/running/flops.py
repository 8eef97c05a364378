"""Count training FLOPs on a real update, with PyTorch's own formulas and the few that it lacks.

`torch.utils.flop_counter.FlopCounterMode` of torch 2.14 falls short of a benchmark's needs in three places:

1. scaled-dot-product attention on the CPU runs as `aten._scaled_dot_product_flash_attention_for_cpu` and
   `…_for_cpu_backward`, which have no formula and count as zero;
2. products with a vector (`mv`, `addmv`, `dot`, `vdot`) have none either;
3. its module tracker hooks every module's inputs, and those hooks make `torch.autograd.grad` raise when it
   differentiates to a leaf ("A leaf node was passed to _will_engine_execute_node"): every gradient penalty.

Counted are multiplications and additions of matrix products and convolutions, a multiply-add as two; elementwise
operations count as nothing, and a causal attention as the full matrix: as PyTorch counts everywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

Shape = Sequence[int]


def attention_flops(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Forward attention: two products, Q Kᵀ and P V.

    Args:
        query: (B, H, S, d).
        key: (B, H, T, d).
        value: (B, H, T, v).

    Returns:
        2·B·H·S·T·(d + v); with S = T and d = v that is 4·B·H·S²·d.
    """
    batch, heads, s, d = query
    return 2 * batch * heads * s * key[-2] * (d + value[-1])


def attention_backward_flops(grad_out: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Backward attention: five products: Q Kᵀ again (recomputed), dP = dO Vᵀ, dV = Pᵀ dO, dQ = dS K, dK = dSᵀ Q.

    Args:
        grad_out: (B, H, S, v).
        query: as in `attention_flops`.
        key: likewise.
        value: likewise.

    Returns:
        2·B·H·S·T·(3d + 2v); with S = T and d = v that is 10·B·H·S²·d.
    """
    batch, heads, s, d = query
    return 2 * batch * heads * s * key[-2] * (3 * d + 2 * value[-1])


def _mv_flops(matrix: Shape, vector: Shape, *_: Any, **__: Any) -> int:
    """(m, n) times (n,)."""
    return 2 * math.prod(matrix)


def _addmv_flops(bias: Shape, matrix: Shape, vector: Shape, *_: Any, **__: Any) -> int:
    """(m,) plus (m, n) times (n,)."""
    return 2 * math.prod(matrix)


def _dot_flops(a: Shape, b: Shape, *_: Any, **__: Any) -> int:
    """(n,) times (n,)."""
    return 2 * math.prod(a)


def missing_formulas() -> dict[Any, Callable[..., int]]:
    """Operator -> formula of the shapes, for those that PyTorch's registry does not know."""
    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
        aten.mv: _mv_flops,
        aten.addmv: _addmv_flops,
        aten.dot: _dot_flops,
        aten.vdot: _dot_flops,
    }


class _NoModules(ModuleTracker):
    """A module tracker that hooks nothing: all FLOPs are attributed to `Global`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def count_flops(step: Callable[[], object]) -> int:
    """FLOPs of all matrix products, convolutions and attentions that `step` executes.

    Args:
        step: called once, for real: whatever it changes stays changed (hand it a copy of what you train).

    Returns:
        FLOPs, forward, backward and double backward alike; a function of shapes only.
    """
    counter = FlopCounterMode(display=False, custom_mapping=missing_formulas())
    counter.mod_tracker = _NoModules()
    with counter:
        step()
    return int(counter.get_total_flops())
