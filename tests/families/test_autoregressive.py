"""The autoregressive family: exact densities, exact causality, exact sampling."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy
import pytest
import torch
from scipy import stats
from torch import Tensor

from families.toys import train
from genfam.families.autoregressive import Autoregressive
from genfam.families.base import Optimisation
from genfam.networks.base import count_parameters
from genfam.networks.conditionals import Mixture
from genfam.networks.scalar_transformer import ScalarTransformer, neighbours
from genfam.types import Event, Likelihood
from stand_ins import look_at

DIE = Event((1,), 6)
TINY = Event((1, 2, 2), 3)
IMAGE = Event((2, 4, 5), 7)
POINT = Event((2,))


def family(
    event: Event, parameters: int = 6800, *, rough: bool = False, temperature: float = 1.0, **options: Any
) -> Autoregressive:
    """A family; `rough` shakes all parameters, so that no conditional is near its calm start."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "network": ScalarTransformer(depth=2, heads=2),
        "optimisation": Optimisation(ema=0.05),
        "batch_size": 64,
    } | options
    made = Autoregressive(event, parameters, **settings)
    assert made.sampling == {"temperature": 1.0}  # samples come from the model itself unless asked otherwise
    made.choose_sampling(temperature=temperature)
    if rough:
        for parameter in made.model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return made.eval()


def events(event: Event, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    if event.levels is None:
        return torch.randn(n, *event.shape, generator=generator) * 3.0 + 1.0
    return torch.randint(event.levels, (n, *event.shape), generator=generator).to(torch.uint8)


def every_state(event: Event) -> Tensor:
    states = list(itertools.product(range(event.levels or 0), repeat=event.dimensions))
    return torch.tensor(states, dtype=torch.uint8).view(-1, *event.shape)


@pytest.fixture
def few_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide ones, which a coarse grid can integrate."""
    monkeypatch.setattr("genfam.networks.scalar_transformer.COMPONENTS", 6)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("event", [DIE, TINY])
def test_probabilities_of_all_states_sum_to_one(event: Event, temperature: float) -> None:
    model = family(event, rough=True, temperature=temperature)
    probabilities = model.log_prob(every_state(event)).exp()
    assert probabilities.max() > 2 * probabilities.min()  # not the trivial uniform
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(1,), (2,)])
@pytest.mark.usefixtures("few_components")
def test_density_integrates_to_one_in_the_sources_own_units(shape: tuple[int, ...], temperature: float) -> None:
    event = Event(shape)
    model = family(event, rough=True, temperature=temperature)
    look_at(model, events(event, 400))  # mean 1, standard deviation 3
    nodes = torch.linspace(-21.0, 23.0, 4001 if event.dimensions == 1 else 301)
    points = torch.cartesian_prod(*[nodes] * event.dimensions).view(-1, *shape)
    cell = float(nodes[1] - nodes[0]) ** event.dimensions
    assert float(model.log_prob(points).exp().sum()) * cell == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("event", [TINY, IMAGE, POINT, Event((1, 4, 4))])
def test_outputs_depend_on_earlier_dimensions_and_on_no_later_one(event: Event) -> None:
    model = family(event, 20000, rough=True)
    values = model._values(events(event, 8))
    outputs = model.model(values)
    for i in range(event.dimensions):
        changed = values.clone()
        changed[:, i] = (changed[:, i] + 1) % (event.levels or 1000)
        same = (model.model(changed) - outputs).abs().amax(dim=(0, 2)) < 1e-6
        assert same[: i + 1].all()
        assert not same[i + 1 :].any()


def test_neighbours_are_the_pixels_left_and_above() -> None:
    outside, table = 40, neighbours(IMAGE)
    assert table[0].tolist() == [outside] * 4
    assert table[5].tolist() == [4, 0, outside, 1]  # row 1, column 0: the one before ends the row above
    assert table[27].tolist() == [26, 22, 21, 23]  # channel 1, row 1, column 2
    assert table[20].tolist() == [19, outside, outside, outside]  # the second channel has no row above its first
    assert neighbours(POINT).tolist() == [[2], [0]]


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("event", [DIE, TINY, IMAGE, POINT])
def test_decoding_with_the_cache_gives_the_outputs_of_the_full_pass(event: Event, classes: int) -> None:
    model = family(event, 20000, rough=True, classes=classes)
    condition = torch.arange(9) % 3 if classes else None
    seen: list[Tensor] = []
    conditional = model.model.conditional
    draw = conditional.draw

    def spy(outputs: Tensor, *arguments: object) -> Tensor:
        seen.append(outputs)
        return draw(outputs, *arguments)  # type: ignore[arg-type]

    conditional.draw = spy  # type: ignore[method-assign]
    with torch.no_grad():
        values = model.model.draw(9, 1.0, torch.Generator().manual_seed(0), condition)
        torch.testing.assert_close(torch.stack(seen, 1), model.model(values, condition), atol=1e-5, rtol=1e-5)
    assert len(seen) == model.evaluations_per_sample == event.dimensions


def test_samples_follow_the_models_own_table() -> None:
    model = family(TINY, rough=True)
    states = every_state(TINY)
    table = model.log_prob(states).exp()
    n = 20_000
    x = model.sample(n, generator=torch.Generator().manual_seed(5))
    weights = 3 ** torch.arange(3, -1, -1)
    counts = torch.bincount((x.flatten(1).long() * weights).sum(1), minlength=81)
    large = table * n >= 5  # Pearson's statistic needs cells of some size: pool the rest
    observed = torch.cat([counts[large], counts[~large].sum()[None]]).double()
    expected = torch.cat([table[large], table[~large].sum()[None]]) * n
    observed, expected = observed[expected > 0], expected[expected > 0]
    assert stats.chisquare(observed, expected * n / expected.sum()).pvalue > 0.001
    wrong = family(TINY, rough=True, temperature=0.8).log_prob(states).exp()[large] * n  # the test has power
    assert stats.chisquare(counts[large], wrong * counts[large].sum() / wrong.sum()).pvalue < 1e-6


@pytest.mark.usefixtures("few_components")
def test_points_follow_the_models_own_density() -> None:
    model = family(POINT, rough=True)
    look_at(model, events(POINT, 400))
    x = model.sample(5000, generator=torch.Generator().manual_seed(5))
    # the first coordinate's marginal, integrated numerically, against the samples
    nodes = torch.linspace(-19.0, 21.0, 321)
    grid = torch.cartesian_prod(nodes, nodes)
    marginal = model.log_prob(grid).exp().view(321, 321).sum(1) * 0.125
    distribution = torch.cumsum(marginal * 0.125, 0) - marginal * 0.0625
    assert float(distribution[-1]) == pytest.approx(1.0, abs=1e-3)
    result = stats.kstest(x[:, 0].numpy(), lambda t: numpy.interp(t, nodes.numpy(), distribution.numpy()))
    assert result.pvalue > 0.001


def test_mixture_density_is_scipys() -> None:
    torch.manual_seed(0)
    mixture = Mixture(components=4, dimensions=3, slots=1, width=8)
    outputs, values = torch.randn(5, 3, 12), torch.randn(5, 3)
    logits, shifts, raw = outputs.double().chunk(3, -1)
    weights, means = torch.softmax(logits, -1), mixture.anchors.double() + shifts
    deviations = 1e-3 + torch.exp(raw - 2.0)
    expected = (weights * torch.from_numpy(stats.norm.pdf(values[..., None], means, deviations))).sum(-1).log()
    torch.testing.assert_close(mixture.log_prob(outputs, values, 1.0).double(), expected, atol=1e-4, rtol=1e-4)


def test_density_far_from_all_components_is_finite_and_has_a_gradient() -> None:
    mixture = Mixture(components=4, dimensions=1, slots=1, width=8)
    outputs = torch.zeros(1, 1, 12, requires_grad=True)
    log_prob = mixture.log_prob(outputs, torch.tensor([[1e3]]), 1.0)
    (slope,) = torch.autograd.grad(log_prob.sum(), outputs)
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(slope).all()
    assert slope[0, 0, 4:8].max() > 0  # the nearest mean is pulled towards the point


def test_learns_a_tiny_set_by_heart() -> None:
    event = Event((1, 4, 4), 5)
    x = events(event, 4)
    settings = Optimisation(learning_rate=5e-3, ema=0.05)
    model = family(event, 10000, batch_size=16, optimisation=settings)
    train(model, x, 200)
    assert float(model.log_prob(x).mean()) == pytest.approx(-math.log(4.0), abs=0.1)
    drawn = model.sample(200, generator=torch.Generator().manual_seed(0))
    known = (drawn[:, None] == x[None]).flatten(2).all(-1).any(1)
    assert known.float().mean() > 0.9


def test_learns_sharp_conditionals() -> None:
    """A ring's y given x: two values 0.01 wide. A Gaussian would put 1 % of its samples within 0.03 of a mode."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.randint(8, (4000,), generator=generator) * torch.pi / 4
    x = torch.stack([angle.cos(), angle.sin()], 1) + 0.01 * torch.randn(4000, 2, generator=generator)
    settings = Optimisation(learning_rate=5e-3, ema=0.05)
    model = family(POINT, 12000, batch_size=128, optimisation=settings)
    train(model, x, 250)
    drawn = model.sample(2000, generator=generator)
    modes = torch.stack([(torch.arange(8) * torch.pi / 4).cos(), (torch.arange(8) * torch.pi / 4).sin()], 1)
    distances, nearest = torch.cdist(drawn, modes).min(1)
    assert (distances < 0.03).float().mean() > 0.8
    assert torch.bincount(nearest, minlength=8).min() > 150  # each of 8 modes has a share of 250


def test_learns_a_die() -> None:
    faces = torch.tensor([0, 0, 0, 1, 1, 2, 3, 4, 5, 5])
    model = family(DIE)
    train(model, faces[torch.arange(1000) % 10].to(torch.uint8)[:, None], 120)
    expected = torch.bincount(faces, minlength=6) / 10
    assert 0.5 * (model.log_prob(every_state(DIE)).exp() - expected).abs().sum() < 0.03


def test_temperature_to_zero_gives_the_most_probable_level_each_time() -> None:
    model = family(IMAGE, 20000, rough=True, temperature=1e-4)
    x = model.sample(5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, x[:1].expand_as(x))
    outputs = model.model(model._values(x))
    assert torch.equal(outputs.argmax(-1).view_as(x), x.long())
    with pytest.raises(ValueError, match="expected a positive number, got 0"):
        family(DIE, temperature=0.0)


@pytest.mark.parametrize("event", [TINY, POINT])
def test_samples_are_determined_by_the_generator_alone(event: Event) -> None:
    model = family(event, network=ScalarTransformer(depth=2, heads=2, dropout=0.3))
    model.train()  # even so: dropout must not reach samples or likelihoods
    first = model.sample(50, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(99)
    assert torch.equal(first, model.sample(50, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(first, model.sample(50, generator=torch.Generator().manual_seed(2)))
    assert torch.equal(model.log_prob(first), model.log_prob(first))
    assert model.model.training
    assert first.shape == (50, *event.shape)
    assert first.dtype == (torch.uint8 if event.is_discrete else torch.float32)
    assert model.sample(0, generator=torch.Generator()).shape == (0, *event.shape)


def test_scoring_in_passes_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = family(TINY, rough=True), events(TINY, 17)
    whole = model.log_prob(x)
    monkeypatch.setattr("genfam.families.autoregressive.DRAW_BYTES", 7 * model.model.pass_bytes)
    assert model.scored_at_once == 7
    assert torch.allclose(model.log_prob(x), whole, atol=1e-5)


def test_samples_in_passes_are_as_many_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family(TINY)
    each = model.model.body.cache_bytes(4)
    monkeypatch.setattr("genfam.families.autoregressive.DRAW_BYTES", 7 * each)
    sizes: list[int] = []
    draw = model.model.draw

    def spy(n: int, *arguments: object) -> Tensor:
        sizes.append(n)
        return draw(n, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(model.model, "draw", spy)
    assert len(model.sample(17, generator=torch.Generator().manual_seed(0))) == 17
    assert sizes == [7, 7, 3]


def test_likelihood_and_samples_come_from_the_average() -> None:
    model = family(TINY)
    train(model, events(TINY, 64), 5)
    before = model.log_prob(events(TINY, 4))
    for parameter in model.model.parameters():
        parameter.data.zero_()
    assert torch.equal(before, model.log_prob(events(TINY, 4)))


@pytest.mark.parametrize(
    ("event", "parameters"),
    [(DIE, 8_000), (DIE, 250_000), (POINT, 70_000), (Event((1, 8, 8), 17), 40_000), (Event((3, 8, 8), 17), 1_000_000)],
)
def test_parameters_meet_the_budget(event: Event, parameters: int) -> None:
    model = family(event, parameters, network=ScalarTransformer(depth=4, heads=4))
    assert abs(count_parameters(model.sampling_network) - parameters) <= 0.1 * parameters


def test_declares_an_exact_likelihood_also_of_discrete_events() -> None:
    assert family(TINY).likelihood_kind is family(POINT).likelihood_kind is Likelihood.EXACT
