"""Pages whose numbers a script writes between two markers, so that none is typed in by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def keep_block(page: Path, name: str, make: Callable[[], str], description: str | None) -> int:
    """The script's main: write what `make` says between `<!-- <name>:begin … -->` and `<!-- <name>:end -->`.

    With `--check` nothing is changed. Returns the exit code: 1 where a checked page is out of date.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help=f"change nothing; exit 1 if {page.name} is out of date")
    check = parser.parse_args().check
    wanted = with_block(page, name, make())
    if check:
        return int(wanted != page.read_text())
    page.write_text(wanted)
    return 0


def with_block(page: Path, name: str, block: str) -> str:
    """The page's text with `block` between the markers of that name."""
    text = page.read_text()
    start = text.index("\n", text.index(f"<!-- {name}:begin")) + 1
    return text[:start] + block + "\n" + text[text.index(f"<!-- {name}:end -->") :]
