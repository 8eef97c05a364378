"""Denoising score matching over noise scales: learn in which direction noisy data become likelier.

x_σ = x + σ ε at noise scales σ from next to nothing to far above the data. By Tweedie's formula the score of noisy data
is ∇ log p_σ(x_σ) = (E[x | x_σ] − x_σ) / σ², and least squares finds that mean. The score is what the reverse SDE, the
probability-flow ODE and annealed Langevin dynamics need; all three end in the data.

References:
    Karras, T. et al. 2022. Elucidating the design space of diffusion-based generative models (EDM).
        https://arxiv.org/abs/2206.00364 (equations 7 and 8 and table 1, the network and its loss; algorithm 1)
    Song, Y. et al. 2021. Score-based generative modeling through SDEs. https://arxiv.org/abs/2011.13456
        (equation 6, the reverse SDE; equation 13, the probability-flow ODE; appendix F, ancestral steps)
    Song, Y. & Ermon, S. 2019. Generative modeling by estimating gradients of the data distribution.
        https://arxiv.org/abs/1907.05600 (algorithm 1, annealed Langevin dynamics)
    Vincent, P. 2011. A connection between score matching and denoising autoencoders. Neural Computation 23.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from genfam.families import schedules
from genfam.families.base import Optimisation
from genfam.families.field import FieldFamily
from genfam.families.guidance import Predict
from genfam.families.schedules import Ends, NoiseScales, over
from genfam.networks.base import Network
from genfam.ranges import Count
from genfam.seeds import normal, normal_like
from genfam.types import Batch, Data, Event, Likelihood

SOLVERS = ("heun", "euler", "reverse_sde", "langevin")
UPDATES, RATE = 5, 0.2  # of Langevin dynamics: per scale, and a step's variance in units of the scale's
FITTED_ON = 50_000  # events whose spread is taken


class Score(FieldFamily):
    """EDM.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the network.
        network: one that can be a field; its time is where ln σ lies between the smallest and the largest scale.
        optimisation: see `Optimisation`.
        batch_size: events per update.
        scales: of noise, in training and in sampling.
        solver: of samples: `heun` or `euler` of the ODE, `reverse_sde` or `langevin`; it and the steps may be chosen
            after training.
        steps: noise scales that a sample passes.
        classes: values of the condition that the network knows; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.ESTIMATE
    spread: Tensor

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        scales: NoiseScales,
        solver: Literal["heun", "euler", "reverse_sde", "langevin"] = "heun",
        steps: Count = 25,
        classes: int = 0,
    ) -> None:
        super().__init__(event, parameters, network, optimisation, batch_size, classes)
        self.scales = scales
        self.declare("spread", torch.ones(()), sampling=True)
        self.sampling = {"solver": solver, "steps": steps, "guidance": 1.0}
        self.check_sampling(self.sampling)

    def prepare(self, data: Data) -> None:
        """Standardise continuous events, and find the data's root mean square, EDM's σ_data."""
        super().prepare(data)
        x = self.codec.encode(data.train[:FITTED_ON], torch.Generator().manual_seed(0))
        self.spread.copy_(x.square().mean().sqrt())

    def loss(self, batch: Batch, player: str) -> Tensor:
        """Mean squared error of the denoised data, divided by c_out² (Karras et al. 2022, equation 8).

        So it is that of the network itself, which should give numbers of unit size at every scale.
        """
        x = self.codec.encode(batch.event)
        noise, sigma = normal_like(x), self.scales.draw(len(x), x.device)
        s, norm = over(sigma, x), (over(sigma, x).square() + self.spread.square()).sqrt()
        wanted = (s / self.spread * x - self.spread * noise) / norm
        output = self.model((x + s * noise) / norm, self.scales.position(sigma), batch.condition)
        error: Tensor = (output - wanted).square().mean()
        return error

    def predict(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """The noise (x − D(x; σ)) / σ in (B, *shape) states at (B,) scales t = σ, of EDM's denoiser D (equation 7).

        As a sum, since the quotient would be 0 / 0 at σ = 0.
        """
        sigma, norm = over(t, x), (over(t, x).square() + self.spread.square()).sqrt()
        output: Tensor = self.sampler(x / norm, self.scales.position(t), condition)
        return sigma / norm.square() * x - self.spread / norm * output

    def ends(self, x: Tensor, sigma: Tensor, predict: Predict) -> Ends:
        """(B, *shape) states at (B,) scales -> the data and the noise that the network sees in them."""
        return schedules.ends("noise", predict(x, sigma), torch.ones_like(sigma), sigma, x)

    def score(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """∇ log p_σ of (B, *shape) standardised states at (B,) scales; the shape of the states."""
        return -self.predict(x, sigma, condition) / over(sigma, x)

    # ---- samples -------------------------------------------------------------------------------------

    def walk(
        self, noise: Tensor, predict: Predict, generator: Generator, through: Sequence[float] = ()
    ) -> Iterator[tuple[float, Tensor]]:
        """See `FieldFamily.walk`: from the largest scale down."""
        solver, steps = self.sampling["solver"], self.sampling["steps"]
        scales = [*self.scales.geometric(steps), 0.0] if solver == "langevin" else self.scales.curved(steps)
        scales = sorted({*scales, *self.scales.at(through)}, reverse=True)
        x = scales[0] * noise
        for sigma, then in zip(scales, [*scales[1:], None], strict=True):
            here = x.new_full((len(x),), sigma)
            if solver == "langevin" and sigma:
                for _ in range(UPDATES):  # x + ½ δ score + √δ fresh noise, with δ = RATE σ²
                    fresh = normal(x.shape, x.device, generator)
                    x = x + sigma * (math.sqrt(RATE) * fresh - 0.5 * RATE * predict(x, here))
            yield schedules.flow_time(1.0, sigma), schedules.flow_state(1.0, sigma, x)
            if then is not None and (solver != "langevin" or then == 0.0):
                x = self._step(x, sigma, then, predict, generator)

    def _step(self, x: Tensor, sigma: float, then: float, predict: Predict, generator: Generator) -> Tensor:
        """(n, *shape) states at a scale -> at the next one, 0 at the end."""
        solver, levels = self.sampling["solver"], ((1.0, sigma), (1.0, then))
        found = self.ends(x, x.new_full((len(x),), sigma), predict)
        if solver == "reverse_sde" and then:
            return schedules.step(found, *levels, 1.0, normal(x.shape, x.device, generator))
        there = schedules.step(found, *levels, 0.0, None)
        if solver != "heun" or then == 0.0:
            return there
        slope = predict(there, x.new_full((len(x),), then))  # dx / dσ is the noise
        return x + (then - sigma) * 0.5 * (found.noise + slope)

    @property
    def evaluations_per_sample(self) -> float:
        """Heun's method two per step but the last; Langevin dynamics as many as updates, and one to denoise."""
        steps = self.sampling["steps"]
        calls = {"heun": 2 * steps - 1, "langevin": UPDATES * steps + 1}.get(self.sampling["solver"], steps)
        return float(calls * self._passes)

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """A solver that there is."""
        super().check_sampling(sampling)
        if sampling["solver"] not in SOLVERS:
            raise ValueError(f"solver: expected one of {', '.join(SOLVERS)}, got {sampling['solver']!r}")

    # ---- likelihood ----------------------------------------------------------------------------------

    def velocity(self, t: Tensor, x: Tensor, predict: Predict) -> Tensor:
        """Flow matching's velocity of the probability-flow ODE: scalar t, (B, *shape) x_t -> (B, *shape).

        Nearer to the noise than the largest scale the network is asked as if it were there.
        """
        t = t.clamp(min=1.0 / (1.0 + self.scales.largest))
        found = self.ends(x / t, ((1.0 - t) / t).expand(len(x)), predict)
        return found.data - found.noise

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event), (B,) -> (B,) nats of the probability-flow ODE (flow_density.py), unguided and seeded.

        An estimate, as flow matching's; for discrete events of the bound by one draw of the dequantisation.
        """
        generator = torch.Generator().manual_seed(0)
        z = self.codec.encode(x, generator)
        return self.carried_back(z, 1.0, condition, generator) + self.codec.log_volume
