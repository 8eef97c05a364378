"""The launcher's one recipe: compose, leave out what is finished, run, account for it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from genfam.build import ConfigurationError, NotModelled
from genfam.progress import duration
from hydra_plugins.genfam_launcher._job import Job
from hydra_plugins.genfam_launcher._pool import Pool, start_forkserver
from hydra_plugins.genfam_launcher._progress import make_display
from hydra_plugins.genfam_launcher._worker import Order

if TYPE_CHECKING:
    from genfam.records.run import Run


def launch(
    job_overrides: Sequence[Sequence[str]],
    *,
    first_number: int,
    workers: int,
    config: DictConfig,
    task_function: TaskFunction,
    context: HydraContext,
) -> list[JobReturn]:
    """Run the jobs of one batch of a sweep.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the running jobs have ended.
        TypeError: the task function cannot be sent to another process.
    """
    from genfam.commands import cli

    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    # The slow imports happen there while the jobs are composed here.
    start_forkserver(int(config.get("threads", 1)))
    try:
        jobs = _make_jobs(job_overrides, first_number, config, context)
        originals = {job.directory: job for job in reversed(jobs)}
        to_run = [job for job in jobs if originals[job.directory] is job and not job.outcome]
        if task_function is cli.run_task:
            left_out = _look_ahead([job.settings for job in to_run], workers)
            jobs, to_run = ([job for job in kept if job.settings.id not in left_out] for kept in (jobs, to_run))
            if not jobs:
                raise NotModelled(next(iter(left_out.values())))
    except ConfigurationError:
        cli.remove_empty(Path(config.hydra.sweep.dir), "multirun.yaml")
        raise

    context = HydraContext(
        config_loader=cast(ConfigLoader, getattr(context.config_loader, "loader", context.config_loader)),
        callbacks=context.callbacks,
    )
    # Without OmegaConf's resolvers, which are closures; importing genfam.commands.cli registers ours in the job.
    singletons = Singleton.get_state()["instances"]

    def make_order(job: Job) -> bytes:
        try:
            return pickle.dumps(Order(task_function, job.config, context, singletons))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"expected a task function that can be imported by name, got {task_function}: {error}"
            ) from error

    display = make_display(jobs, quiet=cli.quiet)
    pool = Pool(workers, display, make_order)
    try:
        pool.run(to_run)
    finally:
        display.close()
        _account(jobs, originals)
    if pool.interrupts:
        raise KeyboardInterrupt
    return [job.to_job_return() for job in jobs]


def _look_ahead(runs: list[Run], workers: int) -> dict[str, str]:
    """Refuse what cannot run before anything starts, and say what is left out and how long it may take.

    Returns:
        Ids of runs whose family does not model such events, with the reason.

    Raises:
        ConfigurationError: see `genfam.running.preflight.check`.
    """
    from genfam.commands import cli
    from genfam.running import preflight

    left_out = preflight.check(runs)
    for reason in dict.fromkeys(left_out.values()):
        print(f"left out: {reason}", flush=True)
    runs = [run for run in runs if run.id not in left_out]
    seconds = preflight.expected_seconds(runs, runs[0].results_dir) if runs else None
    if seconds and not cli.quiet:
        print(f"about {duration(seconds / workers)} of training, by published runs of these families", flush=True)
    return left_out


def _make_jobs(
    job_overrides: Sequence[Sequence[str]], first_number: int, config: DictConfig, context: HydraContext
) -> list[Job]:
    from genfam.commands import cli
    from genfam.records.reuse import reuse

    common = set.intersection(*(set(overrides) for overrides in job_overrides)) if len(job_overrides) > 1 else set()
    jobs = []
    for number, overrides in enumerate(job_overrides, start=first_number):
        composed = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(composed):
            composed.hydra.job.id = str(number)
            composed.hydra.job.num = number
        settings = cli.settings(composed)
        telling = [o for o in filter_overrides(overrides) if o not in common] or list(filter_overrides(overrides))
        job = Job(composed, settings, settings.directory, " ".join(telling))
        record = job.finished_record()
        if record is None:
            record = reuse(settings)
            job.reused = record is not None
        if record is not None:
            job.value, job.outcome, job.reason, job.skipped = record, record.outcome.value, record.reason, True
        jobs.append(job)
    return jobs


def _account(jobs: list[Job], originals: dict[Path, Job]) -> None:
    """Jobs that name the same run share its outcome; then the tally gets all."""
    from genfam.commands import cli

    cli.tally.multirun = True
    for job in jobs:
        original = originals[job.directory]
        if original is not job:
            job.value, job.outcome, job.reason = original.value, original.outcome, original.reason
            job.skipped = True
        cli.tally.reused += job.reused
        outcome = job.outcome or "interrupted"
        cli.tally.add(job.directory.parent, job.settings.results_dir, outcome, job.reason, job.label)
