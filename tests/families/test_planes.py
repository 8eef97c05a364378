"""`planes`: channels that share a network."""

import pytest
import torch

from genfam.families.autoregressive import Autoregressive
from genfam.families.base import Optimisation
from genfam.families.gan import GAN
from genfam.families.vae import VAE
from genfam.types import Event

COLOUR = Event((3, 8, 8), 256)


@pytest.mark.parametrize(
    ("family", "body", "expected"), [(GAN, "mlp", "conv"), (VAE, "mlp", "conv"), (Autoregressive, "scalars", "patches")]
)
def test_planes_are_refused_where_no_network_has_them(family, body, expected):
    with pytest.raises(ValueError, match=f"planes: expected body={expected}, got {body}"):
        family(COLOUR, 20_000, Optimisation(1e-3), 4, body=body, planes=True)


def test_channels_that_share_a_generator_want_equal_shares_of_the_latent():
    with pytest.raises(ValueError, match=r"latent: expected a multiple of the 3 channels \(planes\), got 64"):
        GAN(COLOUR, 20_000, Optimisation(1e-3), 4, body="conv", planes=True, latent=62, latent_bits=2)


def test_a_generator_begins_with_independent_channels():
    """In the linear approximation at z = 0: what the latent does to one channel, it does not to another."""
    torch.manual_seed(0)
    family = GAN(COLOUR, 20_000, Optimisation(1e-3), 4, body="conv", depth=1, planes=True, latent=12)
    slopes = torch.autograd.functional.jacobian(lambda z: family.generator(z[None])[0].flatten(1), torch.zeros(12))
    one, two, three = slopes  # (pixels, latent) each
    scale = (one @ one.T).abs().max()
    assert (one @ two.T).abs().max() < 1e-4 * scale
    assert (one @ three.T).abs().max() < 1e-4 * scale
    assert (two @ three.T).abs().max() < 1e-4 * scale
