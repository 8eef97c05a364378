"""Texts and configurations without the paths of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ABSOLUTE_PATH = re.compile(r"""(?<![\w:/.~<>-])(?:/|~/|[A-Za-z]:\\)(?:[^\s/\\:'"<>|,;()\[\]{}]+[/\\])+""")


def _home() -> str:
    try:
        return str(Path.home())
    except RuntimeError:  # a user whom the system does not know
        return ""


def strip_paths(text: str) -> str:
    """The home folder reduced to `~`, other absolute paths to `<path>/` and their last part; URLs are kept."""
    if "/" not in text and "\\" not in text:
        return text
    home = _home()
    if len(home) > 1:
        text = re.sub(rf"(?<![\w./-]){re.escape(home)}(?![\w.-])", "~", text)
    return _ABSOLUTE_PATH.sub("<path>/", text)


def without_paths(value: Any) -> Any:
    """`strip_paths` of every text in nested containers."""
    if isinstance(value, str):
        return strip_paths(value)
    if isinstance(value, Mapping):
        return {key: without_paths(entry) for key, entry in value.items()}
    return [without_paths(entry) for entry in value] if isinstance(value, list | tuple) else value
