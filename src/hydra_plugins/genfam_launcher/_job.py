"""A job of the sweep as the launching process sees it."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from genfam.records.run import Run

LOG = "log.txt"


class _QuietReturn(JobReturn):
    """Hydra's own writes to stderr when a sweeper looks at a failure; the summary names every failure anyway."""

    @property
    def return_value(self) -> Any:
        """What the task returned; raises what it raised."""
        if self.status is JobStatus.FAILED:
            raise self._return_value
        return self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


@dataclass
class Job:
    """One run: its configuration, its folder, and how far it is.

    Attributes:
        config: composed, with Hydra's node.
        settings: the same, checked.
        directory: the run's folder in the store.
        label: what tells it from the others, for people.
        fraction, text: its last progress report.
        outcome: a value of `genfam.types.Outcome` once it has ended, else empty.
        reason: why it failed.
        value: what its task returned, or the record that was there already.
        skipped: no process was started for it.
        reused: it is skipped because its record is published (`reuse_published`).
        started: when, on the monotonic clock.
    """

    config: DictConfig
    settings: Run
    directory: Path
    label: str
    fraction: float = 0.0
    text: str = "starting"
    outcome: str = ""
    reason: str = ""
    value: Any = None
    skipped: bool = False
    reused: bool = False
    started: float = 0.0
    process: ForkServerProcess | None = None
    connection: Connection[Any, Any] | None = None

    @property
    def log(self) -> Path:
        """Where its process's output goes."""
        return self.directory / LOG

    def finished_record(self) -> Any:
        """The record in the run's folder if it needs no repetition, else None."""
        from genfam.records.store import finished_record

        return finished_record(self.directory)

    def write_failure(self) -> None:
        """Leave a record that says why: the process could not do so itself; not where another one is at work on it."""
        from genfam.records.store import at_work, write_record
        from genfam.running.experiment import begun
        from genfam.types import Outcome

        if not at_work(self.directory):
            write_record(self.directory, begun(self.settings, Outcome.FAILED, f"{self.reason}\nlog: {self.log}"))

    def to_job_return(self) -> JobReturn:
        """What Hydra's sweepers expect; a failed one raises `RunFailed` when they look at its value."""
        from genfam.commands.cli import RunFailed

        own = [str(key) for key in self.config if key != "hydra"]
        overrides = OmegaConf.to_container(self.config.hydra.overrides.task)
        assert isinstance(overrides, list)
        answer = _QuietReturn(
            overrides=overrides,
            cfg=OmegaConf.masked_copy(self.config, own),
            hydra_cfg=OmegaConf.masked_copy(self.config, ["hydra"]),
            working_dir=str(self.directory),
            task_name=self.config.hydra.job.name,
        )
        if self.outcome == "failed":
            answer.status, answer.return_value = JobStatus.FAILED, RunFailed(f"{self.label}: {self.reason}")
        else:
            answer.status, answer.return_value = JobStatus.COMPLETED, self.value
        return answer
