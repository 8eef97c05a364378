"""What all figures share: one colour per family, safe labels, saving."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from genfam.files import write_atomically
from genfam.report.tables import clean

# Okabe & Ito (2008), "Color universal design": told apart with any kind of colour vision. Yellow comes last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
KNOWN = (
    "autoregressive", "flow_matching", "gan", "vae", "normalizing_flow", "energy", "diffusion", "score", "mean_flow",
    "masked_diffusion",
)  # fmt: skip
YARDSTICKS = ("#999999", "#555555", "#BBBBBB")
GUESTS = ("#A0622D", "#7F7F1F", "#7070C8", "#B0527F")
TRUTH = "#333333"
DPI = 120


@dataclass(frozen=True)
class Look:
    """How a family looks in every figure of one report."""

    colour: str
    marker: str


def looks(roles: Mapping[str, str]) -> dict[str, Look]:
    """Family -> look, the same on every page: by `KNOWN`, and for other families by their names.

    Args:
        roles: family -> role; the answer is in drawing order: contestants, guests, yardsticks.
    """
    markers = "osD^vPX*"
    contestants = sorted(family for family, role in roles.items() if role == "contestant")
    places = {family: KNOWN.index(family) for family in contestants if family in KNOWN}
    for family in contestants:
        if family not in places:
            wanted = int(sha256(family.encode("utf-8", "replace")).hexdigest(), 16) % len(PALETTE)
            free = set(range(len(PALETTE) * len(markers))) - set(places.values())
            places[family] = min(free, key=lambda place: (place // len(PALETTE), (place - wanted) % len(PALETTE)))
    guests = sorted(family for family, role in roles.items() if role == "guest")
    yardsticks = sorted(roles.keys() - set(contestants) - set(guests), key=lambda family: (roles[family], family))
    found = {
        family: Look(PALETTE[i % len(PALETTE)], markers[(i + i // len(PALETTE)) % len(markers)])
        for family in contestants
        for i in (places[family],)
    }
    found |= {f: Look(GUESTS[i % len(GUESTS)], "P") for i, f in enumerate(guests)}
    return found | {f: Look(YARDSTICKS[i % len(YARDSTICKS)], "_") for i, f in enumerate(yardsticks)}


def label(name: str, most: int = 40) -> str:
    """A name as matplotlib shows it literally: no mathematics, no control characters, no hidden legend entry."""
    text = clean(name)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return ("\u200a" if text.startswith("_") else "") + text.replace("$", r"\$")


def slug(name: str) -> str:
    """A name as part of a file name; what had to be replaced is told apart by a hash."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60]
    return (
        plain
        if plain and plain == name
        else f"{plain or 'source'}-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:6]}"
    )


def save(figure: Figure, path: Path) -> None:
    """Write a PNG atomically; glyphs that the font lacks show as boxes. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        # tight: a long family's name is not cut off
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None}, bbox_inches="tight")
    write_atomically(path, with_palette(buffer))


def with_palette(picture: io.BytesIO) -> bytes:
    """A PNG in 256 colours: a third of the bytes, and no difference that shows."""
    palette = (
        Image.open(picture).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    )
    reduced = io.BytesIO()
    palette.save(reduced, format="PNG", optimize=True)
    return reduced.getvalue()
