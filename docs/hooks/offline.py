"""No page may ask a network for a script, a style, a picture or a font."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.exceptions import PluginError

_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc(?:set)?=["']?(?:https?:)?//[^>]*>"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//[^>]*>""",
    re.I,
)


def fetched(page: str) -> list[str]:
    """The elements of a page that a browser would fetch from another host."""
    return [match[0] for match in _FETCHED.finditer(page)]


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Look at the finished page.

    Raises:
        PluginError: names what it would fetch.
    """
    found = fetched(output)
    if found:
        raise PluginError(f"{page.file.src_uri}: expected a page that needs no network, got {', '.join(found)}")
    return output
