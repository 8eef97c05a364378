"""`planes`: channels that share a network."""

import pytest

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
