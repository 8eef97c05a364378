"""What the launching process shows: bars in a terminal, one line per finished run elsewhere, nothing if asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column

from genfam.progress import duration, headline
from hydra_plugins.genfam_launcher._job import Job

ENOUGH_TO_ESTIMATE = 0.05
"""Share of one run that must be done before a time left is worth saying."""

SILENCE_SECONDS = 300.0
"""After which a log without a terminal gets a line about what is running."""


class Display(Protocol):
    """Told of every change of a job."""

    def started(self, job: Job) -> None:
        """A process runs the job."""

    def advanced(self, job: Job) -> None:
        """The job reported progress."""

    def ended(self, job: Job) -> None:
        """The job has an outcome."""

    def say(self, text: str) -> None:
        """A line for people."""

    def close(self) -> None:
        """Nothing more will come."""


class Clock:
    """Time left, from the done shares of the jobs that are really run.

    Attributes:
        ill: failure mode -> number of runs that ended with it.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.start = time.monotonic()
        self.ill: Counter[str] = Counter()

    def note(self, job: Job) -> None:
        """The job has ended: count what it is diagnosed with."""
        self.ill.update(diagnosed(job))

    @property
    def ended(self) -> int:
        """Number of jobs that need no more time, skipped ones included."""
        return sum(_has_ended(job) for job in self.jobs)

    @property
    def failed(self) -> int:
        """Number of failed jobs."""
        return sum(job.outcome == "failed" for job in self.jobs)

    def seconds_left(self) -> float | None:
        """An estimate, or None while there is nothing to base it on."""
        run = [_share(job) for job in self.jobs if not job.skipped]
        done = sum(run)
        return None if done < ENOUGH_TO_ESTIMATE else (time.monotonic() - self.start) * (len(run) - done) / done

    def summary(self) -> str:
        """Done of all, failures, how many runs are ill of what, time left."""
        left = self.seconds_left()
        parts = [f"{self.ended}/{len(self.jobs)} runs"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        parts += [f"{count} {name}" for name, count in sorted(self.ill.items())]
        if left is not None and self.ended < len(self.jobs):
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)


def _has_ended(job: Job) -> bool:
    return job.outcome not in ("", "interrupted")


def _share(job: Job) -> float:
    return 1.0 if _has_ended(job) else min(1.0, max(0.0, job.fraction))


def diagnosed(job: Job) -> list[str]:
    """The failure modes that the trace of the job's record shows; none where it has no trace."""
    if getattr(job.value, "trace", None) is None:
        return []
    from genfam.metrics.failures import failures, symptoms  # torch takes seconds, and a test of signals needs none

    seen = symptoms(job.value.trace)
    return [name for name, present in failures(seen).items() if present] if seen is not None else []


def result(job: Job) -> str:
    """The judge of the job's record, else its headline metric, and what it is diagnosed with; empty without either."""
    metrics, judge = getattr(job.value, "metrics", []), getattr(job.value, "judge", None)
    parts = [
        f"{m.name} {m.estimate.value:.3g}" for m in metrics
        if m.estimate is not None and (m.name == judge if judge else m.kind.value == "headline")
    ]  # fmt: skip
    return ", ".join([*parts, *diagnosed(job)])


def describe(job: Job) -> str:
    """One line: how the job ended, and what came out."""
    took = "" if job.skipped else f" ({duration(time.monotonic() - job.started)})"
    outcome = "skipped, finished before" if job.skipped else job.outcome
    reason = f": {headline(job.reason)}; log: {job.log}" if job.outcome == "failed" else ""
    found = result(job)
    return f"{outcome:9} {job.label}{took}{f': {found}' if found and not reason else ''}{reason}"


class Quiet:
    """Shows nothing: what failed is said at the end, by the command line."""

    def started(self, job: Job) -> None:
        """Nothing."""

    def advanced(self, job: Job) -> None:
        """Nothing."""

    def ended(self, job: Job) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing to clear away."""


class Lines(Quiet):
    """One plain line per finished run, and one about the running ones after a long silence."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.clock = Clock(jobs)
        self.running: list[Job] = []
        reused = sum(job.reused for job in jobs)
        skipped = sum(job.skipped for job in jobs) - reused
        said = [f"{len(jobs)} runs"]
        said += [f"{skipped} of them finished before: skipped"] if skipped else []
        said += [f"{reused} reused from what is published"] if reused else []
        self.say(", ".join(said))

    def started(self, job: Job) -> None:
        """Not worth a line."""
        self.running.append(job)

    def advanced(self, job: Job) -> None:
        """Worth a line after a long silence."""
        if time.monotonic() - self.said >= SILENCE_SECONDS:
            told = "; ".join(f"{other.label} {other.fraction:.0%} {other.text}" for other in self.running)
            self.say(f"[{self.clock.summary()}] running: {told}")

    def ended(self, job: Job) -> None:
        """The line."""
        self.running = [other for other in self.running if other is not job]
        self.clock.note(job)
        self.say(f"[{self.clock.summary()}] {describe(job)}")

    def say(self, text: str) -> None:
        """Printed at once, also into a pipe."""
        self.said = time.monotonic()
        print(text, flush=True)


class Bars:
    """An overall bar, and for each running job a bar, its share, its label, its rate and its headline metric.

    Drawn by the caller's thread alone: with rich's refreshing thread beside it one of the two moves the cursor by the
    height that the other has not written yet, and a stale bar stays above.
    """

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self.clock = Clock(jobs)
        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1))
        columns = BarColumn(bar_width=24), TaskProgressColumn(), text
        self.progress = Progress(
            *columns, console=console, auto_refresh=False, transient=True, redirect_stdout=False, expand=True
        )
        self.overall = self.progress.add_task("", total=len(jobs))
        self.bars: dict[int, TaskID] = {}
        self.progress.start()
        self._refresh()

    def started(self, job: Job) -> None:
        """A bar of its own."""
        self.bars[id(job)] = self.progress.add_task(f"{job.label}  {job.text}", total=1.0)
        self._refresh()

    def advanced(self, job: Job) -> None:
        """Its bar moves."""
        self.progress.update(self.bars[id(job)], completed=job.fraction, description=f"{job.label}  {job.text}")
        self._refresh()

    def ended(self, job: Job) -> None:
        """Its bar goes, a line stays."""
        if id(job) in self.bars:
            self.progress.remove_task(self.bars.pop(id(job)))
        self.clock.note(job)
        if not job.skipped:
            self.say(describe(job))
        self._refresh()

    def say(self, text: str) -> None:
        """Above the bars."""
        self.progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Give the terminal back."""
        self.progress.stop()

    def _refresh(self) -> None:
        done = sum(_share(job) for job in self.clock.jobs)
        self.progress.update(self.overall, completed=done, description=self.clock.summary())
        self.progress.refresh()


def make_display(jobs: Sequence[Job], *, quiet: bool = False) -> Display:
    """Bars where standard output is a terminal, lines elsewhere, nothing where `quiet`."""
    if quiet:
        return Quiet()
    console = Console()
    return Bars(jobs, console) if console.is_terminal else Lines(jobs)
