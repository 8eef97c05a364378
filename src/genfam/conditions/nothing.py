"""No condition: the family models p(x) itself."""

from __future__ import annotations

from torch import Tensor

from genfam.conditions.base import Condition
from genfam.types import Data


class Nothing(Condition):
    """The default."""

    def __init__(self) -> None:
        super().__init__(0)

    def fit(self, data: Data) -> None:
        """There is nothing to look for."""

    def of(self, x: Tensor) -> Tensor:
        """Raises NotImplementedError: no event has a condition."""
        raise NotImplementedError("condition=nothing: no event has a condition")
