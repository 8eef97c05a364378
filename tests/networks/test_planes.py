"""Channels that share a network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genfam.networks.convolutional import Convolutional, ImageDecoder, ImageEncoder
from genfam.networks.planes import PLANE_FEATURES, Planes, PlanesDecoder, PlanesEncoder


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


def test_a_decoder_begins_with_independent_channels() -> None:
    """In the linear approximation at z = 0: what the latent does to one channel, it does not to another."""
    torch.manual_seed(0)
    decoder = Planes(Convolutional(), code=4).decoder(12, (3, 8, 8), 4)
    slopes = torch.autograd.functional.jacobian(lambda z: decoder(z[None])[0].flatten(1), torch.zeros(12))
    one, two, three = slopes  # (pixels, latent) each
    scale = (one @ one.T).abs().max()
    for a, b in ((one, two), (one, three), (two, three)):
        assert (a @ b.T).abs().max() < 1e-4 * scale


def test_several_outputs_per_pixel_stand_before_the_channels() -> None:
    torch.manual_seed(0)
    network = Planes(Convolutional(), code=4)
    decoder = network.decoder(6, (2, 3, 8, 8), 4)
    z = torch.randn(5, 6)
    out = decoder(z)
    codes = decoder.body.codes(z).unflatten(1, (3, 4))
    for channel in range(3):
        assert torch.allclose(out[:, :, channel], decoder.body.decoder(codes[:, channel]), atol=1e-6)


def test_what_an_encoder_says_of_one_channel_depends_on_the_others() -> None:
    """Else a critic would not see which channels come together: a sum over channels knows their marginals only."""
    torch.manual_seed(0)
    encoder = PlanesEncoder(1, 2, ImageEncoder(1, PLANE_FEATURES, (8, 8), 3), "leaky_relu")
    a, b, c, d = torch.randn(4, 8, 8)

    def score(one: Tensor, two: Tensor) -> float:
        return float(encoder(torch.stack([one, two])[None]).detach())

    assert abs(score(a, b) - score(c, b) - score(a, d) + score(c, d)) > 1e-3 * abs(score(a, b))
    assert score(a, b) != score(b, a)


def test_unknown_activations_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="activation: expected one of"):
        Planes(Convolutional(), activation="relu7")
