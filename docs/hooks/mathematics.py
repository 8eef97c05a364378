"""Equations as MathML, made when the site is built: no script, no font and no network is needed to show them.

Pages hold TeX between dollars, which GitHub shows too. `pymdownx.arithmatex` marks it, and here it becomes MathML.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_MARKED = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">(?:\\\((?P<inline>.*?)\\\)|\\\[(?P<block>.*?)\\\])</(?P=tag)>', re.S
)
# "log p" needs its thin space before a letter or a number, not before a bracket
_OPERATOR = re.compile(r"<mo>(?P<name>[a-z]{2,})</mo>")
_FUNCTION = re.compile(r"(<mi>(?:log|exp|max|min|div|diag)</mi>)(?=<m(?:i|n|sub|sup|subsup|frac)>)")
_SIGN = re.compile(r"((?:&#x00028;|&#x0003D;|\[)</mo>)<mo>&#x02212;</mo>")
_BARS = "<mo>&#x02016;</mo>"


def mathml(tex: str, display: str) -> str:
    """TeX -> a `math` element.

    Args:
        tex: without dollars.
        display: `inline` or `block`.

    Raises:
        PluginError: the converter does not know something in it; it would be shown as typed.
    """
    try:
        # GitHub's MathJax wants aligned between dollars, the converter knows the same as align*
        made = convert(re.sub(r"(begin|end)\{aligned\}", r"\1{align*}", tex), display=display)
    except Exception as error:
        raise PluginError(f"expected TeX that latex2mathml knows, got {tex!r}: {error}") from error
    unknown = re.findall(r"\\[A-Za-z]+|<mi>&</mi>", made)
    if unknown:
        raise PluginError(f"expected TeX that latex2mathml knows, got {', '.join(sorted(set(unknown)))} in {tex!r}")
    # a named operator is set like a name, not like a sign between two terms; a minus after a bracket belongs to what
    # follows; bars of a norm do not grow unequally
    made = _OPERATOR.sub(r"<mi>\g<name></mi>", made)
    made = _SIGN.sub(r'\1<mo form="prefix">&#x02212;</mo>', made)
    made = made.replace("<mo>&#x0007E;</mo>", "<mo>&#x0223C;</mo>")  # ~ between two terms, not a tilde
    made = made.replace(_BARS, '<mo stretchy="false" lspace="0" rspace="0">&#x02016;</mo>')
    return _FUNCTION.sub(r'\1<mspace width="0.167em"/>', made)


def _replace(match: re.Match[str]) -> str:
    inline = match["inline"] is not None
    made = mathml(html.unescape(match["inline"] if inline else match["block"]).strip(), "inline" if inline else "block")
    return f'<{match["tag"]} class="arithmatex">{made}</{match["tag"]}>'


def on_page_content(content: str, **_: Any) -> str:
    """Every marked equation of a page."""
    return _MARKED.sub(_replace, content)
