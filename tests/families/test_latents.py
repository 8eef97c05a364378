"""What a generator is given."""

import pytest
import torch
from scipy import stats

from genfam.families.latents import Latent, line, turn
from genfam.seeds import derived_generator

CPU = torch.device("cpu")


def test_normal_numbers_come_first_and_fair_flips_after_them():
    """4,000 draws; a false alarm in 500 seeds."""
    latent = Latent(normals=2, bits=3)
    z = latent.draw(4000, CPU, derived_generator(0, "z"))
    assert z.shape == (4000, 5) and latent.size == 5
    assert stats.kstest(z[:, :2].flatten().numpy(), "norm").pvalue > 1e-3
    assert z[:, 2:].abs().eq(1).all()
    corners = ((z[:, 2:] > 0) * torch.tensor([1, 2, 4])).sum(dim=1)
    assert stats.chisquare(torch.bincount(corners, minlength=8)).pvalue > 1e-3  # fair, and independent


def test_a_latent_may_be_of_one_kind_alone():
    assert Latent().draw(3, CPU).shape == (3, 16)
    assert Latent(0, 4).draw(3, CPU).abs().eq(1).all()
    for wrong in ({"normals": 0}, {"normals": -1, "bits": 4}, {"bits": -1}):
        with pytest.raises(ValueError, match="latent: expected at least one number, got normals="):
            Latent(**wrong)


def test_a_generator_determines_it_and_without_one_the_global_state():
    latent = Latent(2, 2)
    assert torch.equal(*(latent.draw(5, CPU, derived_generator(0, "z")) for _ in range(2)))
    torch.manual_seed(0)
    first = latent.draw(5, CPU)
    torch.manual_seed(0)
    assert torch.equal(first, latent.draw(5, CPU))


def test_between_two_latents_every_one_is_a_latent():
    """4,000 pairs at each of five times; a false alarm in 200 seeds."""
    latent = Latent(normals=2, bits=3)
    first, last = (latent.draw(4000, CPU, derived_generator(0, name)) for name in ("a", "b"))
    for t in (0.0, 0.3, 0.5, 0.8, 1.0):
        z = latent.between(first, last, t)
        assert stats.kstest(z[:, :2].flatten().numpy(), "norm").pvalue > 1e-3
        assert torch.equal(z[:, 2:], (first if t < 0.5 else last)[:, 2:])
    assert torch.equal(latent.between(first, last, 0.0), first)
    assert torch.allclose(latent.between(first, last, 1.0), last, atol=1e-6)


def test_a_turn_keeps_lengths_where_a_line_shortens_them():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(turn(a, b, 0.5).norm()) == pytest.approx(1.0)
    assert line(a, b, [0.0, 0.5, 1.0]).norm(dim=-1).flatten().tolist() == pytest.approx([1.0, 0.5**0.5, 1.0])
