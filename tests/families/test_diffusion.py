"""Diffusion: its loss, its samplers with an exact denoiser, and its bound against the exact density."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from families.closed_forms import TWO, Mixture, OfDiffusion
from families.toys import train
from genfam.families import variational
from genfam.families.base import Optimisation
from genfam.families.codec import Codec
from genfam.families.diffusion import ETA, Diffusion
from genfam.families.schedules import PREDICTIONS, VariancePreserving
from genfam.networks.perceptron import Perceptron
from genfam.seeds import derived_generator, integers, normal_like
from genfam.types import Batch, Event, Likelihood

LINE, DIE = Event((1,)), Event((1,), 6)


def make(event: Event = LINE, length: int = 1000, **options: Any) -> Diffusion:
    torch.manual_seed(0)
    options = {"optimisation": Optimisation(ema=0.0), "batch_size": 64, "steps": min(100, length)} | options
    schedule = VariancePreserving(length, 0.1 / length, 20.0 / length) if length != 1000 else VariancePreserving()
    return Diffusion(event, 5000, Perceptron(depth=2), schedule=schedule, **options).eval()


def exact(truth: Mixture = TWO, **options: Any) -> Diffusion:
    family = make(**options)
    family.model = OfDiffusion(truth, family)
    return family


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_the_squared_error_of_what_is_predicted(prediction: str) -> None:
    family, x = make(Event((2,)), prediction=prediction), torch.randn(64, 2, generator=derived_generator(0, "x"))
    for parameter in family.model.parameters():
        nn.init.normal_(parameter, std=0.1)
    torch.manual_seed(3)
    loss = family.loss(Batch(x), "model")
    torch.manual_seed(3)
    noise, k = normal_like(x), 1 + integers(1000, (64,), "cpu")
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float()[k - 1][:, None]
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    output = family.model(alpha * x + sigma * noise, k / 1000)
    wanted = {"noise": noise, "data": x, "v": alpha * noise - sigma * x}[prediction]
    assert torch.allclose(loss, (output - wanted).square().mean(), rtol=1e-4)


@pytest.mark.parametrize("solver", ETA)
def test_all_steps_with_an_exact_denoiser_draw_from_the_data(solver: str) -> None:
    """5,000 draws of two modes; a false alarm in 1,000 seeds. In a few steps samples are too narrow, which shows."""
    family = exact(solver=solver, steps=1000)
    x = family.sample(5000, generator=derived_generator(0, solver))
    sure = TWO.sample(5000, derived_generator(0, "truth"))
    assert stats.ks_2samp(x[:, 0].numpy(), sure[:, 0].numpy()).pvalue > 1e-3
    assert torch.allclose(x.mean(), sure.mean().float(), atol=4 * float(sure.std()) / math.sqrt(2500))
    family.choose_sampling(steps=5)
    x = family.sample(5000, generator=derived_generator(0, solver))
    assert stats.ks_2samp(x[:, 0].numpy(), sure[:, 0].numpy()).pvalue < 1e-6


def test_evaluation_count_is_what_the_network_saw() -> None:
    family, calls = make(), []
    family.model.register_forward_pre_hook(lambda module, inputs: calls.append(float(inputs[1][0])))
    for solver in ETA:
        for steps in (1, 7, 100):
            family.choose_sampling(solver=solver, steps=steps)
            calls.clear()
            family.sample(4, generator=derived_generator(0, "calls"))
            assert len(calls) == family.evaluations_per_sample == steps
            assert calls[0] == 1.0 and calls == sorted(calls, reverse=True)


def test_knobs_that_cannot_be_are_named() -> None:
    for knobs, said in (
        ({"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        ({"steps": 1001}, "steps: expected at most 1000, got 1001"),
        ({"solver": "heun"}, "solver: expected one of ancestral, ddim, got 'heun'"),
        ({"guidance": 2.0}, "guidance: expected a model that was trained with condition.dropout above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            make().choose_sampling(**knobs)
    with pytest.raises(ValueError, match=r"prediction: expected one of \['noise', 'data', 'v'\], got 'velocity'"):
        make(prediction="velocity")


def test_the_bound_of_an_exact_denoiser_is_below_the_truth_and_closes_in_as_times_grow() -> None:
    """10,000 events of two modes; each gap within four of its standard errors (a false alarm in 1e-4).

    It does not close. On data of unit variance a step costs ½ (r − 1 − log r) nats, where r is the ratio of its two σ².
    As times grow, r at the k-th of the first steps goes to k / (k − 1), and the sum to γ / 2, with Euler's γ.
    """
    x = TWO.sample(10_000, derived_generator(0, "events"))
    truth, gaps = TWO.log_prob(x), []
    for length in (40, 200, 1000):
        gap = truth - exact(length=length).log_prob(x.float()).double()
        error = float(gap.std()) / 100
        assert float(gap.mean()) > -4 * error
        gaps.append(float(gap.mean()))
    assert gaps[0] > gaps[1] + 0.2 > gaps[2] + 0.3
    assert 0.5 * 0.5772 - 4 * error < gaps[2] < 0.5 * 0.5772 + 0.2 and error < 0.02


def test_a_long_sum_is_estimated_without_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen of a thousand terms or all of them: the same within four standard errors (a false alarm in 1e-4)."""
    x, found = TWO.sample(20_000, derived_generator(0, "events")).float(), []
    for terms in (1000, 16):
        monkeypatch.setattr(variational, "TERMS", terms)
        found.append(exact().log_prob(x[: 2000 if terms == 1000 else 20_000]))
    error = math.sqrt(sum(float(each.var()) / len(each) for each in found))
    assert abs(float(found[0].mean() - found[1].mean())) < 4 * error < 0.3


def test_the_terms_of_a_normal_are_its_divergences() -> None:
    """Data N(0, 1) stay so on the whole path, and every x̂ = α z: terms and prior in closed form, in float64.

    4,000 events; the sum within four standard errors (a false alarm in 1e-4).
    """
    path = torch.tensor(VariancePreserving(50, 0.002, 0.4).path, dtype=torch.float64)
    g = derived_generator(0, "normal")
    x = torch.randn(4000, 3, generator=g, dtype=torch.float64)
    found = variational.divergences(path, x, lambda z, k: path[k, 0, None] * z, 1, g)
    a, s = path[1:].unbind(dim=1)
    snr = (a / s).square()
    # E‖x − α(αx + σε)‖² = D (σ⁴ + α²σ²) = D σ²
    terms = 3 * (0.5 * (snr[:-1] - snr[1:]) * s[1:].square()).sum()
    prior = 1.5 * (a[-1] ** 2 + s[-1] ** 2 - 1 - (s[-1] ** 2).log())
    assert abs(float(found.mean() - terms - prior)) < 4 * float(found.std()) / math.sqrt(4000)
    assert float(found.std()) / math.sqrt(4000) < 0.1 * float(terms)


class OfDie(nn.Module):
    """E[x | z] for a die with masses P."""

    path = torch.tensor(VariancePreserving().path)
    P = torch.tensor([0.4, 0.05, 0.05, 0.1, 0.1, 0.3])

    def forward(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        alpha, sigma = self.path[(t * 1000).round().long()].unbind(dim=1)
        faces = Codec.centre(torch.arange(6), 6)
        error = (z - alpha[:, None] * faces) / sigma[:, None]
        return (torch.softmax(self.P.log() - 0.5 * error.square(), dim=1) * faces).sum(dim=1, keepdim=True)


def test_levels_are_bounded_where_the_network_predicts_the_data() -> None:
    """A chain that ends in noise: at most the truth within four standard errors (10,000 throws), and near it."""
    family = make(DIE, prediction="data", steps=20)
    family.model = OfDie()
    x = torch.multinomial(OfDie.P, 10_000, replacement=True, generator=derived_generator(0, "throws"))[:, None]
    gap = OfDie.P.log()[x[:, 0]] - family.log_prob(x.to(torch.uint8))
    assert -4 * float(gap.std()) / math.sqrt(len(gap)) < float(gap.mean()) < 0.35
    assert family.likelihood_method == "chain to t = 0.6" and make(DIE).likelihood_method == ""
    assert family.likelihood_kind is Likelihood.LOWER_BOUND


def test_a_bound_is_in_the_sources_own_units_and_the_same_each_time() -> None:
    family, x = exact(), TWO.sample(500, derived_generator(0, "events")).float()
    plain = family.log_prob(x)
    family.codec.mean.fill_(3.0)
    family.codec.scale.fill_(5.0)
    assert torch.allclose(family.log_prob(5.0 * x + 3.0), plain - math.log(5.0), atol=2e-2)
    assert torch.equal(family.log_prob(5.0 * x + 3.0), family.log_prob(5.0 * x + 3.0))


def test_learns_a_shifted_gaussian() -> None:
    """p_data = N((1.5, −0.5), 0.25²): mean and spread of samples after a short training."""
    options: dict[str, Any] = {"optimisation": Optimisation(learning_rate=3e-3), "batch_size": 128}
    family = make(Event((2,)), **options)
    x = torch.tensor([1.5, -0.5]) + 0.25 * torch.randn(20_000, 2, generator=derived_generator(0, "data"))
    train(family, x, 400)
    samples = family.sample(4000, generator=derived_generator(0, "samples"))
    assert torch.allclose(samples.mean(dim=0), torch.tensor([1.5, -0.5]), atol=0.06)
    assert torch.allclose(samples.std(dim=0), torch.tensor([0.25, 0.25]), atol=0.06)
