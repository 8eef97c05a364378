"""Every family trains, samples and scores on a GPU that is not there, and draws all its noise on the CPU.

Fake tensors raise where devices meet; they do not run a kernel. What that leaves open stands in docs/gpu.md.
"""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from genfam.build import build
from genfam.rehearsal import rehearsal
from genfam.types import Event, Likelihood

FAMILIES = Path(__file__).parent.parent / "conf" / "family"
POINTS, COLOURS, GREY = Event((2,)), Event((3, 4, 4), 256), Event((1, 4, 4), 17)
CELLS: list[tuple[str, Event, dict[str, Any]]] = [
    *[(name, POINTS, {}) for name in ("gan", "vae", "autoregressive", "flow_matching", "gaussian")],
    ("gan", COLOURS, {"body": "conv", "depth": 1, "penalty": "wgan_gp", "packing": 2, "latent_bits": 2}),
    ("gan", COLOURS, {"body": "conv", "depth": 1, "planes": True, "latent": 12, "packing": 2}),
    ("vae", COLOURS, {"body": "conv", "planes": True}),
    ("gan", GREY, {"spectral_norm": True}),
    ("gan", POINTS, {"latent_bits": 3, "balanced_bits": True, "frequencies": 2, "packing": 2}),
    ("vae", COLOURS, {"body": "conv", "pseudo_inputs": 4}),
    ("vae", GREY, {"coupling_layers": 1, "coupling_width": 4}),
    ("autoregressive", COLOURS, {"body": "patches", "patch": [2, 2], "depth": 1, "inner": 4}),
    ("autoregressive", GREY, {"body": "pixelcnn", "depth": 2}),
    ("autoregressive", GREY, {"depth": 1, "dropout": 0.1}),
    ("flow_matching", COLOURS, {"body": "dit", "patch": 2, "depth": 1, "times": "logit_normal"}),
    ("flow_matching", COLOURS, {"body": "unet", "patch": 2, "depth": 1, "solver": "rk4"}),
    ("flow_matching", POINTS, {"frequencies": 2, "prediction": "data"}),
    ("flow_matching", POINTS, {"clusters": 3}),
    ("flow_matching", COLOURS, {"body": "dit", "patch": 2, "depth": 1, "clusters": 3, "guidance": 1.5}),
]


def events(event: Event, n: int, device: str) -> Tensor:
    kind = torch.float32 if event.levels is None else torch.uint8
    return torch.zeros(n, *event.shape, dtype=kind, device=device)


@pytest.mark.parametrize(("name", "event", "more"), CELLS)
def test_families_mix_no_devices(
    name: str, event: Event, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"genfam.families.{name}")
    if hasattr(module, "fit_width"):  # the search for a width takes seconds, and any width does
        monkeypatch.setattr(module, "fit_width", lambda build, parameters, **_: 8)
    # The engine of backward passes asks CUDA's driver, so gradients are made up; they are where their tensors are.
    monkeypatch.setattr(torch.autograd, "grad", lambda out, x, *_, **__: (torch.zeros_like(x) + 0 * out.mean(),))
    config = yaml.safe_load((FAMILIES / f"{name}.yaml").read_text()) | more
    if name == "flow_matching":
        config |= {"steps": 1, "likelihood_steps": 1}
    with rehearsal("cuda") as watch:
        with torch.device("cuda"):
            family = build(config, event=event, parameters=1000)
        assert family.device.type == "cuda"

        def backward(loss: Tensor) -> None:
            assert loss.device.type == "cuda"
            for weight in family.parameters():
                weight.grad = torch.zeros_like(weight)

        if family.trains:
            family.total_updates = 100
            optimisers = family.configure_optimizers()
            family.train()
            for _ in range(2):
                family.update(events(event, 8, "cuda"), optimisers, backward)
            assert family.updates == 2 and watch.peak > 0
        family.eval()
        drawn = family.sample(3, generator=torch.Generator())
        assert drawn.shape == (3, *event.shape) and drawn.device.type == "cuda"
        if family.likelihood_kind is not Likelihood.NONE:
            scored = family.log_prob(events(event, 3, "cpu"))  # events come from anywhere
            assert scored.shape == (3,) and scored.device.type == "cuda"
        family.diagnostics(events(event, 8, "cuda"))


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
