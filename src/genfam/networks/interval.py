"""Fields of two times, made of fields of one: for families that learn where a path goes between the two.

A field hands its time to a module `time`, which makes features of it. In its place stands here one that makes as many
features of a pair of times, so that any field network will do and none grows. Its norms are replaced too, by the same
ones in elementary operations: torch's own have no derivative in forward mode but by a script that it deprecates.

References:
    Geng, Z. et al. 2025. Mean flows for one-step generative modeling. https://arxiv.org/abs/2505.13447
        (table 1c: the network is given t and the interval's length)
    Lu, C. & Song, Y. 2025. Simplifying, stabilizing and scaling continuous-time consistency models.
        https://arxiv.org/abs/2410.11081 (section 4.1: features of fast frequencies make a derivative in time unstable)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genfam.networks.embeddings import TimeFeatures

FASTEST = 4.0  # half-periods on [0, 1]


class IntervalFeatures(nn.Module):
    """(t, e) in [0, 1] -> sines and cosines of t and of e − t, at half as many frequencies each as one time has."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.features = TimeFeatures(outputs // 4, FASTEST)
        self.outputs = 2 * self.features.outputs

    def forward(self, times: Tensor) -> Tensor:
        """(B, 2) -> (B, outputs)."""
        start, end = times.unbind(dim=1)
        return torch.cat([self.features(start), self.features(end - start)], dim=-1)


class ElementaryNorm(nn.LayerNorm):
    """A layer norm over the last dimension in operations that have a derivative in forward mode."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) -> (…, D)."""
        centred = x - x.mean(dim=-1, keepdim=True)
        out = centred * (centred.square().mean(dim=-1, keepdim=True) + self.eps).rsqrt()
        return out if self.weight is None else out * self.weight + self.bias


def of_interval(field: nn.Module) -> nn.Module:
    """The same field, called with (B, 2) times in place of (B,).

    Raises:
        ValueError: it takes its time in another way.
    """
    time = getattr(field, "time", None)
    if not isinstance(time, TimeFeatures):
        raise ValueError(f"network: expected a field whose `time` makes features of it, got {type(field).__name__}")
    field.time = IntervalFeatures(time.outputs)
    for parent in list(field.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.LayerNorm:
                setattr(parent, name, ElementaryNorm(child.normalized_shape, child.eps, child.elementwise_affine))
    return field
