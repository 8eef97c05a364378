"""Console commands as processes of their own, forked from this one: torch and Lightning are loaded already.

A fresh process spends ten seconds on importing them. What depends on how a process starts (environment variables that
are read on import, what is imported at all) is tested with fresh ones.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path


def _main(command: Sequence[str], folder: Path, log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    server = forkserver._forkserver  # what this process's parent may have started is no child of ours
    server._forkserver_pid = server._forkserver_address = server._forkserver_alive_fd = None
    os.chdir(folder)
    sys.argv = list(command)
    (script,) = entry_points(group="console_scripts", name=command[0])
    sys.exit(script.load()())


def start(command: Sequence[str], folder: Path, log: Path) -> BaseProcess:
    """`genfam-sample n=3` in `folder`; both streams go to `log`."""
    import genfam.running.experiment  # noqa: F401  # once here, for all forks

    process = multiprocessing.get_context("fork").Process(target=_main, args=(command, folder, log))
    process.start()
    return process


def call(command: Sequence[str], folder: Path, code: int = 0) -> str:
    """What a command said, on both streams."""
    log = folder / "said.txt"
    process = start(command, folder, log)
    process.join()
    said = log.read_text()
    log.unlink()
    assert process.exitcode == code, said
    return said
