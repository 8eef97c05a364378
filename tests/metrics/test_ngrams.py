"""Metrics of sequences: closed forms, planted failures, and errors that cover."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from genfam.metrics.base import Evaluation
from genfam.metrics.bigrams import Bigrams
from genfam.metrics.ngrams import Ngrams, ngram_codes, ngram_frequencies, ngram_variation
from genfam.metrics.token_divergence import TokenDivergence
from genfam.sources.grammar import Grammar
from genfam.sources.known import Die
from genfam.sources.markov import Markov
from genfam.types import Event, Likelihood, Measurement

CHAIN = Markov(length=8, letters=5, successors=2)


class Right:
    """A model that is the source, or a little off."""

    likelihood_kind, likelihood_method = Likelihood.EXACT, ""
    density_kind, density_method = Likelihood.EXACT, ""

    def __init__(self, source: Any, off: float = 0.0) -> None:
        self.source, self.event, self.off = source, source.event, off

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.source.log_prob(x) - self.off


def seen(source: Any, samples: Tensor, model: Any = None) -> Evaluation:
    extractor: Any = SimpleNamespace(fingerprint="none", name="none", n_classes=0)
    return Evaluation(source, samples, source.test[:500], extractor, model or Right(source))


def measured(source: Any, samples: Tensor, model: Any = None) -> dict[str, Measurement]:
    evaluation = seen(source, samples, model)
    return {m.name: m for metric in (Ngrams(), TokenDivergence()) for m in metric.measure(evaluation)}


def draws(source: Any, n: int, seed: int = 0) -> Tensor:
    drawn: Tensor = source.sample(n, generator=torch.Generator().manual_seed(seed))
    return drawn


def test_codes_and_frequencies_by_hand() -> None:
    x = torch.tensor([[0, 1, 2, 1], [2, 2, 2, 2]], dtype=torch.uint8)
    assert ngram_codes(x, 2, 3).tolist() == [[1, 5, 7], [8, 8, 8]]
    assert ngram_codes(x, 3, 3).tolist() == [[5, 16], [26, 26]]
    frequencies = ngram_frequencies(ngram_codes(x, 1, 3), 3)
    assert frequencies.tolist() == [0.125, 0.25, 0.625]
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert ngram_variation(ngram_codes(x, 1, 3), uniform).value == pytest.approx(0.625 - 1 / 3)


def test_real_sequences_have_what_chance_gives() -> None:
    found = measured(CHAIN, draws(CHAIN, 4000))
    assert found["valid_share"].estimate is not None and found["valid_share"].estimate.value == 1.0
    for name, cells in (("unigram", 5), ("bigram", 10), ("trigram", 20)):
        estimate = found[f"{name}_total_variation"].estimate
        # √(K / 2πN) for N independent n-grams; those of one string are not, hence the factor
        assert estimate is not None and estimate.value < 3 * math.sqrt(cells / (2 * math.pi * 4000 * 6)), name
    kl = found["kl_per_token"].estimate
    assert kl is not None and (kl.value, kl.stderr) == (0.0, 0.0)


def test_independent_letters_are_right_one_by_one_and_wrong_in_pairs() -> None:
    """Shuffled letters keep the first marginal: their pairs' variation from the truth is ½ Σ |π π' − π T|."""
    x = draws(CHAIN, 6000)
    order = torch.argsort(torch.rand(x.numel(), generator=torch.Generator().manual_seed(0)))
    found = measured(CHAIN, x.flatten()[order].view_as(x))
    pi = CHAIN.stationary
    expected = float(0.5 * (pi[:, None] * (pi[None] - CHAIN.transitions)).abs().sum())
    one, pair = found["unigram_total_variation"].estimate, found["bigram_total_variation"].estimate
    assert one is not None and pair is not None and one.value < 0.01
    assert expected > 0.25 and abs(pair.value - expected) < 0.02
    valid = found["valid_share"].estimate
    assert valid is not None and valid.value < 0.3


def test_the_error_is_the_scatter_over_draws_where_q_is_not_p() -> None:
    """Of sticky strings: without clusters by string it would be half. 40 draws know the scatter to 11 %."""
    truth = torch.full((3,), 1 / 3, dtype=torch.float64)
    found = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        first = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 400, replacement=True, generator=generator)
        codes = first[:, None].expand(-1, 6).contiguous()
        found.append(ngram_variation(codes, truth))
    scatter = float(torch.tensor([one.value for one in found]).std())
    stated = float(torch.tensor([one.stderr for one in found]).mean())
    assert stated == pytest.approx(scatter, rel=0.35)
    assert all(one.draw_stderr == one.stderr for one in found)
    held_out = ngram_variation(codes, truth, codes[:100])
    assert held_out.stderr is not None and held_out.stderr > 2 * (held_out.draw_stderr or 0.0)


def test_unknown_sources_are_compared_with_held_out_sequences() -> None:
    class Unknown:
        name, event, split = "unknown", CHAIN.event, "test"
        test = CHAIN.test[:2000]

    found = measured(Unknown(), draws(CHAIN, 2000), Right(CHAIN))
    assert "held out" in found["trigram_total_variation"].fingerprint
    estimate = found["trigram_total_variation"].estimate
    assert estimate is not None and estimate.value < 0.05
    assert estimate.stderr is not None and estimate.draw_stderr is not None and estimate.stderr > estimate.draw_stderr
    assert found["valid_share"].estimate is None and found["kl_per_token"].estimate is None
    assert "p_data of unknown is not known" in found["valid_share"].reason


def test_the_divergence_is_of_the_log_probabilities_per_token() -> None:
    estimate = measured(CHAIN, draws(CHAIN, 100), Right(CHAIN, off=1.6))["kl_per_token"].estimate
    assert estimate is not None and estimate.value == pytest.approx(0.2)
    without: Any = Right(CHAIN)
    without.likelihood_kind = Likelihood.NONE
    refused = measured(CHAIN, draws(CHAIN, 100), without)["kl_per_token"]
    assert refused.reason == "the family declares no likelihood"
    endless = measured(CHAIN, draws(CHAIN, 100), Right(CHAIN, off=math.inf))["kl_per_token"]
    assert "not finite on 500 of 500" in endless.reason


def test_other_events_are_refused() -> None:
    die = Die()
    assert all(m.estimate is None for m in measured(die, draws(die, 50)).values())
    with pytest.raises(ValueError, match="extractor bigrams: expected sequences of tokens"):
        Bigrams("bigrams", die)


def test_features_count_pairs_and_projections_keep_distances() -> None:
    grammar = Grammar(length=6)
    few = Bigrams("bigrams", CHAIN)
    x = draws(CHAIN, 3)
    assert few.features(x).shape == (3, 25) and few.features(x).sum(dim=1).tolist() == [7.0] * 3
    assert few.fingerprint == "bigrams, 25 counts"
    whole, projected = Bigrams("bigrams", grammar, features=225), Bigrams("bigrams", grammar, features=100)
    assert projected.fingerprint == "bigrams, 225 counts projected to 100"
    y = draws(grammar, 400)
    before, after = (torch.pdist(one.features(y)).square() for one in (whole, projected))
    kept = before > 0
    # E ratio = 1, variance at most 2 / 100 each; the mean over pairs is closer
    assert float((after[kept] / before[kept]).mean()) == pytest.approx(1.0, abs=0.1)
    assert torch.equal(after[~kept], torch.zeros(int((~kept).sum()), dtype=torch.float64))
    assert few.features(x[:0]).shape == (0, 25)
    sequence: Any = SimpleNamespace(event=Event((2,), 4))
    with pytest.raises(ValueError, match="expected sequences"):
        Bigrams("bigrams", sequence)
