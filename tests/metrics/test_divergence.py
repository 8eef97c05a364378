"""True divergences: known answers on tables and densities, both estimators of a table, honest refusals."""

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from genfam.metrics.divergence import Divergence, state_counts, total_variation_stderr
from genfam.types import Estimate, Event, Kind, Likelihood, Status

P = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
Q = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
PAIR = Event((2,), 2)
TV = 0.4
KL = float((Q * (Q / P).log()).sum())


def model(event, kind=Likelihood.NONE, log_prob=None, sample=None):
    """A model of given functions; without the attribute where there is none."""
    given = {"log_prob": log_prob, "sample": sample}
    return SimpleNamespace(
        event=event, likelihood_kind=kind, likelihood_method="", **{key: f for key, f in given.items() if f}
    )


def normal_log_prob(mean, scale):
    """Log density of a round Gaussian."""
    return lambda x: torch.distributions.Normal(mean, scale).log_prob(x.double()).flatten(1).sum(dim=1)


@dataclass
class Table:
    """Two bits; the state's number is 2 b0 + b1."""

    name: str = "table"
    event: Event = PAIR
    probabilities: Tensor = field(default_factory=lambda: P)

    def support(self):
        return torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.uint8)[: len(self.probabilities)]

    def table(self):
        return self.probabilities


@dataclass
class Normal:
    """A one-dimensional Gaussian density."""

    name: str = "normal"
    event: Event = field(default_factory=lambda: Event((1,)))

    def log_prob(self, x):
        return normal_log_prob(0.0, 1.0)(x)

    def entropy(self):
        return Estimate(0.5 * math.log(2 * math.pi * math.e), 0.0, 1)


def exact(table):
    return model(PAIR, Likelihood.EXACT, lambda x: table.log()[2 * x[:, 0].long() + x[:, 1].long()].float())


def sampler(table, kind=Likelihood.NONE):
    def sample(n, *, generator):
        states = torch.multinomial(table, n, replacement=True, generator=generator)
        return torch.stack([states // 2, states % 2], dim=1).to(torch.uint8)

    return model(PAIR, kind, None, sample)


EMPTY = torch.zeros(1, 2, dtype=torch.uint8)


def test_exact_table(evaluate, by_name):
    found = by_name(Divergence(), evaluate(EMPTY, EMPTY, data=Table(), model=exact(Q)))
    assert found["total_variation"].estimate.value == pytest.approx(TV, rel=1e-6)
    assert found["kl_divergence"].estimate.value == pytest.approx(KL, rel=1e-6)
    assert found["total_variation"].estimate.stderr == found["kl_divergence"].estimate.stderr == 0.0
    assert {m.kind for m in found.values()} == {Kind.DIVERGENCE}


def test_table_from_samples_is_the_same_quantity(evaluate, by_name):
    metric = Divergence(noise=1, least_samples=25_000)
    found = by_name(metric, evaluate(EMPTY, EMPTY, data=Table(), model=sampler(Q)))
    for name, truth in {"total_variation": TV, "kl_divergence": KL}.items():
        estimate = found[name].estimate
        assert estimate.n == 25_000
        assert 0 < estimate.stderr < 0.01
        assert abs(estimate.value - truth) < 4 * estimate.stderr
    tables = by_name(metric, evaluate(EMPTY, EMPTY, data=Table(), model=exact(Q)))
    assert tables["kl_divergence"].fingerprint == found["kl_divergence"].fingerprint


def test_a_model_that_must_be_judged_by_samples_is(evaluate, by_name):
    judged = sampler(Q, Likelihood.EXACT)
    judged.samples_only = True
    found = by_name(Divergence(noise=1, least_samples=1000), evaluate(EMPTY, EMPTY, data=Table(), model=judged))
    assert found["total_variation"].estimate.n == 1000


def test_without_a_sampler_the_samples_at_hand_count(evaluate, by_name):
    samples = Table().support().repeat(25, 1)
    found = by_name(Divergence(), evaluate(samples, EMPTY, data=Table(), model=model(PAIR)))
    assert found["total_variation"].estimate.value == pytest.approx(0.2)
    assert found["total_variation"].estimate.n == 100


def test_perfect_samples_reach_the_stated_floor(evaluate, by_name):
    table = torch.full((4,), 0.25, dtype=torch.float64)
    data, n = Table(probabilities=table), 1000
    found = [
        by_name(Divergence(noise=1, least_samples=n), evaluate(EMPTY, EMPTY, data=data, model=sampler(table), seed=s))
        for s in range(200)
    ]
    variation = np.mean([m["total_variation"].estimate.value for m in found])
    divergence = np.mean([m["kl_divergence"].estimate.value for m in found])
    # ½ Σ E|q̂ − p| with normal q̂: ½ Σ √(2 p (1 − p) / π n).
    assert variation == pytest.approx(2 * math.sqrt(2 * 0.25 * 0.75 / (math.pi * n)), rel=0.1)
    assert divergence == pytest.approx(3 / (2 * n), rel=0.2)


def test_total_variation_error_by_simulation():
    rng = np.random.default_rng(0)
    counts = torch.from_numpy(rng.multinomial(2000, Q.numpy(), size=500))
    values = 0.5 * (counts / 2000 - P).abs().sum(dim=1)
    errors = np.mean([total_variation_stderr(row, 2000, P) for row in counts])
    assert errors == pytest.approx(float(values.std()), rel=0.1)


def test_mass_off_the_support(evaluate, by_name):
    data = Table(probabilities=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))
    q = torch.tensor([0.5, 0.2, 0.1, 0.2], dtype=torch.float64)
    for judged in (exact(q), sampler(q)):
        found = by_name(Divergence(noise=1, least_samples=20_000), evaluate(EMPTY, EMPTY, data=data, model=judged))
        assert found["total_variation"].estimate.value == pytest.approx(0.2, abs=0.012)
        assert found["kl_divergence"].status is Status.NOT_APPLICABLE
        assert "infinite" in found["kl_divergence"].reason


def test_a_table_that_does_not_sum_to_one_is_an_error(evaluate):
    with pytest.raises(ValueError, match=r"sum to one, got 1\.1999"):
        Divergence().measure(evaluate(EMPTY, EMPTY, data=Table(), model=exact(Q * 1.2)))


def test_state_counts_follow_the_order_of_the_support():
    support = torch.tensor([[3, 1], [0, 2], [2, 2]], dtype=torch.uint8)
    x = torch.tensor([[0, 2], [3, 1], [0, 2], [1, 1]], dtype=torch.uint8)
    assert state_counts(x, support, 4).tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="duplicates"):
        state_counts(x, support[[0, 0]], 4)
    with pytest.raises(ValueError, match="256\\^64"):
        state_counts(x, torch.zeros(1, 64, dtype=torch.uint8), 256)


@pytest.mark.parametrize("kind", [Likelihood.EXACT, Likelihood.ESTIMATE])
def test_gaussian_densities(evaluate, by_name, normal, kind):
    mean, scale = 0.7, 1.5
    density = model(Event((1,)), kind, normal_log_prob(mean, scale))
    x = normal(40_000, 1).float()
    found = by_name(Divergence(likelihood_events=40_000), evaluate(x, x, data=Normal(), model=density))
    grid = torch.linspace(-15, 15, 100_001, dtype=torch.float64)[:, None]
    p, q = normal_log_prob(0.0, 1.0)(grid).exp(), normal_log_prob(mean, scale)(grid).exp()
    truth = {
        "total_variation": 0.5 * float(torch.trapezoid((p - q).abs(), grid[:, 0])),
        "kl_divergence": math.log(scale) + (1 + mean**2) / (2 * scale**2) - 0.5,
    }
    for name, value in truth.items():
        assert 0 < found[name].estimate.stderr < 0.01
        assert abs(found[name].estimate.value - value) < 4 * found[name].estimate.stderr


def test_the_truth_itself_has_no_divergence(evaluate, by_name, normal):
    x = normal(100, 1).float()
    density = model(Event((1,)), Likelihood.EXACT, normal_log_prob(0.0, 1.0))
    found = by_name(Divergence(), evaluate(x, x, data=Normal(), model=density))
    assert found["total_variation"].estimate.value == found["kl_divergence"].estimate.value == 0.0


def test_mass_where_the_data_are_not_is_noticed(evaluate, by_name, normal):
    # Half the model's mass lies 50 σ away, where no reference event ever is: ½ E_p|1 − q/p| would say 0.25.
    far = torch.tensor([0.5, 0.5]).log()

    def log_prob(x):
        parts = torch.stack([normal_log_prob(0.0, 1.0)(x), normal_log_prob(50.0, 1.0)(x)], dim=1)
        return torch.logsumexp(parts + far, dim=1)

    x = normal(500, 1).float()
    density = model(Event((1,)), Likelihood.EXACT, log_prob)
    found = by_name(Divergence(), evaluate(x, x, data=Normal(), model=density))
    assert found["total_variation"].estimate.value == pytest.approx(0.5, rel=1e-6)
    assert found["kl_divergence"].estimate.value == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("kind", [Likelihood.NONE, Likelihood.LOWER_BOUND])
def test_no_density_no_divergence(evaluate, normal, kind):
    x = normal(10, 1).float()
    found = Divergence().measure(evaluate(x, x, data=Normal(), model=model(Event((1,)), kind)))
    assert len(found) == 2
    assert all(m.status is Status.NOT_APPLICABLE and kind.value in m.reason for m in found)


def test_probability_zero_is_infinite_not_a_number(evaluate, by_name, normal):
    x = normal(100, 1).float()
    density = model(Event((1,)), Likelihood.EXACT, lambda x: torch.where(x[:, 0] > 0, 0.0, -math.inf))
    found = by_name(Divergence(), evaluate(x, x, data=Normal(), model=density))
    assert math.isfinite(found["total_variation"].estimate.value)
    assert found["kl_divergence"].status is Status.NOT_APPLICABLE
    assert "not finite" in found["kl_divergence"].reason


def test_states_too_many_to_list_are_compared_by_log_prob(evaluate, by_name):
    class Huge(Table):
        def support(self):
            raise ValueError("too many states")

        def log_prob(self, x):
            return P.log()[2 * x[:, 0].long() + x[:, 1].long()]

        def entropy(self):
            return Estimate(float(-(P * P.log()).sum()), 0.0, 4)

    reference = Table().support().repeat_interleave(torch.tensor([40, 30, 20, 10]), dim=0)
    found = by_name(Divergence(), evaluate(EMPTY, reference, data=Huge(), model=exact(Q)))
    assert found["total_variation"].estimate.value == pytest.approx(TV, rel=1e-6)
    assert found["kl_divergence"].estimate.value == pytest.approx(float((P * (P / Q).log()).sum()), rel=1e-6)
    assert found["kl_divergence"].protocol["kl"] == "data||model"


def test_unknown_truth(evaluate):
    found = Divergence().measure(evaluate(EMPTY, EMPTY))
    assert all(m.status is Status.NOT_APPLICABLE and "not known" in m.reason for m in found)


def test_in_training_the_few_samples_stand_for_every_model_and_densities_are_left_out(evaluate, by_name):
    """A model with an exact table is looked at as one without, and is asked for no more samples."""
    states = torch.multinomial(Q, 50, replacement=True, generator=torch.Generator().manual_seed(0))
    few = torch.stack([states // 2, states % 2], dim=1).to(torch.uint8)
    for judged in (exact(Q), sampler(Q)):
        judged.sample = lambda *a, **k: pytest.fail("asked for samples")
        glance = evaluate(few, few, data=Table(), model=judged)
        glance.in_training = True
        found = by_name(Divergence(), glance)["total_variation"]
        assert found.estimate.value == pytest.approx(float((states.bincount(minlength=4) / 50 - P).abs().sum()) / 2)
        assert found.protocol["table_samples"] == "50"
    glance = evaluate(
        torch.zeros(9, 1), torch.zeros(9, 1), data=Normal(), model=model(Normal().event, Likelihood.EXACT)
    )
    glance.in_training = True
    assert by_name(Divergence(), glance)["total_variation"].status is Status.NOT_APPLICABLE
