"""What sources of strings share: tokens and their texts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

UNSAID = "·"


def spelled(x: Tensor, tokens: Sequence[str], between: str = "") -> list[str]:
    """(B, L) indices of tokens -> B texts, the tokens joined by `between`; tokens without a letter leave nothing.

    An index that is not a number, of a token that is still to come, is shown as `UNSAID`.
    """
    words = [[UNSAID if index != index else tokens[int(index)] for index in row] for row in x.tolist()]
    return [between.join(filter(None, row)) for row in words]
