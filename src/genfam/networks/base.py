"""What a network is to a family: a factory of modules, whose width the budget's parameters decide.

A family asks for the role that it needs, and a network builds a module of a given width in it: a family never asks
which network it has. A network that cannot play a role says so, and which can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from genfam.networks.conditionals import Conditionals
from genfam.types import Event

TOLERANCE = 0.10
LARGEST_WIDTH = 4096

Shape = tuple[int, ...]


class Network:
    """A backbone, without its width.

    Every role takes `classes`, the number of values of the condition; 0 = the module is called without one. Modules
    take the condition as (B,) int64.

    Attributes:
        multiples: widths are a multiple of the first of these by which the budget can be met.
    """

    multiples: tuple[int, ...] = (1,)

    def encoder(self, shape: Shape, outputs: int, width: int, classes: int = 0) -> nn.Module:
        """A module (B, *shape), condition -> (B, outputs)."""
        raise self._refusal("encoder", "Perceptron, Convolutional")

    def decoder(self, inputs: int, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """A module (B, inputs), condition -> (B, *shape)."""
        raise self._refusal("decoder", "Perceptron, Convolutional")

    def field(self, shape: Shape, width: int, classes: int = 0) -> nn.Module:
        """A module of a state and a time in [0, 1]: (B, *shape), (B,), condition -> (B, *shape), zero at first."""
        raise self._refusal("field", "Perceptron, UNet, DiT")

    def conditionals(self, event: Event, width: int, classes: int = 0) -> Conditionals:
        """All conditionals of one event by the chain rule."""
        raise self._refusal("conditionals", "ScalarTransformer, PatchTransformer")

    def _refusal(self, role: str, others: str) -> ValueError:
        return ValueError(f"network: expected one that can be a family's {role} ({others}), got {type(self).__name__}")


def count_parameters(network: nn.Module) -> int:
    """Number of scalars in all parameters."""
    return sum(p.numel() for p in network.parameters())


def fit_width(build: Callable[[int], nn.Module], parameters: int, multiples: tuple[int, ...] = (1,)) -> int:
    """The width whose module comes closest to the budget.

    Args:
        build: width -> module; called on the meta device, so it allocates nothing.
        parameters: budget of the module.
        multiples: the width is a multiple of the first of these that meets the budget.

    Raises:
        ValueError: the closest width misses the budget by more than 10 %.
    """

    @cache
    def size(width: int) -> int:
        with torch.device("meta"), _Unfilled():
            return count_parameters(build(width))

    found, best = 0, 1
    for multiple in multiples:
        best = min(_around(size, parameters, multiple), key=lambda width: abs(size(width) - parameters))
        found = size(best)
        if abs(found - parameters) <= TOLERANCE * parameters:
            return best
    raise ValueError(
        f"expected a network within 10 % of {parameters} parameters; the closest has {found} (width {best}): "
        "give the budget another number of parameters (budget.parameters=…) or the network another depth"
    )


class _Unfilled(TorchFunctionMode):
    """Leaves parameters as they were allocated: on the meta device, filling them takes most of a module's time."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        fills = func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", "") == "torch.nn.init"
        return (args or tuple((kwargs or {}).values()))[0] if fills else func(*args, **(kwargs or {}))


def _around(size: Callable[[int], int], parameters: int, multiple: int) -> Iterator[int]:
    """The last width below the budget and the first one that is not, in steps of `multiple`."""
    high = 1
    while size(high * multiple) < parameters and high * multiple < LARGEST_WIDTH:
        high *= 2
    low = high // 2 + 1
    while low < high:
        middle = (low + high) // 2
        if size(middle * multiple) < parameters:
            low = middle + 1
        else:
            high = middle
    yield from (width * multiple for width in (low - 1, low) if width >= 1)
