"""The page's samples: pictures, densities and tables of what each family drew, unpicked, beside the data."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from genfam.report.charts import Chart, chart
from genfam.report.interactive import density_chart, modes_chart
from genfam.report.pictures import MOST_ROWS, SHOWN_IMAGES, Drawn, by_row, mode_names, mode_shares, strip
from genfam.report.strings import Texts, texts_of, trajectories_of
from genfam.report.style import TRUTH, Look, slug

LISTED_STATES = 12  # of a table; the others stand together below it


@dataclass(frozen=True)
class Picture:
    """An image of the page.

    Attributes:
        title: stands above it; a family's name, but for published pictures.
        alt: what it shows, for those who do not see it.
        address: the image itself, as a data address.
        published: whether it was drawn for paper: many panels, not pixels to be enlarged.
    """

    title: str
    alt: str
    address: str
    published: bool = False


@dataclass(frozen=True)
class State:
    """One state of a small source: its pixels' brightness in 0..1 by rows (or a text), and its mass in per cent."""

    text: str
    pixels: list[list[float]]
    masses: list[str]


@dataclass(frozen=True)
class StateTable:
    """True and modelled probabilities: `columns` are `true` and the families; `others` sums what is not listed."""

    columns: list[str]
    states: list[State]
    others: State | None


@dataclass(frozen=True)
class Samples:
    """One source's samples, as far as there are any.

    Attributes:
        source: its name.
        note: whose samples these are, or why there are none.
        pictures: strips of images by family, the data first; or published pictures.
        nearest: strips of the first samples above their nearest training images.
        rows: images with a row per value of the condition, by family, and `row_names` of the values.
        densities: plots of points by family, the data first.
        table: for sources with few states.
        modes: mass per mode.
        texts: of sequences by family, the data first.
        trajectories: sampling step by step, a row per family; `told_trajectories`: of sequences.
    """

    source: str
    note: str
    pictures: list[Picture] = field(default_factory=list)
    nearest: list[Picture] = field(default_factory=list)
    rows: list[Picture] = field(default_factory=list)
    row_names: list[str] = field(default_factory=list)
    densities: list[Chart] = field(default_factory=list)
    table: StateTable | None = None
    modes: Chart | None = None
    texts: list[Texts] = field(default_factory=list)
    trajectories: Picture | None = None
    told_trajectories: list[Texts] = field(default_factory=list)


def samples_of(
    source: str, drawn: Mapping[str, Drawn], families: Mapping[str, Look], figures: Path, *, published: bool = False
) -> Samples:
    """What the page shows of a source's samples.

    Args:
        source: its name.
        drawn: family -> what its run drew; empty where no run of the store has samples.
        families: by name, in drawing order.
        figures: folder of the pictures that were published, for where there are no samples.
        published: whether these pictures come before those of `drawn`, which are a guest's.
    """
    if published and drawn:
        shown, theirs = samples_of(source, drawn, families, figures), _published(source, figures)
        return replace(shown, note=theirs.note, pictures=[*theirs.pictures, *shown.pictures])
    if not drawn:
        return _published(source, figures)
    first = next(iter(drawn.values()))
    seeds = sorted({entry.seed for entry in drawn.values()})
    whose = (
        f"seed {seeds[0]}" if len(seeds) == 1 else f"the lowest seed that has samples ({', '.join(map(str, seeds))})"
    )
    kept = f"The first samples of {whose}, as they came: nothing was picked."
    pictures, nearest, densities = [], [], []
    if first.is_image:
        rows = [("real data", first.reference)] + [(family, entry.samples) for family, entry in drawn.items()]
        pictures = [
            Picture(
                name, f"The first {min(SHOWN_IMAGES, len(images))} images of {name} on {source}",
                _png(strip(images[:SHOWN_IMAGES], first.levels)),
            )
            for name, images in rows
        ]  # fmt: skip
        nearest = [_pairs(source, family, entry) for family, entry in drawn.items() if entry.nearest is not None]
    elif first.is_plane:
        panels = [("real data", first.reference, TRUTH)]
        panels += [(family, entry.samples, families[family].colour) for family, entry in drawn.items()]
        for place, (name, points, colour) in enumerate(panels):
            figure, outside = density_chart(points, first, colour)
            off = f", {outside:.1%} of its points are off this picture" if outside else ""
            densities.append(
                chart(f"density-{slug(source)}-{place}", figure, f"{name}{off}", f"Density of {name} on {source}{off}")
            )
    by_value, names = _rows(source, drawn)
    table, modes = _table(drawn), _modes(source, drawn, families)
    texts, steps = texts_of(drawn), _trajectories(source, figures)
    return Samples(
        source, kept, pictures, nearest, by_value, names, densities, table, modes, texts, steps, trajectories_of(drawn)
    )  # fmt: skip


def _published(source: str, figures: Path) -> Samples:
    end = f"_{slug(source)}.png"
    found = [
        Picture(
            title, f"{title} of every family on {source}, as published", _address(path.read_bytes()), published=True
        )
        for title, path in (
            ("Samples", figures / f"samples{end}"),
            ("Samples by class", figures / f"classes{end}"),
            ("Mass per mode", figures / f"modes{end}"),
        )
        if path.is_file()
    ]
    note = (
        "The samples themselves are kept beside the runs and are not part of what was published; these pictures were "
        "drawn from them by the same code. Run the suite on this machine to see density plots, tables and neighbours."
        if found
        else "No run here has stored samples: they are kept beside finished runs, and are not part of what is "
        "published. Run the suite on this machine to see them."
    )
    return Samples(source, note, found, trajectories=_trajectories(source, figures))


def _trajectories(source: str, figures: Path) -> Picture | None:
    """The report's picture, which is drawn before its page is."""
    path = figures / f"trajectories_{slug(source)}.png"
    if not path.is_file():
        return None
    alt = f"Sampling step by step, from t = 0 to t = 1, of each family on {source}"
    return Picture("Sampling step by step", alt, _address(path.read_bytes()), published=True)


def _rows(source: str, drawn: Mapping[str, Drawn]) -> tuple[list[Picture], list[str]]:
    """Images with a row per value of the condition, and the values' names; nothing without a condition."""
    shown = {family: entry for family, entry in drawn.items() if entry.has_rows}
    if not shown:
        return [], []
    first = next(iter(shown.values()))
    assert first.condition_names is not None
    names = [str(name) for name in first.condition_names[:MOST_ROWS]]
    panels = [("held-out data", first.reference, first.reference_conditions)]
    panels += [(family, entry.samples, entry.conditions) for family, entry in shown.items()]
    return [
        Picture(
            title, f"{title} on {source}, a row for each of {', '.join(names)}",
            _png(by_row(images, values, len(first.condition_names), first.levels)),
        )
        for title, images, values in panels
        if values is not None
    ], names  # fmt: skip


def _pairs(source: str, family: str, entry: Drawn) -> Picture:
    assert entry.nearest is not None
    n = min(len(entry.nearest), len(entry.samples))
    both = np.concatenate([entry.samples[:n], entry.nearest[:n]])
    alt = f"The first {n} samples of {family} on {source}, each above the training image nearest to it"
    return Picture(family, alt, _png(strip(both, entry.levels, per_line=max(1, n))))


def _modes(source: str, drawn: Mapping[str, Drawn], families: Mapping[str, Look]) -> Chart | None:
    counted = mode_shares(drawn)
    if counted is None:
        return None
    shares, masses, exact = counted
    truth = "true mass" if exact else "held-out frequency"
    figure = modes_chart(shares, masses, truth, families, mode_names(drawn, len(masses)))
    missed = ", ".join(f"{name} misses {int((share[masses > 0] == 0).sum())}" for name, share in shares.items())
    return chart(
        f"modes-{slug(source)}", figure, f"{source}: {len(masses)} modes",
        f"Mass per mode of every family on {source}, beside the {truth}. Of {len(masses)} modes {missed}.",
    )  # fmt: skip


def _table(drawn: Mapping[str, Drawn]) -> StateTable | None:
    listed = {family: entry for family, entry in drawn.items() if entry.states is not None}
    if not listed:
        return None
    first = next(iter(listed.values()))
    assert first.states is not None and first.state_masses is not None
    columns = [first.state_masses]
    names = ["true"]
    for family, entry in listed.items():
        if entry.state_counts is not None and entry.state_counts.shape == first.state_masses.shape:
            names.append(family)
            columns.append(entry.state_counts / max(1, int(entry.state_counts.sum())))
    masses = np.stack(columns, axis=1)
    order = np.argsort(-first.state_masses, kind="stable")
    top, rest = order[:LISTED_STATES], order[LISTED_STATES:]
    scale = max(1, (first.levels or 2) - 1)
    states = [_state(first.states[index], scale, masses[index]) for index in top]
    others = State(f"the other {len(rest)}", [], _percent(masses[rest].sum(axis=0))) if len(rest) else None
    return StateTable(names, states, others)


def _state(event: NDArray[np.generic], scale: int, masses: NDArray[np.float64]) -> State:
    levels = event.astype(np.int64)
    rows = levels.reshape(-1, levels.shape[-1])
    text = " / ".join(" ".join(str(value) for value in row) for row in rows)
    pixels = [[round(float(value) / scale, 3) for value in row] for row in rows] if levels.size > 1 else []
    return State(text, pixels, _percent(masses))


def _percent(masses: NDArray[np.float64]) -> list[str]:
    return [f"{100 * mass:.2f} %" for mass in masses]


def _png(picture: NDArray[np.float64]) -> str:
    buffer = io.BytesIO()
    imsave(buffer, picture, cmap="gray", vmin=0.0, vmax=1.0, format="png", metadata={"Software": ""})
    return _address(buffer.getvalue())


def _address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
