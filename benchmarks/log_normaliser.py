"""Annealed importance sampling on trial: bounds of log Z of trained energy-based models whose log Z can be summed.

    .venv/bin/python benchmarks/log_normaliser.py outputs/standard        (about five minutes on one core)

The energy family's runs on the die, the 2 × 2 images and the ring, all seeds. Z is a sum over all states, or over a
fine grid of the plane. Writes results/statistics/log_normaliser.csv, a row per run and number of temperatures: both
bounds with their standard errors, the interval that covers both with three standard errors to either side, the truth,
and whether the interval holds it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from pages import ROOT

from genfam.families.energy import Energy
from genfam.families.moves import Potential
from genfam.files import write_atomically
from genfam.records.store import Store
from genfam.running.saved import load_run
from genfam.seeds import derived_generator
from genfam.types import Outcome

PATH = ROOT / "results" / "statistics" / "log_normaliser.csv"
SOURCES = ("die", "tiny_images", "ring")
CHAINS, TEMPERATURES = 500, (10, 100, 1000)
ERRORS = 3.0  # standard errors: each end of an interval fails in 0.13 % if its bound is one
REACH, CELLS = 7.0, 1400  # of the plane: half its side, and cells a side
CHUNK = 100_000


def summed(family: Energy) -> float:
    """Log Z by the sum over all states of a table.

    Args:
        family: on events of levels, of which there are at most a million.
    """
    axis = torch.arange(family.event.levels or 0, dtype=torch.uint8)
    states = torch.cartesian_prod(*[axis] * family.event.dimensions).view(-1, *family.event.shape)
    return float(torch.logsumexp(family.log_prob(states).double(), dim=0))


def integrated(log_start: Potential, tilt: Potential) -> float:
    """Log of the integral of p_0 e^(−V) over the plane, by the midpoint rule on a square.

    Args:
        log_start: (B, 2) -> (B,) nats, log p_0.
        tilt: (B, 2) -> (B,) nats, V.

    Raises:
        ValueError: the border of the square holds more than a millionth.
    """
    side = 2.0 * REACH / CELLS
    axis = (torch.arange(CELLS) + 0.5) * side - REACH
    points = torch.cartesian_prod(axis, axis)
    logs = torch.cat([(log_start(x) - tilt(x)).double() for x in points.split(CHUNK)])
    masses = torch.softmax(logs, dim=0).view(CELLS, CELLS)
    border = 1.0 - float(masses[1:-1, 1:-1].sum())
    if border > 1e-6:
        raise ValueError(f"expected nothing at the border of the square, got a share of {border:.2g}")
    return float(torch.logsumexp(logs, dim=0)) + 2.0 * math.log(side)


@torch.no_grad()
def truth(family: Energy) -> float:
    """Log Z without chains."""
    if family.event.is_discrete:
        return summed(family)
    return integrated(family.moves.log_start, family.tilt(family.sampler, None))


def trial(family: Energy, seed: int) -> list[dict[str, float | int | bool]]:
    """A row for each number of temperatures."""
    exact, rows = truth(family), []
    for temperatures in TEMPERATURES:
        generator = derived_generator(seed, "log_normaliser", str(temperatures))
        found = family.log_normaliser(generator, chains=CHAINS, temperatures=temperatures)
        low, high = found.interval(ERRORS)
        rows.append({
            "temperatures": temperatures, "chains": CHAINS,
            "below": found.below.value, "below_stderr": found.below.stderr or 0.0,
            "above": found.above.value, "above_stderr": found.above.stderr or 0.0,
            "low": low, "high": high, "truth": exact, "holds": low <= exact <= high,
        })  # fmt: skip
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Put all runs on trial and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", type=Path, help="folder of finished runs, as outputs/standard")
    store = Store(parser.parse_args(argv).store)
    rows = []
    for record in store.load():
        if record.family == "energy" and record.source in SOURCES and record.outcome is Outcome.OK:
            family = load_run(store.directory(record.run_id)).family
            assert isinstance(family, Energy)
            about = {"source": record.source, "seed": record.seed, "run": record.run_id, "digest": record.digest}
            rows += [about | row for row in trial(family, record.seed)]
            print(rows[-1], flush=True)
    if not rows:
        raise SystemExit(f"{store.folder}: expected finished runs of energy on {', '.join(SOURCES)}, found none")
    table = pd.DataFrame(rows).sort_values(["source", "temperatures", "seed"])
    write_atomically(PATH, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
