"""Masked diffusion: scalars are masked at random and filled in again, in any order.

Forwards every scalar keeps its level with probability α_t = 1 − t and is masked else (the log-linear schedule; the
bound does not depend on which). The network says what stands at the masked places; it gives the mask itself no
probability and copies what is not masked (MDLM's substitution). With z_t the masked event, in continuous time

    −log p(x) ≤ ∫₀¹ 1/t E[Σ_{i masked} −log p_θ(x_i | z_t)] dt.

The network sees masks, not times, so t can be integrated out: k of D scalars are masked at time t with the binomial
probability, and ∫ Bin(k; D, t) / t dt = 1/k. What is left has less variance, and is the autoregressive bound averaged
over all orders:

    −log p(x) ≤ D E_{k ~ U{1..D}} E_{k masked of D} [1/k Σ_{i masked} −log p_θ(x_i | z)].

References:
    Sahoo, S. S. et al. 2024. Simple and effective masked diffusion language models (MDLM).
        https://arxiv.org/abs/2406.07524 (section 3.2: substitution; equation 10: the bound)
    Austin, J. et al. 2021. Structured denoising diffusion models in discrete state-spaces (D3PM).
        https://arxiv.org/abs/2107.03006 (absorbing states)
    Hoogeboom, E. et al. 2022. Autoregressive diffusion models. https://arxiv.org/abs/2110.02037 (equation 4: the bound
        over all orders; section 3.2: several scalars at once)
    Kingma, D. P. et al. 2021. Variational diffusion models. https://arxiv.org/abs/2107.00630 (appendix I.1: evenly
        spaced times lower the variance)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from genfam.build import NotModelled
from genfam.families.base import Family, Optimisation
from genfam.networks.base import fit_width
from genfam.networks.conditionals import softmax_draw, softmax_log_prob
from genfam.networks.masked_transformer import MaskedDenoiser, MaskedTransformer
from genfam.ranges import Count
from genfam.seeds import uniform
from genfam.types import Batch, Event, Likelihood

SEED = 20240611  # of the bound's masks: the same events get the same bound
AT_ONCE = 2**22  # logits held at once while drawing or bounding a likelihood


def masked_counts(strata: Tensor, dimensions: int) -> Tensor:
    """(…) numbers in [0, 1) -> (…) int64 from 1 to `dimensions`, evenly: how many scalars are masked."""
    return (1 + (strata * dimensions).long()).clamp(max=dimensions)


class MaskedDiffusion(Family):
    """Masked diffusion of discrete events.

    Args:
        event: discrete.
        parameters: budget of the network; its width is chosen to meet it within 10 %.
        network: of masked places.
        optimisation: of the one player.
        batch_size: events per update, each with one draw of masks.
        steps: network calls per sample, in each of which an equal number of scalars is filled in, independently of one
            another; None = one scalar at a time, which is the limit of small steps.
        draws: of masks, for the bound that `density` returns.
        classes: values of the condition that the network knows; 0 = none.

    Raises:
        NotModelled: continuous events.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.LOWER_BOUND
    trajectory: ClassVar[str] = "scalars filled in, in any order"
    model: MaskedDenoiser

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: MaskedTransformer,
        optimisation: Optimisation,
        batch_size: Count,
        steps: Count | None = None,
        draws: Count = 32,
        classes: int = 0,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        if event.levels is None:
            raise NotModelled("masked diffusion fills in levels, and these events are continuous: they have none")
        self.levels, self.draws = event.levels, draws
        self.sampling = {"steps": steps or event.dimensions, "temperature": 1.0}

        def denoiser(width: int) -> MaskedDenoiser:
            return network.denoiser(event, width, classes)

        self.register_players(model=denoiser(fit_width(denoiser, parameters, network.multiples)))

    def loss(self, batch: Batch, player: str) -> Tensor:
        """The bound in nats per scalar; numbers of masked scalars are spread evenly over the batch."""
        values = batch.event.flatten(1).long()
        strata = (torch.arange(len(values), device=values.device) + uniform((1,), values.device)) / len(values)
        return self._surprise(getattr(self, player), values, batch.condition, strata, 1.0, None).mean()

    def _surprise(
        self,
        network: MaskedDenoiser,
        values: Tensor,
        condition: Tensor | None,
        strata: Tensor,
        temperature: float,
        generator: Generator | None,
    ) -> Tensor:
        """1/k Σ_{i masked} −log p_θ(x_i | z) at one draw of masks.

        Args:
            network: live or averaged.
            values: (B, D) int64.
            condition: (B,) int64.
            strata: (B,) numbers in [0, 1) that say how many scalars are masked.
            temperature: of the softmax.
            generator: of the masks; None = the global one.

        Returns:
            (B,) nats.
        """
        count = masked_counts(strata, values.shape[1])
        rank = uniform(values.shape, values.device, generator).argsort(dim=1).argsort(dim=1)
        masked = rank < count[:, None]
        logits = network(values.masked_fill(masked, self.levels), condition)
        surprise = -softmax_log_prob(logits, values, temperature)
        return (surprise * masked).sum(dim=1) / count

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event) -> (B,) nats: the bound by `draws` masks, numbers of masked scalars spread evenly over them.

        Its expectation is at most log p(x), and log p(x) itself where scalars are independent or there is one. The
        masks come from a generator with a seed of its own, so that one model gives one answer. At a temperature it
        bounds the likelihood of the model with sharpened conditionals.
        """
        generator = torch.Generator().manual_seed(SEED)
        values, total = x.flatten(1).long(), torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for draw in range(self.draws):
            strata = (draw + uniform((len(x),), x.device, generator)) / self.draws
            for start in range(0, len(x), self.drawn_at_once):
                rows = slice(start, start + self.drawn_at_once)
                given = None if condition is None else condition[rows]
                heat = self.sampling["temperature"]
                total[rows] -= self._surprise(self.sampler, values[rows], given, strata[rows], heat, generator)
        return total * self.event.dimensions / self.draws

    @property
    def density_kind(self) -> Likelihood:
        """A bound over all orders; of a single scalar there is one order, and no bound."""
        return Likelihood.EXACT if self.event.dimensions == 1 else self.likelihood

    @property
    def density_method(self) -> str:
        """How many masks a bound is by."""
        return "" if self.density_kind is Likelihood.EXACT else f"{self.draws} draws of masks"

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event): where filling in ends."""
        *_, values = self._filled_in(n, condition, generator)
        return values.view(n, *self.event.shape).to(torch.uint8)

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """Masked scalars have no number."""
        wanted = [round(t * self.evaluations_per_sample) for t in times]
        states = {step: x for step, x in enumerate(self._filled_in(n, condition, generator)) if step in wanted}
        shown = torch.stack([states[step] for step in wanted])
        return shown.float().masked_fill(shown == self.levels, torch.nan).view(len(times), n, *self.event.shape)

    def _filled_in(self, n: int, condition: Tensor | None, generator: Generator) -> Iterator[Tensor]:
        """(n, D) levels after each step of ancestral sampling, all masked at first.

        Each event has a random order of its own, and is filled in by it.
        """
        dimensions, steps = self.event.dimensions, int(self.evaluations_per_sample)
        values = torch.full((n, dimensions), self.levels, device=self.device)
        order = uniform((n, dimensions), self.device, generator).argsort(dim=1)
        yield values
        for step in range(steps):
            chosen = order[:, dimensions * step // steps : dimensions * (step + 1) // steps]
            logits = self.sampler(values, condition).gather(1, chosen[..., None].expand(-1, -1, self.levels))
            drawn = softmax_draw(logits.flatten(0, 1), self.sampling["temperature"], generator)
            values = values.scatter(1, chosen, drawn.view(chosen.shape))
            yield values

    @property
    def evaluations_per_sample(self) -> float:
        """One call per step; more steps than scalars would fill in nothing."""
        return float(min(self.sampling["steps"], self.event.dimensions))

    @property
    def drawn_at_once(self) -> int:
        """As many as keep to `AT_ONCE` logits."""
        return max(1, AT_ONCE // (self.event.dimensions * self.levels))

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """A positive temperature, and whole steps."""
        if not sampling["temperature"] > 0.0:
            raise ValueError(f"temperature: expected a positive number, got {sampling['temperature']}")
        if int(sampling["steps"]) != sampling["steps"] or sampling["steps"] < 1:
            raise ValueError(f"steps: expected a whole number of at least 1, got {sampling['steps']}")
