"""Tasks for tests/test_launcher.py: importable by name, as the launcher's processes need them; no torch."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig

from genfam import cli


@dataclass
class Outcome:
    """As much of a record as the launcher looks at."""

    outcome: str
    reason: str = ""


def directory_of(config: dict[str, Any]) -> Path:
    """A run's folder that is easy to find."""
    return Path(config["output_dir"]) / config["suite"] / f"seed{config['seed']}"


def install_light_run_folder() -> None:
    """Stand in for genfam.run_folder (which imports torch) where a test is about processes and signals only."""
    from hydra_plugins.genfam_launcher import _pool

    module = ModuleType("genfam.run_folder")
    vars(module).update(run_directory=directory_of, finished_record=lambda directory: None)
    sys.modules["genfam.run_folder"] = module
    _pool.PRELOAD[:] = ["genfam.cli", "hydra_plugins.genfam_launcher._worker"]


def troubled(config: DictConfig) -> Any:
    """By seed: 1 raises, 2 is killed, 3 exits, the others end well with a record."""
    from genfam.records import Store
    from genfam.run_folder import failed_record, run_directory
    from genfam.types import Outcome as RecordOutcome

    settings = cli.plain(config)
    directory = run_directory(settings)
    with (directory / "started.txt").open("a") as file:
        file.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}\n")
    assert cli.reporter is not None
    cli.reporter(0.5, "half way")
    print("printed by Python", flush=True)
    os.system("echo printed by a child")
    if settings["seed"] == 1:
        raise LookupError("boom")
    if settings["seed"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if settings["seed"] == 3:
        sys.exit(7)
    record = failed_record(settings, "")
    record.outcome = RecordOutcome.OK
    Store(directory.parent).write(record)
    return record


def patient(config: DictConfig) -> Outcome:
    """Runs until it is interrupted, then says how often that happened."""
    caught: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    directory = directory_of(cli.plain(config))
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
    directory = directory_of(cli.plain(config))
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    (directory / "child.txt").write_text(str(child))
    (directory / "pid.txt").write_text(str(os.getpid()))
    time.sleep(60)
    return Outcome("ok")


if __name__ == "__main__":  # python launcher_tasks.py <task> <arguments of genfam>
    import launcher_tasks

    launcher_tasks.install_light_run_folder()
    sys.exit(cli.main(sys.argv[2:], task=getattr(launcher_tasks, sys.argv[1])))
