"""Likelihoods: a known density, bits of a known code, kinds kept apart, reproducible estimates."""

import math
from types import SimpleNamespace

import pytest
import torch

from genfam.metrics.likelihood import NegativeLogLikelihood
from genfam.types import Event, Kind, Likelihood, Status


def model(event, kind=Likelihood.NONE, log_prob=None, sample=None):
    """A model of given functions; without the attribute where there is none."""
    given = {"log_prob": log_prob, "sample": sample}
    return SimpleNamespace(
        event=event, likelihood_kind=kind, likelihood_method="", **{key: f for key, f in given.items() if f}
    )


def normal_log_prob(mean, scale):
    """Log density of a round Gaussian."""
    return lambda x: torch.distributions.Normal(mean, scale).log_prob(x.double()).flatten(1).sum(dim=1)


def test_entropy_of_a_gaussian(evaluate, by_name, normal):
    x = normal(5000, 3).float()
    judged = model(Event((3,)), Likelihood.EXACT, normal_log_prob(0.0, 1.0))
    found = by_name(NegativeLogLikelihood(events=5000), evaluate(x, x, model=judged))
    nll = found["nll_nats"].estimate
    assert abs(nll.value - 1.5 * math.log(2 * math.pi * math.e)) < 4 * nll.stderr
    # Var(½|z|²) = 3/2 for three dimensions.
    assert nll.stderr == pytest.approx(math.sqrt(1.5 / 5000), rel=0.05)
    assert nll.n == 5000
    protocol = found["nll_nats"].protocol
    assert protocol["likelihood"] == "exact" and protocol["measure"] == "volume" and "by" not in protocol
    assert "samples" not in protocol and "extractor" not in protocol, "neither enters the number"
    assert {m.kind for m in found.values()} == {Kind.LIKELIHOOD}
    assert found["bits_per_dim"].status is Status.NOT_APPLICABLE
    assert "units" in found["bits_per_dim"].reason


def test_uniform_code_takes_log2_levels_bits(evaluate, by_name):
    x = torch.randint(0, 16, (50, 1, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    event = Event((1, 2, 2), 16)
    judged = model(event, Likelihood.LOWER_BOUND, lambda x: torch.full((len(x),), -4 * math.log(16)))
    found = by_name(
        NegativeLogLikelihood(), evaluate(x, x, data=SimpleNamespace(name="toy", event=event), model=judged)
    )
    assert found["bits_per_dim"].estimate.value == pytest.approx(4.0, rel=1e-6)
    assert found["nll_nats"].estimate.value == pytest.approx(16 * math.log(2), rel=1e-6)
    assert {m.protocol["likelihood"] for m in found.values()} == {"lower_bound"}
    assert {m.protocol["measure"] for m in found.values()} == {"counting"}
    judged.likelihood_method = "64 importance samples"  # another bound, which shares no table with this one
    (nll, _) = NegativeLogLikelihood().measure(
        evaluate(x, x, data=SimpleNamespace(name="toy", event=event), model=judged)
    )
    assert nll.protocol == found["nll_nats"].protocol | {"by": "64 importance samples"}


def test_only_the_first_events_in_chunks(evaluate, by_name, normal):
    calls = []

    def log_prob(x):
        calls.append(len(x))
        return -x[:, 0]

    x = torch.arange(100.0)[:, None]
    judged = model(Event((1,)), Likelihood.EXACT, log_prob)
    found = by_name(NegativeLogLikelihood(events=25, chunk=10), evaluate(x, x, model=judged))
    assert calls == [10, 10, 5]
    assert found["nll_nats"].estimate.value == pytest.approx(12.0)


def test_random_estimates_are_reproducible_and_leave_no_trace(evaluate, by_name, normal):
    x = normal(20, 1).float()
    judged = model(Event((1,)), Likelihood.ESTIMATE, lambda x: torch.randn(len(x)))
    before = torch.random.get_rng_state()
    first = by_name(NegativeLogLikelihood(), evaluate(x, x, model=judged))["nll_nats"]
    assert torch.equal(before, torch.random.get_rng_state())
    torch.randn(3)
    assert by_name(NegativeLogLikelihood(), evaluate(x, x, model=judged))["nll_nats"] == first
    assert by_name(NegativeLogLikelihood(), evaluate(x, x, model=judged, seed=1))["nll_nats"] != first


def test_no_likelihood_or_a_broken_one(evaluate, normal):
    x = normal(20, 1).float()
    none = NegativeLogLikelihood().measure(evaluate(x, x))
    energy = model(Event((1,)), Likelihood.UNNORMALISED, lambda x: -x[:, 0])
    none += NegativeLogLikelihood().measure(evaluate(x, x, model=energy))
    broken = model(Event((1,)), Likelihood.EXACT, lambda x: torch.where(x[:, 0] > 0, 0.0, -math.inf))
    infinite = NegativeLogLikelihood().measure(evaluate(x, x, model=broken))
    assert all(m.status is Status.NOT_APPLICABLE and "no likelihood" in m.reason for m in none)
    assert all(m.status is Status.NOT_APPLICABLE and "not finite" in m.reason for m in infinite)
    assert [m.unit for m in none] == ["nats", "bits/dim"] * 2
