"""The scorecard as a Markdown page."""

from __future__ import annotations

import re
from dataclasses import dataclass

import jinja2

from genfam.report.tables import Summary, clean

_SPECIAL = re.compile(r"[\\`*|<>\[\]&#~$!]")
_OUTER_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")


@dataclass(frozen=True)
class Figure:
    """A picture in `figures/`; `source` None where it shows all of them."""

    name: str
    caption: str
    source: str | None = None


def escape(text: str) -> str:
    """Text that Markdown shows as it is: one line, no table cells, links, emphasis or HTML out of a name.

    An underscore between letters or digits stays bare, since it cannot start emphasis there.
    """
    text = _SPECIAL.sub(lambda match: "&" + {"&": "amp", "<": "lt", ">": "gt"}[match[0]] + ";"
                        if match[0] in "&<>" else "\\" + match[0], clean(text))  # fmt: skip
    text = _OUTER_UNDERSCORE.sub(r"\\_", text)
    # A bare address would become a link: break it after its scheme, which does not show.
    return re.sub(r"(?i)\b(https?|ftp):|\b(www)\.", lambda m: f"{m[1]}&#58;" if m[1] else f"{m[2]}&#46;", text)


def render(summary: Summary, figures: list[Figure]) -> str:
    """The page as text; figures are expected in the folder `figures` beside it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genfam.report"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,  # it is not HTML: `md` escapes
    )  # fmt: skip
    environment.filters["md"] = escape
    page = environment.get_template("scorecard.md.j2").render(summary=summary, figures=figures, legend=summary.legend)
    return re.sub(r"\n{3,}", "\n\n", page).rstrip("\n") + "\n"
