"""How a trained family is measured: its samples drawn, every metric applied, its curve looked at."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from torch import Tensor

from genfam.families.base import Family
from genfam.metrics.base import Evaluation, Extractor, Metric, Seen, measure_all
from genfam.seeds import derive_seed, derived_generator
from genfam.sources.base import Source
from genfam.types import CurvePoint, Record

Report = Callable[[float, str], None]


def evaluate(
    record: Record, family: Family, source: Source, extractor: Extractor, metrics: Mapping[str, Metric], samples: int,
    report: Report,
) -> Evaluation:  # fmt: skip
    """Draw the evaluation's samples and apply every metric; fills the record and returns what was looked at.

    Args:
        record: whose seed the samples are drawn by; gets metrics and times.
        family: trained.
        source: what it learnt.
        extractor: the feature space.
        metrics: by key.
        samples: how many are drawn.
        report: hears of each metric.
    """
    family.eval()
    report(0.0, f"evaluating: drawing {samples} samples")
    start = time.perf_counter()
    values = drawn_values(family, samples, record.seed, source)
    generator = derived_generator(record.seed, source.name, "evaluation")
    drawn = family.sample(samples, generator=generator, condition=values).cpu()
    record.seconds_per_sample = (time.perf_counter() - start) / samples
    start = time.perf_counter()
    evaluation = evaluation_of(record.seed, family, source, extractor, drawn, values)
    record.metrics = measure_all(
        metrics, evaluation, lambda share, key: report(0.3 + 0.7 * share, f"evaluating: {key}")
    )
    record.evaluate_seconds = time.perf_counter() - start
    return evaluation


def drawn_values(family: Family, n: int, seed: int, source: Source) -> Tensor | None:
    """(n,) int64 of the condition, by their shares, for the evaluation's samples; None without a condition."""
    if not family.condition.classes:
        return None
    return family.condition.draw(n, derived_generator(seed, source.name, "condition")).cpu()


def evaluation_of(
    seed: int, family: Family, source: Source, extractor: Extractor, samples: Tensor, values: Tensor | None
) -> Evaluation:
    """What metrics see of these samples, which were drawn for these values of the condition."""
    condition = family.condition
    seen = None
    if values is not None:
        on_device = condition.shares.device
        theirs = condition.to("cpu").of_test(source)
        condition.to(on_device)
        seen = Seen(condition.classes, condition.are_labels, values, theirs)
    return Evaluation(source, samples, source.test, extractor, family, derive_seed(seed, source.name, "metrics"), seen)


def curve_measure(
    source: Source,
    extractor: Extractor,
    metrics: Mapping[str, Metric],
    samples: int,
    seed: int,
    show: Callable[[int, Tensor], None] | None = None,
) -> Callable[[Family], list[CurvePoint]]:
    """The cheap metrics on a few samples; their random numbers are their own, so that training does not change.

    `show` gets (updates, the same samples): pictures draw none of their own.
    """
    cheap = {key: metric for key, metric in metrics.items() if metric.on_curve}
    base: list[Evaluation] = []

    def measure(family: Family) -> list[CurvePoint]:
        drawn = family.sample(samples, generator=derived_generator(seed, source.name, "curve")).cpu()
        if show is not None:
            show(family.updates, drawn)
        if not base:
            reference = source.test[:samples]
            own = derive_seed(seed, "curve")
            base.append(Evaluation(source, drawn, reference, extractor, family, own, in_training=True))
        return [
            CurvePoint(family.train_flops, m.name, m.estimate.value, m.kind)
            for m in measure_all(cheap, base[0].with_samples(drawn))
            if m.estimate is not None and math.isfinite(m.estimate.value)
        ]

    return measure
