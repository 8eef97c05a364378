"""One piece of work as people see it: a bar in a terminal, a line now and then elsewhere, nothing where asked.

A suite's view, with a bar per run, is the launcher's (`hydra_plugins/genfam_launcher/_progress.py`).
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[float, str], None]
"""Called with the done share, in [0, 1], and what is being done."""

stopped_by = 0
"""Number of the signal by which this process was last asked to stop; 0 = none. It is the exit code less 128."""

SILENCE_SECONDS = 60.0
"""After which a log without a terminal gets a line, so that one sees that the work goes on."""


def lines(label: str = "") -> Progress:
    """A progress that prints `[ 42%] label text`, at most once in `SILENCE_SECONDS`."""
    last = time.monotonic()

    def report(share: float, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SILENCE_SECONDS:
            last = now
            print(f"[{share:4.0%}] {f'{label}  ' if label else ''}{text}", flush=True)

    return report


@contextmanager
def shown(label: str = "", *, quiet: bool = False) -> Iterator[Progress]:
    """A bar where standard output is a terminal, lines elsewhere, nothing where `quiet`."""
    if quiet:
        yield lambda share, text: None
        return
    if not sys.stdout.isatty():
        yield lines(label)
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    text_column = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1))
    columns = BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn(), text_column
    with Progress(*columns, transient=True, expand=True) as bars:
        prefix = f"{label}  " if label else ""
        bar = bars.add_task(f"{prefix}starting", total=1.0)
        yield lambda share, text: bars.update(bar, completed=share, description=f"{prefix}{text}")


def headline(reason: str) -> str:
    """The line of a record's reason that says most: the error below a traceback, else the first."""
    lines = reason.strip().split("\n")
    if not lines[0].startswith("Traceback"):
        return lines[0]
    frames = [index for index, line in enumerate(lines) if line.startswith("  File ")]
    return next((line for line in lines[max(frames, default=0) + 1 :] if line and line[0] != " "), lines[-1])


def duration(seconds: float) -> str:
    """`42 s`, `7 min`, `1 h 05 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def print_anywhere() -> None:
    """A terminal that lacks a letter shows another in its place, and costs no run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
