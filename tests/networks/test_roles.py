"""Every network in every role that it can play: shapes, conditions, refusals, and the width that meets a budget."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genfam.networks.base import Network, count_parameters, fit_width
from genfam.networks.convolutional import Convolutional
from genfam.networks.dit import DiT
from genfam.networks.embeddings import Fourier
from genfam.networks.patch_transformer import PatchTransformer
from genfam.networks.perceptron import Perceptron
from genfam.networks.planes import Planes
from genfam.networks.scalar_transformer import ScalarTransformer
from genfam.networks.unet import UNet
from genfam.types import Event

CODERS: list[tuple[Network, tuple[int, ...]]] = [
    (Perceptron(2), (2,)),
    (Perceptron(2, features=Fourier(3, 1.0), latent_features=Fourier(2, 0.5)), (3, 1, 6)),
    (Convolutional(patch=2, hidden=7), (1, 8, 8)),
    (Convolutional(), (2, 3, 12, 12)),
    (Planes(Perceptron(1), code=5), (3, 4, 4)),
    (Planes(Convolutional(), code=5), (2, 3, 8, 8)),
]
FIELDS: list[tuple[Network, tuple[int, ...]]] = [
    (Perceptron(2), (2,)),
    (Perceptron(1, features=Fourier(3, 2.0), scale=2.0), (1, 8, 8)),
    (UNet(), (1, 8, 8)),
    (UNet(patch=4), (3, 12, 12)),
    (UNet(patch=2, bottleneck=16), (1, 8, 8)),
    (UNet(patch=4, depth=1), (1, 28, 28)),  # 7 × 7 patches: not to be halved
    (DiT(2, patch=4), (3, 12, 12)),
]
CONDITIONALS: list[tuple[Network, Event]] = [
    (ScalarTransformer(2, 2), Event((2,))),
    (ScalarTransformer(1, 2), Event((1,), 6)),
    (PatchTransformer(1, 2, patch=(2, 4), inner=8), Event((1, 8, 8), 2)),
    (PatchTransformer(1, 2, patch=(2, 2), inner=8, mixtures=2), Event((3, 4, 4), 40)),
    (Planes(PatchTransformer(1, 2, patch=(2, 2), inner=8)), Event((3, 4, 4), 5)),
]


def named(value: object) -> str:
    return type(value).__name__ if isinstance(value, Network) else str(value)


def shaken(module: nn.Module) -> nn.Module:
    """Away from the zeros that it begins with."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return module.eval()


def listens(outputs: Tensor, reversed_outputs: Tensor) -> bool:
    """Of rows that differ by their value of the condition alone, each has its own output, wherever it stands."""
    apart = torch.pdist(outputs.flatten(1))
    return bool((apart > 1e-4).all()) and torch.allclose(reversed_outputs.flip(0), outputs, atol=1e-5)


@pytest.mark.parametrize(("network", "shape"), CODERS, ids=named)
def test_encoders_and_decoders_have_their_shapes_and_listen_to_a_condition(network: Network, shape: tuple[int, ...]):
    torch.manual_seed(0)
    x, z, values = torch.randn(1, *shape).expand(5, *shape), torch.randn(1, 7).expand(5, 7), torch.arange(5)
    decoder = network.decoder(7, shape, 8)
    assert decoder(z).shape == (5, *shape)
    told = shaken(network.decoder(7, shape, 8, classes=5))
    assert listens(told(z, values), told(z, values.flip(0)))
    if len(shape) == 4:
        return  # several outputs per pixel are a decoder's alone
    assert network.encoder(shape, 6, 8)(x).shape == (5, 6)
    told = shaken(network.encoder(shape, 6, 8, classes=5))
    assert listens(told(x, values), told(x, values.flip(0)))


@pytest.mark.parametrize("classes", [0, 5])
@pytest.mark.parametrize(("network", "shape"), FIELDS, ids=named)
def test_fields_begin_at_zero_and_see_the_whole_state_the_time_and_the_condition(
    network: Network, shape: tuple[int, ...], classes: int
):
    torch.manual_seed(0)
    field = network.field(shape, 8, classes)
    x, t = torch.randn(1, *shape).repeat(5, *[1] * len(shape)), torch.full((5,), 0.3)
    values = torch.arange(5) if classes else None
    assert torch.equal(field(x, t, values), torch.zeros_like(x))
    shaken(field)
    x.requires_grad_(True)
    out = field(x, t, values)
    assert out.shape == x.shape
    (grad,) = torch.autograd.grad(out.flatten(1)[:, 0].sum(), x)  # the first depends on the last
    assert (grad.flatten(1)[:, -1] != 0).any()
    assert not torch.allclose(out, field(x, t + 0.1, values))
    if values is not None:
        assert listens(out.detach(), field(x, t, values.flip(0)).detach())


@torch.no_grad()
@pytest.mark.parametrize(("network", "event"), CONDITIONALS, ids=named)
def test_all_conditionals_listen_to_a_condition(network: Network, event: Event):
    """The first directly, and the later ones through it."""
    torch.manual_seed(0)
    module = shaken(network.conditionals(event, 8, classes=5))
    x = torch.randn(1, event.dimensions) if event.levels is None else torch.randint(event.levels, (1, event.dimensions))
    x, values = x.expand(5, -1), torch.arange(5)
    found = module.log_prob(x, 1.0, values)
    assert found.shape == x.shape and listens(found, module.log_prob(x, 1.0, values.flip(0)))
    assert bool((found.std(dim=0) > 1e-6).all())
    same, again, other = (
        module.draw(50, 1.0, torch.Generator().manual_seed(0), torch.full((50,), value)) for value in (0, 0, 1)
    )
    assert torch.equal(same, again) and not torch.equal(same, other)


@pytest.mark.parametrize(
    ("role", "arguments", "able"),
    [
        ("encoder", ((1, 8, 8), 3, 8), (Perceptron, Convolutional, Planes)),
        ("decoder", (3, (1, 8, 8), 8), (Perceptron, Convolutional, Planes)),
        ("field", ((1, 8, 8), 8), (Perceptron, UNet, DiT)),
        ("conditionals", (Event((1, 8, 8), 2), 8), (ScalarTransformer, PatchTransformer, Planes)),
    ],
)
def test_a_network_that_cannot_play_a_role_says_which_can(role: str, arguments: tuple[object, ...], able: tuple):
    networks: list[Network] = [
        Perceptron(), Convolutional(), UNet(), DiT(), ScalarTransformer(), PatchTransformer(),
        Planes(PatchTransformer() if role == "conditionals" else Convolutional()),
    ]  # fmt: skip
    for network in networks:
        if isinstance(network, able):
            assert isinstance(getattr(network, role)(*arguments), nn.Module)
        else:
            with pytest.raises(
                ValueError, match=rf"expected one that can be a family's {role} .*, got {named(network)}"
            ):
                getattr(network, role)(*arguments)


def test_networks_refuse_events_that_they_cannot_see():
    with pytest.raises(ValueError, match=r"expected images of at least 4 × 4 pixels for convolutions, got events of"):
        Convolutional().encoder((2,), 3, 8)
    with pytest.raises(ValueError, match=r"expected images of at least 4 × 4 pixels for convolutions, got events of"):
        Convolutional().decoder(3, (1, 2, 2), 8)
    with pytest.raises(ValueError, match="expected images for a UNet, got events of"):
        UNet().field((2,), 8)
    with pytest.raises(ValueError, match="divisor of 28 and 28, got 3"):
        UNet(patch=3).field((1, 28, 28), 8)
    with pytest.raises(ValueError, match="expected an even height and width, got 7 × 8"):
        UNet().field((1, 7, 8), 8)
    with pytest.raises(ValueError, match="expected images for a DiT, got events of"):
        DiT().field((2,), 8)
    with pytest.raises(ValueError, match="multiple of 4 heads, got 10"):
        DiT().field((1, 8, 8), 10)
    with pytest.raises(ValueError, match="tiles 8 × 8, got 3 × 2"):
        PatchTransformer(patch=(3, 2)).conditionals(Event((1, 8, 8), 2), 8)
    for event in (Event((2,)), Event((2,), 4), Event((1, 8, 8))):
        with pytest.raises(ValueError, match="PatchTransformer: expected an image with discrete levels"):
            PatchTransformer(patch=(1, 1)).conditionals(event, 8)
    with pytest.raises(ValueError, match="expected Planes of a PatchTransformer, got ScalarTransformer"):
        Planes(ScalarTransformer()).conditionals(Event((3, 8, 8), 2), 8)


# ---- widths ----------------------------------------------------------------------------------------------


def square(width: int) -> nn.Module:
    return nn.Linear(width, width, bias=False)


@pytest.mark.parametrize("budget", [1, 90, 10_000, 250_000, 1_000_000])
def test_the_width_is_the_one_that_comes_closest_to_the_budget(budget: int):
    width = fit_width(square, budget)
    assert abs(width**2 - budget) == min(abs(w**2 - budget) for w in range(1, 1200))


def test_a_width_is_a_multiple_of_the_first_number_by_which_it_can_meet_the_budget():
    assert fit_width(square, 10_000, (8, 4, 1)) == 96
    assert fit_width(square, 144, (8, 4, 1)) == 12
    assert fit_width(square, 121, (8, 4, 1)) == 11


def test_a_budget_that_no_width_meets_is_refused_with_the_closest():
    with pytest.raises(ValueError, match=r"within 10 % of 2 parameters; the closest has 1 \(width 1\)"):
        fit_width(square, 2)
    with pytest.raises(
        ValueError, match=r"within 10 % of 10000000000 parameters; the closest has 16777216 \(width 4096"
    ):
        fit_width(square, 10**10)


def test_the_search_allocates_nothing_and_leaves_random_numbers_alone():
    seen = set()

    def build(width: int) -> nn.Module:
        module = Perceptron(features=Fourier(3, 1.0)).field((2,), width)
        seen.update(p.device.type for p in [*module.parameters(), *module.buffers()])
        return module

    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    assert fit_width(build, 20_000) > 8
    assert seen == {"meta"}
    assert torch.equal(state, torch.random.get_rng_state())
    assert count_parameters(square(7)) == 49
