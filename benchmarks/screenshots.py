"""Write docs/screenshots/*.png: the page of what is published, as a browser shows it.

    .venv/bin/python benchmarks/screenshots.py

Needs Debian's Chromium (`apt-get install chromium`). The page is made in a temporary folder from `results/`; nothing
is run, and no picture is touched by hand: after results were published anew, the same command makes them anew.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pages import ROOT

TARGET = ROOT / "docs" / "screenshots"
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT = 200_000  # milliseconds: a busy machine is no failure
MOST_BYTES = 600_000  # of all pictures together: they are in everybody's clone


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        name: of the file.
        suite: of `results`.
        at: what the window begins with (a selector); empty: the page's top.
        width, height: of the window.
        scheme: light or dark.
        scale: device pixels per pixel.
    """

    name: str
    suite: str
    at: str = ""
    width: int = 1200
    height: int = 860
    scheme: str = "light"
    scale: float = 1.0


SHOTS = (
    Shot("answer", "images"),
    Shot("scorecard", "standard", "#scorecard", scheme="dark"),
    Shot("samples", "images", "#samples", height=760),
    Shot("cost", "images", "#cost", height=680),
    Shot("phone", "standard", "#answer", 390, 844, "light", 1.5),
)


@contextmanager
def window(chromium: Any, shot: Shot) -> Iterator[Any]:
    """A window without a network."""
    context = chromium.new_context(
        viewport={"width": shot.width, "height": shot.height}, color_scheme=shot.scheme, device_scale_factor=shot.scale
    )
    context.set_default_timeout(WAIT)
    context.set_offline(True)
    try:
        yield context.new_page()
    finally:
        context.close()


def take(chromium: Any, shot: Shot, page: Path) -> bytes:
    """The picture as PNG in a palette, once the charts in the window are drawn.

    Raises:
        ValueError: a chart in the window is not drawn.
    """
    from genfam.report.style import with_palette

    seen = """() => [...document.querySelectorAll('figure.chart')].filter((figure) => {
        const box = figure.getBoundingClientRect();
        return box.bottom > 0 && box.top < innerHeight && box.height > 0;
    }).every((figure) => figure.querySelector('.main-svg'))"""
    with window(chromium, shot) as view:
        view.goto(page.as_uri() + (shot.at if shot.at.startswith("#") else ""))
        view.wait_for_selector("html[data-ready]", state="attached")
        for _ in range(WAIT // 200):
            view.wait_for_timeout(200)
            if view.evaluate(seen):
                break
        else:
            raise ValueError(f"{shot.name}: expected every chart in the window to be drawn")
        view.wait_for_timeout(300)
        return with_palette(io.BytesIO(view.screenshot()))


def main() -> int:
    """Make all pictures, or those named; returns 1 where there is no browser or they are too large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(shot.name for shot in SHOTS)} (default: all)")
    parser.add_argument("--to", type=Path, default=TARGET, help="folder (default: docs/screenshots)")
    arguments = parser.parse_args()
    wanted = [shot for shot in SHOTS if not arguments.names or shot.name in arguments.names]
    if not wanted or not CHROMIUM.exists():
        print(f"expected {CHROMIUM} (apt-get install chromium) and names of pictures", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright
    from rich.console import Console

    from genfam.report import finish
    from genfam.serialisation import write_atomically

    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        pages = {}
        for suite in dict.fromkeys(shot.suite for shot in wanted):
            results, there = ROOT / "results", Path(place) / suite
            finish(results / suite, results, page_dir=there, console=Console(quiet=True))
            pages[suite] = there / "report.html"
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS, timeout=WAIT)
        for shot in wanted:
            picture = take(chromium, shot, pages[shot.suite])
            write_atomically(arguments.to / f"{shot.name}.png", picture)
            print(f"{arguments.to / shot.name}.png: {len(picture) // 1000} kB", flush=True)
        chromium.close()
    whole = sum(file.stat().st_size for file in arguments.to.glob("*.png"))
    if whole > MOST_BYTES:
        print(f"{arguments.to}: expected at most {MOST_BYTES} bytes of pictures, got {whole}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
