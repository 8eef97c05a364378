"""Families that train nothing: they have no players, and no loss."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from genfam.families.base import Family, Optimisation
from genfam.types import Batch, Event


class Untrained(Family):
    """A family that is ready after `prepare`.

    Args:
        event: shape and levels.
    """

    players: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False

    def __init__(self, event: Event) -> None:
        super().__init__(event, Optimisation(), batch_size=1)

    def loss(self, batch: Batch, player: str) -> Tensor:
        """There is nothing to minimise.

        Raises:
            NotImplementedError: always; there are no players.
        """
        raise NotImplementedError(f"{type(self).__name__} has no players and no loss")


class WithoutNetwork(Untrained):
    """Events that are there already, in the place of a model.

    Args:
        event: shape and levels.
    """

    samples_only: ClassVar[bool] = True  # it stands for what N samples can say, also where their table is known

    def __init__(self, event: Event) -> None:
        super().__init__(event)
        self.nothing = nn.Module()

    @property
    def sampling_network(self) -> nn.Module:
        """None is here."""
        return self.nothing

    @property
    def evaluations_per_sample(self) -> float:
        """No network is called."""
        return 0.0

    @property
    def drawn_at_once(self) -> int:
        """All, so that none is drawn twice as long as they last."""
        return 2**62
