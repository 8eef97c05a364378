"""The launcher `processes`: what becomes of jobs that end well, raise, are killed, or are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf
from rich.console import Console

import launcher_tasks
from genfam import progress, report
from genfam.build import configuration_folder
from genfam.commands import cli
from genfam.records.store import Store
from genfam.types import Estimate, Kind, Measurement, Outcome, Record, Trace, TracePoint
from hydra_plugins.genfam_launcher import _progress
from hydra_plugins.genfam_launcher._compose import QuickLoader
from hydra_plugins.genfam_launcher._job import Job

COMMON = ["source=die", "family=oracle", "budget=smoke", "wandb.mode=disabled"]


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def finished_suites(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path]]:
    calls: list[tuple[Path, Path]] = []
    monkeypatch.setattr(report, "finish", lambda folder, results: calls.append((folder, results)))
    return calls


def test_failures_are_recorded_and_the_rest_go_on_and_finished_runs_are_skipped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], finished_suites: list[tuple[Path, Path]]
) -> None:
    command = ["-m", *COMMON, "seed=range(5)", f"output_dir={tmp_path}", "threads=1"]
    assert cli.main(command, task=launcher_tasks.troubled) == 1
    shown = capfd.readouterr()
    records: dict[int, Record] = {record.seed: record for record in Store(tmp_path / "single").load()}
    assert [records[seed].outcome for seed in range(5)] == [
        Outcome.OK, Outcome.FAILED, Outcome.FAILED, Outcome.FAILED, Outcome.OK,
    ]  # fmt: skip
    assert records[1].reason.startswith("LookupError: boom")
    assert "raise LookupError" in records[1].reason
    assert records[2].reason.startswith("killed by SIGKILL")
    assert records[3].reason.startswith("SystemExit: 7")
    for record in records.values():
        log = tmp_path / "single" / record.run_id / "log.txt"
        text = log.read_text()
        assert "printed by Python" in text
        assert "printed by a child" in text
        assert f"seed={record.seed}" in text
        assert record.outcome is Outcome.OK or str(log) in record.reason
    assert "printed" not in shown.out + shown.err
    assert sum(line.startswith("[") for line in shown.out.splitlines()) == 5
    assert "[5/5 runs, 3 failed]" in shown.out
    assert "left]" in shown.out
    assert shown.err.count("genfam: error: run failed: seed=") == 3
    assert "Traceback" not in shown.err
    assert finished_suites == [(tmp_path / "single", Path("results"))]

    assert cli.main(command, task=launcher_tasks.troubled) == 1
    starts = {seed: (tmp_path / "single" / records[seed].run_id / "started.txt").read_text() for seed in range(5)}
    assert [len(starts[seed].splitlines()) for seed in range(5)] == [1, 2, 2, 2, 1]
    assert len({line.split()[0] for text in starts.values() for line in text.splitlines()}) == 8, "a process each"
    assert {line.split()[1] for text in starts.values() for line in text.splitlines()} == {"1"}
    assert "5 runs, 2 of them finished before: skipped" in capfd.readouterr().out


def test_job_returns_are_in_order_and_a_run_named_twice_is_run_once(tmp_path: Path) -> None:
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        arguments = [*COMMON, f"output_dir={tmp_path}", "hydra.launcher.workers=2", "hydra.mode=MULTIRUN"]
        config = hydra.compose_config("config", arguments, RunMode.MULTIRUN)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(hydra.config_loader, Callbacks()),
            task_function=launcher_tasks.troubled,
            config=config,
        )
        base = [*COMMON, f"output_dir={tmp_path}"]
        returns = launcher.launch([[*base, f"seed={seed}"] for seed in (4, 1, 4, 0)], initial_job_idx=0)
    completed, failed = JobStatus.COMPLETED, JobStatus.FAILED
    assert [answer.status for answer in returns] == [completed, failed, completed, completed]
    assert [answer.cfg.seed for answer in returns if answer.cfg is not None] == [4, 1, 4, 0]
    assert [answer.return_value.seed for answer in returns if answer.status is completed] == [4, 4, 0]
    with pytest.raises(cli.RunFailed, match="boom"):
        _ = returns[1].return_value
    folder = tmp_path / "single" / returns[0].return_value.run_id
    assert len((folder / "started.txt").read_text().splitlines()) == 1


def start(task: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(launcher_tasks.__file__)), task, "-m", *COMMON]
    return subprocess.Popen(
        [*command, "seed=0,1,2", "hydra.launcher.workers=2", f"output_dir={folder}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def pids(folder: Path) -> list[int]:
    return [int(path.read_text() or 0) for path in sorted(folder.glob("single/*/pid.txt"))]


@pytest.mark.parametrize("to_group", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_interrupt_reaches_each_job_once_and_starts_no_more(tmp_path: Path, to_group: bool) -> None:
    parent = start("patient", tmp_path)
    until(lambda: len(pids(tmp_path)) == 2 and 0 not in pids(tmp_path))
    (os.killpg if to_group else os.kill)(parent.pid, signal.SIGINT)
    out, err = parent.communicate(timeout=30)
    assert parent.returncode == 130
    assert err.strip() == "genfam: interrupted: 0 of 3 runs are finished; the same command goes on where it stopped"
    assert "Traceback" not in out
    counts = [path.read_text() for path in tmp_path.glob("single/*/interrupts.txt")]
    assert counts == ["1", "1"], "one SIGINT each, and the third job never started"
    assert not any(is_alive(pid) for pid in pids(tmp_path))


@pytest.mark.slow
def test_second_interrupt_kills_jobs_with_all_that_they_started(tmp_path: Path) -> None:
    parent = start("stubborn", tmp_path)
    until(lambda: len(pids(tmp_path)) == 2 and 0 not in pids(tmp_path))
    started = pids(tmp_path) + [int(path.read_text()) for path in tmp_path.glob("single/*/child.txt")]
    os.kill(parent.pid, signal.SIGINT)
    time.sleep(1.0)
    assert parent.poll() is None
    assert all(is_alive(pid) for pid in started)
    os.kill(parent.pid, signal.SIGINT)
    assert parent.wait(timeout=20) == 130
    until(lambda: not any(is_alive(pid) for pid in started))
    parent.communicate()


@pytest.mark.slow
def test_jobs_die_with_a_killed_parent(tmp_path: Path) -> None:
    parent = start("stubborn", tmp_path)
    until(lambda: len(pids(tmp_path)) == 2 and 0 not in pids(tmp_path))
    started = pids(tmp_path) + [int(path.read_text()) for path in tmp_path.glob("single/*/child.txt")]
    parent.kill()
    until(lambda: not any(is_alive(pid) for pid in started))
    parent.communicate()


def test_quick_loader_composes_what_hydra_composes() -> None:
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config("config", ["source=die"], RunMode.MULTIRUN)
        quick = QuickLoader(hydra.config_loader)
        first = quick.load_sweep_config(master, ["family=oracle", "source=die", "seed=7"])
        for overrides in (
            ["family=oracle", "source=die", "seed=0"],
            ["family=oracle", "source=die", "seed=3"],
            ["seed=3", "source=die", "family=oracle"],
            ["family=oracle", "source=ring", "seed=0"],
            ["family=oracle", "source=ring", "source.sigma=0.5", "+family.note=7", "seed=1"],
            ["family=oracle", "curve.points=4", "curve={points: 3}", "seed=1"],
        ):
            expected = hydra.config_loader.load_sweep_config(master, overrides)
            assert OmegaConf.to_yaml(quick.load_sweep_config(master, overrides)) == OmegaConf.to_yaml(expected)
        assert len(quick._composed) == 5
        assert first.seed == 7, "jobs share no nodes"


def test_time_left_leaves_skipped_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    jobs = [Job(OmegaConf.create(), {}, Path(), str(number)) for number in range(5)]
    jobs[0].outcome, jobs[0].skipped = "ok", True
    clock = _progress.Clock(jobs)
    assert clock.seconds_left() is None
    now[0] += 30.0
    jobs[1].outcome, jobs[2].outcome, jobs[2].fraction = (
        "failed",
        "interrupted",
        0.5,
    )  # 1.5 of 4 in 30 s: 2.5 to go at 20 s each
    assert clock.seconds_left() == pytest.approx(50.0)
    assert clock.summary() == "2/5 runs, 1 failed, 50 s left"


def jobs_that(*outcomes: str) -> list[Job]:
    """Jobs by outcome; those that ended well have a record: a GAN's with a trace that lost most of its modes."""
    points = tuple(TracePoint(i, 2, 0.9, (50, 50, 0, 0, 0, 0, 0, 0), 0.6, {"generator": 1.0}) for i in range(32))
    jobs = [Job(OmegaConf.create(), {}, Path(), f"family=gan seed={n}") for n in range(len(outcomes))]
    for job, outcome in zip(jobs, outcomes, strict=True):
        job.outcome, job.started = outcome, time.monotonic()
        if outcome == "ok":
            job.value = SimpleNamespace(
                trace=Trace(100, 8.0, 1.0, points),
                metrics=[Measurement("fd_identity", "1", False, Estimate(0.0123, 0.001, 100), {}, Kind.HEADLINE)],
            )
    return jobs


def test_a_line_per_run_says_what_came_out_and_what_it_is_ill_of(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = jobs_that("ok", "ok", "")
    display = _progress.make_display(jobs)
    for job in jobs[:2]:
        display.started(job)
        display.ended(job)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "3 runs"
    assert said[1].endswith("ok        family=gan seed=0 (0 s): fd_identity 0.0123, mode_collapse")
    assert "2 mode_collapse" in said[2] and "2/3 runs" in said[2]
    jobs[0].value.judge = "coverage"  # a run's judge comes before the headline metric
    jobs[0].value.metrics.append(Measurement("coverage", "1", True, Estimate(0.8, 0.1, 100), {}, Kind.COVERAGE))
    assert _progress.result(jobs[0]) == "coverage 0.8, mode_collapse"


def test_a_long_silence_is_broken_by_a_line_about_what_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    jobs = jobs_that("", "")
    display = _progress.make_display(jobs)
    display.started(jobs[1])
    jobs[1].fraction, jobs[1].text = 0.42, "update 420 of 900, 31/s · fd_identity 0.5"
    for seconds in (1.0, _progress.SILENCE_SECONDS, 1.0):
        now[0] += seconds
        display.advanced(jobs[1])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert said[1].endswith("running: family=gan seed=1 42% update 420 of 900, 31/s · fd_identity 0.5")


def test_bars_show_every_running_run_in_one_line_each() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100, legacy_windows=False, color_system=None)
    jobs = jobs_that("ok", "", "")
    display = _progress.Bars(jobs, console)
    for job in jobs:
        display.started(job)
    jobs[1].fraction, jobs[1].text = (
        0.42,
        "update 420 of 900, 31/s · fd_identity 0.5 · cycling so far " + "x" * 99,
    )
    display.advanced(jobs[1])
    display.ended(jobs[0])
    display.close()
    paper = Console(file=StringIO(), width=100)  # a console without a cursor
    paper.print(display.progress.get_renderable())
    lines = paper.file.getvalue().splitlines()
    assert len(lines) == 3 and all(len(line) <= 100 for line in lines), "a long text is cut, not wrapped"
    assert "1/3 runs, 1 mode_collapse" in lines[0]
    assert "42%" in lines[1] and "family=gan seed=1  update 420 of 900, 31/s · fd_identity 0.5" in lines[1]
    assert "starting" in lines[2]


def test_bars_are_drawn_by_the_thread_that_prints() -> None:
    """A second one races with printed lines: one stale bar stayed for about 70 finished runs."""
    console = Console(file=StringIO(), force_terminal=True, width=100, legacy_windows=False, color_system=None)
    jobs = jobs_that("")
    before = threading.active_count()
    display = _progress.Bars(jobs, console)
    assert threading.active_count() == before
    display.started(jobs[0])
    assert "starting" in console.file.getvalue(), "drawn at once"
    jobs[0].fraction, jobs[0].text = 0.42, "update 420 of 900"
    display.advanced(jobs[0])
    assert "update 420 of 900" in console.file.getvalue()
    display.close()


def test_quiet_shows_no_progress_but_failures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], finished_suites: list[tuple[Path, Path]]
) -> None:
    command = ["-m", "--quiet", *COMMON, "seed=0,1", f"output_dir={tmp_path}"]
    assert cli.main(command, task=launcher_tasks.troubled) == 1
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("genfam: error: run failed: seed=1: LookupError: boom")
    assert len(finished_suites) == 1


def test_one_run_in_a_log_breaks_long_silences_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.shown("evaluating") as report_progress:
        for share in (0.1, 0.2, 0.3):
            now[0] += 0.6 * progress.SILENCE_SECONDS
            report_progress(share, "kernel")
    with progress.shown(quiet=True) as report_progress:
        now[0] += 2 * progress.SILENCE_SECONDS
        report_progress(0.5, "kernel")
    assert capsys.readouterr().out == "[ 20%] evaluating  kernel\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (3599, "1 h 00 min"), (3900, "1 h 05 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert _progress.duration(seconds) == text
