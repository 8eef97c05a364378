"""One run: a configuration in, a record out."""

from __future__ import annotations

import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save
from torch import Tensor

from genfam import environment
from genfam.build import build
from genfam.families.base import Diverged, Family
from genfam.kept_samples import save_samples
from genfam.metrics.base import Evaluation, Extractor, Metric, measure_all, one_generator_state
from genfam.networks.sizing import count_parameters
from genfam.run_folder import ended_well, failed_record, finished_record, run_directory, settled
from genfam.saved import load_run, make_family, make_source
from genfam.seeds import derive_seed, derived_generator
from genfam.serialisation import record_to_json, write_atomically
from genfam.sources.base import Source
from genfam.stability.failures import failures, symptoms
from genfam.stability.traces import gradient_norm_quantiles, last_minus_best
from genfam.tracing import Tracer
from genfam.tracking import Tracker, make_tracker
from genfam.tracking.sketches import Sketcher, of_file
from genfam.training import Interrupted, Progress, plan, train, weights_are_finite
from genfam.types import CurvePoint, Outcome, Record

Report = Callable[[float, str], None]

SAMPLING_COSTS = "sampling_costs.csv"  # beside a record: the same weights at other solver steps (sampling_costs.py)
TRAINING_SHARE = 0.9  # of a run's progress bar; the rest is evaluation


def run(config: dict[str, Any], *, progress: Report | None = None) -> Record:
    """Train one family on one source within its budget, and measure it.

    A finished run is not repeated; one that was cut off goes on from its checkpoint. SIGINT stops cleanly.

    Args:
        config: resolved, in plain containers (conf/config.yaml).
        progress: called with (share done, text).

    Returns:
        The record, also written to `<run directory>/record.json`. Its outcome is `failed` with the reason where
        the run raised an error other than a mistake in the configuration.

    Raises:
        ValueError: the configuration cannot be built.
    """
    directory = run_directory(config)
    found = finished_record(directory)
    if found is not None:
        return found
    config = settled(config)
    device = environment.device_for(config["device"])
    torch.set_num_threads(config["threads"])
    torch.set_flush_denormal(True)
    report = progress or (lambda share, text: None)
    source = make_source(config)
    torch.manual_seed(derive_seed(config["seed"], source.name, "initial weights"))
    family = make_family(config, source).to(device)
    plan(family, source, config["budget"]["train_flops"])
    extractor = make_extractor(config, source)
    metrics = make_metrics(config)

    directory.mkdir(parents=True, exist_ok=True)
    (directory / SAMPLING_COSTS).unlink(missing_ok=True)  # of weights that are about to be replaced
    write_atomically(directory / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    record = new_record(config, family)
    checkpoint = directory / "checkpoint.pt"
    tracker = make_tracker(config, record.run_id, directory)
    trained, tracer = Progress(), None
    with stop_on_interrupt() as stop_requested:
        try:
            if family.trains:
                tracer = Tracer(source, extractor, config["trace"]["samples"], config["seed"])
                train(
                    family,
                    source,
                    config["seed"],
                    points=config["curve"]["points"],
                    measure=curve_measure(source, extractor, metrics, config, show_with(tracker, source, tracer)),
                    trace_points=config["trace"]["points"],
                    look=tracer.look,
                    track=tracker.log,
                    checkpoint=checkpoint,
                    report=status_report(report, trained, tracer),
                    stop_requested=stop_requested,
                    progress=trained,
                    device=device,
                )
                family.to(device)  # Lightning has put it back on the CPU
                if not weights_are_finite(family):
                    raise Diverged("weights are not finite at the end of training")
            else:  # a yardstick's one point says what the curves of the others should leave and reach
                point = curve_measure(source, extractor, metrics, config)(family)
                record.curve = [CurvePoint(0.0, name, value) for name, value in point.items()]
                tracker.log(0, {"train_flops": 0.0} | {f"curve/{name}": value for name, value in point.items()})
            save_model(directory, family)
            measure_run(record, directory, family, source, extractor, metrics, config, evaluation_report(report))
            record.outcome, record.reason = Outcome.OK, ""
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
    drawn = of_file(directory / "samples.npz") if tracker.wants_pictures and record.outcome is Outcome.OK else {}
    tracker.finish(record, drawn, family.grad_norms)
    write_atomically(directory / "record.json", record_to_json(record, indent=1))
    if record.outcome.finished:
        checkpoint.unlink(missing_ok=True)
    report(1.0, record.outcome.value)
    return record


def evaluate(
    directory: Path,
    new: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Sequence[str] = (),
    *,
    progress: Report | None = None,
) -> Record:
    """Measure a stored run again, with the metrics of its configuration and today's code; nothing is trained.

    Args:
        directory: of the run.
        new: more metrics by key, each with its `_target_`.
        plugins: packages beside genfam that they come from.
        progress: called with (share done, text).

    Raises:
        FileNotFoundError: no finished run there.
    """
    record = ended_well(directory)
    saved = load_run(directory)
    # a GPU's run can be measured where there is none
    config = saved.config | {"device": "cpu" if saved.config["device"] == "cpu" else environment.device_for("auto")}
    saved.family.to(config["device"])
    torch.set_num_threads(config["threads"])
    extractor = make_extractor(config, saved.source)
    metrics = make_metrics(config) | {key: build(value, plugins=plugins) for key, value in (new or {}).items()}
    report = progress or (lambda share, text: None)
    measure_run(record, directory, saved.family, saved.source, extractor, metrics, config, report)
    record.code_version = environment.code_version()
    tracker = make_tracker(config, record.run_id, directory, job_type="evaluate")
    tracker.finish(record, of_file(directory / "samples.npz") if tracker.wants_pictures else {}, {})
    write_atomically(directory / "record.json", record_to_json(record, indent=1))
    return record


def make_extractor(config: Mapping[str, Any], source: Source) -> Extractor:
    """The feature space; classifiers are trained once and cached beside the store."""
    cache, device = Path(config["output_dir"]) / ".cache", config["device"]
    extractor = build(config["extractor"], plugins=config["plugins"], data=source, cache_dir=cache, device=device)
    assert isinstance(extractor, Extractor)
    return extractor


def make_metrics(config: Mapping[str, Any]) -> dict[str, Metric]:
    """All metrics of the configuration, by key. A suite's settings of one that was not chosen have no `_target_`."""
    chosen = {key: value for key, value in config["metrics"].items() if "_target_" in value}
    return {key: build(value, plugins=config["plugins"]) for key, value in chosen.items()}


def new_record(config: dict[str, Any], family: Family) -> Record:
    """A record that knows what is known before training."""
    known = failed_record(config, "")
    return replace(
        known,
        device=known.device + environment.IN_BFLOAT16 if family.in_bfloat16 else known.device,
        likelihood=family.likelihood_kind.value,
        measure=family.event.measure,
        parameters=count_parameters(family.sampling_network),
        trained_parameters=sum(count_parameters(getattr(family, player)) for player in family.players),
    )


def fill_counters(record: Record, family: Family) -> None:
    """What training has spent, and the stability of its traces."""
    record.updates, record.events_seen, record.train_flops = family.updates, family.events_seen, family.train_flops
    record.evaluations_per_sample = family.evaluations_per_sample
    record.peak_memory = environment.peak_memory(family.device.type)
    record.stability = gradient_norm_quantiles(family.grad_norms)
    headline = [p for p in record.curve if is_frechet(p.metric)]
    if headline:
        record.stability["last_minus_best"] = last_minus_best([p.value for p in headline], higher_is_better=False)


def curve_measure(
    source: Source,
    extractor: Extractor,
    metrics: Mapping[str, Metric],
    config: Mapping[str, Any],
    show: Callable[[int, Tensor], None] | None = None,
) -> Callable[[Family], dict[str, float]]:
    """The cheap metrics on a few samples; their random numbers are their own, so that training does not change.

    `show` gets (updates, the same samples): pictures draw none of their own.
    """
    n, seed = config["curve"]["samples"], config["seed"]
    cheap = {key: metric for key, metric in metrics.items() if metric.on_curve}
    base: list[Evaluation] = []

    def measure(family: Family) -> dict[str, float]:
        samples = family.sample(n, generator=derived_generator(seed, source.name, "curve")).cpu()
        if show is not None:
            show(family.updates, samples)
        if not base:
            base.append(Evaluation(source, samples, source.test[:n], extractor, family, derive_seed(seed, "curve")))
        measured = measure_all(cheap, base[0].with_samples(samples))
        return {
            m.name: m.estimate.value for m in measured if m.estimate is not None and math.isfinite(m.estimate.value)
        }

    return measure


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
            if is_frechet(point.metric):
                parts.append(f"{point.metric} {point.value:.3g}")
                break
        seen = symptoms(tracer.trace(progress.trace)) if share > 0.5 else None
        parts += [f"{name} so far" for name, present in failures(seen).items() if present] if seen else []
        report(TRAINING_SHARE * share, " · ".join(parts))

    return status


def evaluation_report(report: Report) -> Report:
    """Evaluation's share of the run's progress."""
    return lambda share, text: report(TRAINING_SHARE + (1.0 - TRAINING_SHARE) * share, text)


def is_frechet(metric: str) -> bool:
    """Whether a metric of the curve is the headline: a Fréchet distance in whatever features."""
    return metric.startswith("fd_") or metric == "fid"


def measure_run(
    record: Record,
    directory: Path,
    family: Family,
    source: Source,
    extractor: Extractor,
    metrics: Mapping[str, Metric],
    config: Mapping[str, Any],
    report: Report,
) -> None:
    """Draw the evaluation's samples, keep the first of them, and apply every metric; `report` hears of each."""
    family.eval()
    n = config["evaluation"]["samples"]
    report(0.0, f"evaluating: drawing {n} samples")
    start = time.perf_counter()
    samples = family.sample(n, generator=derived_generator(config["seed"], source.name, "evaluation")).cpu()
    record.seconds_per_sample = (time.perf_counter() - start) / n
    start = time.perf_counter()
    seed = derive_seed(config["seed"], source.name, "metrics")
    evaluation = Evaluation(source, samples, source.test, extractor, family, seed)
    record.metrics = measure_all(
        metrics, evaluation, lambda share, key: report(0.3 + 0.7 * share, f"evaluating: {key}")
    )
    record.evaluate_seconds = time.perf_counter() - start
    save_samples(directory / "samples.npz", evaluation)


def save_model(directory: Path, family: Family) -> None:
    """Weights, averaged ones included, as safetensors."""
    weights = {key: value.cpu().contiguous().clone() for key, value in family.state_dict().items()}
    write_atomically(directory / "weights.safetensors", save(weights))


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT into a request that training asks for; the second one raises KeyboardInterrupt."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def handle(number: int, frame: Any) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield requested.is_set
    finally:
        signal.signal(signal.SIGINT, before)
