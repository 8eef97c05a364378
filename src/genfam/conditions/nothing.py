"""No condition: the family models p(x) itself."""

from __future__ import annotations

from torch import Tensor

from genfam.conditions.base import Condition
from genfam.types import Data


class Nothing(Condition):
    """The default."""

    def __init__(self) -> None:
        super().__init__()

    def fit(self, data: Data) -> None:
        """There is nothing to look for."""

    def attend(self, data: Data) -> None:
        """There is nothing to look for."""

    def expected(self, data: Data) -> int:
        """0."""
        return 0

    def of(self, x: Tensor) -> Tensor:
        """Raises NotImplementedError: no event has a condition."""
        raise NotImplementedError("condition=nothing: no event has a condition")
