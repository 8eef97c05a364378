"""Links that leave docs/: pictures of results/ are copied into the site, other files of the repository lose their link.

On GitHub such links lead somewhere; a site has no repository beside it. A link to what does not exist stays as it is,
and fails the strict build.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]\n]*)\]\((?P<to>(?:\.\./)+[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_PICTURES = {".png", ".svg"}


def inside(src_uri: str, link: str) -> str | None:
    """Where a link of the page docs/`src_uri` leads, from the repository's root; None where it stays in docs/."""
    path = os.path.normpath(PurePosixPath("docs", src_uri).parent / link)
    return None if path.startswith("docs" + os.sep) else path


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Rewrite the page's links."""
    here = page.file.src_uri

    def rewritten(match: re.Match[str]) -> str:
        path = inside(here, match["to"])
        if path is None or not (ROOT / path).exists():
            return match[0]
        if Path(path).suffix not in _PICTURES:
            return match["text"]
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
        return f"{match['picture']}[{match['text']}]({os.path.relpath(path, PurePosixPath(here).parent)})"

    return _LINK.sub(rewritten, markdown)
