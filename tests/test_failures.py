"""Failure modes by name: planted traces, their false-alarm rate, and GANs broken on purpose."""

import math

import numpy as np
import pytest
from stability_controls import MODES, POINTS, SAMPLES, fade, planted_trace, three, uniform, wave

from genfam.metrics.failures import (
    FAILURES,
    autocorrelation,
    failures,
    gradient_ratio,
    masses_moved,
    swing,
    symptoms,
)
from genfam.running.experiment import execute
from genfam.types import Outcome, Trace


def named(found: Trace) -> set[str]:
    return {name for name, present in failures(symptoms(found)).items() if present}


def rotating(t, period=12):
    return np.eye(MODES)[(t * MODES // period) % MODES]


def test_every_planted_failure_is_called_by_its_name_and_by_no_other():
    assert named(planted_trace(uniform, accuracy=0.55)) == set()
    assert named(planted_trace(three, accuracy=0.6)) == {"mode_collapse"}
    assert named(planted_trace(three)) == {"mode_collapse"}  # a family without a critic
    assert named(planted_trace(uniform, quality=0.05, accuracy=0.4)) == {"exploiting_the_critic"}
    assert named(planted_trace(uniform, quality=0.05)) == set()  # bad, but nobody is fooled
    assert named(planted_trace(uniform, quality=0.05, accuracy=0.99, gradients=fade)) == {"critic_wins"}
    fed = planted_trace(uniform, quality=0.05, accuracy=0.99, gradients=lambda t: 1.0)
    assert named(fed) == set()  # the critic wins, but nobody starves
    starved = planted_trace(uniform, gradients=lambda t: 1.0 if t < 16 else 1e-3)
    assert gradient_ratio(starved.points) == pytest.approx(1e-3)
    assert named(planted_trace(rotating, accuracy=0.6)) == {"mode_collapse", "cycling"}  # one mode at a time


def test_a_cycle_among_all_modes_is_a_cycle_and_no_collapse():
    assert named(planted_trace(wave, accuracy=0.5)) == {"cycling"}


def test_drift_and_settling_are_no_cycles():
    def drift(t):
        p = np.where(np.arange(MODES) < 4, 1 - 0.9 * t / POINTS, 0.1 + 0.9 * t / POINTS)
        return p / p.sum()

    assert "cycling" not in named(planted_trace(drift))
    assert "cycling" not in named(planted_trace(lambda t: rotating(t) if t < POINTS // 2 else uniform(t)))


def test_jumping_to_a_random_mode_at_every_look_is_no_cycle():
    # 200 generators without any order. Measured once on 1,000: 3 false alarms, so more than 3 of 200 has p < 1 %.
    def jump(seed):
        rng = np.random.default_rng(seed)
        return planted_trace(lambda t: np.eye(MODES)[rng.integers(MODES)], accuracy=0.6)

    assert sum("cycling" in named(jump(seed)) for seed in range(200)) <= 3


def test_false_alarms_on_healthy_traces_are_rare():
    # 1,000 traces of a generator that is right but for sampling noise: not one alarm of any kind, so that by the rule
    # of three the rate is below 0.3 % (95 %). With 40 % of the samples off the modes, likewise.
    assert not [seed for seed in range(1000) if named(planted_trace(uniform, accuracy=0.6, seed=seed))]
    assert not [seed for seed in range(300) if named(planted_trace(uniform, quality=0.6, accuracy=0.6, seed=seed))]


def test_a_generator_that_hits_seldom_has_lost_no_modes():
    # Two of a hundred samples hit: the four modes that these show are no collapse.
    assert symptoms(planted_trace(uniform, quality=0.02)).modes_lost < 0.35
    assert symptoms(planted_trace(lambda t: np.eye(MODES)[0], quality=0.02)).modes_lost > 0.5


def test_autocorrelation_of_a_cosine_is_a_cosine_and_of_noise_is_small():
    t = np.arange(400)
    found = autocorrelation(np.cos(2 * np.pi * t / 20)[:, None])
    assert found[0] == 1.0
    assert np.allclose(found, np.cos(2 * np.pi * np.arange(len(found)) / 20), atol=0.03)
    noise = autocorrelation(np.random.default_rng(0).normal(size=(400, 5)))
    assert np.abs(noise[1:]).max() < 4 / math.sqrt(400 * 5)
    assert autocorrelation(np.ones((10, 2)))[1:].tolist() == [0.0] * 5
    assert swing(np.array([1.0, 0.2, -0.5, 0.1, 0.4])) == (-0.5, 0.4)
    assert swing(np.array([1.0, 0.2, -0.5])) == (-0.5, -0.5)  # never came back
    assert swing(np.array([1.0, -0.2, 0.9, -0.5])) == (-0.5, 0.9)  # came back before it was lowest
    assert swing(np.array([1.0, 0.5, -0.05])) == (-0.05, -0.05)  # never turned


def test_autocorrelation_agrees_with_numpy():
    x = np.random.default_rng(1).normal(size=60)
    centred = x - x.mean()
    full = np.correlate(centred, centred, "full")[59:90] / (60 - np.arange(31)) / (centred @ centred / 60)
    assert np.allclose(autocorrelation(x[:, None]), full)


def test_moved_masses_are_those_that_sampling_does_not_explain():
    rng = np.random.default_rng(0)
    still = rng.multinomial(SAMPLES, uniform(0), size=64).astype(float)
    assert masses_moved(still, SAMPLES) < 0.01
    swaps = np.array([[200.0, 0.0], [0.0, 200.0]] * 16)
    assert masses_moved(swaps, SAMPLES) == pytest.approx(0.5 - 0.5 * 2 * math.sqrt(2 / math.pi / 4 / 200), abs=1e-6)


def test_too_short_a_trace_says_nothing():
    points = planted_trace(uniform).points
    assert symptoms(Trace(SAMPLES, 8.0, 1.0, points[:12])) is None  # its last quarter has three points
    assert symptoms(Trace(SAMPLES, 8.0, 1.0, ())) is None
    short = symptoms(Trace(SAMPLES, 8.0, 1.0, points[:14]))
    assert short.modes_lost == 0.0 and math.isnan(short.trough)  # enough to count modes, not to see a cycle


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("preset", ["healthy", *FAILURES])
def test_gans_broken_on_purpose_are_told_apart(configure, preset):
    """The suite `gan_failures`, two of its seeds: the failure is found in one or both, the healthy GAN shows none.

    Not in both: results/gan_failures says how often. Cycling in three of five, for the others hop without a period, and
    which ones do hangs on the last digits of a processor's arithmetic; so all five are run (all without: 0.4⁵, 1 %).
    """
    found = []
    for seed in range(10, 15) if preset == "cycling" else (10, 11):
        record = execute(
            configure(
                "family=gan",
                "source=ring",
                "source.sigma=0.1",
                f"+preset=gan_{preset}",
                "budget.train_flops=1e10",
                "budget.parameters=5000",
                "trace.points=160",
                f"seed={seed}",
            )
        )
        assert record.outcome is Outcome.OK, record.reason
        found.append(named(record.trace))
    assert (any(preset in names for names in found)) if preset != "healthy" else not any(found), found
