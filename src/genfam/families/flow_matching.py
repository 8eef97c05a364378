"""Flow matching: learn the velocity along straight paths from noise to data, then integrate it.

p_init = N(0, I) at t = 0, p_data at t = 1, x_t = (1 − t) x_0 + t x_1. The target x_1 − x_0 has the marginal velocity of
the path of densities as its conditional mean, so a least-squares fit learns a field whose flow carries noise to data;
nothing has to be normalised.

References:
    Lipman, Y. et al. 2023. Flow matching for generative modeling. https://arxiv.org/abs/2210.02747
        (equation 9, the conditional objective; appendix C, likelihood)
    Liu, X., Gong, C. & Liu, Q. 2023. Flow straight and fast. https://arxiv.org/abs/2209.03003 (equation 1)
    Karras, T. et al. 2022. EDM. https://arxiv.org/abs/2206.00364 (algorithm 1, the last step)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from genfam.families.base import Family, Optimisation, check_times
from genfam.families.codec import Codec
from genfam.families.coupling import Coupling, Independent
from genfam.families.flow_density import Velocity, log_density
from genfam.families.guidance import Predict, guided
from genfam.families.noisy_end import FITTED_ON, NOISY_END, Spread, entropy, noisy
from genfam.families.paths import PREDICTIONS, SMALLEST, Times, Uniform, straight, target, velocity
from genfam.families.solvers import Solver
from genfam.networks.base import Network, fit_width
from genfam.ranges import Count
from genfam.seeds import normal, normal_like
from genfam.types import Batch, Data, Event, Likelihood

ENERGY_STEPS = 100  # of the integral of the squared velocity
DRAWN = 2**19  # scalars that are drawn at once: images stay in the processor's cache


class FlowMatching(Family):
    """Flow matching with a straight path.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the network.
        network: one that can be a field.
        optimisation: see `Optimisation`.
        batch_size: events per update.
        prediction: what the network predicts: `velocity`, `data` or `noise`.
        times: at which it learns.
        coupling: of noise and data within a batch.
        solver: of samples; its method and steps may be chosen after training.
        classes: values of the condition that the network knows; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.ESTIMATE
    dequantises: ClassVar[bool] = True
    model: nn.Module

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        prediction: Literal["velocity", "data", "noise"] = "velocity",
        times: Times = Uniform(),
        coupling: Coupling = Independent(),
        solver: Solver = Solver(),
        classes: int = 0,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction: expected one of {list(PREDICTIONS)}, got {prediction!r}")
        self.prediction, self.times, self.coupling = prediction, times, coupling
        self.sampling = {"solver": solver.method, "steps": solver.steps, "guidance": 1.0}
        self._guides: list[FlowMatching] = []  # in a list, so that it is no part of this model's weights
        self.codec = Codec(event)

        def field(width: int) -> nn.Module:
            return network.field(event.shape, width, classes)

        self.register_players(model=field(fit_width(field, parameters, network.multiples)))

    def prepare(self, data: Data) -> None:
        """Standardise continuous events by the training split."""
        self.codec.fit(data)

    def loss(self, batch: Batch, player: str) -> Tensor:
        """Mean squared error of what the network predicts (Lipman et al. 2023, equation 9, for the velocity)."""
        x1 = self.codec.encode(batch.event)
        x0 = self.coupling(normal_like(x1) if self.init is None else self.start(len(x1)), x1)
        t = self.times.draw(len(x1), x1.device)
        output = self.model(straight(x0, x1, t), t, batch.condition)
        error: Tensor = (output - target(self.prediction, x0, x1)).square().mean()
        return error

    # ---- p_init --------------------------------------------------------------------------------------

    def begin_at(self, init: Data) -> None:
        """In place of noise."""
        self.init = init

    def start(self, n: int, generator: Generator | None = None) -> Tensor:
        """-> (n, *shape) draws of p_init."""
        if self.init is None:
            return normal((n, *self.event.shape), self.device, generator)
        return self.codec.encode(self.begun(n, generator), generator)

    def carry(self, x: Tensor, generator: Generator) -> Tensor:
        """(n, *event) -> (n, *event): along the velocity."""
        return self.codec.decode(self.transport(self.codec.encode(x, generator), guidance=self.sampling["guidance"]))

    def path_energy(self, x: Tensor, generator: Generator) -> Tensor:
        """(n, *event) -> (n,): the integral of ‖velocity‖² along the way, in squared units of `Codec.unit`."""
        predict, z = self.predictor(None), self.codec.encode(x, generator)
        total = torch.zeros(len(x), device=x.device)
        for step in range(ENERGY_STEPS):  # the midpoint rule, for the state and for the integral
            t = torch.tensor(step / ENERGY_STEPS, device=x.device)
            half = z + self.velocity(t, z, predict) * (0.5 / ENERGY_STEPS)
            v = self.velocity(t + 0.5 / ENERGY_STEPS, half, predict)
            z, total = z + v / ENERGY_STEPS, total + v.flatten(1).square().sum(dim=1) / ENERGY_STEPS
        return total * self.codec.unit**2

    @torch.no_grad()
    def snapshots(
        self, n: int, times: Sequence[float], generator: Generator, condition: int | Tensor | None = None
    ) -> Tensor:
        """See `Family.snapshots`: by the sampler's own method, in steps at least as small as its own."""
        check_times(times)
        values = self._checked(condition, n)
        if values is None and self.condition.classes:
            values = self.condition.draw(n, generator).to(self.device)
        solver, found, at = Solver(self.sampling["solver"], self.sampling["steps"]), {}, 0.0
        predict, x = self.predictor(values, self.sampling["guidance"]), self.start(n, generator)
        last = 1.0 - SMALLEST if self.prediction == "data" else 1.0  # where its velocity still is a number
        with self._evaluating():
            for time in sorted({*times}):
                end, begun = min(time, last), at

                def field(t: Tensor, state: Tensor, begun: float = begun) -> Tensor:
                    return self.velocity(t + begun, state, predict)

                x = solver.integrate(field, x, end - at, math.ceil(solver.steps * (end - at)))
                at = end
                if time > last:  # the prediction is the end of the path
                    found[time] = self.codec.in_units(predict(x, torch.full((n,), last, device=x.device)))
                else:
                    found[time] = self.codec.in_units(x)
        return torch.stack([found[time] for time in times])

    # ---- samples -------------------------------------------------------------------------------------

    def predictor(self, condition: Tensor | None, guidance: float = 1.0) -> Predict:
        """What the sampling network predicts, guided."""

        def strong(x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = self.sampler(x, t, condition)
            return out

        def unconditional(x: Tensor, t: Tensor) -> Tensor:
            assert condition is not None
            out: Tensor = self.sampler(x, t, self.condition.null(condition))
            return out

        weak: Predict = unconditional
        for guide in self._guides:
            weak = guide.predictor(condition if guide.condition.classes else None)
        return guided(strong, weak, guidance)

    def guide_by(self, weaker: Family) -> None:
        """Lead away from this one's predictions, in place of those with the null label (Karras et al. 2024).

        Raises:
            ValueError: it predicts something else, or another event.
        """
        if not isinstance(weaker, FlowMatching) or (weaker.event, weaker.prediction) != (self.event, self.prediction):
            raise ValueError(f"guide: expected flow matching of {self.event} that predicts the {self.prediction}")
        if weaker.condition.classes not in (0, self.condition.classes):
            raise ValueError(
                f"guide: expected {self.condition.classes} classes or none, got {weaker.condition.classes}"
            )
        self._guides = [weaker]

    def velocity(self, t: Tensor, x: Tensor, predict: Predict) -> Tensor:
        """Scalar t, (B, *shape) -> (B, *shape)."""
        times = t.expand(len(x))
        return velocity(self.prediction, predict(x, times), x, times)

    def transport(self, x_init: Tensor, condition: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """(n, *shape) draws of p_init, (n,) condition -> where the flow carries them by t = 1.

        A prediction of the data is the end of the path as seen from here, and the last step goes there. At t = 1 itself
        its velocity is 0/0: a corrector that asks for it leaves half of the noise of that step in the sample (EDM,
        algorithm 1, corrects no last step either).
        """
        solver = Solver(self.sampling["solver"], self.sampling["steps"])
        predict = self.predictor(condition, guidance)
        last = max(SMALLEST, 1.0 / solver.steps) if self.prediction == "data" else 0.0
        steps = solver.steps - (last > 0.0)
        end = solver.integrate(lambda t, x: self.velocity(t, x, predict), x_init, 1.0 - last, steps)
        return predict(end, torch.full((len(end),), 1.0 - last, device=end.device)) if last else end

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event): integrate the velocity from p_init, by default Gaussian noise."""
        x_init = self.start(n, generator)
        return self.codec.decode(self.transport(x_init, condition, self.sampling["guidance"]))

    @property
    def drawn_at_once(self) -> int:
        """As many as stay in the processor's cache."""
        return min(10_000, max(1, DRAWN // self.event.dimensions))

    @property
    def evaluations_per_sample(self) -> float:
        """Steps × order, one for a last step to the predicted data; guidance takes each twice."""
        solver = Solver(self.sampling["solver"], self.sampling["steps"])
        steps = solver.steps - (self.prediction == "data")
        calls = steps * solver.order + (self.prediction == "data")
        return float(calls * (1 + (self.sampling["guidance"] != 1.0)))

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """A solver that there is, and guidance only away from something."""
        Solver(sampling["solver"], sampling["steps"])
        if not sampling["guidance"] >= 1.0:
            raise ValueError(f"guidance: expected 1 (none) or more, got {sampling['guidance']}")
        if sampling["guidance"] > 1.0 and not self._guides and self.condition.dropout == 0.0:
            raise ValueError(
                "guidance: expected a model that was trained with condition.dropout above 0, or a weaker run as "
                f"guide=…; got guidance={sampling['guidance']} and neither"
            )

    # ---- likelihood ----------------------------------------------------------------------------------

    @property
    def density_method(self) -> str:
        """Where the path ends for the likelihood, if not at the data."""
        return f"path to t = {NOISY_END:g}" if self._ends_in_noise else ""

    @property
    def _ends_in_noise(self) -> bool:
        return self.prediction == "data" and self.event.is_discrete

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event), (B,) -> (B,) nats by integration (flow_density.py), unguided.

        An estimate: of the integral, of the divergence in more than a few dimensions, and for discrete events of a
        bound by one draw of noise: of the dequantisation, or where the network predicts the data of a path that ends in
        noise (noisy_end.py). Seeded: the same events get the same numbers.
        """
        generator = torch.Generator().manual_seed(0)
        if self._ends_in_noise:
            return self._noisy_bound(x, condition, generator)
        z = self.codec.encode(x, generator)
        return self._carried_back(z, 1.0, condition, generator) + self.codec.log_volume

    def _carried_back(self, z: Tensor, end: float, condition: Tensor | None, generator: Generator) -> Tensor:
        """(B, *shape) states at t = `end` -> (B,) nats per volume there."""

        def field(rows: Tensor) -> Velocity:
            predict = self.predictor(None if condition is None else condition[rows])
            return lambda t, y: self.velocity(t, y, predict)

        found, error = log_density(field, z, end, generator)
        self.integration_error = max(self.integration_error, error)
        return found

    def _noisy_bound(self, x: Tensor, condition: Tensor | None, generator: Generator) -> Tensor:
        """(B, *event) levels -> (B,) nats: the bound of noisy_end.py by one draw, its entropy exact."""
        spread = Spread(self.event)

        def seen(levels: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
            """What stands at the noisy end, and the network's prediction from it."""
            z = noisy(self.codec.centre(levels, spread.levels), generator)
            return z, self.predictor(condition)(z, torch.full((len(z),), NOISY_END, device=z.device))

        own_values = self.condition.draw(FITTED_ON, generator).to(self.device) if self.condition.classes else None
        x_init = normal((FITTED_ON, *self.event.shape), self.device, generator)
        own = self.codec.decode(self.transport(x_init, own_values))
        spread.fit(own, seen(own, own_values)[1])
        z, predicted = seen(x, condition)
        density = self._carried_back(z, NOISY_END, condition, generator)
        return spread.log_prob(x, predicted) + density + entropy(self.event.dimensions, NOISY_END)
