"""The command line: one run, a multirun, a suite. With `mistakes.py` it is all of genfam that imports Hydra.

Mistakes on the command line and in a configuration end in one line that names what is near, and exit code 2; errors of
ours in one line and exit code 1 (`HYDRA_FULL_ERROR=1` shows where they come from); Ctrl-C in exit code 130.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genfam import glossary, progress
from genfam.build import ConfigurationError, NotModelled, configuration_folder
from genfam.commands.arguments import explain_yaml
from genfam.commands.mistakes import explain, first_line, folders_of, unknown_additions, unreadable
from genfam.progress import Progress, headline, shown

if TYPE_CHECKING:  # torch takes seconds to import, and `genfam --help` does not need it
    from genfam.records.run import Run
    from genfam.types import Record

reporter: Progress | None = None
"""Where this process's runs report to. The launcher's children set it; without it the terminal shows a bar."""

quiet = False
"""Whether the user wants no progress (`--quiet`): errors and the results at the end only."""

OmegaConf.register_new_resolver("product", lambda *factors: math.prod(map(float, factors)), replace=True)


class RunFailed(Exception):
    """A run of a multirun ended without a result; its record says why."""


@dataclass
class Tally:
    """What the runs that this process asked for came to.

    Attributes:
        suites: folder in the store -> where its results are published.
        total, finished: number of runs asked for, and of those that have a result now.
        reused: number of runs whose published record counted (`reuse_published`).
        failures: one line per failed run.
        interrupted: whether a run was cut off by Ctrl-C.
        multirun: whether there is a suite to report on.
        last: the last record of a run in this very process.
        error: what a single run raised.
        sweep: Hydra's folder of the multirun.
    """

    suites: dict[Path, Path] = field(default_factory=dict)
    total: int = 0
    finished: int = 0
    reused: int = 0
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False
    multirun: bool = False
    last: Record | None = None
    error: Exception | None = None
    sweep: Path | None = None

    def add(self, suite: Path, results: Path, outcome: str, reason: str = "", label: str = "") -> None:
        """Count one run by its outcome (a value of `genfam.types.Outcome`).

        Args:
            suite: its suite's folder in the store.
            results: where that is published.
            outcome: how it ended.
            reason: why, where it failed.
            label: what tells it from the others.
        """
        self.total += 1
        self.suites[suite] = results
        if outcome == "failed":
            self.failures.append(": ".join(part for part in (label, headline(reason)) if part))
        elif outcome == "interrupted":
            self.interrupted = True
        else:
            self.finished += 1


tally = Tally()
elsewhere: Callable[[], None] | None = None
"""Counts the records of a multirun whose jobs another launcher runs."""


class Elsewhere(Callback):
    """Hydra's callback: of a multirun whose jobs another launcher ran elsewhere (submitit), the records are counted."""

    def __init__(self) -> None:
        self.started = time.time()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Know where the records will be, should the launcher give up."""
        global elsewhere
        tally.sweep = Path(config.hydra.sweep.dir)
        elsewhere = partial(self.on_multirun_end, config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Count what was written since the start, unless the launcher or this process has counted.

        A run that was begun, and that nobody is at work on, was killed: its record says so from now on.
        """
        if tally.total:
            return
        from genfam.records.store import at_work, read_record, write_record
        from genfam.types import Outcome

        folder, results = Path(config.output_dir, config.suite), Path(config.results_dir)
        tally.multirun, tally.suites[folder] = True, results
        for file in sorted(folder.glob("*/record.json")):
            record = read_record(file.parent) if file.stat().st_mtime >= self.started else None
            if record is None:
                continue
            if record.outcome is Outcome.RUNNING and not at_work(file.parent):
                record.outcome, record.reason = Outcome.FAILED, "its job was killed; the same command goes on with it"
                write_record(file.parent, record)
            tally.add(folder, results, record.outcome.value, record.reason, file.parent.name)


def settings(config: DictConfig) -> Run:
    """The composed configuration, resolved and checked, without Hydra's own node.

    Raises:
        omegaconf.errors.OmegaConfBaseException: an interpolation leads nowhere, or a mandatory value is missing.
        ConfigurationError: a value that cannot be.
    """
    from genfam.records.run import Run

    values = {str(key): config[key] for key in config if key != "hydra"}
    run = Run.of({
        key: OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value
        for key, value in values.items()
    })  # fmt: skip
    if not run.chosen_metrics:
        raise ConfigurationError("metric: expected at least one metric, got none")
    if run.judge and not run.plugins and glossary.metric(run.judge) == glossary.UNKNOWN:
        raise ConfigurationError(f"judge: expected the name of a metric, such as coverage, got {run.judge!r}")
    assert run.identity  # every part is looked at here, before any work
    return run


def run_task(config: DictConfig) -> Record | None:
    """What Hydra calls: one composed configuration to its finished record.

    Raises:
        ValueError: the configuration cannot be built. (A single run keeps its error for `main`: Hydra would print a
            line of its own about it, and this returns None.)
    """
    mode = HydraConfig.get().mode if HydraConfig.initialized() else None
    tally.multirun |= mode is RunMode.MULTIRUN
    try:
        run = settings(config)
        from genfam.records.reuse import reuse  # slow imports, after a mistake would have been said
        from genfam.records.store import finished_record
        from genfam.running import experiment, preflight

        there = finished_record(run.directory)
        reused = reuse(run) if there is None else None
        if mode is RunMode.RUN and there is None and reused is None:
            for reason in preflight.check([run]).values():
                raise NotModelled(reason)
            if not quiet:
                _announce(run)
        if reporter is not None:
            record = reused or experiment.execute(run, progress=reporter)
        else:
            with shown(quiet=quiet) as progress:
                record = reused or experiment.execute(run, progress=progress)
    except Exception as error:
        if mode is not RunMode.RUN:
            raise
        if isinstance(error, ConfigurationError):
            remove_empty(Path(HydraConfig.get().runtime.output_dir))
        tally.error = error
        return None
    tally.add(run.directory.parent, run.results_dir, record.outcome.value, record.reason)
    tally.reused += reused is not None
    tally.last = record
    return record


def _announce(run: Run) -> None:
    """What a single run is going to do, and for how long."""
    from genfam.running import preflight

    seconds = preflight.expected_seconds([run], run.results_dir)
    if not run.is_yardstick:
        spent = f"{run.budget.train_flops:.3g} training FLOPs"
        time_needed = (
            f"about {progress.duration(seconds)}" if seconds else "time not known: nothing like it is published"
        )
        print(f"training {run.family['name']} on {run.source['name']}, seed {run.seed}: {spent}, {time_needed}")


def remove_empty(folder: Path, *but: str) -> None:
    """Take away a folder that has nothing (but these files), and those above it, up to the store.

    A mistake leaves nothing behind.
    """
    try:
        if {path.name for path in folder.iterdir()} <= set(but):
            for name in but:
                (folder / name).unlink(missing_ok=True)
        for place in (folder, *list(folder.parents)[:2]):
            place.rmdir()
    except OSError:
        return


def main(argv: Sequence[str] | None = None, *, task: Callable[[DictConfig], Any] = run_task) -> int:
    """The console script `genfam`.

    Args:
        argv: arguments without the program's name; those of the process if None. `--quiet` shows no progress.
        task: what runs a composed configuration (importable by name: it is sent to other processes).

    Returns:
        Exit code: 0; 1 where a run failed; 2 where the command line is wrong; 130 after Ctrl-C, 143 after
        SIGTERM.
    """
    global elsewhere, quiet, tally
    tally, elsewhere = Tally(), None
    progress.print_anywhere()
    arguments = list(sys.argv[1:] if argv is None else argv)
    quiet = "--quiet" in arguments  # no option of Hydra's
    arguments = [argument for argument in arguments if argument != "--quiet"]
    options: list[str] = []
    overrides: list[str] = []
    if not [argument for argument in arguments if argument not in ("-m", "--multirun")]:
        arguments = [*arguments, "--help"]  # nothing was asked for, and a run takes minutes
    if "--version" in arguments:
        from importlib.metadata import version

        print(f"genfam {version('genfam')}")
        return 0
    try:
        options, overrides = _split(arguments)
        if get_args_parser().parse_args(options).config_path is not None:
            return _complain("--config-path: a stored run is repeated with genfam-repeat run=FOLDER", 2)
        unknown = unreadable(folders_of(options, overrides)[1:]) or unknown_additions(options, overrides)
        if unknown:
            return _complain(unknown, 2)
        try:
            _hydra([*options, *overrides], task)
        except RunFailed:
            pass  # the tally has it
        except Exception as error:
            if not type(error).__module__.startswith("submitit.") or elsewhere is None:
                raise
            elsewhere()  # the launcher gives up at the first job that was killed; the others are there all the same
            if not tally.failures:
                tally.failures.append(first_line(str(error)))
        except KeyboardInterrupt:
            tally.interrupted = True
        if tally.error is not None:
            raise tally.error
        return _conclude()
    except SystemExit as end:  # --help, and argparse's own errors
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (HydraException, OmegaConfBaseException) as error:
        _raise_if_asked(error)
        return _complain(explain(error, options, overrides), 2)
    except ConfigurationError as error:
        _raise_if_asked(error)
        return _complain(str(error), 2)
    except yaml.YAMLError as error:
        _raise_if_asked(error)
        return _complain(explain_yaml(error), 2)
    except (ValueError, OSError, ImportError) as error:
        _raise_if_asked(error)
        if isinstance(error, OSError) and error.filename and error is not tally.error:  # Hydra's own, before any run
            return _complain(f"output_dir: expected a folder that can be written to, got one that cannot: {error}", 2)
        return _complain(str(error), 1)
    finally:
        quiet = False


# ---- how it begins and how it ends --------------------------------------------------------------------------


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """(options, overrides): argparse alone refuses overrides on both sides of an option, as in `a=1 -m b=2`."""
    parser = get_args_parser()
    parser.prog = "genfam"
    overrides: list[str] = parser.parse_intermixed_args(arguments).overrides
    rest, options = list(overrides), []
    for argument in arguments:
        if rest and argument == rest[0]:
            rest.pop(0)
        else:
            options.append(argument)
    return options, overrides


def _hydra(arguments: list[str], task: Callable[[DictConfig], Any]) -> None:
    """Hand over to Hydra, which would print a traceback and exit unless asked for the full error."""
    saved = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["genfam", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(configuration_folder()), config_name="config")(task)()
    finally:
        sys.argv = saved[0]
        del os.environ["HYDRA_FULL_ERROR"]
        if saved[1] is not None:
            os.environ["HYDRA_FULL_ERROR"] = saved[1]


def _conclude() -> int:
    """Say how it ended, report on the suites that were touched, and choose the exit code."""
    if tally.interrupted:
        kept = f"{tally.finished} of {tally.total} runs are finished; " if tally.multirun else ""
        code = 128 + (progress.stopped_by or 2)
        return _complain(f"interrupted: {kept}the same command goes on where it stopped", code)
    if tally.reused:
        print(f"{tally.reused} of {tally.total} runs reused from what is published", flush=True)
    if tally.multirun:
        from genfam import report
        from genfam.report import dashboard

        for folder, results in tally.suites.items():
            if any(folder.glob("*/record.json")):
                report.finish(folder, results)
                dashboard.log_scorecard(folder)
    elif tally.last is not None and not tally.failures:
        _show(tally.last)
    for failure in tally.failures:
        _complain(f"run failed: {failure}", 1)
    return 1 if tally.failures else 0


def _show(record: Record) -> None:
    """One run's measurements, as they stand in its record."""
    from rich.console import Console
    from rich.table import Table

    from genfam.report.tables import marked

    title = f"{record.family} on {record.task}, seed {record.seed}"
    table = Table("metric", "value", "stderr", "unit", title=title)
    for m in record.metrics:
        if m.estimate is not None:
            stderr = "" if m.estimate.stderr is None else f"{m.estimate.stderr:.2g}"
            table.add_row(m.name, marked(m, record), stderr, m.unit)
    console = Console()
    console.print(table)
    reason = f" ({headline(record.reason)})" if record.reason else ""
    folder = Path(record.config["output_dir"], record.suite, record.run_id)
    console.print(f"{record.outcome.value}{reason}: {folder}", highlight=False)


def _complain(message: str, code: int) -> int:
    if code == 2 and tally.sweep is not None:
        remove_empty(tally.sweep, "multirun.yaml")  # a mistake leaves nothing behind
    sys.stdout.flush()
    print(f"genfam: {'' if code > 128 else 'error: '}{' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


def _raise_if_asked(error: Exception) -> None:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
