"""Masked diffusion: its bound, its limit, its masks and its sampler, beside what can be enumerated."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from families.toys import train
from genfam.build import NotModelled
from genfam.families.autoregressive import Autoregressive
from genfam.families.base import Optimisation
from genfam.families.masked_diffusion import MaskedDiffusion, masked_counts
from genfam.networks.masked_transformer import MaskedTransformer, beside, places
from genfam.networks.scalar_transformer import ScalarTransformer
from genfam.sources.known import Die, TinyImages
from genfam.sources.markov import Markov
from genfam.types import Event, Likelihood

THREE = Event((3,), 2)


def family(event: Event, parameters: int = 7000, *, rough: bool = False, **options: Any) -> MaskedDiffusion:
    """A family; `rough` shakes all parameters, so that no conditional is near its calm start."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "network": MaskedTransformer(depth=2, heads=2, inner=8),
        "optimisation": Optimisation(learning_rate=3e-3, ema=0.05),
        "batch_size": 64,
    } | options
    made = MaskedDiffusion(event, parameters, **settings)
    if rough:
        for parameter in made.model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return made.eval()


def states(event: Event) -> Tensor:
    return torch.tensor(list(itertools.product(range(event.levels or 0), repeat=event.dimensions)))


class Exact(nn.Module):
    """The conditionals of a table: what a perfect network would say."""

    def __init__(self, table: Tensor, event: Event) -> None:
        super().__init__()
        self.table, self.states, self.levels = table, states(event), event.levels or 0

    def forward(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, D) with masks -> (B, D, levels) log-probabilities given what is seen."""
        fits = ((values[:, None] == self.states) | (values[:, None] == self.levels)).all(dim=-1)  # (B, states)
        weight = fits * self.table
        one_hot = torch.nn.functional.one_hot(self.states, self.levels).double()
        each = torch.einsum("bs,sdl->bdl", weight, one_hot)
        return (each / each.sum(dim=-1, keepdim=True)).clamp_min(1e-30).log()


def with_network(model: MaskedDiffusion, network: nn.Module) -> MaskedDiffusion:
    model.model = network  # type: ignore[assignment]
    return model


def codes(x: Tensor, event: Event) -> Tensor:
    return (x.flatten(1).long() * (event.levels or 0) ** torch.arange(event.dimensions - 1, -1, -1)).sum(dim=1)


def induced(model: MaskedDiffusion) -> tuple[Tensor, Tensor]:
    """(states,) log of the sampler's own table, E over orders p(x | order), and (states,) the bound, E of its log."""
    event, x = model.event, states(model.event)
    found = []
    for order in itertools.permutations(range(event.dimensions)):
        values, total = torch.full_like(x, event.levels or 0), torch.zeros(len(x), dtype=torch.float64)
        for place in order:
            log_prob = torch.log_softmax(model.sampler(values).double(), dim=-1)[:, place]
            total += log_prob.gather(1, x[:, place, None])[:, 0]
            values[:, place] = x[:, place]
        found.append(total)
    every = torch.stack(found)
    return torch.logsumexp(every, dim=0) - math.log(len(every)), every.mean(dim=0)


@torch.no_grad()
def test_the_bound_is_the_mean_over_all_orders_and_below_the_samplers_own_table() -> None:
    model = family(THREE, rough=True, draws=100)
    exact, bound = induced(model)
    assert float(exact.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert bool((bound <= exact + 1e-9).all()) and float((exact - bound).max()) > 1e-3
    found = model.log_prob(states(THREE).repeat(60, 1)).view(60, 8).mean(dim=0)
    # 6,000 draws of some 0.6 nats each: 0.008; eight numbers within 4 standard errors, one false alarm in 2,000
    assert torch.allclose(found, bound, atol=0.035)


@torch.no_grad()
def test_integrating_the_time_out_changes_the_variance_and_not_the_mean() -> None:
    """MDLM's own estimator, 1/t at t uniform, of one event: the same mean, by three times the variance."""
    model = family(THREE, rough=True)
    x = torch.tensor([[0, 1, 1]]).expand(80_000, -1)
    generator = torch.Generator().manual_seed(0)
    t = (torch.rand(len(x), 1, generator=generator) * (1 - 1e-4) + 1e-4).double()  # of weight 1/t: cut off below
    masked = torch.rand(x.shape, generator=generator) < t
    surprise = -torch.log_softmax(model.model(x.masked_fill(masked, 2)), -1).gather(2, x[..., None])[..., 0].double()
    theirs = (surprise * masked).sum(dim=1) / t[:, 0]
    strata = torch.rand(len(x), generator=generator)
    ours = 3.0 * model._surprise(model.model, x, None, strata, 1.0, generator).double()
    error = math.hypot(float(theirs.std()), float(ours.std())) / math.sqrt(len(x))
    assert abs(float(theirs.mean() - ours.mean())) < 4 * error + 1e-3  # one false alarm in 16,000
    assert float(theirs.var()) > 3 * float(ours.var())


@torch.no_grad()
def test_of_independent_scalars_the_bound_is_the_likelihood() -> None:
    event = Event((4,), 3)
    shares = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    table = shares[torch.arange(4), states(event)].double().prod(dim=1)
    model = with_network(family(event, draws=100), Exact(table, event))
    found = model.log_prob(states(event).repeat(20, 1)).view(20, 81).mean(dim=0)
    # a draw is of some scalars, and scatters by up to 1.7 nats over which: 0.04 for 2,000, 4 standard errors
    assert torch.allclose(found, table.log(), atol=0.16)
    alike = shares[:1].expand(4, 3)[torch.arange(4), states(event)].double().prod(dim=1)
    same = states(event)[[0, 40, 80]]  # 0000, 1111, 2222: every scalar is as surprising
    few = with_network(family(event, draws=3), Exact(alike, event))
    assert torch.allclose(few.log_prob(same), alike.log()[[0, 40, 80]], atol=1e-5)


@torch.no_grad()
def test_a_single_scalar_has_an_exact_likelihood() -> None:
    model = family(Event((1,), 6), rough=True, draws=1)
    log_prob = model.log_prob(torch.arange(6)[:, None])
    assert model.likelihood_kind is Likelihood.EXACT and model.likelihood_method == ""
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert family(THREE).likelihood_kind is Likelihood.LOWER_BOUND
    assert family(THREE).likelihood_method == "32 draws of masks"


@torch.no_grad()
def test_any_order_sampling_with_exact_conditionals_gives_the_table() -> None:
    """Pearson's test at a false alarm in a thousand; several scalars at once are drawn as if independent."""
    event = Event((3,), 3)
    table = torch.rand(27, generator=torch.Generator().manual_seed(0)).double() ** 4
    table /= table.sum()
    model, n = with_network(family(event), Exact(table, event)), 20_000

    def p_value(steps: int) -> float:
        model.choose_sampling(steps=steps)
        x = model.sample(n, generator=torch.Generator().manual_seed(1))
        counts, expected = torch.bincount(codes(x, event), minlength=27).double(), n * table
        large = expected >= 5
        observed = torch.cat([counts[large], counts[~large].sum()[None]])
        wanted = torch.cat([expected[large], expected[~large].sum()[None]])
        return float(stats.chisquare(observed, wanted * n / wanted.sum()).pvalue)

    assert p_value(3) > 1e-3 and p_value(50) > 1e-3  # more steps than scalars are as many
    assert p_value(1) < 1e-9
    assert model.evaluations_per_sample == 1.0
    model.choose_sampling(steps=50)
    assert model.evaluations_per_sample == 3.0


def test_numbers_of_masked_scalars_are_even() -> None:
    counts = masked_counts((torch.arange(70) + 0.3) / 70, 7)
    assert torch.bincount(counts, minlength=8).tolist() == [0, *[10] * 7]
    assert int(masked_counts(torch.tensor(1.0 - 1e-9), 7)) == 7


@torch.no_grad()
def test_masks_are_of_the_stated_size_and_the_network_does_not_see_below_them() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
            seen.append(values)
            return torch.zeros(*values.shape, 2)

    model = family(Event((6,), 2))
    x = torch.randint(2, (12, 6), generator=torch.Generator().manual_seed(0))
    strata = (torch.arange(12) + 0.5) / 12
    surprise = model._surprise(Spy(), x, None, strata, 1.0, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    masked = seen[0] == 2
    assert masked.sum(dim=1).tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert torch.equal(seen[0][~masked], x[~masked])
    assert torch.allclose(surprise, torch.full((12,), math.log(2.0)))  # a mean over what is masked


@pytest.mark.parametrize(("shape", "patch"), [((2, 4, 6), 2), ((1, 4, 4), 4), ((5,), 1), ((3, 2, 2), 1)])
def test_every_scalar_has_one_place_and_patches_are_square(shape: tuple[int, ...], patch: int) -> None:
    event = Event(shape, 3)
    table = places(event, patch)
    assert table.flatten().sort().values.tolist() == list(range(event.dimensions))
    if patch > 1:
        at = torch.stack(torch.unravel_index(table[-1], shape))
        assert all(int(axis.max() - axis.min()) == patch - 1 for axis in at[1:])
    with pytest.raises(ValueError, match="patch: expected one that tiles"):
        places(Event((1, 5, 5), 2), 2)


def test_what_is_near_is_left_and_right_and_above_and_below() -> None:
    assert beside((4,)).tolist() == [[4, 1], [0, 2], [1, 3], [2, 4]]
    table = beside((2, 2, 3))  # channels apart: above, below, left, right
    assert table[4].tolist() == [1, 12, 3, 5] and table[6].tolist() == [12, 9, 12, 7]
    assert beside((1,)).shape == (1, 0) and beside((1, 3)).tolist() == [[3, 1], [0, 2], [1, 3]]


@torch.no_grad()
@pytest.mark.parametrize(("shape", "patch"), [((1, 4, 4), 2), ((36,), 1)])
def test_outputs_stand_where_their_scalars_do_and_see_both_ways(shape: tuple[int, ...], patch: int) -> None:
    network = MaskedTransformer(depth=1, heads=2, patch=patch, inner=6)
    event = Event(shape, 3)
    model = family(event, 6000, network=network, rough=True)
    values = torch.randint(3, (1, event.dimensions), generator=torch.Generator().manual_seed(0))
    before = model.model(values)
    assert before.shape == (1, event.dimensions, 3)
    for changed in (0, event.dimensions - 1):
        other = values.clone()
        other[0, changed] = 3
        moved = (model.model(other) - before).abs().amax(dim=(0, 2))
        assert bool((moved > 1e-7).all())  # each place sees each other, to the left and to the right
    # an order of the outputs that were wrong would show in a network that copies what it sees
    assert torch.equal(model.model.places.flatten()[model.model.back], torch.arange(event.dimensions))


@torch.no_grad()
def test_temperature_sharpens_samples_and_their_bound_alike() -> None:
    model = family(Event((1,), 5), rough=True)
    faces = torch.arange(5)[:, None]
    plain = model.log_prob(faces)
    model.choose_sampling(temperature=0.5)
    assert torch.allclose(model.log_prob(faces), torch.log_softmax(2 * plain, dim=0), atol=1e-6)
    with pytest.raises(ValueError, match="temperature: expected a positive number, got 0"):
        model.choose_sampling(temperature=0)
    with pytest.raises(ValueError, match=r"steps: expected a whole number of at least 1, got 1\.5"):
        model.choose_sampling(steps=1.5)


def test_points_are_refused_with_the_reason() -> None:
    with pytest.raises(NotModelled, match="these events are continuous: they have none"):
        family(Event((2,)))


@torch.no_grad()
def test_scoring_and_drawing_in_passes_are_bounded_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family(THREE, rough=True)
    monkeypatch.setattr("genfam.families.masked_diffusion.AT_ONCE", 7 * 6)
    assert model.drawn_at_once == 7
    sizes: list[int] = []
    model.model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    x = model.sample(17, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.log_prob(x), model.log_prob(x))
    assert max(sizes) == 7


@pytest.mark.parametrize(
    "source",
    [Die(weights=[6, 5, 4, 3, 2, 1]), pytest.param(TinyImages(), marks=pytest.mark.slow)],
    ids=lambda one: one.name,
)
def test_it_learns_small_tables(source: Any) -> None:
    """Total variation of 20,000 samples; chance alone gives √(K / 2πN) = 0.007 and 0.045."""
    x = source.sample(20_000, generator=torch.Generator().manual_seed(0))
    model = family(source.event, 7000, batch_size=256, optimisation=Optimisation(learning_rate=1e-2, ema=0.05))
    train(model, x, 100 if source.event.dimensions == 1 else 400)
    drawn = model.sample(20_000, generator=torch.Generator().manual_seed(1))
    event, table = source.event, source.table()
    counts = torch.bincount(codes(drawn, event), minlength=len(table)).double()
    order = codes(source.support(), event)
    assert 0.5 * float((counts[order] / len(drawn) - table).abs().sum()) < (0.02 if event.dimensions == 1 else 0.12)


@pytest.mark.slow
def test_on_a_known_language_the_bound_stands_beside_the_exact_likelihood() -> None:
    """Both above the entropy; the chain rule's is exact and close, the bound over all orders is looser."""
    source = Markov(length=8, letters=5, successors=2)
    x, held_out = source.sample(50_000, generator=torch.Generator().manual_seed(0)), source.test[:1000]
    own = float(-source.log_prob(held_out).mean())
    found = {}
    settings: dict[str, Any] = {"batch_size": 128, "optimisation": Optimisation(learning_rate=5e-3, ema=0.05)}
    for kind, network in ((Autoregressive, ScalarTransformer(2, 2)), (MaskedDiffusion, MaskedTransformer(2, 2))):
        torch.manual_seed(0)
        model: Any = kind(source.event, 12_000, network=network, **settings)
        train(model, x, 1500)
        found[kind] = float(-model.log_prob(held_out).mean())
    assert own < found[Autoregressive] < own + 0.15
    assert own < found[MaskedDiffusion] < own + 0.6
