"""One run: a configuration in, a record out."""

from __future__ import annotations

import hashlib
import io
import json
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

import numpy as np
import torch
import yaml
from safetensors.torch import save
from torch import Tensor

from genfam import environment, tracking
from genfam.build import build
from genfam.families.base import Diverged, Family
from genfam.metrics.base import Evaluation, Extractor, Metric, measure_all
from genfam.networks.sizing import count_parameters
from genfam.saved import load_run, make_family, make_source
from genfam.seeds import derive_seed, derived_generator
from genfam.serialisation import record_from_json, record_to_json, write_atomically
from genfam.sources.base import Source
from genfam.stability.traces import gradient_norm_quantiles, last_minus_best
from genfam.tracing import Tracer
from genfam.training import Interrupted, Progress, plan, train, weights_are_finite
from genfam.types import CurvePoint, Enumerable, KnownModes, Outcome, Record

Report = Callable[[float, str], None]

# What cannot change a run's numbers is no part of its identity.
NOT_IDENTITY = ("output_dir", "results_dir", "data_dir", "wandb", "logger", "suite", "plugins", "judge")
KEPT_SAMPLES = 2000
NEAREST_SHOWN = 16  # samples that are kept with their nearest training image
MOST_STATES = 4096  # of an enumerable source, that are counted one by one
TRAINING_SHARE = 0.9  # of a run's progress bar; the rest is evaluation


def run_id(config: Mapping[str, Any]) -> str:
    """Readable names and a hash of all that can change the numbers."""
    identity = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    text = json.dumps(identity, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{config['source']['name']}-{config['family']['name']}-s{config['seed']}-{digest}"


def run_directory(config: Mapping[str, Any]) -> Path:
    """Where this run's record, weights, samples and log lie."""
    return Path(config["output_dir"], config["suite"], run_id(config))


def read_record(directory: Path) -> Record | None:
    """The record there, or None where there is none that can be read."""
    try:
        return record_from_json((directory / "record.json").read_text())
    except (OSError, ValueError):
        return None


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
    found = read_record(directory)
    if found is not None and found.outcome.finished:
        return found
    torch.set_num_threads(config["threads"])
    torch.set_flush_denormal(True)
    report = progress or (lambda share, text: None)
    source = make_source(config)
    torch.manual_seed(derive_seed(config["seed"], source.name, "initial weights"))
    family = make_family(config, source)
    plan(family, source, config["budget"]["train_flops"])
    extractor = make_extractor(config, source)
    metrics = make_metrics(config)

    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    record = new_record(config, family)
    logger = tracking.make_logger(config, record.run_id, directory)
    checkpoint = directory / "checkpoint.pt"
    measure = curve_measure(source, extractor, metrics, config)
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
                    measure=measure,
                    trace_points=config["trace"]["points"],
                    look=tracer.look,
                    checkpoint=checkpoint,
                    loggers=[logger] if logger else [],
                    report=lambda share, text: report(TRAINING_SHARE * share, text),
                    stop_requested=stop_requested,
                    progress=trained,
                    device=config["device"],
                )
                if not weights_are_finite(family):
                    raise Diverged("weights are not finite at the end of training")
            else:  # a yardstick's one point says what the curves of the others should leave and reach
                record.curve = [CurvePoint(0.0, name, value) for name, value in measure(family).items()]
            report(TRAINING_SHARE, "evaluating")
            save_model(directory, family)
            measure_run(record, directory, family, source, extractor, metrics, config)
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
    tracking.log_record(logger, record, {})
    write_atomically(directory / "record.json", record_to_json(record, indent=1))
    if record.outcome.finished:
        checkpoint.unlink(missing_ok=True)
    report(1.0, record.outcome.value)
    return record


def evaluate(
    directory: Path, new: Mapping[str, Mapping[str, Any]] | None = None, plugins: Sequence[str] = ()
) -> Record:
    """Measure a stored run again, with the metrics of its configuration and today's code; nothing is trained.

    Args:
        directory: of the run.
        new: more metrics by key, each with its `_target_`.
        plugins: packages beside genfam that they come from.

    Raises:
        FileNotFoundError: no finished run there.
    """
    record = read_record(directory)
    if record is None:
        raise FileNotFoundError(f"{directory}: expected a run with a readable record.json, found none")
    if record.outcome is not Outcome.OK:
        raise FileNotFoundError(f"{directory}: expected a run that ended well, its outcome is {record.outcome.value}")
    saved = load_run(directory)
    config = saved.config
    torch.set_num_threads(config["threads"])
    extractor = make_extractor(config, saved.source)
    metrics = make_metrics(config) | {key: build(value, plugins=plugins) for key, value in (new or {}).items()}
    measure_run(record, directory, saved.family, saved.source, extractor, metrics, config)
    record.code_version = environment.code_version()
    write_atomically(directory / "record.json", record_to_json(record, indent=1))
    return record


def make_extractor(config: Mapping[str, Any], source: Source) -> Extractor:
    """The feature space; classifiers are trained once and cached beside the store."""
    cache = Path(config["output_dir"]) / ".cache"
    extractor = build(config["extractor"], plugins=config["plugins"], data=source, cache_dir=cache)
    assert isinstance(extractor, Extractor)
    return extractor


def make_metrics(config: Mapping[str, Any]) -> dict[str, Metric]:
    """All metrics of the configuration, by key."""
    return {key: build(value, plugins=config["plugins"]) for key, value in config["metrics"].items()}


def new_record(config: dict[str, Any], family: Family) -> Record:
    """A record that knows what is known before training."""
    return replace(
        failed_record(config, ""),
        likelihood=family.likelihood_kind.value,
        measure=family.event.measure,
        parameters=count_parameters(family.sampling_network),
        trained_parameters=sum(count_parameters(getattr(family, player)) for player in family.players),
    )


def fill_counters(record: Record, family: Family) -> None:
    """What training has spent, and the stability of its traces."""
    record.updates, record.events_seen, record.train_flops = family.updates, family.events_seen, family.train_flops
    record.evaluations_per_sample = family.evaluations_per_sample
    record.peak_memory = environment.peak_memory()
    record.stability = gradient_norm_quantiles(family.grad_norms)
    headline = [p for p in record.curve if p.metric.startswith("fd_") or p.metric == "fid"]
    if headline:
        record.stability["last_minus_best"] = last_minus_best([p.value for p in headline], higher_is_better=False)


def curve_measure(
    source: Source, extractor: Extractor, metrics: Mapping[str, Metric], config: Mapping[str, Any]
) -> Callable[[Family], dict[str, float]]:
    """The cheap metrics on a few samples; their random numbers are their own, so that training does not change."""
    n, seed = config["curve"]["samples"], config["seed"]
    cheap = {key: metric for key, metric in metrics.items() if metric.on_curve}
    base: list[Evaluation] = []

    def measure(family: Family) -> dict[str, float]:
        samples = family.sample(n, generator=derived_generator(seed, source.name, "curve"))
        if not base:
            base.append(Evaluation(source, samples, source.test[:n], extractor, family, derive_seed(seed, "curve")))
        measured = measure_all(cheap, base[0].with_samples(samples))
        return {
            m.name: m.estimate.value for m in measured if m.estimate is not None and math.isfinite(m.estimate.value)
        }

    return measure


def measure_run(
    record: Record,
    directory: Path,
    family: Family,
    source: Source,
    extractor: Extractor,
    metrics: Mapping[str, Metric],
    config: Mapping[str, Any],
) -> None:
    """Draw the evaluation's samples, keep the first of them, and apply every metric."""
    family.eval()
    n = config["evaluation"]["samples"]
    start = time.perf_counter()
    samples = family.sample(n, generator=derived_generator(config["seed"], source.name, "evaluation"))
    record.seconds_per_sample = (time.perf_counter() - start) / n
    start = time.perf_counter()
    seed = derive_seed(config["seed"], source.name, "metrics")
    evaluation = Evaluation(source, samples, source.test, extractor, family, seed)
    record.metrics = measure_all(metrics, evaluation)
    record.evaluate_seconds = time.perf_counter() - start
    save_samples(directory / "samples.npz", evaluation)


def save_model(directory: Path, family: Family) -> None:
    """Weights, averaged ones included, as safetensors."""
    weights = {key: value.contiguous().clone() for key, value in family.state_dict().items()}
    write_atomically(directory / "weights.safetensors", save(weights))


def save_samples(path: Path, evaluation: Evaluation) -> None:
    """The first samples, unpicked, as many real events, and how all samples fall on modes and on listed states.

    Images also bring the training image nearest to each of the first `NEAREST_SHOWN`, for people to see copies; on
    points the centres of the modes.
    """
    source, extractor = evaluation.data, evaluation.extractor
    arrays: dict[str, Any] = {
        "samples": evaluation.samples[:KEPT_SAMPLES].numpy(),
        "reference": evaluation.reference[:KEPT_SAMPLES].numpy(),
        "levels": np.array(source.event.levels or 0),
    }
    modes = None
    masses = getattr(source, "mode_masses", None)
    if isinstance(source, KnownModes):
        modes = source.assign(evaluation.samples)
    elif extractor.n_classes:
        modes = extractor.classify(evaluation.samples)
        if masses is None:
            counts = extractor.classify(evaluation.reference).bincount(minlength=extractor.n_classes).double()
            masses = counts / counts.sum()
    if modes is not None and masses is not None:
        arrays["mode_total"] = np.array(len(modes))
        arrays["mode_counts"] = modes[modes >= 0].bincount(minlength=len(masses)).numpy()
        arrays["mode_masses"] = masses.numpy()
    if isinstance(source, KnownModes) and callable(centres := getattr(source, "modes", None)):
        arrays["mode_centres"] = centres().numpy()
    if isinstance(source, Enumerable) and (source.event.levels or 0) ** source.event.dimensions <= MOST_STATES:
        states, table = source.support(), source.table()
        flat, hits = np.unique(evaluation.samples.flatten(1).numpy(), axis=0, return_counts=True)
        seen = {tuple(state): count for state, count in zip(flat.tolist(), hits.tolist(), strict=True)}
        arrays["states"], arrays["state_masses"] = states.numpy(), table.numpy()
        arrays["state_counts"] = np.array([seen.get(tuple(state), 0) for state in states.flatten(1).tolist()])
    if source.event.is_image:
        arrays["nearest"] = nearest_events(evaluation.samples[:NEAREST_SHOWN], source.train).numpy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def nearest_events(x: Tensor, among: Tensor, block_size: int = 5000) -> Tensor:
    """(N, *event), (M, *event) -> (N, *event): the event at the least Euclidean distance, pixel by pixel.

    `among` is looked at `block_size` events at a time, since a training split may be made when looked at.
    """
    flat = x.flatten(1).float()
    best = torch.full((len(x),), math.inf)
    found = torch.zeros_like(x)
    for start in range(0, len(among), block_size):
        block = among[start : start + block_size]
        distance, index = torch.cdist(flat, block.flatten(1).float()).min(dim=1)
        closer = distance < best
        best[closer], found[closer] = distance[closer], block[index[closer]]
    return found


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


def failed_record(config: dict[str, Any], reason: str) -> Record:
    """What is written for a run whose process died before it could write its own."""
    return Record(
        run_id=run_id(config),
        outcome=Outcome.FAILED,
        reason=reason,
        suite=config["suite"],
        family=config["family"]["name"],
        source=config["source"]["name"],
        seed=config["seed"],
        config=config,
        code_version=environment.code_version(),
        package_versions=environment.package_versions(),
        device=f"{config['device']}: {environment.processor()}",
        threads=config["threads"],
    )
