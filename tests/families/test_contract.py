"""Every family in conf/family, found by its YAML, is put through the contract on every kind of event."""

import copy
from pathlib import Path

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genfam.families.base import Family, NothingToChoose
from genfam.networks.sizing import count_parameters
from genfam.saved import make_family, make_source
from genfam.seeds import derived_generator
from genfam.training import plan
from genfam.types import Likelihood
from helpers import composed

FAMILIES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "family").glob("*.yaml"))
SOURCES = ["die", "tiny_images", "grid", "digits", "stacked_digits"]
CELLS = [(family, source) for family in FAMILIES for source in SOURCES]
_sources: dict = {}


def make(family: str, source: str):
    config = composed(f"family={family}", f"source={source}")
    if source not in _sources:
        _sources[source] = make_source(config)
    torch.manual_seed(0)
    return make_family(config, _sources[source]), _sources[source], config


@pytest.mark.parametrize(("family_name", "source_name"), CELLS)
def test_contract(family_name: str, source_name: str) -> None:
    family, source, config = make(family_name, source_name)
    assert isinstance(family, Family)
    if family.trains:
        target = config["budget"]["parameters"]
        assert abs(count_parameters(family.sampling_network) - target) <= 0.1 * target
        plan(family, source, config["budget"]["train_flops"])
        again = copy.deepcopy(family)
        plan(again, source, config["budget"]["train_flops"])
        assert again.flops_per_update == family.flops_per_update > 0
        assert family.total_updates * family.flops_per_update <= config["budget"]["train_flops"]
        family.batch_size = 8
        before = {name: p.detach().clone() for name, p in family.named_parameters() if "average" not in name}
        family.train()
        optimisers = family.configure_optimizers()
        assert len(optimisers) == len(family.players)
        decay = 1.0 - 1.0 / (1.0 + family.optimisation.ema * family.total_updates)
        reference = AveragedModel(getattr(family, family.players[-1]), multi_avg_fn=get_ema_multi_avg_fn(decay))
        for step in range(2):
            family.update(source.train[8 * step : 8 * step + 8], optimisers, lambda loss: loss.backward())
            reference.update_parameters(getattr(family, family.players[-1]))
        for player in family.players:
            own = {f"{player}.{name}" for name, _ in getattr(family, player).named_parameters()}
            assert any(not torch.equal(before[n], p) for n, p in family.named_parameters() if n in own), player
        assert family.updates == 2 and family.events_seen == 16
        if family.optimisation.ema:
            assert all(map(torch.equal, family.average.parameters(), reference.parameters()))
            assert int(family.average.n_averaged) == 2
    family.eval()
    if family.trains:
        with torch.no_grad():  # layers that begin as zeros would draw one picture from all noise, to 17 levels
            for p in family.sampler.parameters():
                p.add_(0.03 * torch.randn_like(p))
    x = family.sample(5, generator=derived_generator(0, "a"))
    assert x.shape == (5, *source.event.shape)
    assert x.dtype == (torch.float32 if source.event.levels is None else torch.uint8)
    assert not x.requires_grad
    if source.event.levels is not None:
        assert int(x.max()) < source.event.levels
    assert torch.equal(x, family.sample(5, generator=derived_generator(0, "a")))
    if source.event.dimensions > 1:
        assert not torch.equal(x, family.sample(5, generator=derived_generator(0, "b")))
    if family.sampling is None:
        with pytest.raises(NothingToChoose, match=f"{type(family).__name__} has no steps .* network evaluations"):
            family.choose_sampling(2)
    else:
        before = family.sampling
        family.choose_sampling(2)
        twice = family.evaluations_per_sample
        family.choose_sampling(1)
        # Of Heun's method, n steps ask 2 n times, or 2 n - 1 where the last has no corrector (prediction=data).
        assert twice == family.evaluations_per_sample * (3 if config["family"]["prediction"] == "data" else 2)
        assert family.sample(5, generator=derived_generator(0, "a")).shape == x.shape
        family.choose_sampling(before.steps, before.solver)
        assert family.sampling == before
    if family.likelihood_kind is Likelihood.NONE:
        with pytest.raises(NotImplementedError, match="has no log_prob"):
            family.log_prob(source.test[:3])
    else:
        log_prob = family.log_prob(source.test[:3])
        assert log_prob.shape == (3,) and bool(torch.isfinite(log_prob).all()) and not log_prob.requires_grad
        assert torch.allclose(log_prob, family.log_prob(source.test[:3]))
        if source.event.is_discrete and family.likelihood_kind is not Likelihood.ESTIMATE:
            assert bool((log_prob <= 1e-5).all())
    other, _, _ = make(family_name, source_name)
    other.load_state_dict(family.state_dict())
    other.eval()
    assert torch.equal(x, other.sample(5, generator=derived_generator(0, "a")))
