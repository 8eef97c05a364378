"""Names of the code on a page become links: `src/genfam/families/gan.py::GAN.loss` leads into the reference.

On GitHub they stay plain code. A name that the reference does not have fails the strict build.
"""

from __future__ import annotations

import re
from typing import Any

NAME = re.compile(r"`(src/(genfam/[\w/]+)\.py(?:::([\w.]+))?)`")


def target(match: re.Match[str]) -> str:
    """The dotted name of what a match of `NAME` names."""
    module = match[2].removesuffix("/__init__").replace("/", ".")
    return f"{module}.{match[3]}" if match[3] else module


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Link every name by its anchor (mkdocs-autorefs)."""
    return NAME.sub(lambda match: f"[`{match[1]}`][{target(match)}]", markdown)
