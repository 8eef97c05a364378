"""Ranges of settings, for annotations of a part's arguments: `genfam.build` checks a configuration against them.

They are the usual `annotated_types`, which pydantic and other checkers know too.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Count = Annotated[int, Ge(1)]
"""A whole number of at least 1."""
CountOrNone = Annotated[int, Ge(0)]
"""A whole number of at least 0, which means none."""
Several = Annotated[int, Ge(2)]
"""A whole number of at least 2."""
Channels = Annotated[int, Ge(1), Le(6)]
"""Of a stack of images: 10 classes in each make 10^channels modes, which are held as a table."""
Positive = Annotated[float, Gt(0)]
"""A number above 0."""
NotNegative = Annotated[float, Ge(0)]
"""A number of at least 0."""
Share = Annotated[float, Ge(0), Le(1)]
"""From 0 to 1."""
ShareBelowOne = Annotated[float, Ge(0), Lt(1)]
"""From 0, and below 1."""
