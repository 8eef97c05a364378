"""GANs of tokens by relaxation: corners in, probabilities through, the largest out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from families.toys import Slices, train
from genfam.build import NotModelled
from genfam.families.base import Optimisation
from genfam.families.latents import Latent
from genfam.families.one_hot_gan import OneHot, OneHotGAN
from genfam.families.vae import VAE
from genfam.networks.base import count_parameters
from genfam.networks.perceptron import Perceptron
from genfam.networks.tokens import Simplex, Tokens
from genfam.types import Batch, Event

TOKENS = Event((4,), 5)


def family(event: Event = TOKENS, **options: Any) -> OneHotGAN:
    torch.manual_seed(0)
    network = Simplex(Perceptron(depth=2, activation="leaky_relu", random_biases=True))
    settings: dict[str, Any] = {"optimisation": Optimisation(learning_rate=1e-3, betas=(0.0, 0.99)), "batch_size": 64}
    return OneHotGAN(event, 6000, network, **settings | options)


def test_tokens_become_corners_and_come_back() -> None:
    x = torch.randint(5, (7, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    codec = OneHot(TOKENS)
    corners = codec.encode(x)
    assert corners.shape == (7, 5, 4) and torch.equal(corners.sum(dim=1), torch.ones(7, 4))
    assert torch.equal(codec.decode(corners), x) and codec.decode(corners).dtype == torch.uint8


def test_the_generator_gives_probabilities_and_gradients_pass_through_them() -> None:
    gan = family(classes=3)
    fake = gan.generator(torch.randn(6, gan.latent.size), torch.arange(6) % 3)
    assert fake.shape == (6, 5, 4) and bool((fake > 0).all())
    assert torch.allclose(fake.sum(dim=1), torch.ones(6, 4), atol=1e-6)
    assert abs(count_parameters(gan.sampling_network) - 6000) <= 600
    x = torch.randint(5, (64, 4)).to(torch.uint8)
    for player in gan.players:
        gan.loss(Batch(x, torch.arange(64) % 3), player).backward()
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in gan.player_parameters(player))
    gan.condition = Slices(3)
    drawn = gan.sample(9, generator=torch.Generator().manual_seed(0), condition=1)
    assert drawn.shape == (9, 4) and drawn.dtype == torch.uint8


def test_it_learns_which_strings_there_are() -> None:
    """Two strings without a letter in common: a mixture of both has neither, and half of each is no string."""
    strings = torch.tensor([[0, 1, 2, 3], [4, 3, 1, 0]], dtype=torch.uint8)
    gan = family(latent=Latent(4, 1))
    train(gan, strings.repeat(100, 1), 300)
    drawn = gan.sample(500, generator=torch.Generator().manual_seed(1))
    hits = (drawn[:, None] == strings).all(dim=-1).float().mean(dim=0)
    assert float(hits.sum()) > 0.95 and float(hits.min()) > 0.2


def test_numbers_of_tokens_and_points_are_refused() -> None:
    with pytest.raises(ValueError, match="OneHotGAN: expected discrete events"):
        family(Event((2,)))
    tokens = Tokens(Perceptron(depth=1))
    assert VAE(Event((6,), 32), 20_000, tokens, Optimisation(), 8).one_hot
    with pytest.raises(NotModelled, match=r"expected tokens one-hot, got their numbers: with more than 32 of them"):
        VAE(Event((6,), 33), 20_000, tokens, Optimisation(), 8)
