"""What is kept of a run samples as the run does."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import genfam
from genfam.commands import stored
from genfam.families import flow_density
from genfam.families.base import Optimisation
from genfam.families.gan import GAN
from genfam.networks.perceptron import Perceptron
from genfam.running import experiment
from genfam.running.parts import in_bfloat16, make_family, make_source
from genfam.running.published_weights import publish_weights
from genfam.running.saved import load_weights, sampling_weights
from genfam.types import Event, Likelihood

TINY = ("budget=smoke", "budget.train_flops=1e9", "budget.parameters=8000", "curve.points=1", "curve.samples=50",
        "trace.points=1", "trace.samples=50", "evaluation.samples=100", "metrics.likelihood.events=20")  # fmt: skip


@pytest.mark.parametrize("family", ["gan", "mean_flow", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "vae", "autoregressive", "flow_matching", "diffusion", "score"
))])  # fmt: skip
def test_the_sampling_weights_alone_give_the_same_samples(configure, family, monkeypatch):
    monkeypatch.setattr(flow_density, "MOST_STEPS", flow_density.FEWEST_STEPS)  # no number of it is looked at here
    run = configure(f"family={family}", "source=die", *TINY)
    record = experiment.execute(run)
    assert record.outcome.finished, record.reason
    folder = run.directory
    saved = genfam.load_run(folder)
    samples = saved.sample(50, seed=3)
    kept = sampling_weights(saved.family)
    whole = load_file(folder / "weights.safetensors")
    assert sum(v.numel() for v in kept.values()) < 0.6 * sum(v.numel() for v in whole.values())
    (folder / "record.json").unlink()  # it names the whole weights
    save_file(kept, folder / "weights.safetensors")
    again = genfam.load_run(folder)
    assert torch.equal(samples, again.sample(50, seed=3))
    if saved.family.likelihood_kind is not Likelihood.NONE:
        assert torch.equal(saved.log_prob(samples), again.log_prob(samples))
    with pytest.raises(ValueError, match=r"weights: expected those of .* missing .* unknown"):
        load_weights(again.family, {"average.module.nothing": torch.zeros(1)})


def test_precision_is_chosen_by_processor_and_events_only_where_that_is_asked():
    die, points = (
        GAN(event, 5_000, Perceptron(), Optimisation(1e-3), 4) for event in (Event((1,), 6), Event((2,), None))
    )
    for has in (False, True):
        assert in_bfloat16("auto", die, has) is has
        assert in_bfloat16("auto", points, has) is False
        assert in_bfloat16("bfloat16", points, has) and not in_bfloat16("float32", die, has)


@pytest.mark.parametrize(("source", "batch", "expected"), [("die", 4, True), ("die", 3, False), ("ring", 4, False)])
def test_a_family_is_made_for_the_precision_of_its_device_source_and_batch(
    configure, monkeypatch, source, batch, expected
):
    monkeypatch.setattr("genfam.records.environment.multiplies_bfloat16", lambda device: device == "cpu")
    size = f"family.batch_size={batch}"
    run = configure("family=flow_matching", f"source={source}", "precision=auto", *TINY, size)
    assert make_family(run, make_source(run)).in_bfloat16 is expected


def test_a_run_in_bfloat16_says_so_and_learns_the_same(configure):
    records = [
        experiment.execute(configure("family=autoregressive", "source=die", f"precision={precision}", *TINY))
        for precision in ("float32", "bfloat16")
    ]
    assert records[1].device == f"{records[0].device}, bfloat16"
    nats = [next(m.estimate.value for m in r.metrics if m.name == "nll_nats") for r in records]
    assert nats[0] != nats[1]
    assert nats[1] == pytest.approx(nats[0], abs=0.05)


def test_published_weights_are_sampled_from_like_a_run(configure, tmp_path, capsys):
    run = configure("family=flow_matching", "source=die", *TINY)
    record = experiment.execute(run)
    store = run.directory.parent
    (folder,) = publish_weights(store, tmp_path / "results", seed=0)
    assert folder == tmp_path / "results" / "single" / "weights" / record.run_id
    assert str(tmp_path) not in (folder / "config.yaml").read_text() + (folder / "record.json").read_text()
    for name, place in (("a", store / record.run_id), ("b", folder)):
        assert stored.sample([f"run={place}", "n=20", f"out={tmp_path}/{name}.npz"]) == 0
    drawn = [np.load(tmp_path / f"{name}.npz")["samples"] for name in "ab"]
    assert (drawn[0] == drawn[1]).all() and drawn[0].shape == (20, 1)
    with pytest.raises(ValueError, match="finished runs with seed 7, found none"):
        publish_weights(store, tmp_path / "results", seed=7)
