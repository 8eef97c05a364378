"""Failure modes by name, from a training trace.

The names come from GANs, where one player learns against another; the same questions are asked of all families, and
what needs a critic is left out where there is none.

References:
    I. Goodfellow (2016). NIPS 2016 Tutorial: Generative Adversarial Networks. https://arxiv.org/abs/1701.00160,
        section 5.1 (mode collapse, cycling).
    M. Arjovsky & L. Bottou (2017). Towards Principled Methods for Training GANs. https://arxiv.org/abs/1701.04862,
        section 2.2 (a critic that wins leaves the generator without a gradient).
    L. Mescheder, A. Geiger & S. Nowozin (2018). https://arxiv.org/abs/1801.04406, section 2 (orbits, Dirac-GAN).
    T. Salimans et al. (2016). Improved Techniques for Training GANs. https://arxiv.org/abs/1606.03498, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from genfam.types import Trace, TracePoint

LATE = 0.25  # share of the trace, at its end, that is judged: by then a healthy run has found its modes
EARLY = 0.25  # the share at its beginning that gradients are compared with
CYCLE = 0.5  # the share at its end in which a cycle is looked for
FEWEST_POINTS = 4  # judged; of fewer nothing is said
FEWEST_OF_A_CYCLE = 8
CHANCE = 3.5  # standard deviations of an autocorrelation of pure noise

T = TypeVar("T")

TROUGH = -0.05  # a mass that goes round K modes, one at a time, falls to −1/(K − 1) only, less where it is between them
FAILURES = ("mode_collapse", "critic_wins", "exploiting_the_critic", "cycling")


@dataclass(frozen=True)
class Thresholds:
    """Where a symptom begins.

    Attributes:
        lost: share of the modes (that as many real events show) without a sample. Chance alone leaves few out.
        fooled: critic accuracy up to which the critic is fooled.
        winning: critic accuracy from which it wins.
        starving: generator's gradient norm, late over its early best, below which it starves.
        poor: quality relative to the oracle's below which it is low.
        recovery: the autocorrelation of the mode masses that a cycle comes back to, after it was below `TROUGH`; at
            least what chance reaches, too.
        moving: share of the samples that change their mode over the later half, beyond sampling noise, without which
            an autocorrelation says nothing.
    """

    lost: float = 0.1
    fooled: float = 0.75
    winning: float = 0.95
    starving: float = 0.1
    poor: float = 0.25
    recovery: float = 0.2
    moving: float = 0.1


@dataclass(frozen=True)
class Symptoms:
    """What the late trace shows; NaN where it cannot be said.

    Attributes:
        modes_lost: median share of modes without a sample, of those that as many real events as lie on modes show: a
            generator that hits modes seldom, but all alike, has lost none.
        quality: median, relative to the oracle's.
        critic_accuracy: median P(real scored above generated).
        gradient_ratio: median gradient norm of the player that samples, late over its early best.
        masses_moved: mean total variation between a point's mode masses and their mean over the later half, less what
            counting so few samples explains.
        trough, recovery: lowest autocorrelation of the mode masses over lags, and the highest after it first fell
            below `TROUGH`.
        chance: 3.5 standard deviations of the autocorrelation of masses that are new at every look.
    """

    modes_lost: float
    quality: float
    critic_accuracy: float
    gradient_ratio: float
    masses_moved: float
    trough: float
    recovery: float
    chance: float = 1.0


def symptoms(trace: Trace) -> Symptoms | None:
    """Measure the late trace; None where it has fewer than `FEWEST_POINTS` points."""
    late = _end(trace.points, LATE)
    if len(late) < FEWEST_POINTS:
        return None
    accuracies = [point.critic_accuracy for point in late if point.critic_accuracy is not None]
    quality = float(np.median([p.quality for p in late])) / trace.oracle_quality if trace.oracle_quality else math.nan
    moved, (trough, recovery), chance = 0.0, (math.nan, math.nan), 1.0
    later = _end(trace.points, CYCLE)
    if len(later[0].mode_counts) > 1 and len(later) >= FEWEST_OF_A_CYCLE:
        counts = np.asarray([point.mode_counts for point in later], dtype=np.float64)
        moved = masses_moved(counts, trace.samples)
        trough, recovery = swing(autocorrelation(counts / trace.samples))
        pairs = counts.shape[0] / 2.0  # at the longest lag
        chance = CHANCE / math.sqrt(pairs * (counts.shape[1] - 1))
    return Symptoms(
        float(np.median([modes_lost(point, trace.oracle_modes) for point in late])),
        quality,
        float(np.median(accuracies)) if accuracies else math.nan,
        gradient_ratio(trace.points),
        moved,
        trough,
        recovery,
        chance,
    )


def failures(found: Symptoms, at: Thresholds | None = None) -> dict[str, bool]:
    """Name -> whether the symptoms are those of this failure; without the names that need a critic where none is.

    * mode_collapse: modes are lost while what is drawn is not poor and the critic (where there is one) does not win.
    * critic_wins: its accuracy is near 1 and the generator's gradient is starving.
    * exploiting_the_critic: the critic is fooled, and the quality low.
    * cycling: mode masses move, and their autocorrelation turns negative at a lag and returns.
    """
    at = at or Thresholds()
    poor = found.quality < at.poor
    returns = found.recovery > max(at.recovery, found.chance)
    cycling = found.masses_moved > at.moving and found.trough < TROUGH and returns
    named = {"mode_collapse": found.modes_lost > at.lost and not poor, "cycling": cycling}
    if math.isnan(found.critic_accuracy):
        return named
    wins = found.critic_accuracy >= at.winning and found.gradient_ratio < at.starving
    return {
        "mode_collapse": named["mode_collapse"] and not wins,
        "critic_wins": wins,
        "exploiting_the_critic": poor and found.critic_accuracy <= at.fooled,
        "cycling": cycling,
    }


def autocorrelation(masses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, K) -> (T // 2 + 1,): r(l) = Σ_t ⟨m_t, m_{t+l}⟩ / (T − l) over Σ_t |m_t|² / T, of centred masses; r(0) = 1.

    All zeros after lag 0 where nothing moves. Lags up to half of the length: of longer ones too few pairs are left.
    """
    centred = masses - masses.mean(axis=0)
    length = len(centred)
    power = float((centred**2).sum()) / length
    found = np.zeros(length // 2 + 1)
    found[0] = 1.0
    if power > 0:
        for lag in range(1, len(found)):
            found[lag] = float((centred[lag:] * centred[:-lag]).sum()) / (length - lag) / power
    return found


def swing(correlation: NDArray[np.float64], below: float = TROUGH) -> tuple[float, float]:
    """Lowest value, and the highest at any lag after the first one below `below` (the lowest where there is none)."""
    lowest = float(correlation.min())
    after = correlation[int(np.argmax(correlation < below)) :]
    return lowest, float(after.max()) if lowest < below else lowest


def masses_moved(counts: NDArray[np.float64], samples: int) -> float:
    """(T, K) samples per mode -> mean ½ Σ_k |m_tk − m̄_k| less its expectation under multinomial noise, ≥ 0.

    The expectation takes each count as binomial with its own variance: E|x| = σ √(2/π).
    """
    masses = counts / samples
    mean = masses.mean(axis=0)
    distance = 0.5 * np.abs(masses - mean).sum(axis=1).mean()
    noise = 0.5 * np.sqrt(2 / np.pi * mean * (1 - mean) / samples).sum()
    return max(0.0, float(distance - noise))


def gradient_ratio(points: Sequence[TracePoint]) -> float:
    """Median gradient norm of the last player (it samples), late, over its highest early one; NaN without gradients.

    The highest, because a critic may win within the first few updates.
    """
    norms = [list(point.gradient_norms.values())[-1] for point in points if point.gradient_norms]
    if not norms:
        return math.nan
    early = max(norms[: max(1, round(EARLY * len(norms)))])
    return float(np.median(_end(norms, LATE))) / early if early > 0 else math.nan


def modes_lost(point: TracePoint, oracle_modes: float) -> float:
    """1 − modes reached / modes expected, in [0, 1]; 1 where no sample lies on any mode.

    Where modes were counted, M = `oracle_modes` equal modes and the N samples that lie on any let one expect
    M (1 − (1 − 1/M)^N); where they are too many to be counted, the oracle's own number, of as many samples.
    """
    expected = oracle_modes
    if point.mode_counts and oracle_modes > 0:
        expected = oracle_modes * (1.0 - (1.0 - 1.0 / oracle_modes) ** sum(point.mode_counts))
    return max(0.0, 1.0 - point.modes / expected) if expected > 0 else float(oracle_modes > 0)


def _end(values: Sequence[T], share: float) -> Sequence[T]:
    return values[len(values) - math.ceil(share * len(values)) :]
