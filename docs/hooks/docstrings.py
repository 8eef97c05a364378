"""Docstrings are plain text that Markdown must not take for more: `(B, *event)` has a star, and no emphasis.

References become a list.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_CODE = re.compile(r"(`[^`\n]*`)")
_STAR = re.compile(r"(?<![\w*\\])\*(?=\w)")
_TAG = re.compile(r"<(?=\w)")
_ENTRY = re.compile(r"    (?:[^\W\d][\w' -]*, [A-Z]\.|[A-Z]\. )")  # "Kingma, D. P." or "L. Theis"
_ADDRESS = re.compile(r"https?://[^\s()]*[^\s().,;]")


def escaped(text: str) -> str:
    """The text with a backslash before bare stars and a name for bare brackets, outside of `code`."""
    parts = _CODE.split(text)
    return "".join(part if i % 2 else _TAG.sub("&lt;", _STAR.sub(r"\\*", part)) for i, part in enumerate(parts))


def listed(text: str) -> str:
    """A docstring's references one below the other, with their addresses as links."""
    head, title, rest = text.partition("\nReferences:\n")
    if not title:
        return text
    lines = []
    for line in rest.split("\n"):
        if line.strip() and not line.startswith("    "):  # the block ends
            return text
        start = "    - " if _ENTRY.match(line) else "      "
        lines.append(start + _ADDRESS.sub(r"<\g<0>>", line.strip()) if line.strip() else "")
    return head + title + "\n".join(lines)


class PlainDocstrings(griffe.Extension):
    """Escapes every docstring when it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called once per module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = listed(escaped(obj.docstring.value))
