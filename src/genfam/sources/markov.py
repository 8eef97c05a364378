"""Strings of a Markov chain: the smallest language whose probabilities, entropy and n-grams are known in closed form.

Reference:
    Shannon, C. E. 1948. A mathematical theory of communication. Bell System Technical Journal 27, sections 2 to 7
    (languages as Markov chains; entropy of a source).
"""

from __future__ import annotations

from functools import cached_property
from string import ascii_lowercase
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor

from genfam.seeds import derived_generator
from genfam.sources.base import KnownSource
from genfam.sources.strings import spelled
from genfam.types import Estimate, Event


class Markov(KnownSource):
    """Strings of L letters, each of which allows a few letters after it: p(x) = π(x₁) ∏ T(xᵢ₋₁, xᵢ).

    The table T is drawn once, from a seed of its own: of each letter one successor is the next letter of the alphabet,
    so that all are reached, the others are random, and their probabilities are exponential numbers, normalised. The
    first letter has the stationary distribution π, so that all places of a string are alike.

    Args:
        length: L.
        letters: V, size of the alphabet.
        successors: letters that may follow a letter; the others never do.
    """

    def __init__(
        self,
        length: Annotated[int, Ge(2), Le(256)] = 16,
        letters: Annotated[int, Ge(2), Le(26)] = 8,
        successors: Annotated[int, Ge(2), Le(26)] = 3,
        name: str = "markov",
    ) -> None:
        if successors > letters:
            raise ValueError(f"successors: expected at most the {letters} letters, got {successors}")
        self.name = name
        self.event = Event((length,), letters)
        self.tokens = tuple(ascii_lowercase[:letters])
        generator = derived_generator(0, "markov", letters, successors)
        self.transitions = torch.zeros(letters, letters, dtype=torch.float64)
        for letter in range(letters):
            following = (letter + 1) % letters
            others = [one for one in torch.randperm(letters, generator=generator).tolist() if one != following]
            weights = torch.empty(successors, dtype=torch.float64).exponential_(generator=generator)
            self.transitions[letter, [following, *others[: successors - 1]]] = weights / weights.sum()

    @cached_property
    def stationary(self) -> Tensor:
        """(V,) float64: the solution of π T = π, Σ π = 1."""
        letters = len(self.tokens)
        equations = torch.cat([self.transitions.T - torch.eye(letters, dtype=torch.float64), torch.ones(1, letters)])
        right = torch.zeros(letters + 1, 1, dtype=torch.float64)
        right[-1] = 1.0
        solution: Tensor = torch.linalg.lstsq(equations, right).solution
        return solution[:, 0]

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, L) uint8."""
        first, later = (table.cumsum(dim=-1) for table in (self.stationary, self.transitions))
        first, later = first / first[-1], later / later[:, -1:]
        numbers = torch.rand(n, self.event.dimensions, generator=generator, dtype=torch.float64)
        drawn = [(numbers[:, :1] >= first).sum(dim=1)]
        for place in range(1, self.event.dimensions):
            drawn.append((numbers[:, place, None] >= later[drawn[-1]]).sum(dim=1))
        return torch.stack(drawn, dim=1).to(torch.uint8)

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, L) -> (B,) nats per counting measure; −∞ where a letter follows that never does."""
        letters = x.long()
        steps = self.transitions.log()[letters[:, :-1], letters[:, 1:]]
        return self.stationary.log()[letters[:, 0]] + steps.sum(dim=1)

    def entropy(self) -> Estimate:
        """H(π) + (L − 1) Σ π(a) H(T(a, ·)), exact; nats."""
        first, each = (-torch.xlogy(table, table).sum(dim=-1) for table in (self.stationary, self.transitions))
        return Estimate(float(first + (self.event.dimensions - 1) * (self.stationary @ each)), 0.0, len(self.tokens))

    def ngrams(self, n: int) -> Tensor:
        """(Vⁿ,) float64 probability of n neighbouring letters, the first the most significant; alike everywhere."""
        table = self.stationary
        for _ in range(n - 1):
            table = (table.view(-1, len(self.tokens), 1) * self.transitions).flatten()
        return table

    def text(self, x: Tensor) -> list[str]:
        """(B, L) -> B strings of letters."""
        return spelled(x, self.tokens)
