"""What hooks that fill in a page's markers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mkdocs.exceptions import PluginError


def filled(markdown: str, page: Any, prefix: str, blocks: Mapping[str, Callable[[], str]]) -> str:
    """A page with what `<!-- prefix: NAME -->` stands for; NAME is one of `blocks`.

    Raises:
        PluginError: a marker that nobody knows.
    """

    def made(match: re.Match[str]) -> str:
        if match[1] not in blocks:
            raise PluginError(f"{page.file.src_uri}: expected {prefix}: one of {', '.join(blocks)}, got {match[1]}")
        return blocks[match[1]]()

    return re.sub(rf"^<!-- {prefix}: ([a-z_]+) -->$", made, markdown, flags=re.M)


def power(value: float) -> str:
    """2.6e12 -> 2.6 × 10¹²."""
    if not value > 0:
        return "an unknown number of"
    mantissa, exponent = f"{value:.1e}".split("e")
    superscript = str(int(exponent)).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    return f"{float(mantissa):g} × 10{superscript}"
