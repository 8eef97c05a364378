"""Parts of a model that are optimised in turn: the one optimisation loop for all families.

The loop over players (manual optimisation), the average of the sampling player's weights, gradient norms, divergence
detection, the counters, and what a checkpoint holds. The learning-rate schedule is `base.Optimisation`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genfam.conditions.base import Condition
from genfam.conditions.nothing import Nothing
from genfam.types import Batch

if TYPE_CHECKING:
    from genfam.families.base import Optimisation


class Diverged(Exception):
    """A loss or a gradient is not finite: a result of the run, not a crash."""


class Players(LightningModule, ABC):
    """Networks with a loss each; the last one samples, and its weights are averaged.

    A subclass hands its networks to `register_players` and implements `loss`. What it keeps beside weights it hands to
    `declare`.

    Attributes:
        optimisation: of every player; set by the subclass, as is `batch_size`.
        batch_size: events per update.
        players: the optimised parts, in the order of their updates; the last one samples and is averaged.
        flop_period: number of updates after which the cost of an update repeats (lazy penalties).
        flop_phases: shares of training at which another cost of an update begins, the first at 0.
        condition: what events are conditioned on. It is set by whoever builds the family, before `prepare`.
        updates, total_updates: how far training is.
        learning_rate_factor: on every player's learning rate, to see how much hangs on it.
        in_bfloat16: whether training's matrix products are in bfloat16 (autocast); sampling stays in float32.
    """

    players: ClassVar[tuple[str, ...]] = ("model",)
    flop_period: int = 1
    flop_phases: tuple[float, ...] = (0.0,)
    optimisation: Optimisation
    batch_size: int

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.condition: Condition = Nothing()
        self._of_training_only: set[str] = set()
        self._live = False
        self.learning_rate_factor = 1.0
        self.in_bfloat16 = False
        self.updates = 0
        self.total_updates = 1
        self.flops_per_update = 0.0
        self.grad_norms: dict[str, list[float]] = {player: [] for player in self.players}
        self.losses: dict[str, list[float]] = {player: [] for player in self.players}

    @abstractmethod
    def loss(self, batch: Batch, player: str) -> Tensor:
        """A batch of B events on the family's device, player -> scalar to be minimised by that player."""

    # ---- networks, and what stands beside them -------------------------------------------------------

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

    # ---- training ------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the planned updates that are done, in [0, 1]."""
        return min(1.0, self.updates / self.total_updates)

    @property
    def train_flops(self) -> float:
        """Training FLOPs spent so far, as if every update cost the mean: with several phases exact at the end alone."""
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
