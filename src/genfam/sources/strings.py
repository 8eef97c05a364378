"""What sources of strings share: tokens and their texts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def spelled(x: Tensor, tokens: Sequence[str], between: str = "") -> list[str]:
    """(B, L) indices of tokens -> B texts, the tokens joined by `between`; tokens without a letter leave nothing."""
    return [between.join(word for index in row if (word := tokens[index])) for row in x.tolist()]
