"""What a trace sees, on generators whose modes and quality are planted."""

import math

import pytest
import torch

from genfam import experiment
from genfam.families.base import Family, Optimisation
from genfam.metrics.extractors import Identity
from genfam.serialisation import record_from_json, record_to_json
from genfam.sources.images import Digits
from genfam.sources.known import ring
from genfam.tracing import Tracer
from genfam.types import Event, Likelihood


class Planted(Family):
    """Samples what the test says."""

    players, likelihood = (), Likelihood.NONE

    def __init__(self, event: Event, draw) -> None:
        super().__init__(event, Optimisation(), batch_size=1)
        self.draw = draw

    def loss(self, x, player):
        raise NotImplementedError

    def sample(self, n, *, generator):
        return self.draw(n, generator)


def test_modes_counts_and_quality_of_planted_points():
    source = ring()
    centres = source.modes().float()

    def half_off(n, generator):
        x = centres[torch.arange(n) % 3].clone()
        x[: n // 2] += 0.1
        return x

    tracer = Tracer(source, Identity(), samples=120, seed=0)
    point = tracer.look(Planted(source.event, half_off))
    assert (point.modes, point.quality, sum(point.mode_counts)) == (3, 0.5, 60)
    assert point.mode_counts == (20, 20, 20, 0, 0, 0, 0, 0) and point.critic_accuracy is None
    trace = tracer.trace([point])
    assert trace.oracle_modes == 8 and trace.oracle_quality == pytest.approx(1 - math.exp(-4.5), abs=0.04)


def test_the_quality_of_images_is_low_for_junk_and_high_for_digits():
    source = Digits()
    tracer = Tracer(source, Identity(), samples=100, seed=0)
    junk = Planted(source.event, lambda n, g: torch.randint(17, (n, 1, 8, 8), generator=g, dtype=torch.uint8))
    assert tracer.look(junk).quality == 0.0
    real = tracer.look(Planted(source.event, lambda n, g: source.sample(n, generator=g)))
    assert real.quality > 0.8 and real.modes == 0 and real.mode_counts == ()  # no classes to tell apart
    assert tracer.trace([]).oracle_quality > 0.8


def test_looking_changes_neither_training_nor_what_is_seen_next(configure):
    source, draw = ring(), lambda n, g: torch.randn(n, 2, generator=g)
    tracer, family = Tracer(source, Identity(), samples=50, seed=0), Planted(source.event, draw)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    assert tracer.look(family) == tracer.look(family)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_run_is_traced_to_its_last_update_and_comes_back_from_its_record(configure):
    small = ("budget=smoke", "budget.train_flops=3e9", "budget.parameters=8000", "evaluation.samples=400",
             "trace.points=5", "trace.samples=60")  # fmt: skip
    record = experiment.run(configure("family=gan", "source=ring", *small))
    assert record.trace is not None and len(record.trace.points) == 5
    assert record.trace.points[-1].updates == record.updates
    assert all(0 <= point.critic_accuracy <= 1 for point in record.trace.points)
    assert all(set(point.gradient_norms) == {"critic", "generator"} for point in record.trace.points)
    assert record_from_json(record_to_json(record)).trace == record.trace
    other = experiment.run(configure("family=vae", "source=ring", *small))
    assert all(point.critic_accuracy is None for point in other.trace.points)


def test_the_trace_looks_at_the_live_network_not_at_the_average():
    from genfam.families.gan import GAN

    torch.manual_seed(0)
    gan = GAN(Event((2,)), 2000, Optimisation(ema=0.5), 32)
    gan.total_updates = 100
    optimisers = gan.configure_optimizers()
    for _ in range(10):
        gan.update(ring().train[:32], optimisers, torch.autograd.backward)
    draw = lambda: gan.sample(8, generator=torch.Generator().manual_seed(0))  # noqa: E731  (twice the same call)
    averaged = draw()
    with gan.without_average():
        live = draw()
    assert not torch.allclose(live, averaged) and torch.equal(draw(), averaged)


def test_the_learning_rate_factor_multiplies_every_player():
    from genfam.families.gan import GAN

    gan = GAN(Event((2,)), 2000, Optimisation(learning_rate=1e-3, learning_rates={"critic": 4e-3}, warmup=0.0), 32)
    gan.learning_rate_factor = 0.25
    optimisers = gan.configure_optimizers()
    gan.update(ring().train[:32], optimisers, torch.autograd.backward)
    assert [o.param_groups[0]["lr"] for o in optimisers] == pytest.approx([1e-3, 0.25e-3])


def test_critic_accuracy_of_planted_critics():
    from genfam.families.gan import GAN

    torch.manual_seed(0)
    gan = GAN(Event((2,)), 2000, Optimisation(), 32, event_scale=2.0)
    x = ring().train[:64]
    gan.generator = torch.nn.Linear(gan.latent, 2)
    torch.nn.init.zeros_(gan.generator.weight), torch.nn.init.zeros_(gan.generator.bias)
    gan.critic = torch.nn.Flatten()  # takes two scores a point: replaced below by one that knows the centre
    for sign, expected in ((1.0, 1.0), (-1.0, 0.0), (0.0, 0.5)):
        gan.critic.forward = lambda e, sign=sign: sign * e.norm(dim=1, keepdim=True)
        assert gan.diagnostics(x)["critic_accuracy"] == expected
