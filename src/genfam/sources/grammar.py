"""Sentences of a small probabilistic grammar: agreement over any distance, and every probability known.

Reference:
    Chomsky, N. 1956. Three models for the description of language. IRE Transactions on Information Theory 2
    (section 3: embedding in the middle of a sentence, which no Markov chain can follow)
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor

from genfam.sources.base import KnownSource
from genfam.sources.context_free import ContextFree
from genfam.sources.strings import spelled
from genfam.types import Estimate, Event

# s: singular, p: plural. A noun phrase may hold a clause whose own noun and verb agree: "the dog that the cats that a
# man feeds see sleeps". No sentence has two derivations.
RULES = """
S -> NPs VPs 0.5 | NPp VPp 0.5
NPs -> Ds Ns 1.0
NPp -> Dp Np 1.0
Ds -> the 0.5 | a 0.5
Dp -> the 0.7 | some 0.3
Ns -> dog 0.3 | cat 0.2 | A Ns 0.2 | Hs R 0.3
Np -> dogs 0.3 | cats 0.2 | A Np 0.2 | Hp R 0.3
A -> old 0.6 | big 0.4
Hs -> dog 0.6 | cat 0.4
Hp -> dogs 0.4 | cats 0.6
R -> That C 1.0
That -> that 1.0
C -> NPs Ts 0.5 | NPp Tp 0.5
Ts -> sees 1.0
Tp -> see 1.0
VPs -> sleeps 0.4 | Ts NPs 0.3 | Ts NPp 0.3
VPp -> sleep 0.4 | Tp NPs 0.3 | Tp NPp 0.3
"""
BLOCK = 2000  # strings that pass the inside algorithm at once


class Grammar(KnownSource):
    """Sentences of at most L words, with empty tokens after the last word.

    p(x) is the grammar's probability given that a sentence has at most L words.

    Args:
        length: L.
    """

    train_size = 200_000

    def __init__(self, length: Annotated[int, Ge(3), Le(64)] = 16, name: str = "grammar") -> None:
        self.name = name
        self.grammar = ContextFree(RULES, length)
        self.tokens = ("", *self.grammar.tokens)  # 0: after the end
        self.event = Event((length,), len(self.tokens))
        self._ngrams: dict[int, Tensor] = {}

    @cached_property
    def lengths(self) -> Tensor:
        """(L + 1,) float64: the probability of a sentence of so many words, given that it has at most L."""
        masses = self.grammar.masses[:, 0]
        return masses / masses.sum()

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, L) uint8."""
        sizes = torch.multinomial(self.lengths, n, replacement=True, generator=generator)
        return (self.grammar.sample(sizes, generator) + 1).to(torch.uint8)

    def _weigh(self, weights: Tensor) -> Tensor:
        """(B, L, V) float64 weight of each token at each place -> (B,): their product's expectation under p.

        A sentence of n words has the weight of the first n places' words times that of empty tokens at the others.
        """
        found = []
        for block in weights.split(BLOCK):
            ends = block[..., 0].flip(1).cumprod(dim=1).flip(1)  # of empty tokens from a place on
            ends = torch.cat([ends[:, 1:], torch.ones_like(ends[:, :1])], dim=1)
            found.append((self.grammar.inside(block[..., 1:]) * ends).sum(dim=1))
        return torch.cat(found) / self.grammar.masses[:, 0].sum()

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, L) -> (B,) nats per counting measure; −∞ where no derivation gives the string."""
        one_hot = torch.nn.functional.one_hot(x.long(), len(self.tokens)).double()
        return self._weigh(one_hot).log()

    def entropy(self) -> Estimate:
        """Of the length, then of the derivation; exact, since no sentence has two. Nats."""
        below = self.lengths @ self.grammar.entropy()[:, 0]
        return Estimate(float(below - torch.xlogy(self.lengths, self.lengths).sum()), 0.0, len(self.lengths))

    def ngrams(self, n: int) -> Tensor:
        """(Vⁿ,) float64 probability of n neighbouring tokens at a random place, the first the most significant.

        By the inside algorithm: of a string that is free everywhere else. Only grams whose beginning occurs are asked
        for.
        """
        if n in self._ngrams:
            return self._ngrams[n]
        length, count = self.event.dimensions, len(self.tokens)
        codes = torch.arange(count)
        if n > 1:
            codes = (self.ngrams(n - 1).nonzero()[:, 0, None] * count + codes).flatten()
        grams = torch.stack([codes // count ** (n - 1 - place) % count for place in range(n)], dim=1)
        fixed = torch.nn.functional.one_hot(grams, count).double()
        total = torch.zeros(len(grams), dtype=torch.float64)
        for start in range(length - n + 1):
            weights = torch.ones(len(grams), length, count, dtype=torch.float64)
            weights[:, start : start + n] = fixed
            total += self._weigh(weights)
        table = torch.zeros(count**n, dtype=torch.float64)
        table[codes] = total / (length - n + 1)
        self._ngrams[n] = table
        return table

    def text(self, x: Tensor) -> list[str]:
        """(B, L) -> B sentences."""
        return spelled(x, self.tokens, " ")
