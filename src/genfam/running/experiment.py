"""One run: settings in, a record out."""

from __future__ import annotations

import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from genfam import progress
from genfam.families.base import Family
from genfam.families.players import Diverged
from genfam.files import refuse_links, sha256, write_atomically
from genfam.metrics.base import one_generator_state
from genfam.metrics.failures import failures, symptoms
from genfam.metrics.traces import gradient_norm_quantiles, last_minus_best
from genfam.networks.base import count_parameters
from genfam.records import environment, sampling_costs
from genfam.records.digest import numerics_digest
from genfam.records.run import Run
from genfam.records.store import check_version, ended_well, finished_record, owned, write_record
from genfam.running import checkpoints
from genfam.running.evaluation import Report, curve_measure, evaluate
from genfam.running.kept_samples import save_samples
from genfam.running.parts import Tracker, make_extractor, make_family, make_metrics, make_source, make_tracker
from genfam.running.saved import WEIGHTS, load_run, save_model
from genfam.running.tracing import Tracer
from genfam.running.tracking.sketches import Sketcher, of_file
from genfam.running.training import Interrupted, Progress, plan, train, weights_are_finite
from genfam.seeds import derive_seed
from genfam.sources.base import Source
from genfam.types import Kind, Outcome, Record

TRAINING_SHARE = 0.9  # of a run's progress bar; the rest is evaluation


def execute(run: Run, *, progress: Report | None = None) -> Record:
    """Train one family on one source within its budget, and measure it.

    A finished run is not repeated; one that was cut off goes on from its checkpoint. SIGINT stops cleanly.

    Args:
        run: its settings.
        progress: called with (share done, text).

    Returns:
        The record, also written to `<run directory>/record.json`. Its outcome is `failed` with the reason where
        the run raised an error other than a mistake in the configuration.

    Raises:
        ValueError: the configuration cannot be built, or a link leads out of the run's folder.
    """
    found = finished_record(run.directory)
    if found is not None:
        return found
    refuse_links(run.directory)
    environment.device_for(run.device)
    check_version(run.directory)
    with owned(run.directory, run.id):
        # another process may have finished it before the lock was ours
        return finished_record(run.directory) or _execute(run, progress)


def _execute(run: Run, progress: Report | None) -> Record:
    directory = run.directory
    torch.set_num_threads(run.threads)
    torch.set_flush_denormal(True)
    report = progress or (lambda share, text: None)
    source = make_source(run)
    torch.manual_seed(initial_seed(run, source))
    family = make_family(run, source).to(run.device)
    plan(family, source, run.budget.train_flops)
    extractor, metrics = make_extractor(run, source), make_metrics(run)

    directory.mkdir(parents=True, exist_ok=True)
    (directory / sampling_costs.FILE).unlink(missing_ok=True)  # of weights that are about to be replaced
    write_atomically(directory / "config.yaml", yaml.safe_dump(run.config, sort_keys=False))
    record = born(run, family, source)
    write_record(directory, record)
    tracker = make_tracker(run)
    trained, tracer = Progress(), None
    with stop_on_interrupt() as stop_requested:
        try:
            if family.trains:
                tracer = Tracer(source, extractor, run.trace.samples, run.seed)
                show = show_with(tracker, source, tracer)
                train(
                    family,
                    source,
                    run.seed,
                    points=run.curve.points,
                    measure=curve_measure(source, extractor, metrics, run.curve.samples, run.seed, show),
                    trace_points=run.trace.points,
                    look=tracer.look,
                    track=tracker.log,
                    folder=directory,
                    digest=record.digest,
                    report=status_report(report, trained, tracer),
                    stop_requested=stop_requested,
                    progress=trained,
                    device=run.device,
                )
                family.to(run.device)  # Lightning has put it back on the CPU
                if not weights_are_finite(family):
                    raise Diverged("weights are not finite at the end of training")
            else:  # a yardstick's one point says what the curves of the others should leave and reach
                record.curve = curve_measure(source, extractor, metrics, run.curve.samples, run.seed)(family)
                tracker.log(0, {"train_flops": 0.0} | {f"curve/{p.metric}": p.value for p in record.curve})
            save_model(directory, run, family, source)
            stop_requested.at_once()  # from here on nothing of the training can be lost
            evaluation = evaluate(
                record, family, source, extractor, metrics, run.evaluation.samples, evaluation_report(report)
            )
            save_samples(directory / "samples.npz", evaluation, family)
            record.files = {name: sha256(directory / name) for name in (WEIGHTS, "samples.npz")}
            record.outcome, record.reason = Outcome.OK, ""
        except KeyboardInterrupt:
            record.outcome, record.reason = Outcome.INTERRUPTED, "stopped while it was measured; its training is kept"
        except Diverged as event:
            record.outcome, record.reason = Outcome.DIVERGED, str(event)
        except Interrupted as event:
            record.outcome, record.reason = Outcome.INTERRUPTED, str(event)
        except Exception:
            record.outcome, record.reason = Outcome.FAILED, traceback.format_exc(limit=-8)
    if tracer is not None:  # also what a run did before it diverged
        record.curve, record.train_seconds = trained.curve, trained.train_seconds
        record.trace = tracer.trace(trained.trace)
    fill_counters(record, family)
    write_record(directory, record)
    tell(tracker, record, directory, family.grad_norms)
    if record.outcome.finished:
        checkpoints.remove(directory)
    report(1.0, record.outcome.value)
    return record


def measure_again(
    directory: Path,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Sequence[str] = (),
    *,
    data_dir: Path | None = None,
    progress: Report | None = None,
) -> Record:
    """Measure a stored run again, with the metrics of its configuration and today's code; nothing is trained.

    Args:
        directory: of the run: `<store>/<suite>/<run_id>`.
        more: further metrics by key, each with its `_target_`.
        plugins: packages beside genfam that the user named: a stored run's own are not trusted.
        data_dir: where image files lie here, if elsewhere than where the run was made.
        progress: called with (share done, text).

    Raises:
        FileNotFoundError: no finished run there.
        ValueError: a link leads out of the run's folder, or its configuration cannot be built.
    """
    record = ended_well(directory)
    saved = load_run(directory, data_dir, plugins=plugins)
    # a GPU's run can be measured where there is none
    device = "cpu" if saved.run.device == "cpu" else environment.device_for("auto")
    run = saved.run.model_copy(update={"device": device})
    saved.family.to(device)
    torch.set_num_threads(run.threads)
    extractor = make_extractor(run, saved.source, directory.parent.parent / ".cache")
    metrics = make_metrics(run, more)
    report = progress or (lambda share, text: None)
    evaluation = evaluate(record, saved.family, saved.source, extractor, metrics, run.evaluation.samples, report)
    save_samples(directory / "samples.npz", evaluation, saved.family)
    record.files = {name: sha256(directory / name) for name in (WEIGHTS, "samples.npz")}
    record.code_version, record.measured_by = environment.code_version(), measuring_digest(run)
    write_record(directory, record)
    tell(make_tracker(run, directory, "evaluate"), record, directory, {})
    return record


def initial_seed(run: Run, source: Source) -> int:
    """Of the networks' initial weights."""
    return derive_seed(run.seed, source.name, "initial weights")


def measuring_digest(run: Run) -> str:
    """Of the code that all families share on the run's source: the source itself, the engine, the metrics."""
    return numerics_digest([part for key, part in run.identity.items() if key != "family"], run.plugins)


def begun(run: Run, outcome: Outcome = Outcome.RUNNING, reason: str = "") -> Record:
    """A record that knows what settings say: all that a process could leave which died before it built anything."""
    return Record(
        run_id=run.id,
        outcome=outcome,
        reason=reason,
        suite=run.suite,
        family=run.family["name"],
        source=run.data_name,
        condition=run.condition["name"],
        role=run.family.get("role", "contestant"),
        seed=run.seed,
        config=run.config,
        code_version=environment.code_version(),
        package_versions=environment.package_versions(),
        digest=numerics_digest(run.identity.values(), run.plugins),
        measured_by=measuring_digest(run),
        device=f"{run.device}: {environment.processor(run.device)}",
        threads=run.threads,
        learning_rate_factor=run.learning_rate_factor,
        judge=run.judge,
    )


def born(run: Run, family: Family, source: Source) -> Record:
    """A record that knows what is known before training."""
    record = begun(run)
    record.device += environment.IN_BFLOAT16 if family.in_bfloat16 else ""
    record.likelihood, record.measure = family.likelihood_kind, family.event.measure
    record.parameters = count_parameters(family.sampling_network)
    record.trained_parameters = sum(count_parameters(getattr(family, player)) for player in family.players)
    record.marks = marks_of(family, source) if record.role == "contestant" else []
    return record


def marks_of(family: Family, source: Source) -> list[str]:
    """What a table must say beside a contestant's numbers."""
    found = [] if family.trains else ["spends no training FLOPs"]
    most = max((b.numel() for b in family.buffers()), default=0)
    if most >= len(source.train) * source.event.dimensions:
        found.append("keeps as many numbers as the training split has")
    return found


def fill_counters(record: Record, family: Family) -> None:
    """What training has spent, and the stability of its traces."""
    record.updates, record.events_seen, record.train_flops = family.updates, family.events_seen, family.train_flops
    record.evaluations_per_sample = family.evaluations_per_sample
    record.peak_memory = environment.peak_memory(family.device.type)
    record.stability = gradient_norm_quantiles(family.grad_norms)
    headline = [point.value for point in record.curve if point.kind is Kind.HEADLINE]
    if headline:
        record.stability["last_minus_best"] = last_minus_best(headline, higher_is_better=False)


def tell(tracker: Tracker, record: Record, directory: Path, norms: Mapping[str, list[float]]) -> None:
    """Tell a tracker that the run has ended; a tracker that fails costs its own log, never the run."""
    try:
        drawn = of_file(directory / "samples.npz") if tracker.wants_pictures and record.outcome is Outcome.OK else {}
        tracker.finish(record, drawn, norms)
    except Exception as error:
        warnings.warn(f"{record.run_id}: the record is written, but its tracker failed: {error}", stacklevel=2)


def show_with(tracker: Tracker, source: Source, tracer: Tracer) -> Callable[[int, Tensor], None] | None:
    """Draws the samples given for the tracker; None where it wants no pictures."""
    if not tracker.wants_pictures:
        return None
    sketch = Sketcher(source, tracer.assign)

    def show(updates: int, samples: Tensor) -> None:
        with one_generator_state():
            tracker.show(updates, sketch(samples))

    return show


def status_report(report: Report, progress: Progress, tracer: Tracer) -> Report:
    """Training's share of the run's progress; to the text it adds the last headline metric and what looks ill so far.

    Before half of the trace is there nothing is called ill: thresholds are about late training.
    """

    def status(share: float, text: str) -> None:
        parts = [text]
        for point in reversed(progress.curve):
            if point.kind is Kind.HEADLINE:
                parts.append(f"{point.metric} {point.value:.3g}")
                break
        seen = symptoms(tracer.trace(progress.trace)) if share > 0.5 else None
        parts += [f"{name} so far" for name, present in failures(seen).items() if present] if seen else []
        report(TRAINING_SHARE * share, " · ".join(parts))

    return status


def evaluation_report(report: Report) -> Report:
    """Evaluation's share of the run's progress."""
    return lambda share, text: report(TRAINING_SHARE + (1.0 - TRAINING_SHARE) * share, text)


class Stop:
    """A request to stop, by SIGINT or (as Slurm asks) SIGTERM."""

    def __init__(self) -> None:
        self.requested = False
        self.immediate = False

    def __call__(self) -> bool:
        """Whether training should write its checkpoint and end."""
        return self.requested

    def at_once(self) -> None:
        """From now on a signal raises KeyboardInterrupt, as one that came before does now."""
        self.immediate = True
        if self.requested:
            raise KeyboardInterrupt

    def handle(self, number: int, frame: Any) -> None:
        """The signals' handler: the first asks, the second raises."""
        progress.stopped_by = number
        if self.requested or self.immediate:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Turn the first signal into a request; a second one raises KeyboardInterrupt."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
