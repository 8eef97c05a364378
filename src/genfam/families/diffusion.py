"""Denoising diffusion: take noise away in a thousand small steps, each a Gaussian.

Data x get noise at times k = 1, …, T by x_k = α_k x + σ_k ε with α_k² + σ_k² = 1; at T little but noise is left. A
network predicts what was mixed, by least squares at a time drawn at random. The way back steps from time to time: with
fresh noise it is the ancestral sampler of a chain of Gaussians, whose likelihood has a variational bound; without, a
solver of the probability-flow ODE. (These times run from the data to the noise, and the literature's x_0 is our x.)

References:
    Ho, J., Jain, A. & Abbeel, P. 2020. Denoising diffusion probabilistic models. https://arxiv.org/abs/2006.11239
        (equation 14, the loss; algorithms 1 and 2)
    Song, J., Meng, C. & Ermon, S. 2021. Denoising diffusion implicit models. https://arxiv.org/abs/2010.02502
        (equation 12)
    Salimans, T. & Ho, J. 2022. Progressive distillation. https://arxiv.org/abs/2202.00512 (section 4, what to predict)
    Kingma, D. P., Salimans, T., Poole, B. & Ho, J. 2021. Variational diffusion models. https://arxiv.org/abs/2107.00630
        (the bound)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from genfam.families import schedules
from genfam.families.base import Optimisation
from genfam.families.field import FieldFamily
from genfam.families.guidance import Predict
from genfam.families.noisy_end import FITTED_ON, NOISY_END, Spread
from genfam.families.schedules import Ends, VariancePreserving
from genfam.families.variational import Denoise, decoded, divergences, noised
from genfam.networks.base import Network
from genfam.ranges import Count
from genfam.seeds import integers, normal, normal_like
from genfam.types import Batch, Event, Likelihood

ETA = {"ancestral": 1.0, "ddim": 0.0}  # how much of a step's noise is drawn


class Diffusion(FieldFamily):
    """DDPM.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the network.
        network: one that can be a field; its time is k / T.
        optimisation: see `Optimisation`.
        batch_size: events per update.
        schedule: α and σ at each time.
        prediction: what the network predicts: `noise`, `data` or `v`.
        solver: of samples, `ancestral` or `ddim`; it and the steps may be chosen after training.
        steps: times at which a sample is denoised, of the schedule's.
        classes: values of the condition that the network knows; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.LOWER_BOUND
    path: Tensor

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        schedule: VariancePreserving,
        prediction: Literal["noise", "data", "v"] = "noise",
        solver: Literal["ancestral", "ddim"] = "ancestral",
        steps: Count = 100,
        classes: int = 0,
    ) -> None:
        super().__init__(event, parameters, network, optimisation, batch_size, classes)
        if prediction not in schedules.PREDICTIONS:
            raise ValueError(f"prediction: expected one of {list(schedules.PREDICTIONS)}, got {prediction!r}")
        self.prediction, self.schedule = prediction, schedule
        self.register_buffer("path", torch.tensor(schedule.path, dtype=torch.float64), persistent=False)
        self.sampling = {"solver": solver, "steps": steps, "guidance": 1.0}
        self.check_sampling(self.sampling)

    def loss(self, batch: Batch, player: str) -> Tensor:
        """Mean squared error of what the network predicts at a uniform time (Ho et al. 2020, equation 14)."""
        x = self.codec.encode(batch.event)
        ends, k = Ends(x, normal_like(x)), 1 + integers(self.schedule.length, (len(x),), x.device)
        alpha, sigma = self.path[k].to(x.dtype).unbind(dim=1)
        output = self.model(schedules.mixed(alpha, sigma, ends), k / self.schedule.length, batch.condition)
        error: Tensor = (output - schedules.target(self.prediction, alpha, sigma, ends)).square().mean()
        return error

    def ends(self, x: Tensor, k: Tensor, predict: Predict) -> Ends:
        """(B, *shape) states at (B,) times -> the data and the noise that the network sees in them."""
        alpha, sigma = self.path[k].to(x.dtype).unbind(dim=1)
        return schedules.ends(self.prediction, predict(x, k / self.schedule.length), alpha, sigma, x)

    # ---- samples -------------------------------------------------------------------------------------

    def walk(
        self, noise: Tensor, predict: Predict, generator: Generator, through: Sequence[float] = ()
    ) -> Iterator[tuple[float, Tensor]]:
        """See `FieldFamily.walk`: denoised at the chosen times, from T to 0 (Ho et al. 2020, algorithm 2)."""
        path, eta, x = self.schedule.path, ETA[self.sampling["solver"]], noise
        also = {self.schedule.nearest(t) for t in through}
        times = sorted({*self.schedule.times(self.sampling["steps"]), *also}, reverse=True)
        for k, then in zip(times, [*times[1:], None], strict=True):
            yield schedules.flow_time(*path[k]), schedules.flow_state(*path[k], x)
            if then is not None:
                found = self.ends(x, torch.full((len(x),), k, device=x.device), predict)
                fresh = normal(x.shape, x.device, generator) if eta and then else None
                x = schedules.step(found, path[k], path[then], eta, fresh)

    @property
    def evaluations_per_sample(self) -> float:
        """One per step; guidance takes it twice."""
        return float(self.sampling["steps"] * self._passes)

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """A solver that there is, and no more steps than times."""
        super().check_sampling(sampling)
        if sampling["solver"] not in ETA:
            raise ValueError(f"solver: expected one of {', '.join(ETA)}, got {sampling['solver']!r}")
        if sampling["steps"] > self.schedule.length:
            raise ValueError(f"steps: expected at most {self.schedule.length}, got {sampling['steps']}")

    @property
    def field_kind(self) -> tuple[Any, ...]:
        """Its prediction and schedule too."""
        return *super().field_kind, self.prediction, self.schedule

    # ---- likelihood ----------------------------------------------------------------------------------

    @property
    def density_method(self) -> str:
        """Where the sum over times ends, if not at the data."""
        return f"chain to t = {NOISY_END:g}" if self._ends_in_noise else ""

    @property
    def _ends_in_noise(self) -> bool:
        """A prediction of the data is right to an error of its own, which weighs too much where there is no noise."""
        return self.prediction == "data" and self.event.is_discrete

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event), (B,) -> (B,) nats: the variational bound (variational.py), unguided and seeded.

        Of the ancestral sampler at all times. Discrete events are dequantised by one draw; where the network predicts
        the data the chain ends in noise, and the levels' distribution given that state is fitted (noisy_end.py).
        """
        generator = torch.Generator().manual_seed(0)
        if self._ends_in_noise:
            return self._noisy_bound(x, condition, generator)
        z, denoise = self.codec.encode(x, generator), self._denoiser(condition)
        first = decoded(self.path, z, denoise, generator)
        return first - divergences(self.path, z, denoise, 1, generator) + self.codec.log_volume

    def _denoiser(self, condition: Tensor | None) -> Denoise:
        predict = self.predictor(condition)
        return lambda x, k: self.ends(x, k, predict).data

    def _noisy_bound(self, x: Tensor, condition: Tensor | None, generator: Generator) -> Tensor:
        """(B, *event) levels -> (B,) nats, the chain ended at the time of `NOISY_END`."""
        spread, end = Spread(self.event), self.schedule.nearest(NOISY_END)

        def seen(levels: Tensor, condition: Tensor | None) -> Tensor:
            """What the network predicts of (B, *event) levels at the noisy end."""
            k = torch.full((len(levels),), end, device=levels.device)
            z = noised(self.path, self.codec.centre(levels, spread.levels), k, generator)
            return self._denoiser(condition)(z, k)

        values = self.condition.draw(FITTED_ON, generator).to(self.device) if self.condition.classes else None
        noise = normal((FITTED_ON, *self.event.shape), self.device, generator)
        *_, (_, own) = self.walk(noise, self.predictor(values), generator)
        own = self.codec.decode(own)
        spread.fit(own, seen(own, values))
        first = spread.log_prob(x, seen(x, condition))
        z = self.codec.centre(x, spread.levels)
        return first - divergences(self.path, z, self._denoiser(condition), end, generator)
