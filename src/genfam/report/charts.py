"""A chart as the page holds it: Plotly's own JSON, a title, and what it says to those who do not see it."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go
from markupsafe import Markup


@dataclass(frozen=True)
class Chart:
    """One figure of the page.

    Attributes:
        key: unique on the page; letters, digits, `_` and `-`.
        title: stands above it.
        label: says in words what it shows, for screen readers.
        spec: Plotly's data and layout as JSON that is safe inside a script element.
        height: pixels that it will take.
    """

    key: str
    title: str
    label: str
    spec: Markup
    height: int


def chart(key: str, figure: go.Figure, title: str, label: str) -> Chart:
    """Wrap a figure; no text in it can end the script element that holds it."""
    text = str(figure.to_json())
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Chart(key, title, label, Markup(text), int(figure.layout.height))
