"""How much of a Fréchet distance is the classes' frequencies, and how much what the images look like.

    .venv/bin/python benchmarks/class_masses.py STORE/images... [--data_dir FOLDER]

Draws the evaluation's samples of every run in these folders again (their weights are in the store), and writes the
plain distance beside the one at the reference's class frequencies (`reweighted_…`) into docs/metrics.md. A run whose
plain distance is not the record's any more is refused: its samples or its classifier are not those of the record.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import torch
from pages import ROOT, with_block

from genfam import environment
from genfam.experiment import make_extractor
from genfam.metrics.base import Evaluation, measure_all
from genfam.metrics.frechet import Frechet
from genfam.metrics.frechet_reweighted import FrechetReweighted
from genfam.run_folder import ended_well
from genfam.saved import load_run
from genfam.seeds import derived_generator
from genfam.statistics import t_interval

TOLERANCE = 1e-3  # relative: the same weights on the same machine


def measure(folder: Path, data_dir: str | None) -> dict[str, object]:
    """Source, family, seed and both distances of one run.

    Raises:
        ValueError: the plain distance is not the record's.
    """
    record, saved = ended_well(folder), load_run(folder, data_dir)
    extractor = make_extractor(saved.config | {"output_dir": str(folder.parent.parent)}, saved.source)
    generator = derived_generator(saved.config["seed"], saved.source.name, "evaluation")
    samples = saved.family.sample(saved.config["evaluation"]["samples"], generator=generator)
    evaluation = Evaluation(saved.source, samples, saved.source.test, extractor, saved.family)
    plain, reweighted = measure_all({"plain": Frechet(), "reweighted": FrechetReweighted()}, evaluation)
    if plain.estimate is None or reweighted.estimate is None:
        raise ValueError(f"{folder}: {plain.reason or reweighted.reason}")
    known = next((m.estimate for m in record.metrics if m.name == plain.name), None)
    if known is None or abs(plain.estimate.value - known.value) > TOLERANCE * known.value:
        told = "none" if known is None else known.value
        raise ValueError(f"{folder}: expected the record's {plain.name}, {told}, got {plain.estimate.value}")
    return {
        "source": record.source, "family": record.family, "seed": record.seed,
        "plain": plain.estimate.value, "reweighted": reweighted.estimate.value,
    }  # fmt: skip


def table(rows: pd.DataFrame) -> str:
    """Markdown: a line per source and family, means over seeds with half of the 95 % interval (Student's t)."""
    lines = [
        "| source | family | seeds | distance | at the reference's frequencies | each seed | times the oracle's |",
        "|---|---|--:|--:|--:|---|--:|",
    ]
    for source, of_source in rows.groupby("source", sort=False):
        oracle = of_source.loc[of_source["family"] == "oracle", "reweighted"].mean()
        means = of_source.groupby("family")["reweighted"].mean().sort_values()
        for family in means.index:
            runs = of_source[of_source["family"] == family].sort_values("seed")
            plain, reweighted = (interval(runs[column]) for column in ("plain", "reweighted"))
            each = ", ".join(f"{value:.4f}" for value in runs["reweighted"])
            ratio = f"{means[family] / oracle:.1f}"
            lines.append(f"| {source} | {family} | {len(runs)} | {plain} | {reweighted} | {each} | {ratio} |")
    return "\n".join(lines)


def interval(values: pd.Series) -> str:
    """Mean ± half of the 95 % interval."""
    low, high = t_interval(values.tolist())
    return f"{values.mean():.4f} ± {(high - low) / 2:.4f}"


def main() -> int:
    """Measure all runs of the folders; exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="+", type=Path, help="a suite in the store: outputs/images")
    parser.add_argument("--data_dir", help="where the image files lie, if elsewhere than where the runs were made")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as a run measures
    found = []
    for folder in chosen.folder:
        for run in sorted(path.parent for path in folder.glob("*/weights.safetensors")):
            found.append(measure(run, chosen.data_dir))
            print(*found[-1].values(), flush=True)
    said = f"One thread of {environment.processor()}, code `{environment.code_version()}`, samples as in the records."
    page = ROOT / "docs" / "metrics.md"
    page.write_text(with_block(page, "class_masses", f"\n{said}\n\n{table(pd.DataFrame(found))}\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
