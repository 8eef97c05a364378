"""What families share whose network is a field: a function of a state and a time, asked many times for one sample.

Such a family says what its field is trained for, and how it walks from noise to data. Standardisation, guidance,
samples and snapshots of the walk are here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.families.flow_density import Velocity, log_density
from genfam.families.guidance import Predict, guided
from genfam.networks.base import Network, fit_width
from genfam.seeds import normal
from genfam.types import Data, Event

DRAWN = 2**19  # scalars that are drawn at once: images stay in the processor's cache


class FieldFamily(Family):
    """A family of one field.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the network.
        network: one that can be a field.
        optimisation: see `Optimisation`.
        batch_size: events per update.
        classes: values of the condition that the network knows; 0 = none.
    """

    dequantises: ClassVar[bool] = True
    trajectory: ClassVar[str] = "path to the data"
    model: nn.Module

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: int,
        classes: int,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        self._guides: list[FieldFamily] = []  # in a list, so that it is no part of this model's weights
        self.codec = Codec(event)

        def field(width: int) -> nn.Module:
            return self.field_of(network.field(event.shape, width, classes))

        self.register_players(model=field(fit_width(field, parameters, network.multiples)))

    def field_of(self, network: nn.Module) -> nn.Module:
        """The module that is trained, from a network of a state and a time."""
        return network

    def prepare(self, data: Data) -> None:
        """Standardise continuous events by the training split."""
        self.codec.fit(data)

    @property
    def drawn_at_once(self) -> int:
        """As many as stay in the processor's cache."""
        return min(10_000, max(1, DRAWN // self.event.dimensions))

    # ---- samples -------------------------------------------------------------------------------------

    def start(self, n: int, generator: Generator | None = None) -> Tensor:
        """-> (n, *shape) draws of p_init."""
        return normal((n, *self.event.shape), self.device, generator)

    @abstractmethod
    def walk(
        self, noise: Tensor, predict: Predict, generator: Generator, through: Sequence[float] = ()
    ) -> Iterator[tuple[float, Tensor]]:
        """The sampler's steps in flow matching's variables: times t from noise to 1, and (n, *shape) x_t at each.

        Args:
            noise: (n, *shape) standard normal numbers to begin with.
            predict: see `predictor`.
            generator: of what is drawn on the way.
            through: times in [0, 1] at which it steps too.
        """

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event): where the walk ends."""
        noise = self.start(n, generator)
        *_, (_, end) = self.walk(noise, self.predictor(condition, self.sampling["guidance"]), generator)
        return self.codec.decode(end)

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """See `Family.snapshots`; a time that the path or its steps do not have is the nearest that they do."""
        noise = self.start(n, generator)
        found: list[tuple[float, Tensor]] = [(2.0, noise)] * len(times)
        predict = self.predictor(condition, self.sampling["guidance"])
        for t, x in self.walk(noise, predict, generator, times):
            found = [(t, x) if abs(t - own) < abs(kept[0] - own) else kept
                     for own, kept in zip(times, found, strict=True)]  # fmt: skip
        return torch.stack([self.codec.in_units(x) for _, x in found])

    # ---- predictions and guidance --------------------------------------------------------------------

    def predict(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """What the sampling network says of (B, *shape) states at times of the family's own."""
        out: Tensor = self.sampler(x, t, condition)
        return out

    def predictor(self, condition: Tensor | None, guidance: float = 1.0) -> Predict:
        """`predict` given (B,) values of the condition, guided."""

        def strong(x: Tensor, t: Tensor) -> Tensor:
            return self.predict(x, t, condition)

        def unconditional(x: Tensor, t: Tensor) -> Tensor:
            assert condition is not None
            return self.predict(x, t, self.condition.null(condition))

        weak: Predict = unconditional
        for guide in self._guides:
            weak = guide.predictor(condition if guide.condition.classes else None)
        return guided(strong, weak, guidance)

    @property
    def field_kind(self) -> tuple[Any, ...]:
        """What two models must share for one to guide the other: what they predict, and of which event."""
        return type(self).__name__, self.event

    def guide_by(self, weaker: Family) -> None:
        """Lead away from this one's predictions, in place of those with the null label (Karras et al. 2024).

        Raises:
            ValueError: it predicts something else, or another event.
        """
        if not isinstance(weaker, FieldFamily) or weaker.field_kind != self.field_kind:
            raise ValueError(f"guide: expected a model of the same kind ({', '.join(map(str, self.field_kind))})")
        if weaker.condition.classes not in (0, self.condition.classes):
            raise ValueError(
                f"guide: expected {self.condition.classes} classes or none, got {weaker.condition.classes}"
            )
        self._guides = [weaker]

    @property
    def _passes(self) -> int:
        """Networks asked for one prediction."""
        return 2 if self.sampling["guidance"] != 1.0 else 1

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """At least one step, and guidance only away from something."""
        steps, guidance = sampling["steps"], sampling["guidance"]
        if not (isinstance(steps, int) and steps >= 1):
            raise ValueError(f"steps: expected a whole number of at least 1, got {steps}")
        if not guidance >= 1.0:
            raise ValueError(f"guidance: expected 1 (none) or more, got {guidance}")
        if guidance > 1.0 and not self._guides and self.condition.dropout == 0.0:
            raise ValueError(
                "guidance: expected a model that was trained with condition.dropout above 0, or a weaker run as "
                f"guide=…; got guidance={guidance} and neither"
            )

    # ---- likelihood ----------------------------------------------------------------------------------

    def velocity(self, t: Tensor, x: Tensor, predict: Predict) -> Tensor:
        """Scalar t, (B, *shape) x_t -> (B, *shape): the velocity of the flow, where a family has one."""
        raise NotImplementedError(f"{type(self).__name__} has no velocity")

    def carried_back(self, z: Tensor, end: float, condition: Tensor | None, generator: Generator) -> Tensor:
        """(B, *shape) states at t = `end` -> (B,) nats per volume there, by integration of `velocity`."""

        def field(rows: Tensor) -> Velocity:
            predict = self.predictor(None if condition is None else condition[rows])
            return lambda t, y: self.velocity(t, y, predict)

        found, error = log_density(field, z, end, generator)
        self.integration_error = max(self.integration_error, error)
        return found
