"""Every family trains, samples and scores on a GPU that is not there, and draws all its noise on the CPU.

Fake tensors raise where devices meet; they do not run a kernel. What that leaves open stands in docs/gpu.md.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families.toys import Slices
from genfam.families import field, flow_density, noisy_end, variational
from genfam.families.autoregressive import Autoregressive
from genfam.families.base import Family, Optimisation
from genfam.families.diffusion import Diffusion
from genfam.families.field import FieldFamily
from genfam.families.flow_matching import FlowMatching
from genfam.families.gan import GAN
from genfam.families.gaussian import Gaussian
from genfam.families.latents import Latent
from genfam.families.mean_flow import MeanFlow
from genfam.families.paths import LogitNormal
from genfam.families.penalties import GradientPenalty
from genfam.families.priors import Couplings, Vamp
from genfam.families.schedules import NoiseScales, VariancePreserving
from genfam.families.score import Score
from genfam.families.solvers import Solver
from genfam.families.vae import VAE
from genfam.networks.base import Network
from genfam.networks.convolutional import Convolutional
from genfam.networks.dit import DiT
from genfam.networks.embeddings import Fourier
from genfam.networks.patch_transformer import PatchTransformer
from genfam.networks.perceptron import Perceptron
from genfam.networks.planes import Planes
from genfam.networks.scalar_transformer import ScalarTransformer
from genfam.networks.unet import UNet
from genfam.running.rehearsal import rehearsal
from genfam.types import Batch, Event, Likelihood

POINTS, COLOURS, GREY = Event((2,)), Event((3, 4, 4), 256), Event((1, 4, 4), 17)
MLP, FOURIER, CONV = Perceptron(depth=1), Perceptron(depth=1, features=Fourier(2, 1.0)), Convolutional(blocks=1)
ONE_STEP = {"solver": Solver(steps=1)}
SHORT = {"schedule": VariancePreserving(3, 0.1, 0.5), "steps": 2}
CELLS: list[tuple[type[Family], Event, Network, dict[str, Any]]] = [
    (GAN, POINTS, MLP, {}),
    (GAN, POINTS, FOURIER, {"latent": Latent(2, bits=3), "packing": 2}),
    (GAN, COLOURS, CONV, {"latent": Latent(4, bits=2), "penalty": GradientPenalty("wgan_gp"), "packing": 2}),
    (GAN, COLOURS, Planes(CONV), {"packing": 2, "classes": 3}),
    (VAE, POINTS, Perceptron(depth=1, latent_features=Fourier(2, 1.0)), {}),
    (VAE, COLOURS, Planes(CONV), {}),
    (VAE, COLOURS, CONV, {"prior": partial(Vamp, pseudo_inputs=4)}),
    (VAE, GREY, MLP, {"prior": partial(Couplings, layers=1, width=4), "classes": 3}),
    (Autoregressive, POINTS, ScalarTransformer(depth=1), {}),
    (Autoregressive, GREY, ScalarTransformer(depth=1, dropout=0.1), {"classes": 3}),
    (Autoregressive, COLOURS, PatchTransformer(depth=1, patch=(2, 2), inner=4), {"classes": 3}),
    (Autoregressive, COLOURS, Planes(PatchTransformer(depth=1, patch=(2, 2), inner=4, mixtures=2)), {}),
    (FlowMatching, POINTS, MLP, ONE_STEP),
    (FlowMatching, POINTS, FOURIER, {"prediction": "data", "classes": 3, **ONE_STEP}),
    (FlowMatching, COLOURS, DiT(depth=1), {"times": LogitNormal(), "classes": 3, **ONE_STEP}),
    (FlowMatching, COLOURS, UNet(depth=1, patch=2), {"solver": Solver("rk4", 1)}),
    (Diffusion, POINTS, FOURIER, {**SHORT, "classes": 3}),
    (Diffusion, COLOURS, UNet(depth=1, patch=2), {**SHORT, "prediction": "data", "solver": "ddim"}),
    (Score, POINTS, FOURIER, {"scales": NoiseScales(), "steps": 2}),
    (Score, COLOURS, DiT(depth=1), {"scales": NoiseScales(), "solver": "langevin", "steps": 1, "classes": 3}),
    (MeanFlow, POINTS, FOURIER, {"times": LogitNormal()}),
    (MeanFlow, COLOURS, DiT(depth=1), {"times": LogitNormal(), "classes": 3}),
    (MeanFlow, COLOURS, UNet(depth=1, patch=2), {"times": LogitNormal()}),
    (Gaussian, POINTS, MLP, {}),
]


def events(event: Event, n: int, device: str) -> Tensor:
    kind = torch.float32 if event.levels is None else torch.uint8
    return torch.zeros(n, *event.shape, dtype=kind, device=device)


def make(kind: type[Family], event: Event, network: Network, classes: int = 0, **more: Any) -> Family:
    """A family whose condition, where it has one, has a null label beside its `classes` values."""
    if kind is Gaussian:
        return Gaussian(event)
    build: Callable[..., Family] = kind
    family = build(event, 1000, network, Optimisation(), 8, classes=classes + (classes > 0), **more)
    if classes:
        family.condition = Slices(classes, dropout=0.1)
    return family


@pytest.mark.parametrize(("kind", "event", "network", "more"), CELLS)
def test_families_mix_no_devices(
    kind: type[Family], event: Event, network: Network, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(kind.__module__)
    if hasattr(module, "fit_width"):  # the search for a width takes seconds, and any width does
        monkeypatch.setattr(module, "fit_width", lambda build, parameters, multiples: 8)
    monkeypatch.setattr(field, "fit_width", lambda build, parameters, multiples: 8)
    monkeypatch.setattr(variational, "TERMS", 1)
    monkeypatch.setattr(noisy_end, "STEPS", 0)
    for steps in ("FEWEST_STEPS", "MOST_STEPS"):
        monkeypatch.setattr(flow_density, steps, 1)
    # The engine of backward passes asks CUDA's driver, so gradients are made up; they are where their tensors are.
    monkeypatch.setattr(torch.autograd, "grad", lambda out, x, *_, **__: (torch.zeros_like(x) + 0 * out.mean(),))
    with rehearsal("cuda") as watch:
        with torch.device("cuda"):
            family = make(kind, event, network, **more)
        assert family.device.type == "cuda"

        def backward(loss: Tensor) -> None:
            assert loss.device.type == "cuda"
            for weight in family.parameters():
                weight.grad = torch.zeros_like(weight)

        def batch(device: str) -> Batch:
            values = torch.zeros(8, dtype=torch.int64, device=device) if family.condition.classes else None
            return Batch(events(event, 8, device), values)

        if family.trains:
            family.total_updates = 100
            optimisers = family.configure_optimizers()
            family.train()
            for _ in range(2):
                family.update(batch("cpu").to("cuda"), optimisers, backward)
            assert family.updates == 2 and watch.peak > 0
        family.eval()
        if family.condition.classes and isinstance(family, FlowMatching | FieldFamily):
            family.choose_sampling(guidance=1.5)
        drawn = family.sample(3, generator=torch.Generator())
        assert drawn.shape == (3, *event.shape) and drawn.device.type == "cuda"
        if family.likelihood_kind is not Likelihood.NONE:
            scored = family.log_prob(events(event, 3, "cpu"))  # events come from anywhere
            assert scored.shape == (3,) and scored.device.type == "cuda"
        family.diagnostics(batch("cuda"))


def test_a_rehearsal_refuses_what_a_gpu_would_refuse() -> None:
    with rehearsal("cuda"):
        there = torch.zeros(3, device="cuda")
        with pytest.raises(RuntimeError, match=r"cuda.*cpu|cpu.*cuda|[Dd]evice"):
            there + torch.zeros(3)
        with pytest.raises(RuntimeError, match="expected a generator on cuda, got one on cpu"):
            torch.randn(3, device="cuda", generator=torch.Generator())
        with pytest.raises(RuntimeError, match="expected a generator on cuda, got one on cpu"):
            torch.multinomial(torch.ones(3, 4, device="cuda"), 1, generator=torch.Generator())


def test_memory_that_is_alive_is_counted() -> None:
    rows, inputs, outputs = 50, 30, 70
    with rehearsal("cpu") as watch:
        layer = nn.Linear(inputs, outputs)
        weights = 4 * (inputs * outputs + outputs)
        assert watch.alive == weights
        x = torch.zeros(rows, inputs)
        assert watch.alive == weights + 4 * rows * inputs
        hidden = layer(x).tanh()  # tanh saves its output, the layer its input: its own output is let go
        assert watch.alive == weights + 4 * rows * (inputs + outputs)
        assert watch.peak == watch.alive + 4 * rows * outputs
        hidden.sum().backward()
        del hidden
        assert watch.alive == 2 * weights + 4 * rows * inputs  # gradients are there, activations are gone
        torch.zeros(10, device="cuda")
        assert watch.alive == 2 * weights + 4 * rows * inputs  # another device's memory
