"""How far one rate of FLOP/s predicts training times: `genfam-estimate`'s model against the published records.

    python benchmarks/time_model.py

A rate is all training FLOPs over all training seconds of a group of runs; a run's estimate is its FLOPs over that rate.
"""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results"


def main() -> None:
    """One Markdown row per suite and source, and per suite."""
    print("| suite | source | runs | GFLOP/s | estimate / measured, least to most |\n|---|---|--:|--:|--:|")
    for path in sorted(RESULTS.glob("*/records.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        trained = [r for r in records if r["outcome"] == "ok" and r["train_flops"] and r["train_seconds"]]
        sources = sorted({r["source"] for r in trained})
        groups = [(name, [r for r in trained if r["source"] == name]) for name in sources]
        for name, group in [*groups, ("all", trained)] if len(groups) > 1 else groups:
            rate = sum(r["train_flops"] for r in group) / sum(r["train_seconds"] for r in group)
            ratios = sorted(r["train_flops"] / rate / r["train_seconds"] for r in group)
            spread = f"{ratios[0]:.2g} to {ratios[-1]:.2g}"
            print(f"| {path.parent.name} | {name} | {len(group)} | {rate / 1e9:.3g} | {spread} |")


if __name__ == "__main__":
    main()
