"""The way in and out: nothing is lost, and densities change by the stated volume."""

import math

import pytest
import torch

from genfam.families.codec import Codec, noise_width
from genfam.seeds import derived_generator
from genfam.sources.known import Grid
from genfam.types import Event


@pytest.mark.parametrize("levels", [2, 6, 17, 256])
def test_every_level_comes_back_whatever_the_noise(levels):
    codec = Codec(Event((1,), levels))
    x = torch.arange(levels, dtype=torch.uint8).repeat(200)[:, None]
    z = codec.encode(x, derived_generator(0, "noise"))
    assert torch.equal(codec.decode(z), x)
    assert float(z.abs().max()) < 1
    assert codec.decode(torch.tensor([[-7.0], [7.0]])).flatten().tolist() == [0, levels - 1]


def test_points_come_back_and_have_unit_scale():
    source = Grid()
    codec = Codec(source.event)
    codec.fit(source)
    z = codec.encode(source.test)
    assert torch.allclose(codec.decode(z), source.test, atol=1e-5)
    assert float(z.square().mean()) == pytest.approx(1.0, abs=0.03)


def test_log_volume_makes_the_bound_a_probability():
    """A density that fills exactly the noise of one cell gives that level a log-probability of zero."""
    codec = Codec(Event((3,), 5))
    width = 2 * noise_width(5) / 5  # in z, per dimension
    assert codec.log_volume - 3 * math.log(width) == pytest.approx(0.0, abs=1e-12)


def test_only_few_levels_leave_a_margin_between_cells():
    """Narrow noise costs log(1/w) nats per dimension to a model that cannot resolve it."""
    for levels, width in ((4, 0.25), (17, 1.0), (256, 1.0)):
        z = Codec(Event((1,), levels)).encode(torch.zeros(20_000, 1), derived_generator(0, "noise"))
        assert float(z.max() - z.min()) == pytest.approx(2 * width / levels, rel=1e-3)
