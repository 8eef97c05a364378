"""Networks for images: what depends on what, and that drawing and density are of one model."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genfam.networks import patch_transformer
from genfam.networks.convolutional import ImageDecoder, ImageEncoder
from genfam.networks.observation import LogisticMixture
from genfam.networks.patch_transformer import PatchConditionals, neighbouring_patches
from genfam.types import Event

BINARY, COLOUR = Event((1, 8, 8), 2), Event((3, 4, 4), 5)
NETWORKS: dict[str, tuple[Event, Callable[[], PatchConditionals]]] = {
    "binary patches": (BINARY, lambda: PatchConditionals(BINARY, 16, 2, 2, 0.0, (2, 4), 8)),
    "colour patches": (COLOUR, lambda: PatchConditionals(COLOUR, 16, 2, 2, 0.0, (2, 2), 8)),
    "patches of logistics": (COLOUR, lambda: PatchConditionals(COLOUR, 16, 2, 2, 0.0, (2, 2), 8, mixtures=2)),
    "patches of planes": (COLOUR, lambda: PatchConditionals(COLOUR, 16, 2, 2, 0.0, (2, 2), 8, planes=True)),
    "with a condition": (COLOUR, lambda: PatchConditionals(COLOUR, 16, 2, 2, 0.0, (2, 2), 8, classes=3)),
}


@pytest.fixture(params=sorted(NETWORKS))
def made(request: pytest.FixtureRequest) -> tuple[Event, PatchConditionals, Tensor | None]:
    """An event, a network with weights large enough to matter, and what three events are conditioned on."""
    event, make = NETWORKS[request.param]
    torch.manual_seed(0)
    network = make().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return event, network, torch.tensor([2, 0, 1]) if network.codes is not None else None


def test_each_conditional_depends_on_all_before_it_and_on_none_after(
    made: tuple[Event, PatchConditionals, Tensor | None],
) -> None:
    event, network, condition = made
    order, x = network.order.flatten(), torch.randint(event.levels or 0, (3, event.dimensions))
    with torch.no_grad():
        base = network.log_prob(x, 1.0, condition)
        for place in range(0, event.dimensions, 3):
            other = x.clone()
            other[:, order[place]] = (other[:, order[place]] + 1) % (event.levels or 0)
            changed = (network.log_prob(other, 1.0, condition) - base).abs().amax(dim=0) > 1e-6
            assert not changed[:place].any()
            assert changed[place : place + 2].all()
            assert int(network.rank(event.dimensions)[order[place]]) == place


def likeliest(self: LogisticMixture, parameters: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
    """(B, 3M) -> (B,) levels."""
    levels = torch.arange(self.levels).expand(len(parameters), -1)
    repeated = parameters[..., None].expand(-1, -1, self.levels)
    return self.log_prob_each(levels, repeated, temperature).argmax(dim=-1)


def test_drawing_follows_the_density(
    made: tuple[Event, PatchConditionals, Tensor | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn greedily, each value is the likeliest given those before it, as the density sees them."""
    event, network, condition = made
    order = network.order.flatten()
    monkeypatch.setattr(patch_transformer, "softmax_draw", lambda logits, temperature, generator: logits.argmax(dim=-1))
    monkeypatch.setattr(LogisticMixture, "sample", likeliest)
    with torch.no_grad():
        drawn = network.draw(3, 1.0, torch.Generator(), condition)
        best = network.log_prob(drawn, 1.0, condition)
        for place in range(0, event.dimensions, 5):
            for level in range(event.levels or 0):
                other = drawn.clone()
                other[:, order[place]] = level
                assert (network.log_prob(other, 1.0, condition)[:, place] <= best[:, place] + 1e-5).all()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_each_conditional_by_logistics_sums_to_one(temperature: float) -> None:
    event, levels = Event((1, 4, 4), 40), 40
    torch.manual_seed(1)
    network = PatchConditionals(event, 8, 1, 2, 0.0, (2, 2), 4, mixtures=3)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    for index, dimension in enumerate(network.order.flatten().tolist()):
        x = torch.randint(levels, (event.dimensions,)).repeat(levels, 1)
        x[:, dimension] = torch.arange(levels)
        with torch.no_grad():
            conditional = network.log_prob(x, temperature)[:, index].double().exp()
        assert float(conditional.sum()) == pytest.approx(1.0, abs=1e-4)


def test_probabilities_of_all_images_sum_to_one() -> None:
    event = Event((1, 4, 4), 2)  # 65,536 images
    torch.manual_seed(1)
    network = PatchConditionals(event, 8, 1, 2, 0.0, (2, 2), 4)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    bits = torch.arange(2**16)[:, None] >> torch.arange(16)
    with torch.no_grad():
        total = sum(
            float(network.log_prob(part, 1.0).double().sum(dim=1).exp().sum()) for part in (bits % 2).split(8192)
        )
    assert total == pytest.approx(1.0, abs=1e-4)


def test_neighbouring_patches_are_those_before_and_above() -> None:
    table = neighbouring_patches(2, 3)
    assert table[0].tolist() == [6, 6, 6, 6]
    assert table[4].tolist() == [3, 1, 0, 2]
    assert table[5].tolist() == [4, 2, 1, 6]


def test_neighbours_above_are_of_the_same_plane() -> None:
    table = neighbouring_patches(2, 3, planes=2)
    assert table[0].tolist() == [12, 12, 12, 12]
    assert table[5].tolist() == [4, 2, 1, 12]
    assert table[6].tolist() == [5, 12, 12, 12]
    assert table[10].tolist() == [9, 7, 6, 8]


def test_a_patch_of_a_plane_holds_one_channel_and_planes_come_one_after_the_other() -> None:
    network = PatchConditionals(COLOUR, 16, 2, 2, 0.0, (2, 2), 8, planes=True)
    assert network.order.shape == (12, 4)
    assert network.order[1].tolist() == [2, 3, 6, 7]
    assert [int(channel) for channel in network.order[:, 0] // 16] == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_keep_neighbouring_pixels_together(patch: int, hidden: int) -> None:
    """One position of the lowest layer makes exactly patch × patch pixels, and takes as many in."""
    decoder = ImageDecoder(3, 1, (8, 8), 4, patch=patch, hidden=hidden)
    assert decoder(torch.randn(2, 3)).shape == (2, 1, 8, 8)
    encoder = ImageEncoder(1, 5, (8, 8), 4, patch=patch, hidden=hidden)
    assert encoder(torch.randn(2, 1, 8, 8)).shape == (2, 5)
    x = torch.zeros(1, 1, 8, 8)
    x[..., :patch, :patch] = torch.arange(1.0, patch**2 + 1).view(patch, patch)
    gathered = encoder.gather(x)
    assert gathered[0, :, 0, 0].tolist() == list(range(1, patch**2 + 1))
    assert float(gathered.abs().sum()) == math.fsum(range(1, patch**2 + 1))
    assert torch.equal(decoder.spread(gathered), x)
