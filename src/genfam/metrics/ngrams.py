"""Sequences of tokens: how samples' n-grams are distributed, and how many samples are possible at all.

The frequencies of n neighbouring tokens are compared with their exact probabilities where the source has them
(`ngrams`), else with the frequencies of held-out sequences. Every family has samples, so this can judge all. What it
cannot see is what reaches beyond n tokens: the share of valid samples does, where p_data is known.

References:
    Shannon, C. E. 1948. A mathematical theory of communication. Bell System Technical Journal 27, section 3
    (approximations of a language by its n-grams).
    A. B. Tsybakov (2009). Introduction to Nonparametric Estimation, section 2.4 (total variation).
"""

from __future__ import annotations

import math
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from genfam.metrics.base import Evaluation, Metric
from genfam.metrics.estimators import mean, share
from genfam.types import Data, Estimate, Event, Kind, KnownDensity, Measurement

NAMES = {1: "unigram_total_variation", 2: "bigram_total_variation", 3: "trigram_total_variation"}
MOST_CELLS = 2**25  # n-grams that there may be: 256 tokens have 2^24 trigrams


@runtime_checkable
class KnownNgrams(Protocol):
    """A source of sequences whose probabilities of neighbouring tokens are known."""

    def ngrams(self, n: int) -> Tensor:
        """(Vⁿ,) float64: of n tokens at a random place, the first the most significant."""
        ...


def is_sequence(event: Event) -> bool:
    """Whether an event is a row of at least three tokens."""
    return event.is_discrete and len(event.shape) == 1 and event.dimensions >= max(NAMES)


def ngram_codes(x: Tensor, n: int, levels: int) -> Tensor:
    """(N, L) tokens -> (N, L − n + 1) int64: the number of the n-gram at each place, its first token leading."""
    radix = levels ** torch.arange(n - 1, -1, -1)
    return (x.long().unfold(1, n, 1) * radix).sum(dim=-1)


def ngram_frequencies(codes: Tensor, cells: int) -> Tensor:
    """(N, W) -> (cells,) float64."""
    return torch.bincount(codes.flatten(), minlength=cells).double() / codes.numel()


def ngram_variation(codes: Tensor, truth: Tensor, counted: Tensor | None = None) -> Estimate:
    """Total variation ½ Σ |q − p| between the samples' n-gram frequencies and the truth, by the delta method.

    The n-grams of one sequence are no independent draws, so the error is that of a mean over sequences: of
    ½ mean sign(q − p) over the places of each. Where q = p it is an upper bound.

    Args:
        codes: (N, W) of the samples.
        truth: (cells,) p.
        counted: (M, W) codes that p was counted from; None where it is exact.
    """
    q = ngram_frequencies(codes, len(truth))
    sign = torch.sign(q - truth)
    draw = mean(0.5 * sign[codes].mean(dim=1)).stderr or 0.0
    other = 0.0 if counted is None else mean(0.5 * sign[counted].mean(dim=1)).stderr or 0.0
    return Estimate(float(0.5 * (q - truth).abs().sum()), math.hypot(draw, other), len(codes), draw)


class Ngrams(Metric):
    """`valid_share` (higher is better); `unigram_`, `bigram_` and `trigram_total_variation` (lower is better).

    Frequencies of finitely many samples, and of a held-out reference, differ from p_data's too: the oracle's value is
    the floor.
    """

    on_curve: ClassVar[bool] = True

    def measure(self, evaluation: Evaluation) -> list[Measurement]:
        """Four measurements; not applicable where events are no sequences, no validity where p_data is not known."""
        data = evaluation.data
        if not is_sequence(data.event):
            reason = "events are no sequences of tokens"
            refused = [Measurement.not_applicable(name, reason, kind=Kind.DIVERGENCE) for name in NAMES.values()]
            return [Measurement.not_applicable("valid_share", reason, kind=Kind.FIDELITY), *refused]
        return [self._validity(evaluation, data), *[self._variation(evaluation, n) for n in NAMES]]

    @staticmethod
    def _validity(evaluation: Evaluation, data: Data) -> Measurement:
        if not isinstance(data, KnownDensity):
            reason = f"p_data of {data.name} is not known"
            return Measurement.not_applicable("valid_share", reason, kind=Kind.FIDELITY)
        valid = share(data.log_prob(evaluation.samples) > -math.inf)
        return Measurement("valid_share", "1", True, valid, evaluation.protocol(features=False), Kind.FIDELITY)

    @staticmethod
    def _variation(evaluation: Evaluation, n: int) -> Measurement:
        cells = (evaluation.data.event.levels or 0) ** n
        if cells > MOST_CELLS:
            reason = f"{cells} possible n-grams are more than {MOST_CELLS}"
            return Measurement.not_applicable(NAMES[n], reason, kind=Kind.DIVERGENCE)
        levels = evaluation.data.event.levels or 0
        codes = ngram_codes(evaluation.samples.cpu(), n, levels)
        if isinstance(evaluation.data, KnownNgrams):
            counted, truth = None, evaluation.data.ngrams(n)
        else:
            counted = ngram_codes(evaluation.reference.cpu(), n, levels)
            truth = ngram_frequencies(counted, cells)
        protocol = evaluation.protocol(features=False, truth="exact" if counted is None else "held out")
        variation = ngram_variation(codes, truth, counted)
        return Measurement(NAMES[n], "1", False, variation, protocol, Kind.DIVERGENCE)
