"""One model under changes of variables: paths, predictions and steps of the literature are flow matching's."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from families.closed_forms import PLANE, OfDiffusion, OfFlow, OfScore
from genfam.families import schedules
from genfam.families.base import Optimisation
from genfam.families.diffusion import Diffusion
from genfam.families.flow_matching import FlowMatching
from genfam.families.paths import straight, velocity
from genfam.families.schedules import PREDICTIONS, Ends, NoiseScales, VariancePreserving
from genfam.families.score import Score
from genfam.networks.perceptron import Perceptron
from genfam.seeds import derived_generator
from genfam.types import Event

DDPM, EDM = VariancePreserving(), NoiseScales()
LEVELS = [DDPM.path[k] for k in (1, 2, 30, 400, 900, 1000)] + [(1.0, s) for s in (0.002, 0.3, 1.0, 20.0, 80.0)]
COMMON: dict[str, Any] = {"network": Perceptron(depth=1), "optimisation": Optimisation(ema=0.0), "batch_size": 8}


def pair() -> Ends:
    g = derived_generator(0, "ends")
    return Ends(*(torch.randn(50, 2, 3, generator=g, dtype=torch.float64) for _ in range(2)))


def two(level: tuple[float, float]) -> tuple[Tensor, Tensor]:
    alpha, sigma = torch.tensor(level, dtype=torch.float64)
    return alpha, sigma


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_state_and_a_prediction_are_flow_matchings(prediction: str, level: tuple[float, float]) -> None:
    """float64: a state to 1e-14, the velocity to rounding times what the quotient amplifies (at most 1 / α)."""
    true, (alpha, sigma) = pair(), two(level)
    x = schedules.mixed(alpha, sigma, true)
    t, z = schedules.flow_time(*level), schedules.flow_state(*level, x)
    times = torch.full((50,), t, dtype=torch.float64)
    assert torch.allclose(z, straight(true.noise, true.data, times), atol=1e-14, rtol=0)
    found = schedules.ends(prediction, schedules.target(prediction, alpha, sigma, true), alpha, sigma, x)
    assert torch.allclose(found.data, true.data, atol=3e-12) and torch.allclose(found.noise, true.noise, atol=3e-12)
    if 0.06 < t < 0.94:  # outside flow matching bounds its divisors
        for name, end in (("data", found.data), ("noise", found.noise)):
            assert torch.allclose(velocity(name, end, z, times), found.data - found.noise, atol=1e-11)


def test_ddpms_schedule_is_that_of_the_paper() -> None:
    """β from 1e-4 to 0.02 in equal steps, α² = ∏ (1 − β): section 4 of Ho et al. 2020, and L_T ≈ 0."""
    squares = torch.tensor(DDPM.path, dtype=torch.float64)[:, 0].square()
    betas = 1 - squares[1:] / squares[:-1]
    assert torch.allclose(betas, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), atol=1e-13)
    assert float(squares[-1]) == pytest.approx(4.0358e-5, rel=1e-3)
    assert all(a * a + s * s == pytest.approx(1.0, abs=1e-15) for a, s in DDPM.path)
    assert VariancePreserving(1).path[1][1] == pytest.approx(math.sqrt(1e-4))
    with pytest.raises(ValueError, match=r"schedule: expected first ≤ last < 1, got 0\.5 and 0\.1"):
        VariancePreserving(10, 0.5, 0.1)


def test_sampling_times_are_as_many_as_steps_and_close_near_the_data() -> None:
    for steps in (1, 2, 7, 100, 999, 1000):
        times = DDPM.times(steps)
        assert len(times) == steps + 1 and times[0] == 1000 and times[-1] == 0
        assert all(a > b for a, b in itertools.pairwise(times))
    assert DDPM.times(1000) == list(range(1000, -1, -1))
    assert DDPM.times(10)[-4:] == [90, 40, 10, 0]
    for k in (0, 1, 500, 1000):
        assert DDPM.nearest(schedules.flow_time(*DDPM.path[k])) == k


def test_edms_noise_scales_are_those_of_the_paper() -> None:
    """Equation 5; ln σ is normal but where it is clamped (20,000 draws; a false alarm in 1,000 seeds)."""
    scales = EDM.curved(18)
    assert scales[0] == pytest.approx(80.0) and scales[17] == pytest.approx(0.002) and scales[18] == 0.0
    roots = torch.tensor(scales[:18], dtype=torch.float64) ** (1 / 7)
    assert torch.allclose(roots.diff(), roots.diff()[0].expand(17))
    ratios = [b / a for a, b in itertools.pairwise(EDM.geometric(9))]
    assert ratios == pytest.approx([(0.002 / 80) ** (1 / 8)] * 8)
    torch.manual_seed(0)
    sigma = EDM.draw(20_000, torch.device("cpu"))
    assert stats.kstest(sigma.double().log().numpy(), lambda x: stats.norm.cdf(x, -1.2, 1.2)).pvalue > 1e-3
    ends = torch.tensor([1e-9, 0.002, 0.4, 80.0, 1e9])
    assert torch.allclose(EDM.position(ends), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), atol=1e-6)
    assert EDM.at([0.0, 0.5, 1.0]) == {80.0, 1.0, 0.0}


@pytest.mark.parametrize(("k", "then"), [(1000, 999), (700, 350), (2, 1), (10, 0)])
def test_a_whole_step_is_a_draw_of_ddpms_posterior(k: int, then: int) -> None:
    """Bayes' rule on q(x_then | data) q(x_k | x_then), in float64: means and variances."""
    true, fresh = pair(), torch.randn(50, 2, 3, generator=derived_generator(0, "fresh"), dtype=torch.float64)
    (a, s), (a_then, s_then) = DDPM.path[k], DDPM.path[then]
    x = schedules.mixed(*two((a, s)), true)
    ratio, gained = a / a_then, 1 - (a / a_then) ** 2  # x_k = ratio x_then + √gained ε
    variance = 1 / (ratio**2 / gained + 1 / s_then**2) if then else 0.0
    mean = variance * (ratio * x / gained + a_then * true.data / s_then**2) if then else true.data
    found = schedules.step(true, (a, s), (a_then, s_then), 1.0, fresh)
    assert torch.allclose(found, mean + math.sqrt(variance) * fresh, atol=1e-9)


@pytest.mark.parametrize(("now", "then"), [(LEVELS[4], LEVELS[3]), (LEVELS[9], LEVELS[7]), (LEVELS[1], (1.0, 0.0))])
def test_a_step_without_noise_is_eulers_in_any_variables(now: Any, then: Any) -> None:
    """Of dx/dσ = noise where α = 1 (DDIM's equation 13, EDM's ODE), and of flow matching's dx/dt = data − noise."""
    true = pair()
    x, found = schedules.mixed(*two(now), true), schedules.step(true, now, then, 0.0, None)
    euler = x / now[0] + (then[1] / then[0] - now[1] / now[0]) * true.noise
    assert torch.allclose(found / then[0], euler, rtol=1e-12, atol=1e-12)
    t, t_then = schedules.flow_time(*now), schedules.flow_time(*then)
    euler = schedules.flow_state(*now, x) + (t_then - t) * (true.data - true.noise)
    assert torch.allclose(schedules.flow_state(*then, found), euler, rtol=1e-12, atol=1e-12)


def flow() -> FlowMatching:
    family = FlowMatching(Event((2,)), 2000, **COMMON).double().eval()
    family.model = OfFlow(PLANE)
    return family


def diffusion(prediction: Any = "noise", **settings: Any) -> Diffusion:
    family = Diffusion(Event((2,)), 2000, schedule=DDPM, prediction=prediction, **COMMON, **settings).double().eval()
    family.model = OfDiffusion(PLANE, family)
    return family


def score(**settings: Any) -> Score:
    family = Score(Event((2,)), 2000, scales=EDM, **COMMON, **settings).double().eval()
    family.model = OfScore(PLANE, family)
    return family


@pytest.mark.parametrize("model", ["noise", "data", "v", "score"])
def test_ddim_and_edms_ode_walk_as_flow_matching_does(model: str) -> None:
    """The same field in three families' variables, in float64: step for step the same states, to rounding."""
    family: Any = score(solver="euler", steps=40) if model == "score" else diffusion(model, solver="ddim", steps=40)
    noise = torch.randn(100, 2, generator=derived_generator(0, "noise"), dtype=torch.float64)
    walked = list(family.walk(noise, family.predictor(None), derived_generator(0, "unused"), (0.5,)))
    assert walked[-1][0] == 1.0 and any(abs(t - 0.5) < 1e-3 for t, _ in walked)
    reference, z = flow(), walked[0][1]
    for (t, x), (then, _) in itertools.pairwise(walked):
        assert torch.allclose(x, z, rtol=1e-9, atol=1e-9)
        now = torch.tensor(t, dtype=torch.float64)
        z = z + (then - t) * reference.velocity(now, z, reference.predictor(None))
    assert torch.allclose(walked[-1][1], z, rtol=1e-9, atol=1e-9)


def test_the_velocity_of_a_score_is_flow_matchings() -> None:
    """At all times that EDM's scales have, the data's own too."""
    one, other = score(), flow()
    x = torch.randn(100, 2, generator=derived_generator(0, "x"), dtype=torch.float64)
    for t in (0.0125, 0.1, 0.5, 0.9, 0.997):
        now = torch.tensor(t, dtype=torch.float64)
        found = one.velocity(now, x, one.predictor(None))
        assert torch.allclose(found, other.velocity(now, x, other.predictor(None)), rtol=1e-8, atol=1e-8)
    end = torch.tensor(1.0, dtype=torch.float64)
    assert bool(torch.isfinite(one.velocity(end, x, one.predictor(None))).all())
