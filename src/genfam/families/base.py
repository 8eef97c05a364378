"""The family contract and the one optimisation loop for all families.

A family is one file beside this one: it names its players, gives each a loss, and samples. Everything else is
here: the loop over players (manual optimisation), learning-rate schedule, exponential moving average of the
player that samples, gradient norms, non-finite detection, and the counters of events and FLOPs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genfam.types import Data, Event, Likelihood


class Diverged(Exception):
    """A loss or a gradient is not finite: a result of the run, not a crash."""


class NothingToChoose(ValueError):
    """The family draws in one way only."""


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

    learning_rate: float = 1e-3
    learning_rates: dict[str, float] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: float = 0.02
    decay: str = "cosine"
    final: float = 0.0
    clip: float | None = 1.0
    ema: float = 0.03

    def factor(self, progress: float) -> float:
        """Learning rate as a share of its peak at `progress` in [0, 1] of the run."""
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        rest = min(1.0, (progress - self.warmup) / max(1e-12, 1.0 - self.warmup))
        shapes = {"cosine": 0.5 * (1.0 + math.cos(math.pi * rest)), "linear": 1.0 - rest, "constant": 1.0}
        if self.decay not in shapes:
            raise ValueError(f"decay: expected one of {sorted(shapes)}, got {self.decay!r}")
        return self.final + (1.0 - self.final) * shapes[self.decay]


@dataclass(frozen=True)
class Sampling:
    """How a family draws, as far as that may be chosen after training.

    Attributes:
        solver: what takes the steps.
        steps: how many; None where the solver chooses them itself.
    """

    solver: str
    steps: int | None


class Family(LightningModule, ABC):
    """A way of modelling p_data.

    A subclass builds its players' networks in `__init__`, hands them to `register_players`, and implements
    `loss` and `sample` (and `log_prob` if it declares a likelihood).

    Attributes:
        players: the optimised parts, in the order of their updates; the last one samples and is averaged.
        likelihood: what `log_prob` returns on continuous events.
        dequantises: whether discrete events are made continuous by adding noise, which turns an exact
            likelihood into a lower bound (Theis et al. 2016).
        prepared_in_weights: whether all that `prepare` finds is in `state_dict`: saved runs need no data then.
        flop_period: number of updates after which the cost of an update repeats (lazy penalties).
        updates, total_updates: how far training is.
        learning_rate_factor: on every player's learning rate, to see how much hangs on it.
        in_bfloat16: whether training's matrix products are in bfloat16 (autocast); sampling stays in float32.
    """

    players: ClassVar[tuple[str, ...]] = ("model",)
    likelihood: ClassVar[Likelihood]
    dequantises: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    prepared_in_weights: ClassVar[bool] = False
    flop_period: int = 1

    def __init__(self, event: Event, optimisation: Optimisation, batch_size: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.event = event
        self.optimisation = optimisation
        self.batch_size = batch_size
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
    def loss(self, x: Tensor, player: str) -> Tensor:
        """(B, *event) on the family's device, player -> scalar to be minimised by that player."""

    @abstractmethod
    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """-> (n, *event) events as the source gives them (levels as uint8, points as float32); no grad.

        Random numbers come from the generator, which lives on the CPU (`genfam.seeds.normal` and its neighbours).
        """

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) on any device -> (B,) nats per the event's measure; refuses unless a likelihood is declared."""
        raise NotImplementedError(
            f"{type(self).__name__} declares likelihood = {self.likelihood.value}: it has no log_prob"
        )

    def diagnostics(self, x: Tensor) -> dict[str, float]:
        """What the players show of themselves on real events (B, *event), on their device: a GAN `critic_accuracy`."""
        return {}

    def prepare(self, data: Data) -> None:
        """Look once at the training split before the first update, on the CPU (standardisation, closed-form fits)."""

    @property
    def evaluations_per_sample(self) -> float:
        """Network calls that one sample takes."""
        return 1.0

    @property
    def sampling(self) -> Sampling | None:
        """What `choose_sampling` may change; None where a trained family draws in one way only."""
        return None

    def choose_sampling(self, steps: int, solver: str | None = None) -> None:
        """Draw in this many steps from now on: other samples at another cost from the same weights.

        Args:
            steps: of the solver.
            solver: one that takes a fixed number of steps; None: the one that the family has.

        Raises:
            NothingToChoose: the family draws in one way only.
            ValueError: it has a choice, but not this one.
        """
        raise NothingToChoose(
            f"{type(self).__name__} has no steps of sampling to choose: one sample takes it "
            f"{self.evaluations_per_sample:g} network evaluations"
        )

    @property
    def sampling_network(self) -> nn.Module:
        """What a sample passes through: its parameters are what the budget's parameters count."""
        network = getattr(self, self.players[-1])
        assert isinstance(network, nn.Module)
        return network

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
        get_ema_multi_avg_fn(decay)(averaged, current, None)  # type: ignore[no-untyped-call]  # torch's is untyped
        self.average.n_averaged += 1

    @property
    def sampler(self) -> Any:
        """The last player as it samples: its exponential moving average (itself while that is switched off)."""
        if self._live or self.optimisation.ema == 0 or int(self.average.n_averaged) == 0:
            return getattr(self, self.players[-1])
        return self.average.module

    @contextmanager
    def without_average(self) -> Iterator[None]:
        """Within, `sample` and `log_prob` pass through the live network: an average hides what training does."""
        self._live = True
        try:
            yield
        finally:
            self._live = False

    @property
    def likelihood_kind(self) -> Likelihood:
        """`likelihood` on this event: dequantisation makes an exact density a bound."""
        if self.dequantises and self.event.is_discrete and self.likelihood is Likelihood.EXACT:
            return Likelihood.LOWER_BOUND
        return self.likelihood

    @property
    def likelihood_method(self) -> str:
        """By what a bound or an estimate comes about, where that changes it (`64 importance samples`); else nothing."""
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

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """One update: every player's optimiser steps once."""
        optimisers = self.optimizers(use_pl_optimizer=True)
        self.update(batch, optimisers if isinstance(optimisers, list) else [optimisers], self.manual_backward)

    def update(self, x: Tensor, optimisers: Iterable[Any], backward: Callable[[Tensor], None]) -> None:
        """The one optimisation loop.

        Args:
            x: (B, *event) training events.
            optimisers: one per player, in order.
            backward: called with each loss.

        Raises:
            Diverged: a loss or a gradient norm is not finite.
        """
        factor = self.optimisation.factor(self.progress)
        by_player = dict(zip(self.players, optimisers, strict=True))
        # from the optimisers: going through all modules takes as long as a layer does
        owned = {name: [p for group in one.param_groups for p in group["params"]] for name, one in by_player.items()}
        for player, optimiser in by_player.items():
            parameters = owned[player]
            others = [p for name, theirs in owned.items() if name != player for p in theirs]
            for parameter in others:
                parameter.requires_grad_(False)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bfloat16):
                loss = self.loss(x, player)
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
