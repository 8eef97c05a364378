"""The family contract and the one optimisation loop for all families.

A family is one file beside this one: it names its players, gives each a loss, and draws. Everything else is here: the
loop over players (manual optimisation), the learning-rate schedule, the average of the sampling player's weights,
gradient norms, divergence detection, the counters, the condition, and what a checkpoint holds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from lightning import LightningModule
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genfam.conditions.base import Condition
from genfam.conditions.nothing import Nothing
from genfam.ranges import NotNegative, Positive, Share
from genfam.seeds import integers
from genfam.types import Batch, Data, Event, Likelihood

SCALARS_AT_ONCE = 2**20  # of events that are drawn in one pass: 50,000 images of CIFAR-10 at once would hold 130 GB
MIXED_UP_TO = 16  # values of a condition up to which the mixture's density is summed over all of them


class Diverged(Exception):
    """A loss or a gradient is not finite: a result of the run, not a crash."""


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


class Family(LightningModule, ABC):
    """A way of modelling p_data.

    A subclass builds its players' networks in `__init__`, hands them to `register_players`, and implements `loss` and
    `draw` (and `density` if it declares a likelihood). What it keeps beside weights it hands to `declare`.

    Args:
        event: what one data point is.
        optimisation: of every player.
        batch_size: events per update.

    Attributes:
        players: the optimised parts, in the order of their updates; the last one samples and is averaged.
        trajectory: what `snapshots` shows, for people; empty where samples are drawn at once.
        likelihood: what `density` returns on continuous events.
        dequantises: whether discrete events are made continuous by adding noise, which turns an exact
            likelihood into a lower bound (Theis et al. 2016).
        trains: whether there is anything to optimise.
        needs_init: whether it does nothing but carry one source to another.
        needs_data: whether a saved one draws from the source, so that the data must be there.
        samples_only: whether its table of a small discrete world is counted from samples though it has a density.
        flop_period: number of updates after which the cost of an update repeats (lazy penalties).
        init: the source at which samples begin in place of noise; None for noise.
        condition: what events are conditioned on. It is set by whoever builds the family, before `prepare`.
        sampling: knobs that may be chosen after training, as they are now; empty where a family draws in one way only.
        updates, total_updates: how far training is.
        learning_rate_factor: on every player's learning rate, to see how much hangs on it.
        integration_error: of log-probabilities since it was last set to 0: nats by which they may be off on average.
        in_bfloat16: whether training's matrix products are in bfloat16 (autocast); sampling stays in float32.
    """

    players: ClassVar[tuple[str, ...]] = ("model",)
    trajectory: ClassVar[str] = ""
    likelihood: ClassVar[Likelihood]
    dequantises: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    needs_init: ClassVar[bool] = False
    needs_data: ClassVar[bool] = False
    samples_only: ClassVar[bool] = False
    flop_period: int = 1
    integration_error: float = 0.0

    def __init__(self, event: Event, optimisation: Optimisation, batch_size: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.event = event
        self.optimisation = optimisation
        self.batch_size = batch_size
        self.init: Data | None = None
        self.condition: Condition = Nothing()
        self.sampling: dict[str, Any] = {}
        self._of_training_only: set[str] = set()
        self._live = False
        self.learning_rate_factor = 1.0
        self.in_bfloat16 = False
        self.updates = 0
        self.total_updates = 1
        self.flops_per_update = 0.0
        self.grad_norms: dict[str, list[float]] = {player: [] for player in self.players}
        self.losses: dict[str, list[float]] = {player: [] for player in self.players}

    # ---- what a family says -------------------------------------------------------------------------

    @abstractmethod
    def loss(self, batch: Batch, player: str) -> Tensor:
        """A batch of B events on the family's device, player -> scalar to be minimised by that player."""

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

    # ---- what all share -----------------------------------------------------------------------------

    def register_players(self, **networks: nn.Module) -> None:
        """Attach the players' networks and the average of the last one.

        Raises:
            ValueError: the names are not those of `players`, in their order.
        """
        if tuple(networks) != self.players:
            raise ValueError(f"expected players {self.players}, got {tuple(networks)}")
        for name, network in networks.items():
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # on the CPU up to a third faster so
                    for weight in module.parameters():
                        if weight.dim() == 4:  # as `Module.to` does it, which a rehearsal cannot
                            weight.data = weight.data.to(memory_format=torch.channels_last)
            setattr(self, name, network)
        self.average = AveragedModel(networks[self.players[-1]])
        self.average.requires_grad_(False)

    def declare(self, name: str, value: Tensor, *, sampling: bool) -> None:
        """Keep a tensor beside the weights under `self.<name>`: checkpoints hold it.

        Args:
            name: of the attribute.
            value: as it is at first; a later one may have another size.
            sampling: whether drawing or scoring needs it, so that saved and published weights hold it too. What only
                training needs (a replay buffer) they leave out.
        """
        self.register_buffer(name, value)
        if not sampling:
            self._of_training_only.add(name)

    @property
    def of_training_only(self) -> frozenset[str]:
        """Names in the state dict that neither drawing nor scoring needs."""
        return frozenset(self._of_training_only)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        """As torch's, but what was declared may have grown since."""
        for name, value in self._buffers.items():
            there = state_dict.get(prefix + name)
            if value is not None and there is not None and there.shape != value.shape:
                setattr(self, name, torch.zeros_like(there, device=value.device))
        super()._load_from_state_dict(state_dict, prefix, *more)

    def _update_average(self) -> None:
        """Torch's multi-tensor average with this run's decay.

        `AveragedModel.update_parameters` does the same after sorting all tensors by device and type, which takes longer
        than the average itself and, in small batches, one fifteenth of an update.
        """
        network = getattr(self, self.players[-1])
        if int(self.average.n_averaged) == 0:
            self.average.update_parameters(network)
            return
        decay = 1.0 - 1.0 / (1.0 + self.optimisation.ema * self.total_updates)
        averaged, current = list(self.average.module.parameters()), list(network.parameters())
        get_ema_multi_avg_fn(decay)(averaged, current, None)
        self.average.n_averaged += 1

    @property
    def sampler(self) -> Any:
        """The last player as it samples: its exponential moving average (itself while that is switched off)."""
        if self._live or self.optimisation.ema == 0 or int(self.average.n_averaged) == 0:
            return getattr(self, self.players[-1])
        return self.average.module

    @contextmanager
    def without_average(self) -> Iterator[None]:
        """Within, drawing and scoring pass through the live network: an average hides what training does."""
        self._live = True
        try:
            yield
        finally:
            self._live = False

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

    @property
    def progress(self) -> float:
        """Share of the planned updates that are done, in [0, 1]."""
        return min(1.0, self.updates / self.total_updates)

    @property
    def train_flops(self) -> float:
        """Training FLOPs spent so far."""
        return self.updates * self.flops_per_update

    @property
    def events_seen(self) -> int:
        """Training events drawn so far."""
        return self.updates * self.batch_size

    def player_parameters(self, player: str) -> list[nn.Parameter]:
        """The parameters that `player` optimises."""
        return [p for p in getattr(self, player).parameters()]

    def peak_learning_rate(self, player: str) -> float:
        """Of this player, times the run's factor."""
        rates = self.optimisation.learning_rates or {}
        return self.learning_rate_factor * rates.get(player, self.optimisation.learning_rate)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One AdamW per player, in the order of `players` (their states are restored by position)."""
        return [
            torch.optim.AdamW(
                self.player_parameters(player),
                lr=self.peak_learning_rate(player),
                betas=(self.optimisation.betas[0], self.optimisation.betas[1]),
                weight_decay=self.optimisation.weight_decay,
                fused=True,
            )
            for player in self.players
        ]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Lightning's own would copy the container by reflection, which takes longer than a small update."""
        return batch.to(device)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One update: every player's optimiser steps once."""
        optimisers = self.optimizers(use_pl_optimizer=True)
        self.update(batch, optimisers if isinstance(optimisers, list) else [optimisers], self.manual_backward)

    def update(self, batch: Batch, optimisers: Iterable[Any], backward: Callable[[Tensor], None]) -> None:
        """The one optimisation loop.

        Args:
            batch: training events.
            optimisers: one per player, in order.
            backward: called with each loss.

        Raises:
            Diverged: a loss or a gradient norm is not finite.
        """
        factor = self.optimisation.factor(self.progress)
        batch = Batch(batch.event, self.condition.dropped(batch.condition))
        by_player = dict(zip(self.players, optimisers, strict=True))
        # from the optimisers: going through all modules takes as long as a layer does
        owned = {name: [p for group in one.param_groups for p in group["params"]] for name, one in by_player.items()}
        for player, optimiser in by_player.items():
            parameters = owned[player]
            others = [p for name, theirs in owned.items() if name != player for p in theirs]
            for parameter in others:
                parameter.requires_grad_(False)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bfloat16):
                loss = self.loss(batch, player)
            optimiser.zero_grad(set_to_none=True)
            backward(loss)
            for parameter in others:
                parameter.requires_grad_(True)
            norm = nn.utils.clip_grad_norm_(parameters, self.optimisation.clip or math.inf, foreach=True)
            value, norm_value = float(loss.detach()), float(norm)
            self.losses[player].append(value)
            self.grad_norms[player].append(norm_value)
            if not (math.isfinite(value) and math.isfinite(norm_value)):
                raise Diverged(
                    f"{player}: loss {value}, gradient norm {norm_value} "
                    f"at update {self.updates} of {self.total_updates}"
                )
            for group in optimiser.param_groups:
                group["lr"] = self.peak_learning_rate(player) * factor
            optimiser.step()
        if self.optimisation.ema:
            self._update_average()
        self.updates += 1

    # ---- what a checkpoint must hold beside weights and optimisers ------------------------------------

    def training_state(self) -> dict[str, Any]:
        """Counters and traces, in plain containers."""
        return {"updates": self.updates, "grad_norms": self.grad_norms, "losses": self.losses}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """The inverse of `training_state`."""
        self.updates = state["updates"]
        self.grad_norms = state["grad_norms"]
        self.losses = state["losses"]
