"""Measure what evaluation costs on one thread, and write it into docs/metrics.md.

    .venv/bin/python benchmarks/evaluation_speed.py

All metrics of one run on digits, from the published records; the Fréchet distance at 2,048 features against scipy's
matrix square root; the neighbour scores of 50,000 against 50,000 events, and the memory they take. Some minutes, best
on a machine that does nothing else. No test fails for it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

import psutil
import scipy.linalg
import torch
from pages import ROOT, keep_block

from genfam.metrics.frechet import Moments, frechet_distance
from genfam.metrics.neighbours import neighbours
from genfam.records import environment
from genfam.records.store import load_published

FEATURES, EVENTS, EVENT_FEATURES = 2048, 50_000, 64


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def evaluations() -> tuple[float, float, int]:
    """Median and longest evaluation of a contestant on digits (2,000 samples), in seconds, and their number."""
    known = sorted(
        record.evaluate_seconds
        for record in load_published(ROOT / "results" / "quick")
        if record.source == "digits" and record.train_flops > 0
    )
    return known[len(known) // 2], known[-1], len(known)


def frechet_against_sqrtm() -> tuple[float, float, float]:
    """(our seconds, scipy's seconds, relative difference of the two distances)."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(FEATURES, FEATURES, generator=generator, dtype=torch.float64) / FEATURES**0.5
    a, b = (torch.randn(6000, FEATURES, generator=generator, dtype=torch.float64) @ mix for _ in range(2))
    x, y = Moments.of(a), Moments.of(b * 1.1)
    means, (s1, s2) = (x.mean, y.mean), (x.covariance, y.covariance)
    found: list[float] = []
    ours = seconds(lambda: found.append(frechet_distance(means[0], s1, means[1], s2)))

    def with_sqrtm() -> None:
        root = scipy.linalg.sqrtm(s1.numpy() @ s2.numpy()).real
        found.append(float((means[0] - means[1]).square().sum() + s1.trace() + s2.trace() - 2 * root.trace()))

    theirs = seconds(with_sqrtm)
    return ours, theirs, abs(found[0] - found[1]) / found[1]


def neighbours_in_blocks() -> tuple[float, float]:
    """(seconds, GiB that memory grew by at most, looked at twenty times a second)."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(EVENTS, EVENT_FEATURES, generator=generator) for _ in range(2))
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    spent = seconds(lambda: neighbours(x, y))
    done.set()
    watcher.join()
    return spent, (max(peak) - before) / 2**30


def block() -> str:
    """What stands between the markers."""
    torch.set_num_threads(1)
    median, longest, count = evaluations()
    ours, theirs, difference = frechet_against_sqrtm()
    spent, memory = neighbours_in_blocks()
    whole = EVENTS * EVENTS * 8 / 2**30
    return f"""
One thread of {environment.processor()}, code `{environment.code_version()}`.

| what | measured |
|---|---|
| all metrics of one run on digits, 2,000 samples ({count} runs of `results/quick`, two side by side) | median \
{median:.2f} s, longest {longest:.2f} s |
| Fréchet distance at {FEATURES} features | {ours:.1f} s; scipy's `sqrtm` on its threads {theirs:.1f} s, \
{theirs / ours:.1f} times as long; distances agree to {difference:.0e} |
| precision, recall, density, coverage of {EVENTS:,} against {EVENTS:,} events of {EVENT_FEATURES} features | \
{spent:.0f} s, memory grows by {memory:.2f} GiB (all distances at once: {whole:.0f} GiB) |
"""


if __name__ == "__main__":
    sys.exit(keep_block(ROOT / "docs" / "metrics.md", "speed", block, __doc__))
