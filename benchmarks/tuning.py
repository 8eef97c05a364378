"""Equal tuning: what the published trials of `genfam-tune` found (results/tune), written into docs/experiments.md.

Run it: `.venv/bin/python benchmarks/tuning.py [--check]`.
"""

from __future__ import annotations

import sys

from pages import ROOT, keep_block

from genfam import tune
from genfam.published import three_digits


def table() -> str:
    """One row per trial, best first within a family; trial 0 had the defaults of before."""
    lines = [
        "",
        "| source | family | trial | settings | judged by | value | seconds |",
        "|---|---|--:|---|---|--:|--:|",
    ]
    for path in sorted((ROOT / "results" / "tune").glob("*.jsonl")):
        trials = tune.load_trials(path)
        source, _, family = path.stem.partition("-")
        for trial in sorted(trials, key=lambda trial: trial.loss):
            settings = ", ".join(f"{key.split('.')[-1]} {value}" for key, value in trial.overrides.items())
            value = trial.outcome if trial.value is None else f"{three_digits(trial.value)} ± {trial.stderr or 0:.2g}"
            lines.append(
                f"| {source} | {family} | {trial.number} | {settings or 'the defaults before'} | {trial.metric} "
                f"| {value} | {trial.train_seconds:.0f} |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(keep_block(ROOT / "docs" / "experiments.md", "tuning", table, __doc__))
