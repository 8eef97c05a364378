"""Known languages: probabilities, entropies, n-grams and draws that agree with one another and with enumeration."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy import stats
from torch import Tensor

from genfam.sources.base import KnownSource
from genfam.sources.context_free import ContextFree
from genfam.sources.grammar import Grammar
from genfam.sources.markov import Markov

SMALL: list[KnownSource] = [Markov(length=4, letters=5, successors=2), Markov(length=5, letters=3), Grammar(length=4)]
LIKE = {"markov": Markov(), "grammar": Grammar()}
PALINDROMES = "S -> A X 0.3 | B Y 0.2 | a 0.3 | S S 0.2\nX -> S A 1.0\nY -> S B 1.0\nA -> a 1.0\nB -> b 1.0"


def every_string(source: KnownSource) -> Tensor:
    levels, length = source.event.levels or 0, source.event.dimensions
    return torch.cartesian_prod(*[torch.arange(levels, dtype=torch.uint8)] * length)


def named(source: KnownSource) -> str:
    return f"{source.name}{source.event.dimensions}"


@pytest.mark.parametrize("source", SMALL, ids=named)
def test_probabilities_sum_to_one_and_give_the_entropy(source: KnownSource) -> None:
    log_prob = source.log_prob(every_string(source))
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-12)
    entropy = source.entropy()  # type: ignore[attr-defined]
    assert entropy.value == pytest.approx(float(-torch.xlogy(log_prob.exp(), log_prob.exp()).sum()), abs=1e-10)
    assert entropy.stderr == 0.0


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("source", SMALL, ids=named)
def test_ngrams_are_the_marginals_averaged_over_places(source: KnownSource, n: int) -> None:
    states, levels = every_string(source), source.event.levels or 0
    masses, expected = source.log_prob(states).exp(), torch.zeros(levels**n, dtype=torch.float64)
    starts = range(source.event.dimensions - n + 1)
    for start in starts:
        code = torch.zeros(len(states), dtype=torch.int64)
        for place in range(n):
            code = levels * code + states[:, start + place].long()
        expected.index_add_(0, code, masses / len(starts))
    torch.testing.assert_close(source.ngrams(n), expected, atol=1e-12, rtol=0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("source", SMALL, ids=named)
def test_draws_follow_the_probabilities(source: KnownSource) -> None:
    """Pearson's test on all strings that expect at least five draws; a right source fails one time in a thousand."""
    n, states = 20_000, every_string(source)
    x = source.sample(n, generator=torch.Generator().manual_seed(1))
    radix = (source.event.levels or 0) ** torch.arange(source.event.dimensions - 1, -1, -1)
    counts = torch.bincount((x.long() * radix).sum(dim=1), minlength=len(states)).double()
    expected = n * source.log_prob(states).exp()
    assert not counts[expected == 0].any()
    large = expected >= 5
    observed = torch.cat([counts[large], counts[~large].sum()[None]])
    wanted = torch.cat([expected[large], expected[~large].sum()[None]])
    kept = wanted > 0
    assert stats.chisquare(observed[kept], wanted[kept] * n / wanted[kept].sum()).pvalue > 1e-3


@pytest.mark.parametrize("name", LIKE)
def test_of_the_full_sources_the_entropy_is_that_of_draws(name: str) -> None:
    """Within 4 standard errors: a right source fails one time in 16,000."""
    source = LIKE[name]
    x = source.sample(5000, generator=torch.Generator().manual_seed(2))
    log_prob = source.log_prob(x)
    assert bool(torch.isfinite(log_prob).all())
    error = float(log_prob.std()) / math.sqrt(len(x))
    assert abs(float(-log_prob.mean()) - source.entropy().value) < 4 * error  # type: ignore[attr-defined]
    longer = source.ngrams(3).view(-1, source.event.levels or 0)  # type: ignore[attr-defined]
    assert float(longer.sum()) == pytest.approx(1.0, abs=1e-9)


def test_what_the_languages_forbid_has_no_probability() -> None:
    chain, grammar = LIKE["markov"], LIKE["grammar"]
    assert isinstance(chain, Markov) and isinstance(grammar, Grammar)
    assert (chain.transitions > 0).sum(dim=1).tolist() == [3] * 8
    assert torch.allclose(chain.stationary @ chain.transitions, chain.stationary, atol=1e-12)
    x = chain.sample(1, generator=torch.Generator().manual_seed(0))
    x[0, 5] = int((chain.transitions[int(x[0, 4])] == 0).nonzero()[0])
    assert chain.log_prob(x).tolist() == [-math.inf]

    def words(text: str) -> Tensor:
        numbers = [grammar.tokens.index(word) for word in text.split()]
        return torch.tensor([numbers + [0] * (16 - len(numbers))], dtype=torch.uint8)

    good = "the dogs that a cat that some old dogs see sees see the cat"
    assert grammar.text(words(good)) == [good] and float(grammar.log_prob(words(good))) > -40.0
    for wrong in (
        "the dogs that a cat that some old dogs see see see the cat",  # "a cat … see": the middle one disagrees
        "the dogs that a cat sees", "the dogs", "sleep the dogs", "the dogs sleep sleep", "a dogs sleep", "",
    ):  # fmt: skip
        assert grammar.log_prob(words(wrong)).tolist() == [-math.inf], wrong
    gap = words("the dogs sleep")
    gap[0, 5] = 1  # a word after the end
    assert grammar.log_prob(gap).tolist() == [-math.inf]


def derivations(rules: ContextFree, symbol: int, words: tuple[int, ...]) -> float:
    """The probability of a string by going through all its derivations."""
    total = float(rules.lexical[symbol, words[0]]) if len(words) == 1 else 0.0
    for parent, left, right, share in zip(rules.parents, rules.left, rules.right, rules.shares, strict=True):
        if int(parent) == symbol:
            for cut in range(1, len(words)):
                begun = derivations(rules, int(left), words[:cut])
                total += float(share) * begun * derivations(rules, int(right), words[cut:]) if begun else 0.0
    return total


def test_the_inside_algorithm_sums_over_all_derivations_also_of_ambiguous_strings() -> None:
    rules = ContextFree(PALINDROMES, 6)
    for length in (1, 2, 3, 5):
        strings = list(itertools.product(range(2), repeat=length))
        weights = torch.nn.functional.one_hot(torch.tensor(strings), 2).double()
        expected = [derivations(rules, 0, string) for string in strings]
        found = rules.inside(weights)
        torch.testing.assert_close(found[:, -1], torch.tensor(expected, dtype=torch.float64), atol=1e-14, rtol=1e-12)
        assert float(found[:, -1].sum()) == pytest.approx(float(rules.masses[length, 0]), abs=1e-12)
        free = rules.inside(torch.ones(1, length, 2, dtype=torch.float64))[0, -1]
        assert float(free) == pytest.approx(float(rules.masses[length, 0]), abs=1e-12)


def test_draws_of_an_ambiguous_grammar_follow_its_strings() -> None:
    """Pearson's test, as above: one false alarm in a thousand."""
    rules, n = ContextFree(PALINDROMES, 5), 20_000
    drawn = rules.sample(torch.full((n,), 5), torch.Generator().manual_seed(3))
    counts = Counter(map(tuple, drawn.tolist()))
    strings = list(itertools.product(range(2), repeat=5))
    masses = torch.tensor([derivations(rules, 0, string) for string in strings], dtype=torch.float64)
    masses /= masses.sum()
    assert sum(counts[string] for string in strings) == n
    kept = [(counts[s], n * float(mass)) for s, mass in zip(strings, masses, strict=True) if mass > 0]
    assert all(counts[s] == 0 for s, mass in zip(strings, masses, strict=True) if mass == 0)
    observed, expected = zip(*kept, strict=True)
    assert min(expected) >= 5
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("S A B 1.0", "expected rules like"),
        ("S -> A A 0.5\nA -> a 1.0", "probabilities of S that sum to 1, got 0.5"),
        ("S -> A b 1.0\nA -> a 1.0", "expected two symbols or one token, got 'A b'"),
        ("S -> A 1.0\nA -> a 1.0", "expected two symbols or one token, got 'A'"),
    ],
)
def test_rules_that_are_none_are_named(rules: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ContextFree(rules, 4)


def test_tables_of_a_chain_are_the_same_for_every_seed_and_name() -> None:
    assert torch.equal(Markov(name="other").transitions, LIKE["markov"].transitions)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="successors: expected at most the 2 letters, got 3"):
        Markov(letters=2)
