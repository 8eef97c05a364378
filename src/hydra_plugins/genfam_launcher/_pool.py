"""Runs jobs, a few at a time, each in a process of its own, and stops cleanly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from genfam import progress
from hydra_plugins.genfam_launcher._job import Job
from hydra_plugins.genfam_launcher._progress import Display
from hydra_plugins.genfam_launcher._worker import Report, Result, work

PRELOAD = ["genfam.running.experiment", "genfam.commands.cli", "hydra_plugins.genfam_launcher._worker"]
WAKE_SECONDS = 0.25
"""How long a signal may go unnoticed."""


class Pool:
    """Runs the jobs given, in order.

    Args:
        workers: number of processes at the same time.
        display: told of every change.
        make_order: what `_worker.work` unpickles to run a job.

    Attributes:
        interrupts: how often the user asked to stop.
    """

    def __init__(self, workers: int, display: Display, make_order: Callable[[Job], bytes]) -> None:
        self.workers = workers
        self.display = display
        self.make_order = make_order
        self.interrupts = 0
        self.context = multiprocessing.get_context("forkserver")

    def run(self, jobs: Sequence[Job]) -> None:
        """Give every job an outcome; after an interrupt, those not yet started keep none."""
        waiting = list(jobs)
        running: list[Job] = []
        seen_interrupts = 0
        with self._signals():
            try:
                while running or (waiting and not self.interrupts):
                    while waiting and len(running) < self.workers and not self.interrupts:
                        running.append(self._start(waiting.pop(0)))
                    wait([handle for job in running for handle in _handles(job)], WAKE_SECONDS)
                    if self.interrupts > seen_interrupts:
                        self._stop(running, kill=self.interrupts > 1)
                        seen_interrupts = self.interrupts
                    running = [job for job in running if not self._attend(job)]
            finally:
                for job in running:  # only where something above went wrong
                    _kill(job)

    def _start(self, job: Job) -> Job:
        ours, theirs = self.context.Pipe(duplex=False)
        threads = job.settings.threads
        arguments = (self.make_order(job), theirs, job.log.absolute(), threads, job.label)
        job.connection = ours
        job.process = self.context.Process(target=work, args=arguments, name=job.label)
        job.started = time.monotonic()
        job.process.start()
        theirs.close()
        self.display.started(job)
        return job

    def _attend(self, job: Job) -> bool:
        """Take what the job has sent; whether it has ended."""
        process, connection = job.process, job.connection
        assert process is not None
        assert connection is not None
        alive = process.exitcode is None  # asked first: what it sent before its end is then in the pipe
        result: Result | None = None
        try:
            while result is None and connection.poll():
                message = connection.recv()
                if isinstance(message, Report):
                    job.fraction, job.text = message.fraction, message.text
                    self.display.advanced(job)
                else:
                    result = message
        except (EOFError, OSError):
            alive = alive and not _ended(process)
        if result is None and alive:
            return False
        process.join(5.0)
        if process.exitcode is None:  # it has said how it ended, but a library of its keeps it from exiting
            _kill(job)
        connection.close()
        self._conclude(job, result)
        return True

    def _conclude(self, job: Job, result: Result | None) -> None:
        assert job.process is not None
        finished = job.finished_record()
        if result is not None and result.kind == "returned":
            job.value = result.value
            outcome = getattr(result.value, "outcome", "ok")
            job.outcome, job.reason = str(getattr(outcome, "value", outcome)), getattr(result.value, "reason", "")
        elif finished is not None:  # it died after its work was done
            job.value, job.outcome, job.reason = finished, finished.outcome.value, finished.reason
        elif self.interrupts:
            job.outcome = "interrupted"
        else:
            job.outcome = "failed"
            job.reason = result.reason if result is not None else _why_ended(job.process.exitcode)
            job.write_failure()
        self.display.ended(job)

    def _stop(self, running: list[Job], kill: bool) -> None:
        if kill:
            self.display.say(f"killing {len(running)} runs")
        else:
            self.display.say(f"stopping: {len(running)} runs save their checkpoints (Ctrl-C again kills them)")
        for job in running:
            if kill:
                _kill(job)
            elif job.process is not None and job.process.pid is not None and job.process.exitcode is None:
                os.kill(job.process.pid, signal.SIGINT)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count Ctrl-C (and a polite SIGTERM) instead of raising wherever the program happens to be."""

        def count(number: int, _frame: FrameType | None) -> None:
            progress.stopped_by = number
            self.interrupts += 1

        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may
            return
        saved = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in saved.items():
                signal.signal(number, handler)


def start_forkserver(threads: int) -> None:
    """Start the process that imports everything once and is forked for each job.

    It is born with SIGINT blocked, and so are the jobs, which unblock it when they are ready (`_worker.work`).
    """
    multiprocessing.set_forkserver_preload(PRELOAD)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    saved = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _handles(job: Job) -> tuple[Any, ...]:
    assert job.process is not None
    return job.connection, job.process.sentinel


def _ended(process: BaseProcess) -> bool:
    process.join(5.0)
    return process.exitcode is not None


def _kill(job: Job) -> None:
    """The job's process and all that it started (its process group)."""
    process = job.process
    if process is None or process.pid is None or process.exitcode is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it has no group of its own yet
        process.kill()
    process.join(5.0)


def _why_ended(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {code} and without a result"
