"""`suite=gpu`: what it composes, and one cell of it in small, with stand-ins for the data and for Inception."""

from pathlib import Path

import pytest
import torch

from genfam.families import flow_density
from genfam.running.experiment import execute
from genfam.running.parts import make_family, make_metrics, make_source
from genfam.running.rehearsal import rehearsal
from genfam.types import Outcome
from helpers import composed
from stand_ins import write_cifar10, write_inception

NETWORKS = {
    "gan": "convolutional.Convolutional",
    "vae": "convolutional.Convolutional",
    "autoregressive": "patch_transformer.PatchTransformer",
    "flow_matching": "dit.DiT",
}


@pytest.mark.parametrize("family", NETWORKS)
def test_the_suite_asks_for_large_networks_and_the_fields_protocol(family: str) -> None:
    cifar10 = composed("+suite=gpu", "source=cifar10", f"family={family}")
    assert cifar10["source"]["name"] == "cifar10"
    assert cifar10["budget"]["parameters"] == 35_000_000 and cifar10["budget"]["train_flops"] == pytest.approx(6e17)
    assert cifar10["family"]["network"]["_target_"] == f"genfam.networks.{NETWORKS[family]}"
    assert cifar10["extractor"]["name"] == "inception" and cifar10["evaluation"]["samples"] == 50_000
    assert cifar10["metrics"]["frechet_train"]["_target_"] == "genfam.metrics.frechet.FrechetToTraining"
    alone = composed("source=cifar10", f"family={family}")  # the same networks, by a distance that needs no download
    assert alone["family"] == cifar10["family"]
    assert alone["extractor"]["name"] == "cifar10_resnet" and alone["evaluation"]["samples"] == 10_000


def test_what_the_suite_sets_of_metrics_that_are_not_chosen_is_left_alone(configure) -> None:
    run = configure("+suite=gpu", "source=cifar10", "family=gan", "metric=[frechet]")
    assert list(make_metrics(run)) == ["frechet"]


@pytest.mark.parametrize("family", ["gan", pytest.param("vae", marks=pytest.mark.slow)])
def test_samples_are_drawn_in_bounded_memory(family: str, configure) -> None:
    run = configure("+suite=gpu", "source=cifar10", f"family={family}")
    with rehearsal("cpu") as watch:
        model = make_family(run, make_source(run), {})  # there is no training split to look at
        model.sample(4000, generator=torch.Generator())
    assert watch.peak < 4e9  # in one pass the GAN holds 2.6 MB an image


SMALL = {
    "gan": ["family.latent.normals=8", "budget.scale=5e-8"],  # a period of its lazy penalties
    "vae": ["family.latent=8", "family.importance_samples=2"],
    "autoregressive": [],
    "flow_matching": ["family.solver.steps=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALL)
def test_a_cell_runs_in_small(family: str, configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in ("FEWEST_STEPS", "MOST_STEPS"):
        monkeypatch.setattr(flow_density, steps, 2)
    write_cifar10(tmp_path, monkeypatch)
    weights = tmp_path / "weights.pth"
    write_inception(weights, monkeypatch)
    record = execute(
        configure(
            "+suite=gpu", "source=cifar10", f"family={family}", "device=cpu", "threads=1", "budget.scale=2e-8",
            "budget.parameters=300000", "family.batch_size=4", "curve.points=1", "curve.samples=4", "trace.points=2",
            "trace.samples=4", "evaluation.samples=12", "metric=[frechet,frechet_train,likelihood]",
            "metrics.likelihood.events=4", f"extractor.weights_path={weights}", f"data_dir={tmp_path}",
            *SMALL[family],
        )
    )  # fmt: skip
    assert record.outcome is Outcome.OK, record.reason
    found = {m.name: m for m in record.metrics}
    assert found["fid"].estimate is not None and found["fid"].protocol["reference"] == "test:10"
    assert found["train_fid"].estimate is not None and found["train_fid"].protocol["reference"] == "train:50"
    assert record.updates > 0 and (found["bits_per_dim"].estimate is None) == (family == "gan")
