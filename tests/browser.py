"""Debian's Chromium for tests of the page: never a network, and a reason where it or axe-core is missing."""

import shutil
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT = 200_000  # milliseconds: a busy machine is no failure
AXE = Path(__file__).parent.parent / ".ci" / "node_modules" / "axe-core" / "axe.min.js"

needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists() or shutil.which("chromium") is None,
    reason=f"needs {CHROMIUM} (Debian: apt-get install chromium; .ci/run does it)",
)
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="needs axe-core in .ci/node_modules (.ci/run installs it)")
