"""The straight path: what is predicted along it, and when."""

import pytest
import torch
from scipy import stats

from genfam.families.paths import PREDICTIONS, SMALLEST, LogitNormal, Times, Uniform, straight, target, velocity
from genfam.seeds import derived_generator


def ends():
    g = derived_generator(0, "ends")
    return torch.randn(50, 2, 3, generator=g).double(), torch.randn(50, 2, 3, generator=g).double()


def test_the_path_goes_from_noise_to_data_at_a_constant_velocity():
    x0, x1 = ends()
    zero, one = torch.zeros(50).double(), torch.ones(50).double()
    assert torch.equal(straight(x0, x1, zero), x0) and torch.equal(straight(x0, x1, one), x1)
    step = straight(x0, x1, zero + 0.7) - straight(x0, x1, zero + 0.2)
    assert torch.allclose(step, 0.5 * (x1 - x0))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_each_target_stands_for_the_velocity_of_the_path(prediction):
    x0, x1 = ends()
    t = torch.linspace(0.06, 0.94, 50, dtype=torch.float64)
    found = velocity(prediction, target(prediction, x0, x1), straight(x0, x1, t), t)
    assert torch.allclose(found, x1 - x0, atol=1e-12)


@pytest.mark.parametrize(("prediction", "end"), [("data", 1.0), ("noise", 0.0)])
def test_an_error_is_amplified_by_a_bounded_factor_at_the_ends(prediction, end):
    x0, x1 = ends()
    t = torch.full((50,), end, dtype=torch.float64)
    exact, off = (velocity(prediction, target(prediction, x0, x1) + e, straight(x0, x1, t), t) for e in (0.0, 0.1))
    assert torch.allclose((off - exact).abs(), torch.tensor(0.1 / SMALLEST).double())


@pytest.mark.parametrize(
    ("times", "truth"),
    [
        (Uniform(), stats.uniform.cdf),
        (LogitNormal(), lambda t: stats.norm.cdf(torch.logit(torch.tensor(t)))),
        (LogitNormal(0.7, 1.3), lambda t: stats.norm.cdf(torch.logit(torch.tensor(t)), 0.7, 1.3)),
    ],
)
def test_times_have_their_distribution(times: Times, truth):
    """20,000 draws; a false alarm in 1,000 seeds."""
    torch.manual_seed(0)
    t = times.draw(20_000, torch.device("cpu")).double().numpy()
    assert stats.kstest(t, truth).pvalue > 1e-3
    assert stats.kstest(t, lambda t: truth(t) ** 1.1).pvalue < 1e-6  # another one is noticed
