"""The family contract: what every family says of itself, and how all of them draw and score.

A family is one file beside this one: it names its players, gives each a loss, and draws. The optimisation loop and
checkpoints are in `players.py`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Generator, Tensor, nn

from genfam.families.players import Players
from genfam.ranges import NotNegative, Positive, Share
from genfam.seeds import integers
from genfam.types import Batch, Data, Event, Likelihood

SCALARS_AT_ONCE = 2**20  # of events that are drawn in one pass: 50,000 images of CIFAR-10 at once would hold 130 GB
MIXED_UP_TO = 16  # values of a condition up to which the mixture's density is summed over all of them


class NothingToChoose(ValueError):
    """The family draws in one way only."""


class NoTrajectory(ValueError):
    """The family draws a sample at once."""


@dataclass(frozen=True)
class Optimisation:
    """How every player of a family is optimised.

    Attributes:
        learning_rate: peak learning rate.
        learning_rates: exceptions per player.
        betas: Adam's.
        weight_decay: decoupled (AdamW).
        warmup: share of all updates over which the learning rate rises linearly.
        decay: `cosine`, `linear` (both to `final` × the peak) or `constant`.
        final: share of the peak left at the end.
        clip: largest gradient norm per player; None = no clipping.
        ema: horizon of the exponential moving average of the sampling player, as a share of all updates, so that
            it fits runs of any length (a fixed decay of 0.999 would drown a run of 1,000 updates); 0 = none.
    """

    learning_rate: Positive = 1e-3
    learning_rates: dict[str, float] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NotNegative = 0.0
    warmup: Share = 0.02
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final: Share = 0.0
    clip: Positive | None = 1.0
    ema: Share = 0.03

    def factor(self, progress: float) -> float:
        """Learning rate as a share of its peak at `progress` in [0, 1] of the run."""
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        rest = min(1.0, (progress - self.warmup) / max(1e-12, 1.0 - self.warmup))
        shapes = {"cosine": 0.5 * (1.0 + math.cos(math.pi * rest)), "linear": 1.0 - rest, "constant": 1.0}
        if self.decay not in shapes:
            raise ValueError(f"decay: expected one of {sorted(shapes)}, got {self.decay!r}")
        return self.final + (1.0 - self.final) * shapes[self.decay]


class Family(Players):
    """A way of modelling p_data.

    A subclass builds its players' networks in `__init__`, hands them to `register_players`, and implements `loss` and
    `draw` (and `density` if it declares a likelihood). What it keeps beside weights it hands to `declare`.

    Args:
        event: what one data point is.
        optimisation: of every player.
        batch_size: events per update.

    Attributes:
        trajectory: what `snapshots` shows, for people; empty where samples are drawn at once.
        likelihood: what `density` returns on continuous events.
        dequantises: whether discrete events are made continuous by adding noise, which turns an exact
            likelihood into a lower bound (Theis et al. 2016).
        trains: whether there is anything to optimise.
        needs_init: whether it does nothing but carry one source to another.
        needs_data: whether a saved one draws from the source, so that the data must be there.
        samples_only: whether its table of a small discrete world is counted from samples though it has a density.
        init: the source at which samples begin in place of noise; None for noise.
        sampling: knobs that may be chosen after training, as they are now; empty where a family draws in one way only.
        integration_error: of log-probabilities since it was last set to 0: nats by which they may be off on average.
    """

    trajectory: ClassVar[str] = ""
    likelihood: ClassVar[Likelihood]
    dequantises: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    needs_init: ClassVar[bool] = False
    needs_data: ClassVar[bool] = False
    samples_only: ClassVar[bool] = False
    integration_error: float = 0.0

    def __init__(self, event: Event, optimisation: Optimisation, batch_size: int) -> None:
        super().__init__()
        self.optimisation = optimisation
        self.batch_size = batch_size
        self.event = event
        self.init: Data | None = None
        self.sampling: dict[str, Any] = {}

    # ---- what a family says -------------------------------------------------------------------------

    @abstractmethod
    def draw(self, n: int, condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (n, *event) events as the source gives them (levels as uint8, points as float32), in one pass.

        Args:
            n: how many.
            condition: (n,) int64 on the family's device; None without one.
            generator: on the CPU; random numbers come from it (`genfam.seeds.normal` and its neighbours).
        """

    def density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event), (B,) int64 on the family's device -> (B,) nats of p(x | condition), per the event's measure."""
        raise NotImplementedError

    def diagnostics(self, batch: Batch) -> dict[str, float]:
        """What the players show of themselves on real events, on their device: a GAN `critic_accuracy`."""
        return {}

    def prepare(self, data: Data) -> None:
        """Look once at the training split before the first update, on the CPU (standardisation, closed-form fits)."""

    def begin_at(self, init: Data) -> None:
        """Carry events of another source to this one's, in place of noise: before `prepare`.

        A family that can also says where each goes, in `carry`.

        Raises:
            ValueError: it cannot.
        """
        raise ValueError(f"{type(self).__name__} carries no source to another: its samples begin at noise of its own")

    def carry(self, x: Tensor, generator: Generator) -> Tensor:
        """(n, *event) events of `init` on the family's device -> (n, *event): where each goes.

        Raises:
            NotImplementedError: the family carries no source to another, see `begin_at`.
        """
        raise NotImplementedError(f"{type(self).__name__} carries no source to another")

    def states_at(self, n: int, times: Sequence[float], condition: Tensor | None, generator: Generator) -> Tensor:
        """-> (len(times), n, *event) float32: see `snapshots`; arguments otherwise as for `draw`.

        Raises:
            NoTrajectory: samples are drawn at once.
        """
        raise NoTrajectory(f"{type(self).__name__} draws a sample at once: there are no steps to show")

    def check_sampling(self, sampling: dict[str, Any]) -> None:
        """Raise ValueError, naming the knob, where one of `sampling` has a value that cannot be."""

    def guide_by(self, weaker: Family) -> None:
        """Let guidance lead away from a weaker model. Raises NothingToChoose where a family has no guidance."""
        raise NothingToChoose(f"{type(self).__name__} has no guidance")

    @property
    def evaluations_per_sample(self) -> float:
        """Network calls that one sample takes."""
        return 1.0

    @property
    def sampling_network(self) -> nn.Module:
        """What a sample passes through: its parameters are what the budget's parameters count."""
        network = getattr(self, self.players[-1])
        assert isinstance(network, nn.Module)
        return network

    @property
    def drawn_at_once(self) -> int:
        """Events that `draw` is asked for in one pass: bounded memory."""
        return max(1, SCALARS_AT_ONCE // self.event.dimensions)

    @property
    def scored_at_once(self) -> int | None:
        """Events that `density` is handed in one pass; None: all of them, it bounds its memory itself."""
        return None

    def begun(self, n: int, generator: Generator | None = None) -> Tensor:
        """-> (n, *event) training events of `init` on the family's device, with replacement."""
        assert self.init is not None
        rows = integers(len(self.init.train), (n,), torch.device("cpu"), generator)
        return self.init.train[rows].to(self.device)

    # ---- drawing and scoring ------------------------------------------------------------------------

    @final
    @torch.no_grad()
    def sample(self, n: int, *, generator: Generator, condition: int | Tensor | None = None) -> Tensor:
        """-> (n, *event) events as the source gives them; no grad.

        Args:
            n: how many.
            generator: on the CPU.
            condition: one value for all, or (n,) int64; None draws it by its shares.

        Raises:
            ValueError: a condition that the family was not trained with.
        """
        wanted = self._checked(condition, n)
        kind = torch.uint8 if self.event.is_discrete else torch.float32
        parts = [torch.zeros((0, *self.event.shape), dtype=kind, device=self.device)]
        with self._evaluating():
            for start in range(0, n, self.drawn_at_once):
                size = min(self.drawn_at_once, n - start)
                values = None if wanted is None else wanted[start : start + size]
                if values is None and self.condition.classes:
                    values = self.condition.draw(size, generator).to(self.device)
                parts.append(self.draw(size, values, generator))
        return torch.cat([part.to(kind) for part in parts[1:]] or parts)

    @final
    @torch.no_grad()
    def snapshots(
        self, n: int, times: Sequence[float], generator: Generator, condition: int | Tensor | None = None
    ) -> Tensor:
        """-> (len(times), n, *event.shape) float32: sampling step by step, from t = 0 to t = 1 (`trajectory`).

        In the data's units; not a number where a scalar is still to come. Of families of a field, x_t of
        x_t = (1 − t) x_0 + t x_1 from p_init to the data, whatever the family's own variables.

        Args:
            n: how many.
            times: t in [0, 1].
            generator: on the CPU.
            condition: one value for all, or (n,) int64; None draws it by its shares.

        Raises:
            NoTrajectory: samples are drawn at once.
            ValueError: no times, one outside, or a condition that the family was not trained with.
        """
        if not times or not all(0.0 <= t <= 1.0 for t in times):
            raise ValueError(f"t: expected numbers from 0 to 1, got {list(times)}")
        values = self._checked(condition, n)
        with self._evaluating():
            if values is None and self.condition.classes:
                values = self.condition.draw(n, generator).to(self.device)
            return self.states_at(n, times, values, generator)

    @final
    @torch.no_grad()
    def log_prob(self, x: Tensor, condition: int | Tensor | None = None) -> Tensor:
        """(B, *event) on any device -> (B,) nats per the event's measure.

        With a condition, of p(x | c). Without one of Σ_c p(c) p(x | c), summed over all labels and over up to
        `MIXED_UP_TO` clusters; of more clusters, the event's own term alone, which bounds the sum from below.

        Raises:
            NotImplementedError: the family declares no likelihood.
            ValueError: a condition that the family was not trained with.
        """
        if self.likelihood_kind is Likelihood.NONE:
            raise NotImplementedError(
                f"{type(self).__name__} declares likelihood = {self.likelihood.value}: it has no log_prob"
            )
        x = x.to(self.device)
        wanted = self._checked(condition, len(x))
        if not len(x):
            return torch.zeros(0, device=self.device)
        size = self.scored_at_once or len(x)
        with self._evaluating():
            parts = [
                self._mixture(x[start : start + size], None if wanted is None else wanted[start : start + size])
                for start in range(0, len(x), size)
            ]
        return torch.cat(parts)

    def _mixture(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """(B, *event), (B,) values asked for -> (B,) nats."""
        own = self.condition
        if condition is not None or not own.classes:
            return self.density(x, condition)
        if self._sums_over_all:
            every = [torch.full((len(x),), value, device=x.device) for value in range(own.classes)]
            return torch.logsumexp(torch.stack([self.density(x, c) + own.log_prob(c) for c in every]), dim=0)
        condition = own.of(x)
        return self.density(x, condition) + own.log_prob(condition)

    @property
    def _sums_over_all(self) -> bool:
        return self.condition.classes <= MIXED_UP_TO or self.condition.are_labels

    def _checked(self, condition: int | Tensor | None, n: int) -> Tensor | None:
        """One value or (n,) -> (n,) on the family's device, checked."""
        if condition is None:
            return None
        classes = self.condition.classes
        values = torch.as_tensor(condition, dtype=torch.int64).to(self.device).expand(n)
        if not classes:
            raise ValueError(f"condition: expected none (the model is unconditional), got {condition}")
        if len(values) and not (int(values.min()) >= 0 and int(values.max()) < classes):
            raise ValueError(f"condition: expected 0 to {classes - 1}, got {condition}")
        return values

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Without dropout, and afterwards as before."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    @final
    def choose_sampling(self, **knobs: Any) -> None:
        """Draw by these knobs from now on: other samples, at another cost, from the same weights.

        Raises:
            NothingToChoose: the family draws in one way only.
            ValueError: no such knob, or a value that cannot be.
        """
        if not self.sampling:
            raise NothingToChoose(
                f"{type(self).__name__} has no sampling knobs: one sample takes it {self.evaluations_per_sample:g} "
                "network evaluations"
            )
        unknown = sorted(knobs.keys() - self.sampling.keys())
        if unknown:
            raise ValueError(
                f"{unknown[0]}: expected one of {type(self).__name__}'s sampling knobs, {', '.join(self.sampling)}"
            )
        chosen = self.sampling | knobs
        self.check_sampling(chosen)
        self.sampling = chosen

    # ---- likelihoods ---------------------------------------------------------------------------------

    @property
    def likelihood_kind(self) -> Likelihood:
        """What `log_prob` returns without a condition: one term of a mixture bounds an exact density from below."""
        exact = self.density_kind is Likelihood.EXACT
        return Likelihood.LOWER_BOUND if exact and not self._sums_over_all else self.density_kind

    @property
    def density_kind(self) -> Likelihood:
        """`likelihood` on this event: dequantisation makes a density a bound, and a loose one where levels are few."""
        if self.init is not None:  # a density is carried from noise, whose own is known; another source's is not
            return Likelihood.NONE
        has_density = self.likelihood in (Likelihood.EXACT, Likelihood.ESTIMATE)
        dequantised = has_density and self.dequantises and self.event.is_discrete
        return Likelihood.LOWER_BOUND if dequantised else self.likelihood

    @property
    def likelihood_method(self) -> str:
        """By what a bound or an estimate comes about, where that changes it (`64 importance samples`); else nothing."""
        term = "" if self._sums_over_all else f"own term of {self.condition.classes}"
        return ", ".join(filter(None, (self.density_method, term)))

    @property
    def density_method(self) -> str:
        """The same of `density` alone."""
        return ""
