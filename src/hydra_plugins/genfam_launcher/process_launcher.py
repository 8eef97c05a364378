"""The launcher that Hydra finds; what it does is in `_launch.py` and its neighbours.

Hydra's scanner leaves `_*.py` alone, and executes anything else anew, which would make every class twice.

(No `from __future__ import annotations`: the scanner enters the module in `sys.modules` only after executing it, and
dataclasses look there for the meaning of annotations that are text.)
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, cores)


@dataclass
class ProcessLauncherConf:
    """`hydra.launcher.workers`: how many runs side by side."""

    _target_: str = "hydra_plugins.genfam_launcher.process_launcher.ProcessLauncher"
    workers: int = field(default_factory=_default_workers)


ConfigStore.instance().store(
    group="hydra/launcher", name="processes", node=ProcessLauncherConf, provider="genfam_launcher"
)


class ProcessLauncher(Launcher):
    """Runs each job in a process of its own; a job that raises or is killed is recorded and the rest go on.

    Args:
        workers: number of jobs at the same time.

    Raises:
        ValueError: workers < 1.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"hydra.launcher.workers: expected at least 1, got {workers}")
        self.workers = workers
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by the sweeper, which shares `hydra_context` and validates every job with its loader."""
        from hydra_plugins.genfam_launcher._compose import QuickLoader

        hydra_context.config_loader = cast(ConfigLoader, QuickLoader(hydra_context.config_loader))
        self.config, self.task_function, self.hydra_context = config, task_function, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs and return what they came to, in order.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the running jobs have saved their checkpoints.
        """
        from hydra_plugins.genfam_launcher._launch import launch

        assert self.config is not None
        assert self.task_function is not None
        assert self.hydra_context is not None
        return launch(
            job_overrides,
            first_number=initial_job_idx,
            workers=self.workers,
            config=self.config,
            task_function=self.task_function,
            context=self.hydra_context,
        )
