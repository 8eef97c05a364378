"""Stores made by hand: records and samples without any training."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from genfam.records import sampling_costs
from genfam.records.store import Store
from genfam.types import CurvePoint, Estimate, Kind, Likelihood, Measurement, Outcome, Record, Trace, TracePoint

HOSTILE = "a|b`*_x_* <script>[l](u)\n## $\\frac{$ \x1b[31m http://evil.example @me"
ROLES = {"beta": "contestant", "alpha": "contestant", "gauss": "floor", "truth": "oracle"}
SPREAD = np.array([-0.1, 0.0, 0.12])


def make(
    family, source, seed, fd, role="contestant", outcome=Outcome.OK, likelihood=Likelihood.NONE, extra=()
) -> Record:
    protocol = {"source": source, "samples": "500"}
    metrics = [
        Measurement("fd_net", "1", False, Estimate(fd, 0.01, 500), protocol, Kind.HEADLINE),
        Measurement("coverage", "1", True, Estimate(0.9, 0.01, 500), protocol, Kind.COVERAGE),
        *extra,
    ]
    return Record(
        run_id=re.sub(r"\W", "", f"{family}{source}") + f"-{seed}", outcome=outcome, reason="", suite="quick",
        family=family, source=source, seed=seed, config={"source": {"name": source}}, code_version="abc",
        package_versions={}, device="cpu", threads=1, role=role, digest="abc", likelihood=likelihood, train_flops=1e9,
        train_seconds=2.0 + seed, parameters=10, evaluations_per_sample=1.0,
        curve=[CurvePoint(1e8 * i, "fd_net", fd + 5.0 / i, Kind.HEADLINE) for i in range(1, 9)]
        if role == "contestant" else [],
        metrics=metrics if outcome is Outcome.OK else [],
    )  # fmt: skip


def draw(source, rng):
    """samples.npz of one run."""
    if source == "grid":
        points = rng.normal(size=(200, 2)).astype(np.float32)
        return dict(samples=points, reference=points[::-1], mode_counts=np.array([150, 50]), mode_masses=[0.5, 0.5])
    if source == "stacked":
        images = rng.integers(0, 17, (64, 3, 8, 8)).astype(np.uint8)
        return dict(samples=images, reference=images, levels=17) | dict(
            mode_counts=rng.multinomial(2000, np.full(1000, 1e-3)), mode_masses=np.full(1000, 1e-3)
        )
    if source == "die":
        return dict(samples=rng.integers(0, 6, (500, 1)).astype(np.uint8), levels=6) | dict(
            reference=rng.integers(0, 6, (500, 1)).astype(np.uint8)
        )
    images = rng.integers(0, 17, (40, 1, 8, 8)).astype(np.uint8)
    return dict(samples=images, reference=images, levels=17)


def fill(folder: Path) -> Path:
    """Four families on four sources, three seeds; one run of beta diverged."""
    store, rng = Store(folder), np.random.default_rng(0)
    for source in ("grid", "digits", "stacked", "die"):
        for family, role in ROLES.items():
            base = {"alpha": 2.0, "beta": 4.0, "gauss": 9.0, "truth": 1.0}[family]
            for seed in range(3):
                gone = (family, source, seed) == ("beta", "digits", 1)
                record = make(
                    family, source, seed, base + float(SPREAD[seed]), role, Outcome.DIVERGED if gone else Outcome.OK
                )
                store.write(record)
                if not gone and seed < 2:
                    np.savez(store.directory(record.run_id) / "samples.npz", **draw(source, rng))
    return folder


def config(source: str, seed: int, role: str, factor: float = 1.0) -> dict:
    """What a page reads of a configuration, and some that it only shows."""
    return {
        "seed": seed, "learning_rate_factor": factor, "output_dir": str(Path.home() / "secret" / "outputs"),
        "family": {"role": role, "_target_": "genfam.families.gan.GAN", "batch_size": 256},
        "source": {"name": source, "_target_": "genfam.sources.known.Die"},
        "budget": {"train_flops": 6e10, "parameters": 8000},
    }  # fmt: skip


def trace(modes: int, lost: int, seed: int) -> Trace:
    """64 looks at `modes` modes, the last `lost` of them never drawn."""
    rng = np.random.default_rng(seed)
    shares = np.r_[np.full(modes - lost, 1.0 / (modes - lost)), np.zeros(lost)]
    points = [
        TracePoint(10 * (i + 1), modes - lost, 0.9, tuple(int(n) for n in rng.multinomial(200, shares)))
        for i in range(64)
    ]
    return Trace(200, float(modes), 0.95, tuple(points))


def steps_of(record: Record) -> pd.DataFrame:
    """What `genfam-evaluate steps=1,5,25` would write of a run that was measured with one step."""
    measured = next(m for m in record.metrics if m.name == "fd_net")
    common = dict(run_id=record.run_id, family=record.family, source=record.source, seed=record.seed,
                  metric="fd_net", stderr=0.01, samples=500, code_version="abc")  # fmt: skip
    common |= dict(fingerprint=measured.fingerprint)
    value = measured.estimate.value
    rows = [
        common
        | dict(knobs=json.dumps({"guidance": 1.0, "solver": "heun", "steps": n}), network_evaluations=float(n))
        | dict(value=value * factor, seconds=0.4 * n, as_run=n == 1)
        for n, factor in ((1, 1.0), (5, 0.6), (25, 0.65))
    ]
    return pd.DataFrame(rows, columns=list(sampling_costs.COLUMNS))


def rich(folder: Path) -> Path:
    """As `fill`, with all that a page can show: traces, truths, listed states, neighbours, learning rates, solver
    steps, and a contestant and a source with hostile names."""
    store, rng = Store(fill(folder)), np.random.default_rng(1)
    for record in store.load():
        role = record.role
        value = 0.01 * (1 + len(record.family)) + 0.001 * record.seed
        truth = Measurement("total_variation", "1", False, Estimate(value, 0.01, 500), {"states": "6"}, Kind.DIVERGENCE)
        lost = 2 if (record.family, record.source, record.seed) == ("beta", "grid", 0) else 0
        store.write(
            replace(
                record, config=config(record.source, record.seed, role),
                metrics=[*record.metrics, truth] if record.source == "die" and record.metrics else record.metrics,
                trace=trace(8, lost, record.seed) if role == "contestant" and record.source != "stacked" else None,
            )
        )  # fmt: skip
        if (record.family, record.source) == ("alpha", "digits"):
            sampling_costs.write(store.directory(record.run_id) / sampling_costs.FILE, steps_of(record))
        path = store.directory(record.run_id) / "samples.npz"
        if path.exists():
            with np.load(path) as file:
                arrays = dict(file)
            if record.source == "die":
                arrays |= dict(states=np.arange(6, dtype=np.uint8)[:, None], state_masses=np.full(6, 1 / 6))
                arrays |= dict(state_counts=np.bincount(arrays["samples"][:, 0], minlength=6))
            elif record.source == "grid":
                arrays |= dict(mode_centres=np.array([[-1.0, 0.0], [1.0, 0.0]]))
            elif record.source == "digits":
                arrays |= dict(nearest=arrays["reference"][:16])
            if record.source in ("grid", "digits") and record.family == "alpha":
                states = np.stack([arrays["reference"][:6]] * 3).astype(np.float32)
                states[0] = np.nan
                arrays |= dict(trajectory=states, trajectory_times=np.array([0.0, 0.5, 1.0]))
                arrays |= dict(trajectory_kind=np.array(f"a path {HOSTILE}"))
            np.savez(path, **arrays)
    for seed in range(2):
        record = make(HOSTILE * 6, "digits", seed, 3.0 + seed)
        record.run_id, record.config = f"hostile-{seed}", config("digits", seed, "contestant")
        record.reason = HOSTILE
        store.write(record)
        np.savez(store.directory(record.run_id) / "samples.npz", **draw("digits", rng))
        record = make("alpha", HOSTILE, seed, 3.0 + seed)
        record.run_id, record.config = f"hostile-source-{seed}", config(HOSTILE, seed, "contestant")
        store.write(record)
        for factor in (0.25, 4.0):
            record = make("alpha", "grid", seed, 2.0 + factor)
            record.run_id = f"alpha-grid-{seed}-{factor}"
            record.config, record.learning_rate_factor = config("grid", seed, "contestant", factor), factor
            store.write(record)
    return folder
