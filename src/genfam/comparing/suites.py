"""The suites that compare families, and what kind of event their sources have."""

from __future__ import annotations

import re
import warnings
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import yaml

from genfam.build import configuration_folder
from genfam.comparing.corruption import source_name
from genfam.records.store import PUBLISHED, Store, load_published
from genfam.types import Record

COMPARED = frozenset({"family", "source", "condition", "seed"})  # what a suite varies that compares families
ALONGSIDE = frozenset({"budget.scale", "learning_rate_factor", "corruption"})  # these, `as_tuned` and tasks keep apart


def suites_in(results_dir: Path, output_dir: Path | None = None) -> dict[str, list[Record]]:
    """Folder -> records, of the published suites that compare families, and of finished ones in a store.

    A suite of the store that is not finished is named in a warning.

    Raises:
        ValueError: a file of published records that is damaged.
    """
    found = {}
    for file in sorted(results_dir.glob(f"*/{PUBLISHED}")):
        if compares_families(file.parent.name, ALONGSIDE):
            found[str(file.parent)] = load_published(file.parent)
    for folder in sorted({file.parents[1] for file in output_dir.glob("*/*/record.json")} if output_dir else ()):
        if not compares_families(folder.name, ALONGSIDE):
            continue
        if Store(folder).unfinished():
            warnings.warn(f"left out {folder}: its runs are not all finished", stacklevel=2)
        else:
            found[str(folder)] = Store(folder).current()
    return {suite: [r for r in own if r.config.get("split") != "validation"] for suite, own in found.items()}


def compares_families(suite: str, alongside: frozenset[str] = frozenset()) -> bool:
    """Whether a suite varies families, sources and seeds alone: one that sweeps a setting answers another question.

    Args:
        suite: its name; one that conf/suite does not have is its user's own.
        alongside: what it may vary beside them.
    """
    path = configuration_folder() / "suite" / f"{suite}.yaml"
    if not path.exists():
        return True
    swept = yaml.safe_load(path.read_text(encoding="utf-8")).get("hydra", {}).get("sweeper", {}).get("params", {})
    return bool(swept) and set(swept) <= COMPARED | alongside


@cache
def kinds_of_event() -> dict[str, str]:
    """File of conf/source -> the kind of its events."""
    found = {}
    for path in sorted((configuration_folder() / "source").glob("*.yaml")):
        defaults = yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"]
        found[path.stem] = next(str(node["/event"]) for node in defaults if "/event" in node)
    return found


def event_of(record: Record) -> str:
    """The kind of a record's events: that of its source's file, else of the files with its class; else empty."""
    node = record.config.get("source")
    target = node.get("_target_") if isinstance(node, dict) else None
    kinds = kinds_of_event()
    name = source_name(record)
    named = [kinds[stem] for stem, (pattern, _) in named_in_files().items() if fnmatchcase(name, pattern)]
    alike = {kinds[stem] for stem, (_, theirs) in named_in_files().items() if theirs == target}
    return named[0] if named else alike.pop() if len(alike) == 1 else ""


@cache
def named_in_files() -> dict[str, tuple[str, str]]:
    """File of conf/source -> (pattern of its names, class)."""
    found = {}
    for stem in kinds_of_event():
        node = yaml.safe_load((configuration_folder() / "source" / f"{stem}.yaml").read_text(encoding="utf-8"))
        name = re.sub(r"\$\{[^}]*\}", "*", str(node["source"]["name"]))
        found[stem] = name, str(node["source"]["_target_"])
    return found
