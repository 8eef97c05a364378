"""Training within a budget: the plan, the loop in Lightning, checkpoints that resume bit for bit."""

from __future__ import annotations

import copy
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor

from genfam.build import ConfigurationError
from genfam.families.base import Family
from genfam.running import checkpoints
from genfam.running.flops import count_flops
from genfam.seeds import derive_seed, random_state, set_random_state
from genfam.sources.base import Source
from genfam.sources.batches import BatchStream
from genfam.types import Batch, CurvePoint, Kind, TracePoint

Track = Callable[[int, Mapping[str, float | tuple[int, ...]]], None]
"""Called with (updates, row); see `row_at`."""


class Interrupted(Exception):
    """The user asked to stop; the checkpoint is written."""


@dataclass
class Progress:
    """What of a run survives in a checkpoint beside weights, optimisers and random state."""

    curve: list[CurvePoint] = field(default_factory=list)
    trace: list[TracePoint] = field(default_factory=list)
    train_seconds: float = 0.0


def plan(family: Family, source: Source, train_flops: float) -> None:
    """Count the FLOPs of an update on a copy of the family, and fix the number of updates that the budget buys.

    Backward passes, penalties and every player are included: see `per_update`.

    Raises:
        ConfigurationError: the budget does not pay a single period, or a batch has more events than there are.
        ValueError: nothing in an update is counted.
    """
    if not family.trains:
        return
    if family.batch_size > len(source.train):
        raise ConfigurationError(
            f"family.batch_size: expected at most {len(source.train)} (the training events of {source.name}), got "
            f"{family.batch_size}"
        )
    trial = copy.deepcopy(family).train()
    trial.total_updates = 10**9
    of_training = family.condition.of_training
    rows = slice(family.batch_size)
    batch = Batch(source.train[rows], None if of_training is None else of_training[rows]).to(family.device)
    state = random_state()
    family.flops_per_update = per_update(trial, batch, trial.configure_optimizers(), count_flops)
    set_random_state(state)
    if family.flops_per_update <= 0:
        raise ValueError(
            f"{type(family).__name__}: expected an update with matrix products, convolutions or attention, which are "
            "counted, got none: a budget of FLOPs says nothing about it (where nothing is trained: trains = False)"
        )
    family.total_updates = int(train_flops / family.flops_per_update)
    if family.total_updates < family.flop_period:
        raise ConfigurationError(
            f"budget.train_flops: expected at least {family.flops_per_update * family.flop_period:.3g} "
            f"(one update of this family), got {train_flops:.3g}"
        )


def per_update(
    family: Family, batch: Batch, optimisers: Sequence[Any], measure: Callable[[Callable[[], None]], float]
) -> float:
    """What an update costs: the mean over `flop_period` updates in each of `flop_phases`, by the phases' lengths.

    Args:
        family: trained on the way.
        batch: of every update.
        optimisers: of its players.
        measure: the cost of a call.
    """

    def period() -> None:
        family.updates = begun
        for _ in range(family.flop_period):
            family.update(batch, optimisers, torch.autograd.backward)

    mean, begun = 0.0, 0
    for begin, end in pairwise((*family.flop_phases, 1.0)):
        begun = math.ceil(begin * family.total_updates)
        mean += (end - begin) * measure(period) / family.flop_period
    return mean


class Conductor(Callback):
    """Measures curve and trace at evenly spaced points, writes checkpoints, reports progress, obeys a stop.

    Args:
        points: number of curve points; the last is the end of training.
        measure: called at each point with the family in evaluation mode; -> the curve's points there.
        trace_points: number of trace points, likewise.
        look: called at each of those; -> the trace point but for its gradient norms.
        track: called at each point of either kind with (updates, what is known then).
        folder: of the run: a checkpoint is written at each point of the curve and on a stop.
        digest: of the code, which checkpoints hold.
        progress: what survives.
        report: called with (share done, text) some twice a second.
        stop_requested: asked after each update.
    """

    def __init__(
        self,
        points: int,
        measure: Callable[[Family], list[CurvePoint]],
        trace_points: int,
        look: Callable[[Family], TracePoint],
        track: Track,
        folder: Path,
        digest: str,
        progress: Progress,
        report: Callable[[float, str], None],
        stop_requested: Callable[[], bool],
    ) -> None:
        self.points, self.measure, self.folder, self.digest = points, measure, folder, digest
        self.trace_points, self.look, self.track = trace_points, look, track
        self.progress, self.report, self.stop_requested = progress, report, stop_requested
        self.started = 0.0
        self.reported = 0.0
        self.reported_updates: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After each update."""
        family: Family = pl_module
        done, total = family.updates, family.total_updates
        traced, measured = is_due(done, total, self.trace_points), is_due(done, total, self.points)
        if traced or measured:  # the time of looking does not count as training
            self._stop_clock()
            family.eval()
            if traced:
                self.progress.trace.append(self._trace_point(family))
            if measured:
                self.progress.curve += self.measure(family)
            self.track(done, row_at(family, self.progress, done))
            family.train()
            if measured:
                self._checkpoint(trainer, family)
            self.started = time.perf_counter()
        if self.stop_requested():
            self._stop_clock()
            self._checkpoint(trainer, family)
            raise Interrupted(f"stopped at update {done} of {total}; the same command goes on from there")
        self._report(done, total)

    def _checkpoint(self, trainer: Trainer, family: Family) -> None:
        state = state_of(family, trainer.optimizers, self.progress)
        checkpoints.write(self.folder, state | {"digest": self.digest})

    def _trace_point(self, family: Family) -> TracePoint:
        since = self.progress.trace[-1].updates if self.progress.trace else 0
        norms = {player: float(np.median(values[since:])) for player, values in family.grad_norms.items()}
        return replace(self.look(family), gradient_norms=norms)

    def _report(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if now - self.reported > 0.5:
            rate = ""
            if self.reported_updates is not None:
                rate = f", {(done - self.reported_updates) / (now - self.reported):.0f}/s"
            self.reported, self.reported_updates = now, done
            self.report(done / total, f"update {done} of {total}{rate}")

    def _stop_clock(self) -> None:
        self.progress.train_seconds += time.perf_counter() - self.started
        self.started = time.perf_counter()


def row_at(family: Family, progress: Progress, updates: int) -> dict[str, float | tuple[int, ...]]:
    """What curve, trace and losses say of one update: the row that trackers get.

    Returns:
        `train_flops`, `events_seen`, `train/loss_<player>`; where a point of the trace lies there `trace/...` (its
        `mode_counts` as a tuple), where one of the curve lies there `curve/<metric>`.
    """
    row: dict[str, float | tuple[int, ...]] = {
        "train_flops": updates * family.flops_per_update,
        "events_seen": float(updates * family.batch_size),
    }
    row |= {f"train/loss_{player}": values[updates - 1] for player, values in family.losses.items() if values}
    for point in progress.trace:
        if point.updates == updates:
            row |= {"trace/live_modes": float(point.modes), "trace/live_quality": point.quality}
            row |= {f"trace/gradient_norm_{player}": norm for player, norm in point.gradient_norms.items()}
            if point.mode_counts:
                row["trace/mode_counts"] = point.mode_counts
            if point.critic_accuracy is not None:
                row["trace/critic_accuracy"] = point.critic_accuracy
    for found in progress.curve:
        if round(found.train_flops / family.flops_per_update) == updates:
            row[f"curve/{found.metric}"] = found.value
    return row


def history(family: Family, progress: Progress) -> Iterator[tuple[int, dict[str, float | tuple[int, ...]]]]:
    """(updates, row) of every point so far: what a resumed run tells its tracker before it goes on."""
    steps = {point.updates for point in progress.trace}
    steps |= {round(point.train_flops / family.flops_per_update) for point in progress.curve}
    for updates in sorted(steps):
        yield updates, row_at(family, progress, updates)


def is_due(done: int, total: int, points: int) -> bool:
    """Whether one of `points` evenly spaced points falls on update `done` of `total`; the last one always does."""
    return done * points // total > (done - 1) * points // total


def state_of(family: Family, optimisers: list[Any], progress: Progress) -> dict[str, Any]:
    """All that training needs to go on, in plain containers."""
    return {
        "weights": family.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "family": family.training_state(),
        "random_state": random_state(),
        "curve": [(point.train_flops, point.metric, point.value, point.kind.value) for point in progress.curve],
        "trace": [asdict(point) for point in progress.trace],
        "train_seconds": progress.train_seconds,
    }


class Resume(Callback):
    """Puts a checkpoint's optimisers and random states back once Lightning has made the optimisers."""

    def __init__(self, checkpoint: dict[str, Any]) -> None:
        self.checkpoint = checkpoint

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """By position: optimisers are made in the order of the players."""
        for optimiser, state in zip(trainer.optimizers, self.checkpoint["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        set_random_state(self.checkpoint["random_state"])


def train(
    family: Family,
    source: Source,
    seed: int,
    *,
    points: int,
    measure: Callable[[Family], list[CurvePoint]],
    trace_points: int,
    look: Callable[[Family], TracePoint],
    track: Track,
    folder: Path,
    digest: str,
    report: Callable[[float, str], None],
    stop_requested: Callable[[], bool],
    progress: Progress,
    device: str = "cpu",
) -> None:
    """Spend the planned updates, from the checkpoint on if there is one; `progress` is filled on the way.

    `track` hears of every point of curve and trace once, those before the checkpoint included.

    Raises:
        Diverged: a loss or gradient is not finite.
        Interrupted: `stop_requested` said so; the checkpoint is written.
    """
    callbacks: list[Callback] = []
    state = checkpoints.read(folder, digest)
    if state is not None:
        family.load_state_dict(state["weights"])
        family.load_training_state(state["family"])
        progress.curve = [CurvePoint(flops, name, value, Kind(kind)) for flops, name, value, kind in state["curve"]]
        progress.trace = [TracePoint(**point) for point in state["trace"]]
        progress.train_seconds = state["train_seconds"]
        callbacks.append(Resume(state))
        for updates, row in history(family, progress):
            track(updates, row)
    else:
        torch.manual_seed(derive_seed(seed, source.name, "training noise"))
    if family.updates >= family.total_updates:
        return  # it was cut off after its last update
    conductor = Conductor(points, measure, trace_points, look, track, folder, digest, progress, report, stop_requested)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    stream = batches(family, source, derive_seed(seed, source.name, "batches"))
    trainer = Trainer(
        accelerator=device,
        devices=1,
        max_epochs=1,
        logger=False,
        callbacks=[*callbacks, conductor],
        enable_checkpointing=False,  # our own: Lightning's restores neither random states nor the data's place
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        plugins=[LightningEnvironment()],  # one device: what Slurm or torchrun say of others is not asked for
    )
    with warnings.catch_warnings():
        # a stream over tensors in memory is no DataLoader and needs no workers
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer.fit(family, train_dataloaders=stream)


def batches(family: Family, source: Source, seed: int) -> BatchStream:
    """The batches that are left, each with its condition."""
    conditions = family.condition.of_training
    return BatchStream(source.train, family.batch_size, seed, family.updates, family.total_updates, conditions)


def weights_are_finite(family: Family) -> bool:
    """Whether every floating-point tensor of the family is finite."""
    tensors: list[Tensor] = list(family.state_dict().values())
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())
