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

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from genfam.families.base import Optimisation
from genfam.families.coupling import Coupling, Independent
from genfam.families.field import FieldFamily
from genfam.families.guidance import Predict
from genfam.families.noisy_end import FITTED_ON, NOISY_END, Spread, entropy, noisy
from genfam.families.paths import PREDICTIONS, SMALLEST, Times, Uniform, straight, target, velocity
from genfam.families.solvers import Solver
from genfam.networks.base import Network
from genfam.ranges import Count
from genfam.seeds import normal, normal_like
from genfam.types import Batch, Data, Event, Likelihood

ENERGY_STEPS = 100  # of the integral of the squared velocity
ROUNDING = 1e-9  # of times


class FlowMatching(FieldFamily):
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
        super().__init__(event, parameters, network, optimisation, batch_size, classes)
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction: expected one of {list(PREDICTIONS)}, got {prediction!r}")
        self.prediction, self.times, self.coupling = prediction, times, coupling
        self.sampling = {"solver": solver.method, "steps": solver.steps, "guidance": 1.0}

    def loss(self, batch: Batch, player: str) -> Tensor:
        """Mean squared error of what the network predicts (Lipman et al. 2023, equation 9, for the velocity)."""
        x0, x1, condition = self.pairs(batch)
        t = self.times.draw(len(x1), x1.device)
        output = self.model(straight(x0, x1, t), t, condition)
        error: Tensor = (output - target(self.prediction, x0, x1)).square().mean()
        return error

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """A batch of B events -> (B, *shape) starts and ends of paths, and their (B,) values of the condition."""
        x1 = self.codec.encode(batch.event)
        x0 = self.coupling(normal_like(x1) if self.init is None else self.start(len(x1)), x1)
        return x0, x1, batch.condition

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

    # ---- samples -------------------------------------------------------------------------------------

    @property
    def field_kind(self) -> tuple[Any, ...]:
        """Its prediction too."""
        return *super().field_kind, self.prediction

    def velocity(self, t: Tensor, x: Tensor, predict: Predict) -> Tensor:
        """Scalar t, (B, *shape) -> (B, *shape)."""
        times = t.expand(len(x))
        return velocity(self.prediction, predict(x, times), x, times)

    def walk(
        self, noise: Tensor, predict: Predict, generator: Generator, through: Sequence[float] = ()
    ) -> Iterator[tuple[float, Tensor]]:
        """See `FieldFamily.walk`: equal steps, which times within one do not change.

        Such a time is reached by a shorter step from where the solver's own begins.

        A prediction of the data is the end of the path as seen from here, and the last step goes there. At t = 1 itself
        its velocity is 0/0: a corrector that asks for it leaves half of the noise of that step in the sample (EDM,
        algorithm 1, corrects no last step either).
        """
        yield from self.walk_with(Solver(self.sampling["solver"], self.sampling["steps"]), noise, predict, through)

    def walk_with(
        self, solver: Solver, noise: Tensor, predict: Predict, through: Sequence[float] = ()
    ) -> Iterator[tuple[float, Tensor]]:
        """`walk` by a solver of any kind."""
        last = 1.0 - max(SMALLEST, 1.0 / solver.steps) if self.prediction == "data" else 1.0
        x, done, whole = noise, 0, solver.steps - (last < 1.0)  # one step alone is the prediction
        grid = [last * step / whole for step in range(whole)] + [last]

        def moved(begun: float, end: float, steps: int) -> Tensor:
            def field(t: Tensor, state: Tensor) -> Tensor:
                return self.velocity(t + begun, state, predict)

            return solver.integrate(field, x, end - begun, steps)

        for time in sorted({0.0, *through, 1.0}):
            step = bisect_right(grid, time + ROUNDING) - 1
            x, done = moved(grid[done], grid[step], step - done), step
            if time > last + ROUNDING:
                end = predict(x, torch.full((len(x),), last, device=x.device))
                yield time, end if time == 1.0 else torch.lerp(x, end, (time - last) / (1.0 - last))
            else:
                yield time, moved(grid[step], time, int(time > grid[step] + ROUNDING))

    def transport(self, x_init: Tensor, condition: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """(n, *shape) draws of p_init, (n,) condition -> where the flow carries them by t = 1."""
        *_, (_, end) = self.walk(x_init, self.predictor(condition, guidance), Generator())
        return end

    @property
    def evaluations_per_sample(self) -> float:
        """Steps × order, one for a last step to the predicted data; guidance takes each twice."""
        solver = Solver(self.sampling["solver"], self.sampling["steps"])
        steps = solver.steps - (self.prediction == "data")
        calls = steps * solver.order + (self.prediction == "data")
        return float(calls * self._passes)

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """A solver that there is, and guidance only away from something."""
        Solver(sampling["solver"], sampling["steps"])
        super().check_sampling(sampling)

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
        return self.carried_back(z, 1.0, condition, generator) + self.codec.log_volume

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
        density = self.carried_back(z, NOISY_END, condition, generator)
        return spread.log_prob(x, predicted) + density + entropy(self.event.dimensions, NOISY_END)
