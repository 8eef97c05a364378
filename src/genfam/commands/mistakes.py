"""What is wrong with a command line or a user's YAML, in one line that names what is near."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf

from genfam.build import configuration_folder


def first_line(text: str) -> str:
    """Of an error's text."""
    return text.strip().split("\n")[0]


def near(name: str, options: Sequence[str], cutoff: float = 0.6) -> str:
    """`; did you mean ...?` where an option is near: the same key elsewhere, a sister, or any name alike."""
    parent, _, last = name.rpartition(".")
    same = [option for option in options if option.rpartition(".")[2] == last]
    sisters = {option.rpartition(".")[2]: option for option in options if option.rpartition(".")[0] == parent}
    alike = [sisters[end] for end in difflib.get_close_matches(last, sisters, n=2, cutoff=cutoff)]
    found = list(dict.fromkeys([*alike, *same])) or difflib.get_close_matches(name, options, n=2, cutoff=0.8)
    return f"; did you mean {' or '.join(found[:3])}?" if found else ""


def folders_of(options: list[str], overrides: list[str]) -> list[Path]:
    """Where YAML may lie: ours, and what the user added with --config-dir or hydra.searchpath."""
    folders = [configuration_folder()]
    directory = get_args_parser().parse_args(options).config_dir
    added = re.findall(r"file://([^,\]\s'\"]+)", " ".join(o for o in overrides if o.startswith("hydra.searchpath=")))
    return folders + [Path(folder).absolute() for folder in [directory, *added] if folder]


def unreadable(folders: list[Path]) -> str:
    """What is wrong with the encoding of a user's YAML file, which Hydra would misread without a word; else empty."""
    for path in sorted(path for folder in folders for path in folder.rglob("*.yaml")):
        content = path.read_bytes()
        if content.startswith(b"\xef\xbb\xbf"):
            return f"{path}, line 1: expected UTF-8 without a byte-order mark, got one: save the file without it"
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            return f"{path}, line {line}: expected UTF-8, got byte {content[error.start]:#x}"
    return ""


def groups_of(folders: list[Path]) -> dict[str, list[str]]:
    """Group -> its options."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            group = path.parent.relative_to(folder).as_posix()
            if group != "." and not group.startswith("tune"):
                found.setdefault(group, set()).add(path.stem)
    return {group: sorted(options) for group, options in sorted(found.items())}


def keys_of(folders: list[Path], overrides: list[str]) -> list[str]:
    """Every dotted key that a run may have: of the default configuration, and of each group option chosen."""
    groups = groups_of(folders)
    choices: list[list[str]] = [[]] + [
        [f"{key}={value}"]
        for key, _, values in (override.partition("=") for override in overrides)
        for value in values.split(",")
        if value in groups.get(key.lstrip("+"), [])
    ]
    search_path = f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders[1:])}]"
    found: dict[str, None] = {}

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            found.setdefault(f"{prefix}{key}")
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")

    with hydra.initialize_config_dir(str(folders[0]), version_base="1.3"):
        for choice in choices:
            walk(OmegaConf.to_container(hydra.compose("config", [search_path, *choice], return_hydra_config=True)), "")
    return list(found)


def unknown_additions(options: list[str], overrides: list[str]) -> str:
    """Struct mode lets `+suit=quick` add a key that nobody reads: say so instead."""
    added = [o.partition("=")[0].lstrip("+").partition("@")[0] for o in overrides if o.startswith("+")]
    groups = groups_of(folders_of(options, overrides)) if added else {}
    added = [key for key in added if key not in groups and key.split(".")[0].split("/")[0] != "hydra"]
    if not added:
        return ""
    known = keys_of(folders_of(options, overrides), overrides)
    for key in added:
        if key.split(".")[0] not in known:
            return f"no key or group {key!r}{near(key, [*known, *groups])}"
    return ""


def explain(error: BaseException, options: list[str], overrides: list[str]) -> str:
    """Hydra's message as one line, with the near name."""
    text = str(error) or str(error.__cause__)
    folders = folders_of(options, overrides)
    groups = groups_of(folders)
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match[1]
        if key in groups:
            return f"{key}: add one with +{key}={groups[key][0]} (there are {', '.join(groups[key])})"
        return f"no key or group {key!r}{near(key, [*keys_of(folders, overrides), *groups])}"
    if match := re.search(r"Could not find '(.+)/([^/']*)'", text):
        group, option = match[1], match[2]
        there = re.findall(r"^\t(\S+)$", text.partition("Available options")[2], re.MULTILINE)
        listed = f" ({group}: {', '.join(there)})" if there else ""
        return f"no {group} {option!r}{near(option, there, 0.5)}{listed}"
    if "resolving interpolation '${event}" in text:
        kinds = groups["event"]
        needed = f"its YAML's defaults need `- /event: {kinds[0]}` (there are {', '.join(kinds)})"
        return f"the source does not say what kind of events it has: {needed}"
    if match := re.search(r"Multiple values for ([^.\s]+)\.", text):
        return f"{match[1]} is chosen by default: write {match[1]}=... without the +"
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        key, _, value = match[1].partition("=")
        return f"{match[1]}: add -m for a multirun over the values, or write {key}=[{value}] for one list"
    if isinstance(error, OverrideParseException):
        key, _, value = (error.override or "").partition("=")
        quoted = f"; to keep signs and letters as they are, quote them twice: '{key}=\"{value}\"'" if value else ""
        return f"expected key=value, got {error.override!r}{quoted}"
    lines = [line.strip() for line in text.split("\n")]
    where = next((f" ({line})" for line in lines if line.startswith("full_key:")), "")
    cause = f": {first_line(str(error.__cause__))}" if str(error) and error.__cause__ else ""
    return f"{lines[0]}{cause}{where}"
