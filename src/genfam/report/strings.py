"""Sequences as texts: the first samples of each family beside real ones, unpicked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from genfam.report.pictures import Drawn
from genfam.report.style import Look, label, save

ON_PAPER = 6  # texts of each family
WIDEST = 110  # letters of a line on paper
TRUTH_NAME = "real data"


@dataclass(frozen=True)
class Texts:
    """Whose texts, and these."""

    title: str
    lines: list[str]


def texts_of(drawn: Mapping[str, Drawn]) -> list[Texts]:
    """Real data first, then each family that has some; none where events are no sequences."""
    rows = [(TRUTH_NAME, entry.reference_texts) for entry in drawn.values()][:1]
    rows += [(family, entry.texts) for family, entry in drawn.items()]
    return [Texts(name, [on_one_line(str(text)) for text in texts]) for name, texts in rows if texts is not None]


def trajectories_of(drawn: Mapping[str, Drawn]) -> list[Texts]:
    """Sampling of the first sequence step by step, a line for each time; none where events are no sequences."""
    found = []
    for family, entry in drawn.items():
        if entry.trajectory_texts is not None and entry.trajectory_times is not None:
            rows = zip(entry.trajectory_times, entry.trajectory_texts, strict=True)
            lines = [f"t = {time:<5g} {on_one_line(str(text))}" for time, texts in rows for text in texts[:1]]
            found.append(Texts(f"{family}: {entry.trajectory_kind}", lines))
    return found


def on_one_line(text: str) -> str:
    """On one line, spaces as they are: its own line breaks are shown, other control characters become spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text.replace("\n", "↵"))


def strings_figure(drawn: Mapping[str, Drawn], families: Mapping[str, Look], path: Path, source: str) -> bool:
    """The texts as a picture, for where no page is; False where there are none."""
    found = texts_of(drawn)
    if not found:
        return False
    lines = sum(min(ON_PAPER, len(texts.lines)) + 2 for texts in found)
    figure = Figure(figsize=(9, 0.155 * lines + 0.4))
    height = 1.0 / (lines + 2)
    top = 1.0 - height
    figure.text(0.01, top, f"{label(source)}: first samples, unpicked", fontsize=10, va="top")
    for texts in found:
        top -= 2 * height
        colour = families[texts.title].colour if texts.title in families else "black"
        figure.text(0.01, top, label(texts.title), fontsize=8, weight="bold", color=colour, va="top")
        for line in texts.lines[:ON_PAPER]:
            top -= height
            figure.text(0.02, top, line[:WIDEST].replace("$", r"\$"), fontsize=7, family="monospace", va="top")
    save(figure, path)
    return True
