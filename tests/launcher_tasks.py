"""Tasks for tests/test_launcher.py: importable by name, as the launcher's processes need them."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from genfam.commands import cli


@dataclass
class Outcome:
    """As much of a record as the launcher looks at."""

    outcome: str
    reason: str = ""


def troubled(config: DictConfig) -> Any:
    """By seed: 1 raises, 2 is killed, 3 exits, the others end well with a record."""
    from genfam.records.store import write_record
    from genfam.running.experiment import begun
    from genfam.types import Outcome as RecordOutcome

    run = cli.settings(config)
    directory = run.directory
    with (directory / "started.txt").open("a") as file:
        file.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}\n")
    assert cli.reporter is not None
    cli.reporter(0.5, "half way")
    print("printed by Python", flush=True)
    os.system("echo printed by a child")
    if run.seed == 1:
        raise LookupError("boom")
    if run.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.seed == 3:
        sys.exit(7)
    record = begun(run, RecordOutcome.OK)
    write_record(directory, record)
    return record


def patient(config: DictConfig) -> Outcome:
    """Runs until it is interrupted, then says how often that happened."""
    caught: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    directory = cli.settings(config).directory
    (directory / "pid.txt").write_text(str(os.getpid()))
    for _ in range(600):
        time.sleep(0.05)
        if caught:
            break
    time.sleep(0.4)  # a second signal would come now
    (directory / "interrupts.txt").write_text(str(len(caught)))
    return Outcome("interrupted")


def stubborn(config: DictConfig) -> Outcome:
    """Does not listen, and has a child that does not listen either."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    directory = cli.settings(config).directory
    child = os.fork()
    if child == 0:
        time.sleep(300)
        os._exit(0)
    (directory / "child.txt").write_text(str(child))
    (directory / "pid.txt").write_text(str(os.getpid()))
    time.sleep(300)
    return Outcome("ok")


if __name__ == "__main__":  # python launcher_tasks.py <task> <arguments of genfam>
    import launcher_tasks

    sys.exit(cli.main(sys.argv[2:], task=getattr(launcher_tasks, sys.argv[1])))
