"""Draws are those of torch's plain calls on the CPU, whatever the device; states survive."""

import pytest
import torch

from genfam import seeds
from genfam.records import environment
from genfam.running.experiment import execute


def test_draws_are_the_plain_ones_of_the_cpu() -> None:
    def fresh() -> torch.Generator:
        return torch.Generator().manual_seed(5)

    assert torch.equal(seeds.normal((3, 4), "cpu", fresh()), torch.randn(3, 4, generator=fresh()))
    assert torch.equal(seeds.uniform((7,), "cpu", fresh()), torch.rand(7, generator=fresh()))
    assert torch.equal(seeds.integers(9, (7,), "cpu", fresh()), torch.randint(9, (7,), generator=fresh()))
    weights = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    assert torch.equal(seeds.choices(weights, fresh()), torch.multinomial(weights, 1, generator=fresh()))
    torch.manual_seed(5)
    ours = (
        seeds.normal((3,), "cpu"),
        seeds.normal_like(torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)),
    )
    torch.manual_seed(5)
    plain = torch.randn(3), torch.randn_like(torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last))
    assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(ours, plain, strict=True))


def test_states_of_gpus_are_kept_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    put: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.tensor([1]), torch.tensor([2])])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: put.update({device: state}))
    state = seeds.random_state()
    before = torch.rand(3)
    seeds.set_random_state(state)
    assert torch.equal(before, torch.rand(3))
    assert {name: int(kept) for name, kept in put.items()} == {"cuda:0": 1}  # there is no second GPU any more


def test_the_device_is_chosen_and_asked_for_in_vain(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert environment.device_for("auto") == environment.device_for("cpu") == "cpu"
    with pytest.raises(ValueError, match=r"device=cuda: torch .* finds no GPU; device=cpu or auto"):
        environment.device_for("cuda")
    with pytest.raises(ValueError, match="expected auto, cpu or cuda, got 'tpu'"):
        environment.device_for("tpu")
    plain, there = configure("source=die"), configure("source=die", "device=cuda")
    assert configure("source=die", "device=auto").id == plain.id
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert environment.device_for("auto") == "cuda"
    assert configure("source=die", "device=auto").id == there.id != plain.id


def test_a_run_that_asks_for_a_gpu_in_vain_is_refused(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device=cuda"):
        execute(configure("source=die", "device=cuda"))
