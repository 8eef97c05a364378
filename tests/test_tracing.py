"""What a trace sees, on generators whose modes and quality are planted."""

import math

import pytest
import torch

from genfam.families.base import Family, Optimisation
from genfam.families.gan import GAN
from genfam.families.latents import Latent
from genfam.metrics.extractors import Identity
from genfam.networks.perceptron import Perceptron
from genfam.records.serialisation import record_from_json, record_to_json
from genfam.running.experiment import execute
from genfam.running.tracing import Tracer
from genfam.sources.images import Digits
from genfam.sources.known import Ring
from genfam.types import Batch, Event, Likelihood


class Planted(Family):
    """Samples what the test says."""

    players, likelihood = (), Likelihood.NONE

    def __init__(self, event: Event, planted) -> None:
        super().__init__(event, Optimisation(), batch_size=1)
        self.planted = planted

    def loss(self, batch, player):
        raise NotImplementedError

    def draw(self, n, condition, generator):
        return self.planted(n, generator)


def make_gan(optimisation: Optimisation) -> GAN:
    torch.manual_seed(0)
    return GAN(Event((2,)), 2000, Perceptron(activation="leaky_relu"), optimisation, 32, Latent(8))


def test_modes_counts_and_quality_of_planted_points():
    source = Ring()
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
    source, draw = Ring(), lambda n, g: torch.randn(n, 2, generator=g)
    tracer, family = Tracer(source, Identity(), samples=50, seed=0), Planted(source.event, draw)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    assert tracer.look(family) == tracer.look(family)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_run_is_traced_to_its_last_update_and_comes_back_from_its_record(configure):
    small = ("budget=smoke", "budget.train_flops=3e9", "budget.parameters=8000", "evaluation.samples=400",
             "trace.points=5", "trace.samples=60", "metric=[frechet]")  # fmt: skip
    record = execute(configure("family=gan", "source=ring", *small))
    assert record.trace is not None and len(record.trace.points) == 5
    assert record.trace.points[-1].updates == record.updates
    assert all(0 <= point.critic_accuracy <= 1 for point in record.trace.points)
    assert all(set(point.gradient_norms) == {"critic", "generator"} for point in record.trace.points)
    assert record_from_json(record_to_json(record)).trace == record.trace
    other = execute(configure("family=vae", "source=ring", *small))
    assert all(point.critic_accuracy is None for point in other.trace.points)


def test_the_trace_looks_at_the_live_network_not_at_the_average():
    gan = make_gan(Optimisation(ema=0.5))
    gan.total_updates = 100
    optimisers = gan.configure_optimizers()
    for _ in range(10):
        gan.update(Batch(Ring().train[:32]), optimisers, torch.autograd.backward)
    draw = lambda: gan.sample(8, generator=torch.Generator().manual_seed(0))  # noqa: E731  (twice the same call)
    averaged = draw()
    with gan.without_average():
        live = draw()
    assert not torch.allclose(live, averaged) and torch.equal(draw(), averaged)


def test_the_learning_rate_factor_multiplies_every_player():
    gan = make_gan(Optimisation(learning_rate=1e-3, learning_rates={"critic": 4e-3}, warmup=0.0))
    gan.learning_rate_factor = 0.25
    optimisers = gan.configure_optimizers()
    gan.update(Batch(Ring().train[:32]), optimisers, torch.autograd.backward)
    assert [o.param_groups[0]["lr"] for o in optimisers] == pytest.approx([1e-3, 0.25e-3])


def test_critic_accuracy_of_planted_critics():
    gan = make_gan(Optimisation())
    x = Batch(Ring().train[:64])
    gan.generator.forward = lambda z, condition: torch.zeros(len(z), 2)  # the centre of the ring
    for sign, expected in ((1.0, 1.0), (-1.0, 0.0), (0.0, 0.5)):
        gan.critic.forward = lambda e, condition, sign=sign: sign * e.norm(dim=1)
        assert gan.diagnostics(x)["critic_accuracy"] == expected
