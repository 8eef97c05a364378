"""`suite=gpu`: what it composes, and one cell of it in small, with stand-ins for the data and for Inception."""

from pathlib import Path

import pytest
import torch

from genfam import experiment
from genfam.build import build
from genfam.rehearsal import rehearsal
from genfam.types import Event, Outcome
from helpers import composed
from stand_ins import write_cifar10, write_inception, write_mnist

BODIES = {"gan": "conv", "vae": "conv", "autoregressive": "patches", "flow_matching": "dit"}


@pytest.mark.parametrize("family", BODIES)
def test_the_suite_asks_for_large_networks_and_the_fields_protocol(family: str) -> None:
    cifar10 = composed("+suite=gpu", "source=cifar10_fid", f"family={family}")
    assert cifar10["source"]["name"] == "cifar10"
    assert cifar10["budget"]["parameters"] == 35_000_000 and cifar10["budget"]["train_flops"] == pytest.approx(6e17)
    assert cifar10["family"]["body"] == BODIES[family]
    assert cifar10["extractor"]["name"] == "inception" and cifar10["evaluation"]["samples"] == 50_000
    assert cifar10["metrics"]["frechet_train"]["_target_"] == "genfam.metrics.frechet.FrechetToTraining"
    stacked = composed("+suite=gpu", "source=stacked_mnist", f"family={family}", "budget.scale=0.5")
    assert stacked["extractor"]["name"] == "mnist_resnet" and stacked["evaluation"]["samples"] == 26_000
    assert stacked["budget"]["train_flops"] == pytest.approx(3e15) and stacked["family"]["body"] == BODIES[family]
    alone = composed("source=cifar10", f"family={family}")  # the defaults work on larger patches, with fewer parameters
    assert alone["family"]["patch"] in (4, [4, 4]) and alone["budget"]["parameters"] == 20_000_000
    assert alone["extractor"]["name"] == "cifar10_resnet"


def test_what_the_suite_sets_of_metrics_that_are_not_chosen_is_left_alone() -> None:
    config = composed("+suite=gpu", "source=cifar10_fid", "family=gan", "metric=[frechet]")
    assert list(experiment.make_metrics(config)) == ["frechet"]


@pytest.mark.parametrize("family", ["gan", "vae"])
def test_samples_are_drawn_in_bounded_memory(family: str) -> None:
    config = composed("+suite=gpu", "source=cifar10_fid", f"family={family}")
    with rehearsal("cpu") as watch:
        model = build(config["family"], event=Event((3, 32, 32), 256), parameters=config["budget"]["parameters"])
        model.sample(4000, generator=torch.Generator())
    assert watch.peak < 4e9  # in one pass the GAN holds 2.6 MB an image


SMALL = {
    "gan": ["family.latent=8", "budget.scale=5e-8"],  # a period of its lazy penalties
    "vae": ["family.latent=8", "family.importance_samples=2"],
    "autoregressive": [],
    "flow_matching": ["family.likelihood_steps=2", "family.steps=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALL)
def test_a_cell_runs_in_small(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    weights = tmp_path / "weights.pth"
    write_inception(weights, monkeypatch)
    record = experiment.run(
        composed(
            "+suite=gpu", "source=cifar10_fid", f"family={family}", "device=cpu", "threads=1", "budget.scale=2e-8",
            "budget.parameters=300000", "family.batch_size=4", "curve.points=1", "curve.samples=4", "trace.points=2",
            "trace.samples=4", "evaluation.samples=12", "metric=[frechet,frechet_train,likelihood]",
            "metrics.likelihood.events=4", f"extractor.weights_path={weights}", f"data_dir={tmp_path}",
            f"output_dir={tmp_path}/outputs", *SMALL[family],
        )
    )  # fmt: skip
    assert record.outcome is Outcome.OK, record.reason
    found = {m.name: m for m in record.metrics}
    assert found["fid"].estimate is not None and "ref=test:10" in found["fid"].fingerprint
    assert found["train_fid"].estimate is not None and "ref=train:50" in found["train_fid"].fingerprint
    assert record.updates > 0 and (found["bits_per_dim"].estimate is None) == (family == "gan")


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALL)
def test_a_cell_of_stacked_digits_runs_in_small(family: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST")
    record = experiment.run(
        composed(
            "+suite=gpu", "source=stacked_mnist", f"family={family}", "device=cpu", "threads=1", "budget.scale=8e-6",
            "budget.parameters=1500000", "family.batch_size=4", "curve.points=1", "curve.samples=4", "trace.points=2",
            "trace.samples=4", "evaluation.samples=12", "metric=[frechet,likelihood]", "metrics.likelihood.events=4",
            "extractor=identity", "+source.check=false", f"data_dir={tmp_path}", f"output_dir={tmp_path}/outputs",
            *SMALL[family], *(["budget.scale=3e-5"] if family == "gan" else []),  # a period of its lazy penalties
        )
    )  # fmt: skip
    assert record.outcome is Outcome.OK, record.reason
    found = {m.name: m for m in record.metrics}
    assert record.updates > 0 and (found["bits_per_dim"].estimate is None) == (family == "gan")
