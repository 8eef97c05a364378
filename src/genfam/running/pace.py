"""How long a run's training would take on this machine, by a few updates of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from genfam.records.run import Run
from genfam.running.parts import make_family
from genfam.running.training import per_update, plan
from genfam.sources.base import Source
from genfam.types import Batch

LEAST_SECONDS, MOST_PERIODS = 0.3, 50


@dataclass(frozen=True)
class Pace:
    """Of one run's training.

    Attributes:
        updates: that the budget buys.
        batch_size: events per update.
        seconds_per_update: measured.
    """

    updates: int
    batch_size: int
    seconds_per_update: float

    @property
    def seconds(self) -> float:
        """Of all updates; evaluation comes on top."""
        return self.updates * self.seconds_per_update


def pace(run: Run, source: Source) -> Pace:
    """Time updates for a third of a second, after two that warm up. Nothing is written.

    Args:
        run: its settings; `threads` of them are used, as in training.
        source: as they name it.

    Raises:
        ConfigurationError: the family cannot be built, or the budget does not pay one update.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(run.threads)
    try:
        family = make_family(run, source)
        if not family.trains:
            return Pace(0, 0, 0.0)
        plan(family, source, run.budget.train_flops)
        family.to(run.device).train()
        optimisers = family.configure_optimizers()
        rows, given = slice(family.batch_size), family.condition.of_training
        batch = Batch(source.train[rows], None if given is None else given[rows]).to(family.device)

        seconds = per_update(family, batch, optimisers, _seconds)
    finally:
        torch.set_num_threads(before)
    return Pace(family.total_updates, family.batch_size, seconds)


def _seconds(period: Callable[[], None]) -> float:
    """Of a call, the mean over several after two that warm up."""
    period()
    period()
    start, done = time.perf_counter(), 0
    while done == 0 or (time.perf_counter() - start < LEAST_SECONDS and done < MOST_PERIODS):
        period()
        done += 1
    return (time.perf_counter() - start) / done
