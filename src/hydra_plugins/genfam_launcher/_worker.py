"""What happens in a job's own process."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

REPORT_EVERY_SECONDS = 0.2
TRACEBACK_LINES = 12
LAST_SECONDS = 5.0  # of a job whose launcher was killed


@dataclass(frozen=True)
class Order:
    """All that a job needs, as the launching process has it."""

    task_function: TaskFunction
    config: DictConfig
    context: HydraContext
    singletons: dict[Any, Any]


@dataclass(frozen=True)
class Report:
    """How far a job is: done share in [0, 1], and what it is doing."""

    fraction: float
    text: str


@dataclass(frozen=True)
class Result:
    """How a job ended.

    Attributes:
        kind: `returned`, `raised` or `interrupted`.
        value: what the task returned.
        reason: the exception and the end of its traceback.
    """

    kind: str
    value: Any = None
    reason: str = ""


def work(order: bytes, connection: Connection[Any, Any], log: Path, threads: int, label: str) -> None:
    """The process's main function: run the job, tell the parent through `connection`.

    SIGINT comes in blocked: from the moment of the fork until the process has a group of its own, a Ctrl-C at the
    terminal would hit it beside the one that the launcher forwards.
    """
    os.setpgid(0, 0)
    _redirect_output(log, label)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if signal.SIGINT in signal.sigpending():
        result = Result("interrupted")
    else:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            result = _run(order, connection, threads)
        except KeyboardInterrupt:
            result = Result("interrupted")
        except BaseException as error:
            traceback.print_exc()
            result = Result("raised", reason=_describe(error))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the result is on its way
    try:
        connection.send(result)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        connection.send(Result("raised", reason=f"the task's result cannot be sent: {error}"))
    connection.close()


def _run(order: bytes, connection: Connection[Any, Any], threads: int) -> Result:
    _limit_threads(threads)
    from genfam.commands import cli  # also registers the resolvers

    cli.reporter = _Reporter(connection)
    received: Order = pickle.loads(order)
    setup_globals()
    # Not Singleton.set_state: that would search for plugins again, which no job needs.
    Singleton._instances.update(received.singletons)
    returned: JobReturn = run_job(
        task_function=received.task_function,
        config=received.config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=received.context,
    )
    if returned.status is JobStatus.COMPLETED:
        return Result("returned", returned.return_value)
    error = returned._return_value  # the property would raise it
    traceback.print_exception(error)
    return Result("raised", reason=_describe(error))


class _Reporter:
    """Sends progress to the parent, but not so often that it costs anything."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self.connection = connection
        self.last = -REPORT_EVERY_SECONDS

    def __call__(self, fraction: float, text: str) -> None:
        now = time.monotonic()
        if now - self.last >= REPORT_EVERY_SECONDS:
            self.last = now
            self.connection.send(Report(float(fraction), str(text)))


def _describe(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).rstrip().split("\n")
    return "\n".join([f"{type(error).__name__}: {error}", *lines[-TRACEBACK_LINES:]])


def _redirect_output(log: Path, label: str) -> None:
    """Everything that the job or its libraries print goes to its log, also after a crash in C."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {label}")


def _die_with_parent() -> None:
    """The parent is killed, the forkserver is not: PR_SET_PDEATHSIG would wait for the wrong one.

    Training gets some seconds to write its checkpoint.
    """
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # which would end this process, not its children
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(LAST_SECONDS)
        os.killpg(0, signal.SIGKILL)


def _limit_threads(threads: int) -> None:
    """For this process and its children. OpenMP read its environment when the forkserver started: tell torch too."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "threadpoolctl" in sys.modules:
        sys.modules["threadpoolctl"].threadpool_limits(threads)
