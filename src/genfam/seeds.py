"""Random numbers: seeds derived from named dimensions, draws that no device changes, and the global states.

The rule: every random number is drawn where its generator lives, which is the CPU, and then moved to where it is
needed. So a run on a GPU sees the same noise as one on the CPU. The price is a copy of what was drawn. Dropout alone
draws on the device that it works on: torch offers no other way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

Device = torch.device | str


def derive_seed(seed: int, *dimensions: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. `derive_seed(3, "grid", "batches")`."""
    text = "|".join([str(seed), *map(str, dimensions)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derived_generator(seed: int, *dimensions: str | int) -> Generator:
    """A CPU generator seeded by `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *dimensions))


def _home(generator: Generator | None) -> Device:
    """Where to draw: at the generator; without one at the CPU's global one."""
    return "cpu" if generator is None else generator.device


def normal(shape: Sequence[int], device: Device, generator: Generator | None = None) -> Tensor:
    """(*shape) standard normal numbers on `device`."""
    return torch.randn(tuple(shape), generator=generator, device=_home(generator)).to(device)


def normal_like(x: Tensor) -> Tensor:
    """Standard normal numbers of the shape, type and layout of `x`, from the CPU's global generator."""
    return torch.randn_like(x, device="cpu").to(x.device)


def uniform(shape: Sequence[int], device: Device, generator: Generator | None = None) -> Tensor:
    """(*shape) numbers from U[0, 1) on `device`."""
    return torch.rand(tuple(shape), generator=generator, device=_home(generator)).to(device)


def integers(high: int, shape: Sequence[int], device: Device, generator: Generator | None = None) -> Tensor:
    """(*shape) int64 from 0 to high − 1, equally likely, on `device`."""
    return torch.randint(high, tuple(shape), generator=generator, device=_home(generator)).to(device)


def choices(weights: Tensor, generator: Generator) -> Tensor:
    """(B, K) weights -> (B, 1) int64: one index per row, with probability proportional to its weight."""
    return torch.multinomial(weights.to(generator.device), 1, generator=generator).to(weights.device)


def random_state() -> dict[str, Tensor]:
    """The state of torch's global generators by device: the CPU's, and those of GPUs in use (dropout's)."""
    states = {"cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"cuda:{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_random_state(states: Mapping[str, Tensor]) -> None:
    """The inverse of `random_state`; states of GPUs that are not here are left out."""
    torch.random.set_rng_state(states["cpu"].cpu())
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for name, state in states.items():
        if name != "cpu" and int(name.partition(":")[2]) < count:
            torch.cuda.set_rng_state(state.cpu(), name)
