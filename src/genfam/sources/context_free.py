"""Probabilistic context-free grammars in Chomsky's normal form: what a string weighs, and how strings are drawn.

Rules are A → B C and A → token. Everything is by dynamic programming over lengths or spans.

References:
    Lari, K. & Young, S. J. 1990. The estimation of stochastic context-free grammars using the inside-outside
    algorithm. Computer Speech and Language 4, equations 2 and 3 (the inside probabilities).
    Booth, T. L. & Thompson, R. A. 1973. Applying probability measures to abstract languages. IEEE Transactions on
    Computers 22 (probabilities of derivations).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Options:
    """What a symbol may become where it stands for so many tokens: a token, or two symbols and where they meet.

    Attributes:
        shares: (O,) float64 probabilities.
        children: (O, 3) int64: left symbol, right symbol, tokens of the left one; −1 and the token itself for a token.
    """

    shares: Tensor
    children: Tensor


class ContextFree:
    """A grammar, read from lines like `S -> A B 0.5 | word 0.5`.

    A symbol that stands left of an arrow is no token; the first one begins every derivation. Tokens are numbered in the
    order in which they occur, from 0.

    Args:
        rules: one line per symbol; the probabilities of a line sum to one.
        longest: tokens of the longest string that is asked for.

    Raises:
        ValueError: a line that is no such rule, or probabilities that do not sum to one.
    """

    def __init__(self, rules: str, longest: int) -> None:
        lines = [line.split("->") for line in rules.strip().splitlines()]
        if any(len(line) != 2 for line in lines):
            raise ValueError(f"expected rules like 'S -> A B 0.5 | word 0.5', got {rules!r}")
        self.symbols = [left.strip() for left, _ in lines]
        self.tokens: list[str] = []
        self.longest = longest
        binary: list[tuple[int, int, int, float]] = []
        lexical: list[tuple[int, int, float]] = []
        for symbol, (_, right) in enumerate(lines):
            given = 0.0
            for alternative in right.split("|"):
                *parts, share = alternative.split()
                given += float(share)
                if len(parts) == 2 and set(parts) <= set(self.symbols):
                    first, second = map(self.symbols.index, parts)
                    binary.append((symbol, first, second, float(share)))
                elif len(parts) == 1 and parts[0] not in self.symbols:
                    if parts[0] not in self.tokens:
                        self.tokens.append(parts[0])
                    lexical.append((symbol, self.tokens.index(parts[0]), float(share)))
                else:
                    raise ValueError(f"expected two symbols or one token, got {' '.join(parts)!r}")
            if abs(given - 1.0) > 1e-9:
                raise ValueError(f"expected probabilities of {self.symbols[symbol]} that sum to 1, got {given:g}")
        self.lexical = torch.zeros(len(self.symbols), len(self.tokens), dtype=torch.float64)
        for symbol, token, chance in lexical:
            self.lexical[symbol, token] = chance
        self.parents, self.left, self.right = (torch.tensor([rule[part] for rule in binary]) for part in range(3))
        self.shares = torch.tensor([rule[3] for rule in binary], dtype=torch.float64)
        self.masses = self._masses()

    def inside(self, weights: Tensor) -> Tensor:
        """What all derivations of the first 1, 2, … tokens weigh: the inside algorithm.

        Args:
            weights: (B, L, V) float64 of each token at each place. One-hot rows give the probability of a string; ones
                at a place sum over all tokens there.

        Returns:
            (B, L) float64: Σ over derivations of n tokens, n = 1 … L, of their probability times their weights.
        """
        length = weights.shape[1]
        spans = [(weights @ self.lexical.T).permute(1, 2, 0).contiguous()]  # by tokens − 1: (starts, symbols, B)
        for size in range(2, length + 1):
            starts = length - size + 1
            pairs = torch.zeros(starts, len(self.shares), len(weights), dtype=torch.float64)
            for k in range(1, size):
                left, right = spans[k - 1][:starts], spans[size - k - 1][k : k + starts]
                pairs.addcmul_(left[:, self.left], right[:, self.right])
            found = torch.zeros_like(spans[0][:starts])
            spans.append(found.index_add_(1, self.parents, pairs * self.shares[:, None]))
        return torch.stack([span[0, 0] for span in spans], dim=1)

    def _masses(self) -> Tensor:
        """(longest + 1, symbols) float64: the probability that a symbol derives so many tokens."""
        masses = torch.zeros(self.longest + 1, len(self.symbols), dtype=torch.float64)
        masses[1] = self.lexical.sum(dim=1)
        for size in range(2, self.longest + 1):
            pairs = masses[1:size][:, self.left] * masses[1:size].flip(0)[:, self.right]
            masses[size].index_add_(0, self.parents, pairs.sum(dim=0) * self.shares)
        return masses

    def options(self, symbol: int, size: int) -> Options:
        """What a symbol that stands for `size` tokens becomes; empty where it cannot."""
        found: list[tuple[float, int, int, int]] = []
        if size == 1:
            found += [(float(share), -1, -1, token) for token, share in enumerate(self.lexical[symbol])]
        for rule in (self.parents == symbol).nonzero()[:, 0].tolist():
            left, right, share = int(self.left[rule]), int(self.right[rule]), float(self.shares[rule])
            for k in range(1, size):
                found.append((share * float(self.masses[k, left] * self.masses[size - k, right]), left, right, k))
        found = [one for one in found if one[0] > 0.0]
        shares = torch.tensor([one[0] for one in found], dtype=torch.float64)
        return Options(shares / shares.sum(), torch.tensor([one[1:] for one in found], dtype=torch.int64).view(-1, 3))

    def entropy(self) -> Tensor:
        """(longest + 1, symbols) float64: entropy in nats of the derivations of so many tokens.

        That of the strings where none has two derivations. H(A, n) = Σ q log 1/q + q (H(B, k) + H(C, n − k)).
        """
        found = torch.zeros_like(self.masses)
        for size in range(1, self.longest + 1):
            for symbol in range(len(self.symbols)):
                options = self.options(symbol, size)
                left, right, k = options.children.unbind(dim=1)
                below = found[k, left] + found[size - k, right] if size > 1 else torch.zeros_like(options.shares)
                found[size, symbol] = (options.shares * below - torch.xlogy(options.shares, options.shares)).sum()
        return found

    def sample(self, sizes: Tensor, generator: Generator) -> Tensor:
        """Strings of given lengths, from the first symbol downwards, all at once.

        Args:
            sizes: (n,) int64 tokens of each; a length that the first symbol can derive.
            generator: on the CPU.

        Returns:
            (n, longest) int64 tokens, −1 after the last.
        """
        cumulative, children = self._tables
        n, rows = len(sizes), torch.arange(len(sizes))
        stack = torch.zeros(n, self.longest + 1, 2, dtype=torch.int64)  # symbols and sizes; the first symbol is 0
        stack[:, 0, 1] = sizes
        depth = torch.ones(n, dtype=torch.int64)
        drawn = torch.full((n, self.longest), -1)
        written = torch.zeros(n, dtype=torch.int64)
        while len(rows):
            symbol, size = stack[rows, depth[rows] - 1].unbind(dim=1)
            number = torch.rand(len(rows), generator=generator, dtype=torch.float64).clamp(max=1.0 - 1e-12)
            place = symbol * (self.longest + 1) + size + number
            left, right, k = children[torch.searchsorted(cumulative, place, right=True)].unbind(dim=1)
            token = left < 0
            ends, splits = rows[token], rows[~token]
            drawn[ends, written[ends]] = k[token]
            written[ends] += 1
            depth[ends] -= 1
            stack[splits, depth[splits] - 1] = torch.stack([right, size - k], dim=1)[~token]
            stack[splits, depth[splits]] = torch.stack([left, k], dim=1)[~token]
            depth[splits] += 1
            rows = rows[depth[rows] > 0]
        return drawn

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        """All options in one row, by symbol and size.

        Returns:
            (O,) float64 where each ends on a line on which group g of options covers [g, g + 1); (O, 3) children.
        """
        ends, children = [], []
        for group in range(len(self.symbols) * (self.longest + 1)):
            options = self.options(*divmod(group, self.longest + 1))
            if len(options.shares):
                shares = options.shares.cumsum(dim=0)
                shares[-1] = 1.0
                ends.append(group + shares)
                children.append(options.children)
        return torch.cat(ends), torch.cat(children)
