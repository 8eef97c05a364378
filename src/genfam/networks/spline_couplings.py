"""Coupling layers of monotonic splines: a bijection for points, tables and flattened small images.

References:
    Durkan, C., Bekasov, A., Murray, I. & Papamakarios, G. 2019. Neural spline flows. https://arxiv.org/abs/1906.04032
        (equation 4, the rational-quadratic spline; section 3.2 and equation 5, the coupling layer whose kept half is
        transformed too, but by itself)
    Rozet, F. et al. 2022. Zuko: normalizing flows in PyTorch. https://doi.org/10.5281/zenodo.7625672 (the spline)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

from genfam.networks.base import Shape
from genfam.networks.bijections import Bijection, InvertibleNetwork
from genfam.networks.embeddings import Fourier
from genfam.networks.perceptron import FlatNetwork, ResidualMLP
from genfam.ranges import Count, Positive, Several


class SplineCoupling(Bijection):
    """Half of the numbers are bent one by one; those and a perceptron say how each of the other half is bent.

    Args:
        size: numbers in an event; of one alone a constant is what the perceptron sees.
        width, depth: of the perceptron.
        bins: of each spline, which is the identity at first.
        bound: splines bend [−bound, bound] and leave what is beyond as it is.
        features: of what the perceptron sees; None = the numbers as they are.
        classes: values of the condition; 0 = none.
    """

    def __init__(
        self, size: int, width: int, depth: int, bins: int, bound: float, features: Fourier | None, classes: int
    ) -> None:
        super().__init__()
        self.kept, self.bins, self.bound = size // 2, bins, bound
        numbers = 3 * bins - 1  # of a spline: widths, heights, and the slopes between bins

        def perceptron(inputs: int, outputs: int) -> ResidualMLP:
            return ResidualMLP(inputs, outputs, width, depth, zero_exit=True)

        self.body = FlatNetwork(perceptron, max(1, self.kept), (size - self.kept, numbers), features, classes=classes)
        self.own = nn.Parameter(torch.zeros(self.kept, numbers))

    def _own(self, n: int) -> Tensor:
        """(n, kept, numbers): the same whatever the condition, which the other layer of a pair sees."""
        return self.own.expand(n, -1, -1)

    def _of_changed(self, kept: Tensor, condition: Tensor | None) -> Tensor:
        """(B, kept) -> (B, changed, numbers)."""
        out: Tensor = self.body(kept if self.kept else kept.new_ones(len(kept), 1), condition)
        return out

    def _spline(self, numbers: Tensor, dtype: torch.dtype) -> MonotonicRQSTransform:
        parts = numbers.to(dtype).split([self.bins, self.bins, self.bins - 1], dim=-1)
        return MonotonicRQSTransform(*parts, bound=self.bound)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, size) -> (B, size), the half that was changed first, and (B,)."""
        kept = x[:, : self.kept]
        numbers = torch.cat([self._own(len(x)), self._of_changed(kept, condition)], dim=1)
        z, log_slopes = self._spline(numbers, x.dtype).call_and_ladj(x)
        return torch.cat([z[:, self.kept :], z[:, : self.kept]], dim=1), log_slopes.sum(dim=1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, size) -> (B, size). Splines in float64: the root that inverts one is of numbers that nearly cancel."""
        changed, kept = z.double().split([z.shape[1] - self.kept, self.kept], dim=1)
        kept = self._spline(self._own(len(z)), kept.dtype).inv(kept)
        changed = self._spline(self._of_changed(kept.to(z.dtype), condition), changed.dtype).inv(changed)
        return torch.cat([kept, changed], dim=1).to(z.dtype)


class SplineFlow(Bijection):
    """Coupling layers in pairs: what one keeps the next changes. Before each pair the numbers are put in a new order.

    Args:
        shape: of an event.
        layers: how many, an even number.
        width, depth, bins, bound, features, classes: see `SplineCoupling`.
    """

    orders: Tensor

    def __init__(
        self,
        shape: Shape,
        layers: int,
        width: int,
        depth: int,
        bins: int,
        bound: float,
        features: Fourier | None,
        classes: int,
    ) -> None:
        super().__init__()
        self.size = math.prod(shape)
        self.layers = nn.ModuleList(
            SplineCoupling(self.size, width, depth, bins, bound, features, classes) for _ in range(layers)
        )
        generator = torch.Generator().manual_seed(0)  # the orders are architecture, and the same for all runs
        orders = [torch.randperm(self.size, generator=generator, device="cpu") for _ in range(layers // 2)]
        self.register_buffer("orders", torch.stack(orders).to(torch.get_default_device()))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Bijection.forward`."""
        z, log_volume = x.flatten(1), torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for index, layer in enumerate(self.layers):
            if index % 2 == 0:
                z = z[:, self.orders[index // 2]]
            z, more = layer(z, condition)
            log_volume = log_volume + more
        return z.view_as(x), log_volume

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Bijection.inverse`."""
        x = z.flatten(1)
        for index, layer in reversed(list(enumerate(self.layers))):
            assert isinstance(layer, SplineCoupling)
            x = layer.inverse(x, condition)
            if index % 2 == 0:
                x = x[:, self.orders[index // 2].argsort()]
        return x.view_as(z)


class SplineCouplings(InvertibleNetwork):
    """A neural spline flow, for events of any kind: they are flattened.

    Args:
        pairs: of coupling layers.
        depth: residual layers of each one's perceptron.
        bins: of a spline.
        bound: splines bend [−bound, bound].
        features: Fourier features of what perceptrons see; None = none.
    """

    def __init__(
        self,
        pairs: Count = 3,
        depth: Count = 2,
        bins: Several = 16,
        bound: Positive = 3.0,
        features: Fourier | None = None,
    ) -> None:
        self.pairs, self.depth, self.bins, self.bound, self.features = pairs, depth, bins, bound, features

    def bijection(self, shape: Shape, width: int, classes: int = 0) -> Bijection:
        """See `InvertibleNetwork.bijection`."""
        settings = self.depth, self.bins, self.bound, self.features, classes
        return SplineFlow(shape, 2 * self.pairs, width, *settings)
