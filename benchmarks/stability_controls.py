"""Plant instabilities in made-up suites, and write into docs/stability.md what each entry says of them.

    .venv/bin/python benchmarks/stability_controls.py [--check]

Every suite has a Gaussian with a distance of 10 and an oracle with 0, so skill is 1 − distance / 10, and five seeds of
one family. The first is steady: the negative control of every entry. `tests/test_stability_card.py` and
`tests/test_failures.py` assert what the matrix shows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pages import ROOT, keep_block

from genfam.comparing.stability import UNITS, stability_card
from genfam.metrics.failures import FAILURES
from genfam.report.tables import bracketed
from genfam.types import CurvePoint, Estimate, Kind, Measurement, Outcome, Record, Trace, TracePoint

SAMPLES, MODES, POINTS = 200, 8, 64
STEADY = (8.0, 6.0, 4.0, 3.0)
Masses = Callable[[int], NDArray[np.float64]]


def make(
    family: str, seed: int, final: float, curve: tuple[float, ...] = STEADY, role: str = "contestant",
    factor: float = 1.0, source: str = "s", outcome: Outcome = Outcome.OK, trace: Trace | None = None,
    judge: str | None = None, **metrics: float,
) -> Record:  # fmt: skip
    """A record that ends at a distance of `final` after `curve`, with `metrics` beside it (higher is better)."""
    kinds = {"fd_net": Kind.HEADLINE} | dict.fromkeys(metrics, Kind.COVERAGE)
    values = {"fd_net": final} | metrics
    return Record(
        run_id=f"{family}-{source}-{seed}-{factor}", outcome=outcome, reason="", suite="x", family=family,
        source=source, seed=seed, code_version="c", package_versions={}, device="cpu", threads=1, trace=trace,
        role=role, learning_rate_factor=factor, judge=judge, config={},
        curve=[CurvePoint(float(i + 1), "fd_net", value, Kind.HEADLINE) for i, value in enumerate(curve)],
        metrics=[Measurement(name, "1", name != "fd_net", Estimate(value, None, 9), {}, kinds[name])
                 for name, value in values.items()] if outcome is Outcome.OK else [],
    )  # fmt: skip


def yardsticks(source: str = "s", noise: float = 0.0, **metrics: tuple[float, float]) -> list[Record]:
    """Three seeds of a Gaussian at 10 and of an oracle at 0; of `metrics` the Gaussian's value and the oracle's."""
    floors = {name: pair[0] for name, pair in metrics.items()}
    ceilings = {name: pair[1] for name, pair in metrics.items()}
    return [make("gaussian", seed, 10.0, (10.0,), "floor", source=source, **floors) for seed in range(3)] + [
        make("oracle", seed, 0.0, (noise * (seed - 1),), "oracle", source=source, **ceilings) for seed in range(3)
    ]


def planted_trace(
    masses: Masses, quality: float = 1.0, accuracy: float | None = None,
    gradients: Callable[[int], float] | None = None, seed: int = 0,
) -> Trace:  # fmt: skip
    """A trace whose samples fall on modes as `masses(t)` (K,) says, `quality` of them; drawn, not idealised."""
    rng = np.random.default_rng(seed)
    points = []
    for t in range(POINTS):
        p = quality * masses(t)
        counts = rng.multinomial(SAMPLES, [*p, max(0.0, 1 - p.sum())])[:-1]
        norms = {} if gradients is None else {"critic": 1.0, "generator": gradients(t)}
        reached, share = int((counts > 0).sum()), float(counts.sum() / SAMPLES)
        points.append(TracePoint(t + 1, reached, share, tuple(counts.tolist()), accuracy, norms))
    return Trace(SAMPLES, float(MODES), 0.99, tuple(points))


def uniform(t: int) -> NDArray[np.float64]:
    """All modes alike."""
    return np.full(MODES, 1 / MODES)


def three(t: int) -> NDArray[np.float64]:
    """Three of eight modes."""
    return np.array([0.4, 0.3, 0.3, 0, 0, 0, 0, 0])


def wave(t: int) -> NDArray[np.float64]:
    """All modes, but their masses go round in ten looks."""
    p = 1 + 0.95 * np.cos(2 * np.pi * (np.arange(MODES) / MODES - t / 10))
    return np.asarray(p / p.sum())


def fade(t: int) -> float:
    """A gradient that dies away."""
    return float(10.0 ** (-t / 16))


def suites() -> dict[str, list[Record]]:
    """Planted instability -> the family's runs."""
    healthy = planted_trace(uniform, accuracy=0.55, gradients=lambda t: 1.0)

    def seeds(final: Callable[[int], float] = lambda seed: 3.0, trace: Trace = healthy,
              curve: tuple[float, ...] = STEADY) -> list[Record]:  # fmt: skip
        return [make("a", seed, final(seed), curve, trace=trace) for seed in range(5)]

    def rates(finals: dict[float, float]) -> list[Record]:
        return [make("a", s, v, factor=f, trace=healthy) for s in range(5) for f, v in finals.items()]

    return {
        "steady (negative control)": rates({0.25: 3.0, 1.0: 3.0, 4.0: 3.0}),
        "two of five runs end worse than the Gaussian": seeds(lambda seed: 11.0 if seed < 2 else 3.0),
        "seeds scatter": seeds(lambda seed: 2.0 + seed),
        "swings": seeds(curve=(8.0, 2.0, 8.0, 3.0)),
        "falls back at the end": seeds(curve=(8.0, 4.0, 2.0, 6.0)),
        "never gets half way": seeds(lambda seed: 9.0, curve=(9.8, 9.5, 9.2, 9.0)),
        "only one learning rate works": rates({0.25: 8.0, 1.0: 3.0, 4.0: 12.0}),
        "three modes of eight": seeds(trace=planted_trace(three, accuracy=0.6)),
        "critic always right, gradient dying": seeds(trace=planted_trace(uniform, 0.05, 0.99, fade)),
        "critic fooled, 5 % of the samples good": seeds(trace=planted_trace(uniform, 0.05, 0.4)),
        "masses go round": seeds(trace=planted_trace(wave, accuracy=0.5)),
    }


def matrix() -> str:
    """As Markdown: bold where an entry differs from the steady suite's."""
    lines = ["", "| planted | " + " | ".join(UNITS) + " |", "|---|" + "--:|" * len(UNITS)]
    steady: dict[str, str] = {}
    for name, runs in suites().items():
        card = stability_card(yardsticks() + runs)
        own = card[card["family"] == "a"]
        values = {e: f"{v:.3g}" for e, v in zip(own["entry"], own["value"], strict=True)}
        steady = steady or values
        cells = [
            "–" if e not in values else values[e] if values[e] == steady.get(e) else f"**{values[e]}**" for e in UNITS
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def broken() -> str:
    """The GANs broken on purpose, as published: share of runs that show each failure."""
    folder = ROOT / "results" / "gan_failures"
    if not folder.exists():
        return "\n(not published yet)\n"
    card = pd.read_csv(folder / "stability.csv")
    seeds = json.loads((folder / "provenance.json").read_text())["seeds"]
    lines = ["", f"Seeds {seeds[0]} to {seeds[-1]}, share of runs with Wilson's 95 % interval:", ""]
    lines += ["| configuration | " + " | ".join(FAILURES) + " |", "|---|" + "--:|" * len(FAILURES)]
    for family, rows in card.groupby("family"):
        known = {row["entry"]: bracketed(row) for row in rows.to_dict("records")}
        cells = [f"**{known[name]}**" if family == f"gan_{name}" else known[name] for name in FAILURES]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "![Mode masses](../results/gan_failures/figures/trace_ring.png)", ""])


if __name__ == "__main__":
    page = ROOT / "docs" / "stability.md"
    sys.exit(keep_block(page, "controls", matrix, __doc__) | keep_block(page, "broken", broken, __doc__))
