"""Mean flow: learn the average velocity between two times of a path, so that one step carries noise to data.

With v the marginal velocity of flow matching's path, a state at time t goes until time e by (e − t) u(x_t, t, e),

    u(x_t, t, e) = 1 / (e − t) ∫_t^e v(x_τ, τ) dτ.

Its derivative in t along the path gives an identity without an integral, u = v + (e − t) (v · ∇u + ∂u/∂t), and the
network is regressed on the right-hand side. The derivative is one product of its Jacobian with a vector, in forward
mode. (The paper's times run from the data to the noise; e is its r.)

References:
    Geng, Z. et al. 2025. Mean flows for one-step generative modeling. https://arxiv.org/abs/2505.13447
        (equations 3, 6, 9, 10 and 12; algorithms 1 and 2; section 4.3, times and weights)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from genfam.families.base import Optimisation
from genfam.families.field import FieldFamily
from genfam.families.guidance import Predict
from genfam.families.paths import Times, straight
from genfam.families.schedules import over
from genfam.networks.base import Network
from genfam.networks.interval import of_interval
from genfam.ranges import Count, Share
from genfam.seeds import normal_like, uniform
from genfam.types import Batch, Event, Likelihood

SMALLEST = 1e-3  # added to the squared error by which an event's error is divided (section 4.3, c)


class MeanFlow(FieldFamily):
    """MeanFlow. It has no likelihood: that of its instantaneous velocity is another sampler's.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the network.
        network: one that can be a field; it is given both times (networks/interval.py).
        optimisation: see `Optimisation`.
        batch_size: events per update.
        times: two of them are drawn, the earlier is t.
        apart: share of training events whose two times differ; the others learn the velocity itself.
        power: by that of its own error an event's error is divided. The paper's is 1: no event then dominates. Where
            dimensions are few, so that errors differ much between events, what is learnt is then no mean of theirs.
        steps: of samples; they may be chosen after training.
        classes: values of the condition that the network knows; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.NONE

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        times: Times,
        apart: Share = 0.25,
        power: Share = 0.0,
        steps: Count = 1,
        classes: int = 0,
    ) -> None:
        super().__init__(event, parameters, network, optimisation, batch_size, classes)
        self.times, self.apart, self.power = times, apart, power
        self.sampling = {"steps": steps, "guidance": 1.0}
        self.check_sampling(self.sampling)

    def field_of(self, network: nn.Module) -> nn.Module:
        """A field of two times."""
        return of_interval(network)

    def loss(self, batch: Batch, player: str) -> Tensor:
        """Squared error of the mean flow identity, each event's over its own size (equations 9, 10; section 4.3)."""
        x1 = self.codec.encode(batch.event)
        x0 = normal_like(x1)
        first, second = self.times.draw(len(x1), x1.device), self.times.draw(len(x1), x1.device)
        start = torch.minimum(first, second)
        differ = uniform((len(x1),), x1.device) < self.apart
        end = torch.where(differ, torch.maximum(first, second), start)

        def model(x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = self.model(x, torch.stack([t, end], dim=1), batch.condition)
            return out

        u, right = identity(model, straight(x0, x1, start), x1 - x0, start, end)
        errors = (u - right.detach()).square().flatten(1).mean(dim=1)
        weighted: Tensor = (errors / (errors.detach() + SMALLEST) ** self.power).mean()
        return weighted

    # ---- samples -------------------------------------------------------------------------------------

    def walk(
        self, noise: Tensor, predict: Predict, generator: Generator, through: Sequence[float] = ()
    ) -> Iterator[tuple[float, Tensor]]:
        """See `FieldFamily.walk`: equal steps, each as long as it likes (algorithm 2; equation 12).

        A time within a step is reached by a shorter one from where the step begins, and the step is taken as it is.
        """
        steps, x = self.sampling["steps"], noise
        times = [step / steps for step in range(steps + 1)]

        def moved(t: float, then: float) -> Tensor:
            return x + (then - t) * predict(x, x.new_tensor([t, then]).expand(len(x), 2))

        yield 0.0, x
        for t, end in pairwise(times):
            for then in sorted(time for time in through if t < time < end):
                yield then, moved(t, then)
            x = moved(t, end)
            yield end, x

    @property
    def evaluations_per_sample(self) -> float:
        """One per step; guidance takes it twice."""
        return float(self.sampling["steps"] * self._passes)


def identity(field: Predict, x: Tensor, v: Tensor, t: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides of the mean flow identity (Geng et al. 2025, equation 6).

    Args:
        field: (B, *shape) states, (B,) times -> (B, *shape) average velocity until `end`.
        x: (B, *shape) states.
        v: (B, *shape) velocity there.
        t: (B,) time of the states.
        end: (B,) until when.

    Returns:
        u, and v + (end − t) du/dt along the path, both (B, *shape).
    """
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no derivative in forward mode
        warnings.filterwarnings("ignore", ".*torch.jit.script.*", FutureWarning)  # torch's own use, at the first call
        u, slope = torch.func.jvp(field, (x, t), (v, torch.ones_like(t)))[:2]
    return u, v + over(end - t, x) * slope
