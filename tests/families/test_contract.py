"""Every family in conf/family, found by its YAML, is put through the contract on every kind of event."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from families.toys import Slices
from genfam.build import NotModelled
from genfam.families.base import Family, NothingToChoose, NoTrajectory
from genfam.networks.base import count_parameters
from genfam.records.run import Run
from genfam.running.parts import make_family, make_source
from genfam.running.training import plan
from genfam.seeds import derived_generator
from genfam.sources.base import Source
from genfam.types import Batch, Likelihood
from helpers import composed, plain_families

pytestmark = pytest.mark.usefixtures("coarse_integrals")

FAMILIES = [*plain_families(), "reflow"]
SOURCES = ["die", "tiny_images", "grid", "digits", "stacked_digits", "grammar"]
# Cells that a family does not model; suites leave them out.
REFUSED = {("masked_diffusion", "grid"), ("normalizing_flow", "grammar")}
VALUES = {"temperature": 0.5, "steps": 2, "guidance": 1.0}  # of knobs, for any family that has them
SOLVERS = {"diffusion": "ddim"}  # a family's own; else Euler's method


@cache
def source_of(name: str) -> Source:
    return make_source(settings("gaussian", name))


@cache
def settings(family: str, source: str) -> Run:
    return Run.of(composed(f"family={family}", f"source={source}"))


def make(run: Run) -> Family:
    torch.manual_seed(0)
    if (run.family["name"], run.source["name"]) in REFUSED:
        with pytest.raises(NotModelled):
            make_family(run, source_of(run.source["name"]))
        pytest.skip("not modelled, and it says so")
    return make_family(run, source_of(run.source["name"]))


@cache
def _untrained(family: str, source: str) -> Family:
    return make(settings(family, source))


def untrained(family: str, source: str) -> Family:
    """A copy: the search for a width takes most of the time."""
    torch.manual_seed(0)
    return copy.deepcopy(_untrained(family, source))


def shaken(family: Family) -> Family:
    """Layers that begin as zeros would draw one picture from all noise, to 17 levels."""
    if family.trains:
        with torch.no_grad():
            for parameter in family.sampler.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
    return family.eval()


@pytest.mark.parametrize(
    "source_name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("stacked_digits", "tiny_images") else name
     for name in SOURCES],
)  # fmt: skip
@pytest.mark.parametrize("family_name", FAMILIES)
def test_training(family_name: str, source_name: str) -> None:
    run = settings(family_name, source_name)
    family, source = untrained(family_name, source_name), source_of(source_name)
    if not family.trains:
        assert family.players == ()
        return
    target = run.budget.parameters
    assert abs(count_parameters(family.sampling_network) - target) <= 0.1 * target
    plan(family, source, run.budget.train_flops)
    assert 0 < family.total_updates * family.flops_per_update <= run.budget.train_flops
    family.batch_size = 8
    before = {name: p.detach().clone() for name, p in family.named_parameters() if "average" not in name}
    family.train()
    optimisers = family.configure_optimizers()
    assert len(optimisers) == len(family.players)
    decay = 1.0 - 1.0 / (1.0 + family.optimisation.ema * family.total_updates)
    reference = AveragedModel(getattr(family, family.players[-1]), multi_avg_fn=get_ema_multi_avg_fn(decay))
    for step in range(2):
        family.update(Batch(source.train[8 * step : 8 * step + 8]), optimisers, torch.autograd.backward)
        reference.update_parameters(getattr(family, family.players[-1]))
    for player in family.players:
        own = {f"{player}.{name}" for name, _ in getattr(family, player).named_parameters()}
        assert any(not torch.equal(before[n], p) for n, p in family.named_parameters() if n in own), player
    assert family.updates == 2 and family.events_seen == 16
    if family.optimisation.ema:
        assert all(map(torch.equal, family.average.parameters(), reference.parameters()))
        assert int(family.average.n_averaged) == 2


@pytest.mark.parametrize(
    "source_name",
    [pytest.param(name, marks=pytest.mark.slow) if name == "stacked_digits" else name for name in SOURCES],
)
@pytest.mark.parametrize("family_name", FAMILIES)
def test_sampling_and_scoring(family_name: str, source_name: str) -> None:
    family, source = shaken(untrained(family_name, source_name)), source_of(source_name)
    event = source.event
    x = family.sample(5, generator=derived_generator(0, "a"))
    assert x.shape == (5, *event.shape)
    assert x.dtype == (torch.uint8 if event.is_discrete else torch.float32)
    assert not x.requires_grad
    assert int(x.max()) < (event.levels or 10**6)
    assert torch.equal(x, family.sample(5, generator=derived_generator(0, "a")))
    if event.dimensions > 1:
        assert not torch.equal(x, family.sample(5, generator=derived_generator(0, "b")))
    assert family.sample(0, generator=derived_generator(0, "a")).shape == (0, *event.shape)
    if family.likelihood_kind is Likelihood.NONE:
        with pytest.raises(NotImplementedError, match="has no log_prob"):
            family.log_prob(source.test[:3])
    else:
        log_prob = family.log_prob(source.test[:3])
        assert log_prob.shape == (3,) and bool(torch.isfinite(log_prob).all()) and not log_prob.requires_grad
        assert torch.allclose(log_prob, family.log_prob(source.test[:3]))
        if event.is_discrete and family.likelihood_kind is not Likelihood.ESTIMATE:
            assert bool((log_prob <= 1e-5).all())
        assert family.log_prob(source.test[:0]).shape == (0,)


@pytest.mark.parametrize("source_name", ["die", "grid"])
@pytest.mark.parametrize("family_name", FAMILIES)
def test_weights_kept_and_loaded_give_the_same_samples(family_name: str, source_name: str) -> None:
    family = shaken(untrained(family_name, source_name))
    torch.manual_seed(99)
    other = make_family(settings(family_name, source_name), source_of(source_name)).eval()
    other.load_state_dict(family.state_dict())
    assert torch.equal(*(one.sample(5, generator=derived_generator(0, "a")) for one in (family, other)))


@pytest.mark.parametrize("source_name", ["die", "grid"])
@pytest.mark.parametrize("family_name", FAMILIES)
def test_knobs_of_sampling(family_name: str, source_name: str) -> None:
    family = shaken(untrained(family_name, source_name))
    name = type(family).__name__
    if not family.sampling:
        with pytest.raises(NothingToChoose, match=f"{name} has no sampling knobs: .* network evaluations"):
            family.choose_sampling(steps=2)
        return
    before = dict(family.sampling)
    x = family.sample(5, generator=derived_generator(0, "a"))
    with pytest.raises(ValueError, match=f"zeal: expected one of {name}'s sampling knobs, {', '.join(before)}"):
        family.choose_sampling(zeal=2)
    assert family.sampling == before
    values = VALUES | {"solver": SOLVERS.get(family_name, "euler")}
    for knob in before:
        family.choose_sampling(**{knob: values[knob]})
        assert family.sampling[knob] == values[knob]
        assert family.sample(5, generator=derived_generator(0, "a")).shape == x.shape
    family.choose_sampling(**before)
    assert torch.equal(x, family.sample(5, generator=derived_generator(0, "a")))


@pytest.mark.parametrize("source_name", ["die", "grid"])
@pytest.mark.parametrize("family_name", FAMILIES)
def test_a_condition(family_name: str, source_name: str) -> None:
    run = settings(family_name, source_name)
    with pytest.raises(ValueError, match="condition: expected none"):
        untrained(family_name, source_name).sample(2, generator=derived_generator(0, "a"), condition=0)
    node = {"_target_": "families.toys.Slices", "name": "slices", "dropout": 0.1}
    family = shaken(make(run.model_copy(update={"condition": node, "plugins": ["families"]})))
    source, condition = source_of(source_name), family.condition
    assert isinstance(condition, Slices)
    x, labels = source.train[:8], condition.of(source.train[:8])
    for player in family.players:
        assert torch.isfinite(family.loss(Batch(x, condition.dropped(labels)), player))
    one = family.sample(5, generator=derived_generator(0, "a"), condition=1)
    assert torch.equal(one, family.sample(5, generator=derived_generator(0, "a"), condition=torch.ones(5).long()))
    assert family.sample(5, generator=derived_generator(0, "a")).shape == one.shape
    with pytest.raises(ValueError, match="condition: expected 0 to 1, got 2"):
        family.sample(5, generator=derived_generator(0, "a"), condition=2)
    if family.likelihood_kind is not Likelihood.NONE:
        each = torch.stack([family.log_prob(x, condition=value) for value in (0, 1)])
        assert not torch.allclose(each[0], each[1])
        assert torch.allclose(family.log_prob(x), torch.logsumexp(each + condition.shares.log()[:, None], 0), atol=1e-4)
        assert torch.allclose(family.log_prob(x, condition=labels), each.gather(0, labels[None])[0], atol=1e-3)


@pytest.mark.parametrize("source_name", ["grid", "digits", "die"])
@pytest.mark.parametrize("family_name", FAMILIES)
def test_sampling_step_by_step(family_name: str, source_name: str) -> None:
    family, event = shaken(untrained(family_name, source_name)), source_of(source_name).event
    times = [0.5, 0.0, 1.0, 0.75]
    if not family.trajectory:
        with pytest.raises(NoTrajectory):
            family.snapshots(3, times, derived_generator(0, "steps"))
        return
    states = family.snapshots(3, times, derived_generator(0, "steps"))
    again = family.snapshots(3, times, derived_generator(0, "steps"))
    assert states.shape == (4, 3, *event.shape) and states.dtype == torch.float32
    assert torch.equal(states.nan_to_num(-1.0), again.nan_to_num(-1.0))
    middle, first, last, later = states
    assert bool(last.isfinite().all())
    assert not torch.equal(first.nan_to_num(-1.0), last)
    if "scalars" in family.trajectory:  # each is said once, in its time, and stays
        assert bool(first.isnan().all())
        for time, state in ((0.5, middle), (0.75, later)):
            said = ~state.isnan()
            assert torch.equal(state[said], last[said])
            assert said.flatten(1).sum(dim=1).tolist() == [round(time * event.dimensions)] * 3
        sample = family.sample(3, generator=derived_generator(0, "steps"))
        assert torch.equal(last.to(sample.dtype), sample)
    else:
        assert bool(states.isfinite().all())
