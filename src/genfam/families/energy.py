"""Energy-based model: a density up to its constant, learnt from samples of its own.

p(x) = p_0(x) e^(−V(x)) / Z where p_0 is a density of which chains can begin (normal, or uniform over levels) and V is a
network's scalar. The gradient of log Z is an average over the model's own samples, which Markov chains draw: they go on
from one update to the next, and some begin anew. Z itself is estimated on request (`normalise`).

References:
    Hinton, G. E. 2002. Training products of experts by minimizing contrastive divergence. Neural Computation 14
    Tieleman, T. 2008. Training restricted Boltzmann machines using approximations to the likelihood gradient.
        ICML (persistent chains)
    Du, Y. & Mordatch, I. 2019. Implicit generation and modeling with energy-based models.
        https://arxiv.org/abs/1903.08689 (section 3: the buffer; equation 4 and section 3.3: small energies)
    Grathwohl, W. et al. 2021. Oops I took a gradient. https://arxiv.org/abs/2102.04509 (levels, see gibbs.py)
    Nijkamp, E. et al. 2020. On the anatomy of MCMC-based maximum likelihood learning of energy-based models.
        https://arxiv.org/abs/1903.12370
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.families.annealed_importance import Bracket, bracket
from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.families.langevin import Langevin, over
from genfam.families.moves import Moves, Potential
from genfam.networks.base import Network, fit_width
from genfam.ranges import Count, NotNegative, Share
from genfam.seeds import uniform
from genfam.types import Batch, Data, Event, Likelihood

PASS = 2**19  # scalars whose chains run at once
MOVES_FROM_NOISE = 500  # of the chains that `snapshots` shows


class Energy(Family):
    """Maximum likelihood by persistent chains.

    Args:
        event: shape and levels. Chains move between levels, or on real numbers (levels are then dequantised, codec.py).
        parameters: budget of the network.
        network: one that can be an encoder.
        optimisation: of the one player.
        batch_size: events per update, and chains that move in it.
        moves: of the chains.
        steps: moves of a chain per update, and of a sample; of a sample they may be chosen after training.
        buffer: chains that are kept; with a condition each value has its share of them, at least a batch.
        restarts: share of an update's chains that begin anew.
        regulariser: weight of the mean squared V.
        classes: values of the condition that the network knows; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.UNNORMALISED
    trajectory: ClassVar[str] = f"Markov chain from noise, {MOVES_FROM_NOISE} moves"
    model: nn.Module
    chains: Tensor
    log_normalisers: Tensor

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        moves: Moves = Langevin(),
        steps: Count = 10,
        buffer: Count = 4096,
        restarts: Share = 0.05,
        regulariser: NotNegative = 1e-3,
        classes: int = 0,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        if moves.between_levels and not event.is_discrete:
            raise ValueError(f"moves: expected events with levels for {type(moves).__name__}, got {event}")
        self.moves, self.steps, self.restarts, self.regulariser = moves, steps, restarts, regulariser
        self.sampling = {"steps": steps, "temperature": 1.0}
        self.codec = Codec(event)
        shape = (*event.shape, event.levels) if moves.between_levels and event.levels else event.shape

        def energy(width: int) -> nn.Module:
            return network.encoder(shape, 1, width, classes)

        self.register_players(model=energy(fit_width(energy, parameters, network.multiples)))
        values, each = max(1, classes), max(batch_size, buffer // max(1, classes))
        begun = self._kept(moves.start(values * each, event, "cpu"))
        self.declare("chains", begun.view(values, each, *event.shape), sampling=True)
        self.declare("log_normalisers", torch.zeros(0), sampling=True)

    def prepare(self, data: Data) -> None:
        """Standardise continuous events by the training split."""
        self.codec.fit(data)

    # ---- states ------------------------------------------------------------------------------------------

    def states(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """(B, *event) events -> what chains move between: one-hot levels, or encoded numbers."""
        return self._states(x) if self.moves.between_levels else self.codec.encode(x, generator)

    def _states(self, kept: Tensor) -> Tensor:
        """(B, *event) as the buffer keeps them -> states."""
        return F.one_hot(kept.long(), self.event.levels or -1).float() if self.moves.between_levels else kept

    def _kept(self, states: Tensor) -> Tensor:
        """The inverse of `_states`."""
        return states.argmax(dim=-1).to(torch.uint8) if self.moves.between_levels else states

    def tilt(self, network: nn.Module, condition: Tensor | None) -> Potential:
        """V: (B, *state) -> (B,) nats."""

        def value(x: Tensor) -> Tensor:
            out: Tensor = network(x, condition)[:, 0].float()
            return out

        return value

    def potential(self, network: nn.Module, condition: Tensor | None, temperature: float = 1.0) -> Potential:
        """U = (V − log p_0) / temperature, so that chains tend to p at a temperature of 1."""
        tilt = self.tilt(network, condition)
        return lambda x: (tilt(x) - self.moves.log_start(x)) / temperature

    # ---- training ----------------------------------------------------------------------------------------

    def loss(self, batch: Batch, player: str) -> Tensor:
        """E[V(data)] − E[V(chains)] and the regulariser; its gradient is that of −log p where chains draw from p."""
        negative = self._moved(batch)
        condition = None if batch.condition is None else batch.condition.repeat(2)
        real, own = self.tilt(self.model, condition)(torch.cat([self.states(batch.event), negative])).chunk(2)
        return real.mean() - own.mean() + self.regulariser * (real.square().mean() + own.square().mean())

    def _moved(self, batch: Batch) -> Tensor:
        """(B, *state): a chain of the batch's own value for each event, moved on; kept for later updates."""
        n = len(batch)
        rows = uniform((self.chains.shape[1],), self.device).argsort()[:n]
        values = torch.zeros_like(rows) if batch.condition is None else batch.condition
        x = self._states(self.chains[values, rows])
        anew = uniform((n,), self.device) < self.restarts
        x = torch.where(over(anew, x), self.moves.start(n, self.event, self.device), x)
        x = self.moves.run(self.potential(self.model, batch.condition), x, self.steps)
        self.chains[values, rows] = self._kept(x)
        return x

    # ---- samples -----------------------------------------------------------------------------------------

    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event): the buffer's chains, evenly, each moved on by noise of its own."""
        each = self.chains.shape[1]
        rows = uniform((-(-n // each), each), self.device, generator).argsort(dim=1).flatten()[:n]
        values = torch.zeros_like(rows) if condition is None else condition
        potential = self.potential(self.sampler, condition, self.sampling["temperature"])
        x = self.moves.run(potential, self._states(self.chains[values, rows]), self.sampling["steps"], generator)
        return self._kept(x) if self.moves.between_levels else self.codec.decode(x)

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """Chains from p_0. Those of samples are older: they go on from training's."""
        potential = self.potential(self.sampler, condition, self.sampling["temperature"])
        x, moved, shown = self.moves.start(n, self.event, self.device, generator), 0, {}
        for t in sorted(times):
            x = self.moves.run(potential, x, round(t * MOVES_FROM_NOISE) - moved, generator)
            moved = round(t * MOVES_FROM_NOISE)
            shown[t] = self._kept(x).float() if self.moves.between_levels else self.codec.in_units(x)
        return torch.stack([shown[t] for t in times])

    @property
    def drawn_at_once(self) -> int:
        """As many as stay in the processor's cache."""
        return min(10_000, max(1, PASS // self.event.dimensions))

    @property
    def evaluations_per_sample(self) -> float:
        """One for each move, with its gradient, and one where the chain stands at first."""
        return float(self.sampling["steps"] + 1)

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """At least one step, and a positive temperature."""
        if sampling["steps"] != int(sampling["steps"]) or sampling["steps"] < 1:
            raise ValueError(f"steps: expected a whole number of at least 1, got {sampling['steps']}")
        if not sampling["temperature"] > 0.0:
            raise ValueError(f"temperature: expected a positive number, got {sampling['temperature']}")

    # ---- likelihood --------------------------------------------------------------------------------------

    @property
    def density_kind(self) -> Likelihood:
        """Unnormalised until `normalise`; then an estimate, or of dequantised levels one of a bound."""
        if not len(self.log_normalisers):
            return Likelihood.UNNORMALISED
        dequantised = self.event.is_discrete and not self.moves.between_levels
        return Likelihood.LOWER_BOUND if dequantised else Likelihood.ESTIMATE

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event) -> (B,) nats: log p_0 − V, less log Z once it is known."""
        states = self.states(x, torch.Generator().manual_seed(0))
        found = self.moves.log_start(states) - self.tilt(self.sampler, condition)(states)
        found = found if self.moves.between_levels else found + self.codec.log_volume
        if not len(self.log_normalisers):
            return found
        return found - (self.log_normalisers[0] if condition is None else self.log_normalisers[condition])

    @torch.no_grad()
    def log_normaliser(
        self, generator: Generator, condition: int | None = None, *, chains: int = 200, temperatures: int = 500
    ) -> Bracket:
        """Bounds of log Z, for one value of the condition; the reverse chains begin where the buffer's went on."""
        values = None if condition is None else torch.full((chains,), condition, device=self.device)
        begun = self.moves.start(chains, self.event, self.device, generator)
        rows = uniform((-(-chains // self.chains.shape[1]), self.chains.shape[1]), self.device, generator).argsort(
            dim=1
        )
        kept = self._states(self.chains[condition or 0, rows.flatten()[:chains]])
        drawn = self.moves.run(self.potential(self.sampler, values), kept, temperatures, generator)
        return bracket(self.moves, self.tilt(self.sampler, values), begun, drawn, temperatures, generator)

    def normalise(self, generator: Generator, *, chains: int = 200, temperatures: int = 500) -> list[Bracket]:
        """Estimate log Z of every value of the condition: from then on `log_prob` is normalised."""
        values = range(self.condition.classes) if self.condition.classes else [None]
        found = [self.log_normaliser(generator, v, chains=chains, temperatures=temperatures) for v in values]
        self.log_normalisers = torch.tensor([each.middle.value for each in found], device=self.device)
        return found
