"""Fresh real data in the place of a model: the best that any metric can say."""

from __future__ import annotations

from typing import ClassVar

from torch import Generator, Tensor, nn

from genfam.families.base import Family, Optimisation
from genfam.types import Data, Event, KnownDensity, Likelihood


class Oracle(Family):
    """Draws from the source itself; where p_data is known, its log-likelihood is the truth."""

    players: ClassVar[tuple[str, ...]] = ()
    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    trains: ClassVar[bool] = False
    samples_only: ClassVar[bool] = True  # it stands for what N samples can say, also where its table is known

    def __init__(self, event: Event) -> None:
        super().__init__(event, Optimisation(), batch_size=1)
        self.data: Data | None = None
        self.nothing = nn.Module()

    @property
    def sampling_network(self) -> nn.Module:
        """Nothing is learnt."""
        return self.nothing

    @property
    def evaluations_per_sample(self) -> float:
        """No network is called."""
        return 0.0

    @property
    def likelihood_kind(self) -> Likelihood:
        """Exact where p_data is known."""
        return Likelihood.EXACT if isinstance(self.data, KnownDensity) else Likelihood.NONE

    def prepare(self, data: Data) -> None:
        """Remember where real data come from."""
        self.data = data

    def loss(self, x: Tensor, player: str) -> Tensor:
        """There is nothing to minimise.

        Raises:
            NotImplementedError: always; the oracle has no players.
        """
        raise NotImplementedError("the oracle has no players and no loss")

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """-> (n, *event) fresh real data."""
        if self.data is None:
            raise ValueError("expected prepare(data) before sample: the oracle draws from a source")
        return self.data.sample(n, generator=generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) nats, the truth; refuses where p_data is not known."""
        if not isinstance(self.data, KnownDensity):
            return super().log_prob(x)
        return self.data.log_prob(x.cpu()).float()
