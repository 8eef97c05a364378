"""Perceptrons by hand: residual layers, features, times, codes, and units."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from genfam.networks.embeddings import CODE, Codes, Fourier, FourierFeatures, TimeFeatures
from genfam.networks.perceptron import ACTIVATIONS, Perceptron, ResidualMLP


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_residual_perceptron_is_its_formula(name: str) -> None:
    torch.manual_seed(0)
    network, act = ResidualMLP(3, 2, 5, depth=2, activation=name, random_biases=True), ACTIVATIONS[name]
    x = torch.randn(4, 3)
    h = act(network.enter(x))
    for layer in network.layers:
        h = h + act(layer(h))
    assert torch.allclose(network(x), network.exit(h))


def test_depth_does_not_raise_the_variance() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 64)
    spread = [float(ResidualMLP(64, 64, 256, depth=depth)(x).detach().std()) for depth in (2, 16)]
    assert spread[1] < 1.5 * spread[0]


def test_dropout_only_while_training() -> None:
    network = Perceptron(dropout=0.5).encoder((2,), 3, 16)
    x = torch.randn(4, 2)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_scale_is_a_change_of_units() -> None:
    """A network of scale s says of x what one of scale 1 says of s x, and what it draws is divided by s."""
    settings = {"depth": 2, "random_biases": True, "features": Fourier(3, 1.0), "latent_features": Fourier(2, 0.5)}

    def pair(role: str, *arguments: object) -> list[nn.Module]:
        made = []
        for scale in (1.0, 3.0):
            torch.manual_seed(0)
            made.append(getattr(Perceptron(**settings, scale=scale), role)(*arguments))  # type: ignore[arg-type]
        return made

    x, z, t = torch.randn(5, 2), torch.randn(5, 4), torch.rand(5)
    plain, large = pair("encoder", (2,), 6, 8)
    assert torch.allclose(large(x), plain(3.0 * x), atol=1e-5)
    plain, large = pair("decoder", 4, (2,), 8)
    assert torch.allclose(3.0 * large(z), plain(z), atol=1e-5)
    plain, large = pair("field", (2,), 8)
    for network in (plain, large):
        nn.init.normal_(network.body.exit.weight, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(3.0 * large(x, t), plain(3.0 * x, t), atol=1e-5)


def test_a_network_sees_numbers_frequencies_the_time_and_a_code_in_this_order() -> None:
    network = Perceptron(depth=1, features=Fourier(5, 0.5), scale=2.0).field((1, 2, 2), 8, classes=3)
    x, t, values, seen = torch.randn(6, 1, 2, 2), torch.rand(6), torch.arange(6) % 3, []
    network.body.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert network(x, t, values).shape == (6, 1, 2, 2)
    flat = 2.0 * x.flatten(1)
    angles = 2 * math.pi * flat @ FourierFeatures(4, 5, 0.5).frequencies  # the draw is architecture
    expected = [flat, angles.sin(), angles.cos(), network.time(t), network.codes(values)]
    assert torch.allclose(seen[0], torch.cat(expected, dim=1), atol=1e-5)
    latent = Perceptron(depth=1, features=Fourier(5, 0.5), latent_features=Fourier(2, 0.5))
    assert latent.decoder(3, (2,), 8).body.enter.in_features == 3 + 2 * 2
    assert latent.encoder((2,), 3, 8, classes=2).body.enter.in_features == 2 + 2 * 5 + CODE


def test_frequencies_have_their_scale_and_belong_to_no_seed() -> None:
    torch.manual_seed(1)
    first = FourierFeatures(2, 4000, 3.0).frequencies
    torch.manual_seed(2)
    assert torch.equal(first, FourierFeatures(2, 4000, 3.0).frequencies)
    assert float(first.std()) == pytest.approx(3.0, rel=0.05)  # of 8,000 numbers: six standard errors
    assert FourierFeatures(2, 4, 3.0).outputs == FourierFeatures(2, 4, 3.0)(torch.zeros(1, 2)).shape[1] == 10


def test_times_are_told_apart() -> None:
    features = TimeFeatures()
    t = torch.linspace(0, 1, 101)
    seen = features(t)
    assert seen.shape == (101, features.outputs)
    assert torch.allclose(seen[:, :8].square() + seen[:, 8:].square(), torch.ones(101, 8), atol=1e-5)
    assert float(torch.pdist(seen).min()) > 0.1


def test_each_value_of_a_condition_has_features_of_its_own() -> None:
    codes = Codes(4, 7)
    values = torch.tensor([3, 0, 3, 1])
    found = codes(values)
    assert found.shape == (4, 7) and torch.equal(found[0], found[2])
    assert torch.allclose(found, codes.exit(codes.codes.weight[values]))


def test_unknown_activations_name_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"activation: expected one of \['gelu', 'leaky_relu', 'silu'\], got 'relu7'"):
        Perceptron(activation="relu7")
