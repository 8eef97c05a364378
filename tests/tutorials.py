"""A tutorial as a list of steps, and a shell that does them as a reader would.

What stands in docs/tutorials: a fenced block with `title="FILE"` is written to that file; a `bash` block without a
title is run; a `text` block after `<!-- output -->` must be in what the last command printed, line by line; a block
after `<!-- skip: REASON -->` is for other machines. Other `text` blocks are pictures.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TUTORIALS = Path(__file__).parent.parent / "docs" / "tutorials"
BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Step:
    """`kind`: write, run, expect or skip."""

    kind: str
    text: str
    title: str = ""


def steps(tutorial: str) -> list[Step]:
    """Raises ValueError for a block that nobody would do."""
    text = (TUTORIALS / f"{tutorial}.md").read_text()
    found = []
    for match in BLOCK.finditer(text):
        note, language, title = match["note"] or "", match["language"], match["title"]
        if note.startswith("skip: "):
            found.append(Step("skip", match["text"], note.removeprefix("skip: ")))
        elif title:
            found.append(Step("write", match["text"], title))
        elif language == "bash":
            found.append(Step("run", match["text"]))
        elif language == "text":
            found += [Step("expect", match["text"])] if note == "output" else []
        else:
            raise ValueError(f"{tutorial}: expected a title or bash, got a block of {language}: {match['text'][:60]!r}")
    if len(re.findall(r"^```", text, re.MULTILINE)) != 2 * len(list(BLOCK.finditer(text))):
        raise ValueError(f"{tutorial}: expected every fence to belong to a block")
    return found


def shell(command: str, folder: Path) -> str:
    """What bash prints, stdout and stderr; the environment's own `genfam` and `python` come first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def follow(todo: Sequence[Step], folder: Path) -> None:
    """Do the steps in `folder`, in order."""
    printed = ""
    for step in todo:
        if step.kind == "write":
            file = folder / step.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(step.text)
        elif step.kind == "run":
            printed = " ".join(shell(step.text, folder).split())
        elif step.kind == "expect":
            for line in step.text.splitlines():
                assert " ".join(line.split()) in printed, f"expected {line!r} in {printed}"
