"""Bodies for images: what depends on what, and that drawing and density are of one model."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genfam.networks import patch_transformer, pixelcnn
from genfam.networks.conditionals import AutoregressiveBody
from genfam.networks.convolutional import PLANE_FEATURES, ImageDecoder, ImageEncoder, PlanesDecoder, PlanesEncoder
from genfam.networks.observation import LogisticMixture
from genfam.networks.patch_transformer import PatchTransformer, neighbouring_patches
from genfam.networks.pixelcnn import GatedPixelCNN
from genfam.networks.velocity import VelocityDiT, VelocityUNet
from genfam.types import Event

BINARY, COLOUR, SQUARE = Event((1, 8, 8), 2), Event((3, 4, 4), 5), Event((1, 12, 12), 3)
BODIES: dict[str, tuple[Event, Callable[[], AutoregressiveBody]]] = {
    "binary patches": (BINARY, lambda: PatchTransformer(BINARY, 16, 2, 2, 0.0, (2, 4), 8)),
    "colour patches": (COLOUR, lambda: PatchTransformer(COLOUR, 16, 2, 2, 0.0, (2, 2), 8)),
    "patches of logistics": (COLOUR, lambda: PatchTransformer(COLOUR, 16, 2, 2, 0.0, (2, 2), 8, mixtures=2)),
    "patches of planes": (COLOUR, lambda: PatchTransformer(COLOUR, 16, 2, 2, 0.0, (2, 2), 8, planes=True)),
    "pixelcnn": (SQUARE, lambda: GatedPixelCNN(SQUARE, 8, 3)),
}


@pytest.fixture(params=sorted(BODIES))
def body(request: pytest.FixtureRequest) -> tuple[Event, AutoregressiveBody, Tensor]:
    """An event, a body with weights large enough to matter, and the order of its conditionals."""
    event, make = BODIES[request.param]
    torch.manual_seed(0)
    network = make().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    order = network.order.flatten() if isinstance(network, PatchTransformer) else torch.arange(event.dimensions)
    return event, network, order


def test_each_conditional_depends_on_all_before_it_and_on_none_after(
    body: tuple[Event, AutoregressiveBody, Tensor],
) -> None:
    event, network, order = body
    x = torch.randint(event.levels or 0, (4, event.dimensions))
    with torch.no_grad():
        base = network.log_prob(x, 1.0)
        for place in range(0, event.dimensions, 3):
            other = x.clone()
            other[:, order[place]] = (other[:, order[place]] + 1) % (event.levels or 0)
            changed = (network.log_prob(other, 1.0) - base).abs().amax(dim=0) > 1e-6
            assert not changed[:place].any()
            assert changed[place]
            if place + 1 < event.dimensions and event.shape[2] <= 8:  # far ones may be out of a convolution's reach
                assert changed[place + 1]


def likeliest(self: LogisticMixture, parameters: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
    """(B, 3M) -> (B,) levels."""
    levels = torch.arange(self.levels).expand(len(parameters), -1)
    repeated = parameters[..., None].expand(-1, -1, self.levels)
    return self.log_prob_each(levels, repeated, temperature).argmax(dim=-1)


def test_drawing_follows_the_density(
    body: tuple[Event, AutoregressiveBody, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn greedily, each value is the likeliest given those before it, as the density sees them."""
    event, network, order = body
    for module in (patch_transformer, pixelcnn):
        monkeypatch.setattr(module, "softmax_draw", lambda logits, temperature, generator: logits.argmax(dim=-1))
    monkeypatch.setattr(LogisticMixture, "sample", likeliest)
    with torch.no_grad():
        drawn = network.draw(3, 1.0, torch.Generator())
        best = network.log_prob(drawn, 1.0)
        for place in range(0, event.dimensions, 5):
            for level in range(event.levels or 0):
                other = drawn.clone()
                other[:, order[place]] = level
                assert (network.log_prob(other, 1.0)[:, place] <= best[:, place] + 1e-5).all()


def test_the_pixelcnn_draws_each_pixel_from_the_logits_that_the_whole_image_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It looks at the rows and columns in reach alone; 12 × 12 are more than these."""
    torch.manual_seed(0)
    network = GatedPixelCNN(SQUARE, 8, 3).eval()
    seen = []

    def recorded(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        seen.append(logits)
        return torch.randint(3, (len(logits),), generator=generator)

    monkeypatch.setattr(pixelcnn, "softmax_draw", recorded)
    with torch.no_grad():
        drawn = network.draw(2, 1.0, torch.Generator().manual_seed(0))
        torch.testing.assert_close(torch.stack(seen, dim=-1), network(drawn.view(2, 1, 12, 12)).flatten(2))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_each_conditional_by_logistics_sums_to_one(temperature: float) -> None:
    event, levels = Event((1, 4, 4), 40), 40
    torch.manual_seed(1)
    network = PatchTransformer(event, 8, 1, 2, 0.0, (2, 2), 4, mixtures=3)
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
    network = PatchTransformer(event, 8, 1, 2, 0.0, (2, 2), 4)
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
    network = PatchTransformer(COLOUR, 16, 2, 2, 0.0, (2, 2), 8, planes=True)
    assert network.order.shape == (12, 4)
    assert network.order[1].tolist() == [2, 3, 6, 7]
    assert [int(channel) for channel in network.order[:, 0] // 16] == [0] * 4 + [1] * 4 + [2] * 4


def test_bodies_refuse_what_they_cannot_model() -> None:
    with pytest.raises(ValueError, match="tiles 8 × 8, got 3 × 2"):
        PatchTransformer(BINARY, 16, 2, 2, 0.0, (3, 2), 8)
    with pytest.raises(ValueError, match="expected an image with discrete levels"):
        PatchTransformer(Event((2,)), 16, 2, 2, 0.0, (1, 1), 8)
    with pytest.raises(ValueError, match="single-channel"):
        GatedPixelCNN(COLOUR, 8, 3)
    with pytest.raises(ValueError, match="divisor of 28 and 28, got 3"):
        VelocityUNet((1, 28, 28), 8, 2, patch=3)
    with pytest.raises(ValueError, match="multiple of 4 heads, got 10"):
        VelocityDiT((1, 8, 8), 10, 2, 2)


VELOCITIES: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: VelocityUNet((1, 8, 8), 8, 2),
    "unet of patches": lambda: VelocityUNet((3, 12, 12), 8, 2, patch=4),
    "unet with a bottleneck": lambda: VelocityUNet((1, 8, 8), 8, 2, patch=2, bottleneck=16),
    "dit": lambda: VelocityDiT((3, 12, 12), 16, 2, patch=4),
}
SHAPES = {"unet": (1, 8, 8), "unet of patches": (3, 12, 12), "unet with a bottleneck": (1, 8, 8), "dit": (3, 12, 12)}


@pytest.mark.parametrize("name", sorted(VELOCITIES))
def test_velocities_begin_at_zero_and_see_the_whole_state_and_the_time(name: str) -> None:
    torch.manual_seed(0)
    network = VELOCITIES[name]()
    x, t = torch.randn(2, *SHAPES[name]), torch.tensor([0.2, 0.7])
    assert torch.equal(network(x, t), torch.zeros_like(x))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    x.requires_grad_(True)
    out = network(x, t)
    assert out.shape == x.shape
    (grad,) = torch.autograd.grad(out[:, 0, 0, 0].sum(), x)  # the corner depends on the far corner
    assert (grad[:, :, -1, -1] != 0).any()
    assert not torch.allclose(out, network(x, t + 0.1))


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


def test_channels_share_a_decoder_but_see_all_of_the_latent() -> None:
    torch.manual_seed(0)
    inner = ImageDecoder(4, 2, (8, 8), 3)
    decoder = PlanesDecoder(4, 3, 4, inner)
    z = torch.randn(2, 4)
    out = decoder(z).unflatten(1, (2, 3))  # outputs per pixel, planes
    for plane in range(3):
        weight, bias = decoder.codes.weight[4 * plane : 4 * plane + 4], decoder.codes.bias[4 * plane : 4 * plane + 4]
        assert torch.allclose(out[:, :, plane], inner(z @ weight.T + bias), atol=1e-6)
    slope = torch.autograd.functional.jacobian(lambda one: decoder(one[None])[0].flatten(1).sum(dim=1), z[0])
    assert (slope != 0).all()


def test_codes_as_large_together_as_the_latent_begin_orthogonal_and_others_as_any_layer() -> None:
    """Orthogonal codes of a standard normal latent are independent and of unit variance."""

    def decoder(latent: int) -> PlanesDecoder:
        torch.manual_seed(0)
        return PlanesDecoder(latent, 3, 4, nn.Identity())

    weight = decoder(12).codes.weight
    assert torch.allclose(weight @ weight.T, torch.eye(12), atol=1e-5)
    narrow = decoder(4)
    torch.manual_seed(0)
    assert torch.equal(narrow.codes.weight, nn.Linear(4, 12).weight)


def test_what_an_encoder_says_of_one_channel_depends_on_the_others() -> None:
    """Else a critic would not see which channels come together: a sum over channels knows their marginals only."""
    torch.manual_seed(0)
    encoder = PlanesEncoder(1, 2, ImageEncoder(1, PLANE_FEATURES, (8, 8), 3), "leaky_relu")
    a, b, c, d = torch.randn(4, 8, 8)

    def score(one: Tensor, two: Tensor) -> float:
        return float(encoder(torch.stack([one, two])[None]).detach())

    assert abs(score(a, b) - score(c, b) - score(a, d) + score(c, d)) > 1e-3 * abs(score(a, b))
    assert score(a, b) != score(b, a)
