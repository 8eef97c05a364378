"""A VAE with a second level of latents, and with a flow as posterior: bounds are bounds, draws follow them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from genfam.families.base import Optimisation
from genfam.families.vae import VAE
from genfam.networks.priors import Couplings
from genfam.networks.sizing import count_parameters
from genfam.networks.variational import Encoder, LadderDecoder, Seen
from genfam.types import Event

BLACK_AND_WHITE = Event((1, 8, 8), 2)
LOOSE = 6  # of the 16 pixels of a patch: the one that is not sure


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def vae(event: Event, parameters: int = 12_000, **settings: Any) -> VAE:
    torch.manual_seed(0)
    chosen: dict[str, Any] = {"latent": 2, "body": "conv", "beta_warmup": 0.0} | settings
    return VAE(event, parameters, Optimisation(learning_rate=5e-3, ema=0.0), 16, **chosen)


def bend(*modules: nn.Module) -> None:
    """Away from where they begin: all weights that begin at 0 are drawn."""
    for module in modules:
        for parameter in module.parameters():
            if not bool(parameter.any()):
                nn.init.normal_(parameter, std=0.1)


def ladder() -> VAE:
    """A world of four patches of which one pixel each is not sure, so that 16 images have nearly all probability."""
    family = vae(
        BLACK_AND_WHITE,
        patch=4,
        local_latents=1,
        posterior_layers=2,
        coupling_layers=2,
        coupling_width=8,
        importance_samples=4000,
    )
    bend(family.model["encoder"], family.model["decoder"].body, family.model["prior"])
    body, encoder = family.model["decoder"].body, family.model["encoder"]
    assert isinstance(body, LadderDecoder)
    assert isinstance(encoder, Encoder)
    assert encoder.local is not None
    encoder.first_log_std = 0.2  # both posteriors as wide as the priors: they have not learnt where to look
    with torch.no_grad():
        encoder.local.exit.bias[1:] = 1.2
        body.decoder.exit.weight.mul_(4.0)  # what is above the pixels shows
        for pixel in range(16):
            body.decoder.exit.bias[pixel] = 0.3 if pixel == LOOSE else -12.0
            if pixel != LOOSE:
                body.decoder.exit.weight[pixel] = 0.0
    return family.eval()


def sixteen_images() -> Tensor:
    x = torch.zeros(16, 16, 2, 2)
    for row, values in enumerate(itertools.product((0.0, 1.0), repeat=4)):
        x[row, LOOSE] = torch.tensor(values).view(2, 2)
    return torch.nn.functional.pixel_shuffle(x, 4).to(torch.uint8)


def test_the_bound_of_two_levels_is_a_distribution_that_samples_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 images have all but 60 e⁻¹² of the probability.

    Shares of 20,000 within five standard errors and what 4,000 importance samples may lack (alarm < 1e-5).
    """
    monkeypatch.setattr("genfam.families.vae.CHUNK", 4 * 64 * 1500)  # the samples of one event in three passes
    family, x = ladder(), sixteen_images()
    bound = family.log_prob(x).exp()
    assert float(bound.sum()) == pytest.approx(1.0, abs=0.02)
    drawn = family.sample(20_000, generator=generator()).flatten(1)
    shares = torch.tensor([float((drawn == image).all(dim=1).double().mean()) for image in x.flatten(1)])
    assert float(shares.max() - shares.min()) > 0.05  # no uniform distribution that anything would follow
    assert ((shares - bound).abs() < 5 * (bound * (1 - bound) / 20_000).sqrt() + 0.003).all()


def test_more_importance_samples_tighten_the_bound_of_two_levels() -> None:
    family, x = ladder(), sixteen_images().repeat(25, 1, 1, 1)
    bounds = []
    for family.importance_samples in (1, 16, 256):
        bounds.append(float(family.log_prob(x).mean()))
    assert bounds[0] < bounds[1] < bounds[2]
    assert bounds[2] - bounds[0] > 0.05


def test_with_one_sample_the_bound_is_the_training_objective() -> None:
    """Means of 40,000 draws each within five standard errors (alarm < 1e-6): the closed divergence is that of draws."""
    family, x = ladder(), sixteen_images().repeat(2500, 1, 1, 1)
    family.importance_samples = 1
    with torch.no_grad():
        losses = torch.stack([family.loss(part, "model") for part in x.split(1600)])
    bounds = family.log_prob(x)
    error = (float(bounds.var()) / len(bounds) + float(losses.var()) / len(losses)) ** 0.5
    assert float(bounds.mean()) == pytest.approx(-float(losses.mean()), abs=5 * error)
    assert error < 0.05


def test_a_posteriors_flow_is_the_jacobians() -> None:
    """Of z = T(u; x): log q(z) = log N(u; m, s) − log |det ∂T/∂u|, for each event by its own context."""
    torch.manual_seed(0)
    encoder = Encoder(nn.Identity(), flow=Couplings(5, 3, 8, context=2))
    bend(encoder)
    encoder.requires_grad_(False)
    flow = encoder.flow
    assert flow is not None
    noise, context = torch.randn(2, 5), torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    seen = Seen(torch.randn(2, 5), 0.3 * torch.randn(2, 5), context)
    z, log_q = encoder.draw(seen, noise)
    for row in range(2):
        start = seen.mean[row] + seen.log_std[row].exp() * noise[row]
        jacobian = torch.autograd.functional.jacobian(
            lambda u, c=context[row]: flow.carry(u[None], c[None])[0][0], start
        )
        base = torch.distributions.Normal(seen.mean[row], seen.log_std[row].exp()).log_prob(start).sum()
        assert float(log_q[row].detach()) == pytest.approx(
            float((base - torch.linalg.slogdet(jacobian)[1]).detach()), abs=1e-4
        )
    same, _ = encoder.draw(seen._replace(context=context.flip(0)), noise)
    assert float((same - z).abs().max()) > 0.01
    many, log_many = encoder.draw(seen, torch.stack([noise, noise, noise]))
    assert torch.allclose(many[2], z, atol=1e-6)
    assert torch.allclose(log_many[1], log_q, atol=1e-5)


@torch.no_grad()
def test_local_latents_see_the_event_and_begin_narrow() -> None:
    """Where the network says 0: around the prior's mean, with e^(4 tanh(−¼)) of its spread; else by the event."""
    family = vae(Event((1, 8, 8), 17), local_latents=2)
    body, encoder = family.model["decoder"].body, family.model["encoder"]
    assert isinstance(body, LadderDecoder)
    assert isinstance(encoder, Encoder)
    assert encoder.local is not None
    x = torch.randint(17, (3, 1, 8, 8), generator=generator()).to(torch.uint8)
    seen, z, noise = encoder.see(family.inputs(x)), torch.randn(3, 2), body.noise(3, generator())
    assert noise.shape == (3, 2, 8, 8)
    assert seen.features is not None
    said = {name: value.clone() for name, value in encoder.local.exit.named_parameters()}
    for value in encoder.local.exit.parameters():
        value.zero_()
    output, divergence = body.infer(z, noise, encoder.local, seen.features, True)
    ratio = math.exp(4.0 * math.tanh(-0.25))
    assert torch.allclose(output, body(z, ratio * noise), atol=1e-6)
    each = 0.5 * (ratio**2 - 1.0) - math.log(ratio)
    assert divergence.tolist() == pytest.approx([128 * each] * 3, rel=1e-5)
    encoder.local.exit.load_state_dict(said)
    bent = body.infer(z, noise, encoder.local, seen.features, True)[1]
    assert float((bent[0] - bent[1]).abs()) > 0.01
    other = body.infer(z, noise, encoder.local, seen.features.flip(0), True)[0]
    assert float((other - body.infer(z, noise, encoder.local, seen.features, True)[0]).abs().max()) > 1e-3


@pytest.mark.parametrize(
    "settings",
    [{"local_latents": 2}, {"posterior_layers": 2, "coupling_width": 8}, {"local_latents": 2, "pseudo_inputs": 3}],
)
def test_learns_four_images_by_heart(settings: dict[str, Any]) -> None:
    x = torch.randint(17, (4, 1, 8, 8), generator=generator()).to(torch.uint8)
    family = vae(Event((1, 8, 8), 17), **({"beta_warmup": 0.5} | settings))

    class Four:
        train = test = x

    family.in_bfloat16 = bool(settings.get("posterior_layers"))
    family.prepare(Four())  # type: ignore[arg-type]  # just enough of a source
    optimisers, family.total_updates, rows = family.configure_optimizers(), 500, generator()
    for _ in range(500):
        family.update(x[torch.randint(4, (16,), generator=rows)], optimisers, lambda loss: loss.backward())
    bound = float(family.log_prob(x).mean())
    assert -20.0 < bound < -math.log(4.0) + 0.05
    assert torch.equal(family.log_prob(x), family.log_prob(x))
    again = [family.sample(9, generator=generator(3)) for _ in range(2)]
    assert torch.equal(*again)


def test_both_networks_meet_the_budget_with_all_that_is_theirs() -> None:
    family = vae(
        Event((1, 28, 28), 2),
        200_000,
        patch=4,
        local_latents=4,
        posterior_layers=4,
        coupling_layers=4,
        coupling_width=64,
    )
    assert count_parameters(family.sampling_network) == pytest.approx(200_000, rel=0.1)
    assert count_parameters(family.model["encoder"]) == pytest.approx(200_000, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"body": "mlp", "local_latents": 2}, "local_latents: expected body=conv without planes, got mlp"),
        ({"planes": True, "local_latents": 2}, "local_latents: expected body=conv without planes, got conv"),
        ({"local_latents": 2, "free_bits": 0.1}, "no free bits with either, got 0, 2 and 0.1"),
        ({"posterior_layers": 2, "free_bits": 0.1}, "no free bits with either, got 2, 0 and 0.1"),
        ({"posterior_layers": 2}, "expected a flow of at most half of the 12000 parameters .* got 50436"),
        (
            {"posterior_layers": 2, "coupling_width": 8, "pseudo_inputs": 3},
            "posterior_layers or pseudo_inputs, not both",
        ),
        ({"posterior_layers": -1}, "posterior_layers ≥ 0"),
    ],
)
def test_refusals_say_what_was_expected(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        vae(Event((1, 8, 8), 17), **settings)
