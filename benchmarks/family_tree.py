"""Draw README's picture: every family at its place in the tree, with measured numbers and its sampling step by step.

    .venv/bin/python benchmarks/family_tree.py [outputs/family_tree [more stores]]

Numbers are those of `results/family_tree`; the runs of its lowest seed draw the strips, so their folders must be there.
Without any, the numbers in the picture that stands are written anew.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pages import ROOT

from genfam.files import write_atomically
from genfam.records.store import load_published
from genfam.report.findings import findings
from genfam.report.paths import draw_images, draw_points
from genfam.report.pictures import plane_limits
from genfam.report.style import looks
from genfam.report.tables import cell
from genfam.running.kept_samples import TRAJECTORY_TIMES
from genfam.running.saved import load_run
from genfam.seeds import derived_generator
from genfam.types import Record

SUITE = ROOT / "results" / "family_tree"
PICTURE = SUITE / "figures" / "tree.svg"
TREE = (
    ("approximate Z", ("energy",)),
    ("restrict the\narchitecture", ("autoregressive", "normalizing_flow")),
    ("bound it", ("vae", "diffusion", "masked_diffusion")),
    ("model only\nthe sampling", ("gan",)),
    ("learn a slope\nor a velocity", ("score", "flow_matching", "mean_flow")),
)
NUMBERS = (
    ("tiny_images", "total_variation", "2 × 2 images:\ntotal variation ↓"),
    ("ring", "cell_total_variation", "ring: total\nvariation ↓"),
)
YARDSTICKS = {"gaussian": "a fitted Gaussian", "oracle": "as many real samples"}
STRIPS = ("ring", "tiny_images")  # the first that a family models
POINTS, IMAGES = 300, 1
SIZE = 0.62  # inches of a frame
COLUMNS, STRIP = (5.0, 6.1), 6.7  # inches from the left
GREY = "#666666"
NOTE = (
    "Untuned, a quarter of the reference budgets, five seeds; ± half of a 95 % interval. "
    "Frames are empty where nothing is drawn yet; ticks have one coordinate so far; blue is masked."
)


def numbers(results: Path = SUITE) -> dict[str, list[str]]:
    """Family -> for each of `NUMBERS` the mean ± half-width of its 95 % interval, or – where it was not measured."""
    card = findings(load_published(results)).card
    told = {family: ["–"] * len(NUMBERS) for family in card["family"].unique()}
    for place, (source, metric, _) in enumerate(NUMBERS):
        for row in card[(card["source"] == source) & (card["metric"] == metric)].to_dict("records"):
            told[row["family"]][place] = cell(row).text
    return told


def run_of(records: Sequence[Record], stores: Sequence[Path], family: str) -> Path:
    """The folder of the lowest seed's run on the first of `STRIPS` that the family has.

    Raises:
        SystemExit: no store has it.
    """
    for source in STRIPS:
        own = sorted((r for r in records if (r.family, r.source) == (family, source)), key=lambda r: r.seed)
        if own:
            found = [
                store / own[0].run_id for store in stores if (store / own[0].run_id / "weights.safetensors").is_file()
            ]
            if not found:
                raise SystemExit(f"{family}: expected its run {own[0].run_id} in one of {', '.join(map(str, stores))}")
            return found[0]
    raise SystemExit(f"{family}: expected a run on {' or '.join(STRIPS)} in {SUITE}")


def frames(folder: Path) -> tuple[NDArray[np.float64], str, int | None, NDArray[np.float64]]:
    """(T, n, *event) states of the run's trajectory, what they are, the levels of its events, and real ones."""
    run = load_run(folder)
    n = IMAGES if len(run.family.event.shape) == 3 else POINTS
    states = run.family.snapshots(n, TRAJECTORY_TIMES, derived_generator(0, "tree", run.run.id))
    real = run.source.test[:2000].double().numpy()
    return states.double().numpy(), run.family.trajectory, run.family.event.levels, real


def picture(stores: Sequence[Path]) -> Figure:
    """A row per family, branches on the left."""
    records, told = load_published(SUITE), numbers()
    families = [name for _, own in TREE for name in own]
    colours = looks({name: "contestant" for name in families})
    wide, tall = STRIP + 0.1 + SIZE * len(TRAJECTORY_TIMES), (SIZE + 0.08) * len(families) + 1.6
    figure = Figure(figsize=(wide, tall))
    page = figure.add_axes((0, 0, 1, 1))
    page.set_xlim(0, wide)
    page.set_ylim(tall, 0)
    page.axis("off")

    def height(name: str) -> float:
        return 0.65 + (SIZE + 0.08) * (families.index(name) + 0.5)

    def numbers_at(name: str, y: float, size: int, colour: str) -> None:
        for x, text in zip(COLUMNS, told[name], strict=True):
            page.text(x, y, text, ha="center", va="center", fontsize=size, color=colour)

    middle = (height(families[0]) + height(families[-1])) / 2
    page.text(0.05, middle, "$p(x) = e^{-E(x)} / Z$\nhow to get round $Z$?", va="center", fontsize=9)
    for x, (*_, title) in zip(COLUMNS, NUMBERS, strict=True):
        page.text(x, 0.3, title, ha="center", va="center", fontsize=7)
    page.text(
        STRIP,
        0.3,
        "one run on the ring, or on 2 × 2 images:\nfrom the first state to the samples",
        va="center",
        fontsize=7,
    )
    for place, name in enumerate(YARDSTICKS):
        y = tall - 0.78 + 0.2 * place
        page.text(2.93, y, YARDSTICKS[name], va="center", fontsize=7, color=GREY)
        numbers_at(name, y, 7, GREY)
    page.text(0.05, tall - 0.2, NOTE, va="center", fontsize=7, color=GREY)
    for branch, own in TREE:
        at = sum(map(height, own)) / len(own)
        page.plot([1.45, 1.6, 1.6, 1.7], [middle, middle, at, at], color="#888888", linewidth=0.8)
        page.text(1.75, at, branch, va="center", fontsize=8)
        for name in own:
            states, shown, levels, real = frames(run_of(records, stores, name))
            page.plot([2.72, 2.8, 2.8, 2.88], [at, at, height(name), height(name)], color="#888888", linewidth=0.8)
            page.text(2.93, height(name) - 0.06, name, va="center", fontsize=8, weight="bold")
            page.text(2.93, height(name) + 0.1, shown, va="center", fontsize=6, color=GREY)
            numbers_at(name, height(name), 8, "black")
            for place, state in enumerate(states):
                left, top = STRIP + SIZE * place, height(name) + SIZE / 2
                axis = figure.add_axes(
                    (left / wide, 1 - top / tall, 0.94 * SIZE / wide, 0.94 * SIZE / tall), rasterized=True
                )
                if state.ndim == 4:
                    draw_images(axis, state, levels, 1)
                else:
                    draw_points(axis, state, colours[name].colour, plane_limits(real))
                for spine in axis.spines.values():
                    spine.set(linewidth=0.4, color="#AAAAAA")
    return figure


TEXT = re.compile(r"(<text[^>]*>)([^<]+)(</text>)")


def places() -> dict[str, tuple[str, int]]:
    """Family -> (a text of the picture, how many texts after it its numbers begin): what the strip shows is between."""
    leaves = {name: (name, 2) for _, own in TREE for name in own}
    return leaves | {name: (text, 1) for name, text in YARDSTICKS.items()}


def renumbered(svg: str) -> str:
    """The picture with today's numbers."""
    words, told = [match[2] for match in TEXT.finditer(svg)], numbers()
    for name, (text, after) in places().items():
        at = words.index(text) + after
        words[at : at + len(NUMBERS)] = told[name]
    left = iter(words)
    return TEXT.sub(lambda match: f"{match[1]}{next(left)}{match[3]}", svg)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stores", nargs="*", type=Path, help="folders with the suite's runs")
    stores = parser.parse_args().stores
    if not stores:
        write_atomically(PICTURE, renumbered(PICTURE.read_text(encoding="utf-8")))
        return
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "genfam", "font.family": "sans-serif"}):
        picture(stores).savefig(buffer, format="svg", dpi=160, facecolor="white", metadata={"Date": None})
    write_atomically(PICTURE, buffer.getvalue())
    print(PICTURE)


if __name__ == "__main__":
    main()
