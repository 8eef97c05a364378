"""Pages of a section are found, not registered.

An entry of `nav` in mkdocs.yml that ends in a slash, as `- Theory: theory/`, stands for all pages of that folder: its
index.md first, if there is one, then the others by title.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

_TITLE = re.compile(r"^# (.+)$", re.M)


def pages(docs: Path, folder: str) -> list[str]:
    """The pages of a folder, as paths from `docs`.

    Raises:
        PluginError: there is no page.
    """
    found = sorted((docs / folder).glob("*.md"), key=lambda page: (page.name != "index.md", title(page).casefold()))
    if not found:
        raise PluginError(f"nav: expected pages in docs/{folder}, got none")
    return [page.relative_to(docs).as_posix() for page in found]


def title(page: Path) -> str:
    """The first heading of a page; its file's name where it has none."""
    match = _TITLE.search(page.read_text(encoding="utf-8"))
    return match[1] if match else page.stem


def filled(docs: Path, nav: Any) -> Any:
    """The same navigation with folders replaced by their pages."""
    if isinstance(nav, list):
        return [filled(docs, entry) for entry in nav]
    if isinstance(nav, dict):
        return {name: filled(docs, entry) for name, entry in nav.items()}
    return pages(docs, nav) if isinstance(nav, str) and nav.endswith("/") else nav


def on_config(config: Any, **_: Any) -> Any:
    """Called once, before MkDocs reads the navigation."""
    config["nav"] = filled(Path(config["docs_dir"]), config["nav"])
    return config
