"""The estimate: its FLOPs are those that training counts, its memory and hours those of a known answer."""

from typing import Any

import pytest
import torch

from genfam.commands import scripts
from genfam.running import estimate
from genfam.running.estimate import GPUS, Requirements, requirements, table
from genfam.running.flops import count_flops
from genfam.running.parts import make_family, make_source
from genfam.running.rehearsal import rehearsal
from genfam.running.training import plan
from stand_ins import write_inception


@pytest.mark.parametrize("family", ["gan", "autoregressive", "mean_flow", *(
    pytest.param(name, marks=pytest.mark.slow) for name in ("vae", "flow_matching", "diffusion", "score")
)])  # fmt: skip
def test_a_rehearsal_counts_what_training_counts(family: str, configure: Any) -> None:
    run = configure(f"family={family}", "source=tiny_images", "family.batch_size=16")
    source = make_source(run)
    real = make_family(run, source)
    plan(real, source, run.budget.train_flops)
    found = requirements(run)
    assert found.flops_per_update == real.flops_per_update
    assert found.updates == real.total_updates
    assert found.train_flops == pytest.approx(run.budget.train_flops, rel=1e-3)
    drawn = count_flops(lambda: real.eval().sample(1, generator=torch.Generator()))
    assert found.sample_flops == drawn
    trained = sum(p.numel() for player in real.players for p in getattr(real, player).parameters())
    average = sum(p.numel() for p in real.average.parameters())
    # float32: weights, gradients, two moments; the average; and activations above that
    assert found.train_memory > 4 * (4 * trained + average)


def test_one_pass_stands_for_hundreds_of_steps(monkeypatch: pytest.MonkeyPatch, configure: Any) -> None:
    run = configure("family=autoregressive", "source=tiny_images")
    stepwise = requirements(run).sample_flops
    monkeypatch.setattr(estimate, "SEQUENTIAL", 3)
    # a pass counts all of the attention's matrix, steps the half that is looked at
    assert 0.5 * requirements(run).sample_flops < stepwise <= requirements(run).sample_flops


def test_hours_are_flops_over_a_share_of_the_peak() -> None:
    need = Requirements("s", "f", 10**6, 8, 2.0e12, 3_000_000, 6.0e18, 5 * 10**9, 1e9, 1e15, True)
    gpu = GPUS["A100"]
    assert need.train_seconds(gpu, 0.5) == pytest.approx(6.0e18 / (0.5 * 312e12))
    assert need.evaluation_seconds(gpu, 0.5) == pytest.approx(1e15 / (0.5 * 19.5e12))
    shown = table([need], "A100", 0.5)
    assert "| s | f | 1 M | 8 | 2e+12 | 3,000,000 | 6e+18 | 5 GB | 10.7 h | 1e+09 | 0.028 h |" in shown
    assert "assumed, not measured" in shown and "50% of the peak" in shown
    with pytest.raises(ValueError, match=r"expected one of A100.*got 'B1000'"):
        table([], "B1000")
    with pytest.raises(ValueError, match=r"utilisation: expected a share.*got 1\.5"):
        table([], "A100", 1.5)


def test_the_command_prints_a_row_per_run_and_trains_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert scripts.estimate(["suite=smoke", "source=die", "family=vae,oracle", "gpu=L4", "utilisation=0.2"]) == 0
    shown = capsys.readouterr().out
    assert "| die | vae |" in shown and "| die | oracle |" in shown and "on one L4" in shown
    assert not list(tmp_path.rglob("record.json"))
    assert scripts.estimate(["gpu=B1000"]) == 1


def test_a_budget_below_one_update_is_refused(configure: Any) -> None:
    with pytest.raises(ValueError, match=r"budget\.train_flops: expected at least .* got 10"):
        requirements(configure("family=vae", "source=die", "budget.train_flops=10"))


@pytest.mark.slow
def test_inceptions_flops_are_what_the_estimate_says(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = write_inception(tmp_path / "weights.pth", monkeypatch)
    counted = count_flops(lambda: network(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)))
    assert counted == pytest.approx(estimate.INCEPTION_FLOPS, rel=0.02)


def test_a_rehearsal_needs_no_memory() -> None:
    with rehearsal("cuda") as watch:
        assert torch.empty(10**12, device="cuda").shape == (10**12,)
    assert watch.peak == 4 * 10**12
