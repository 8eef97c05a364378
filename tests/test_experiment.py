"""One run, from configuration to record: repeatable, resumable, honest about how it ended."""

import json
import math
import os
import signal

import numpy as np
import pytest
import torch

import genfam
from genfam.comparing.scorecard import scorecard
from genfam.families.base import Family
from genfam.families.players import Diverged
from genfam.records.frame import to_frame
from genfam.records.serialisation import record_to_json
from genfam.running import experiment, training
from genfam.running.experiment import execute
from genfam.running.parts import make_source
from genfam.types import Outcome

TIMES = ("train_seconds", "evaluate_seconds", "seconds_per_sample", "peak_memory")
TINY = ("budget=smoke", "budget.train_flops=3e9", "budget.parameters=8000", "curve.points=4", "curve.samples=200",
        "trace.points=4", "trace.samples=50", "evaluation.samples=400", "metrics.divergence.noise=1",
        "metrics.divergence.least_samples=2000", "metrics.divergence.likelihood_events=40",
        "metrics.likelihood.events=40")  # fmt: skip


def numbers(record) -> dict:
    """The record but for times and the store's place."""
    plain = json.loads(record_to_json(record))
    plain.pop("checksum")  # of all of it
    plain["config"].pop("output_dir"), plain["config"].pop("results_dir")
    return {key: value for key, value in plain.items() if key not in TIMES}


SLOWER = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("vae", "autoregressive", "flow_matching", "diffusion")
]


@pytest.mark.parametrize("family", ["gan", *SLOWER])
def test_same_seed_same_record_other_seed_other_result(configure, tmp_path, family):
    run = configure(f"family={family}", "source=tiny_images", *TINY)
    first = experiment.execute(run)
    assert first.outcome is Outcome.OK, first.reason
    again = experiment.execute(run.model_copy(update={"output_dir": tmp_path / "other"}))
    assert numbers(first) == numbers(again)
    third = experiment.execute(configure(f"family={family}", "source=tiny_images", "seed=1", *TINY))
    assert third.run_id != first.run_id
    assert [m.estimate for m in third.metrics] != [m.estimate for m in first.metrics]
    assert len({p.train_flops for p in first.curve}) == 4
    assert first.train_flops <= 3e9 < first.train_flops + 2 * first.train_flops / first.updates


def test_two_families_with_one_seed_see_the_same_data_order(configure, monkeypatch):
    seen = {}
    for family in ("gan", "vae"):
        batches = []
        plain = experiment.train

        def spy(it, source, seed, batches=batches, plain=plain, **rest):
            update = it.update
            it.update = lambda batch, *a: (batches.append(batch.event.clone()), update(batch, *a))
            return plain(it, source, seed, **rest)

        monkeypatch.setattr(experiment, "train", spy)
        experiment.execute(configure(f"family={family}", "source=ring", "family.batch_size=64", *TINY))
        monkeypatch.setattr(experiment, "train", plain)
        seen[family] = batches
    assert all(torch.equal(a, b) for a, b in zip(seen["gan"], seen["vae"], strict=False))


@pytest.mark.parametrize("family", ["gan", pytest.param("autoregressive", marks=pytest.mark.slow)])
def test_a_run_cut_off_goes_on_and_ends_with_the_same_numbers(configure, tmp_path, monkeypatch, family):
    run = configure(f"family={family}", "source=ring", *TINY)
    whole = experiment.execute(run.model_copy(update={"output_dir": tmp_path / "whole"}))

    class Eager(training.Conductor):
        """Reports after every update, not some twice a second."""

        def on_train_batch_end(self, *arguments):
            self.reported = 0.0
            super().on_train_batch_end(*arguments)

    def interrupt(share: float, text: str) -> None:
        if share > 0.5 and text.startswith("update"):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(training, "Conductor", Eager)
        cut = experiment.execute(run, progress=interrupt)
    assert cut.outcome is Outcome.INTERRUPTED and 0 < cut.updates < whole.updates
    assert "goes on from there" in cut.reason
    resumed = experiment.execute(run)
    assert numbers(resumed) == numbers(whole)


def test_a_finished_run_is_not_repeated(configure, monkeypatch):
    run = configure("family=vae", "source=ring", *TINY)
    first = experiment.execute(run)
    monkeypatch.setattr(experiment, "train", None)  # would raise
    assert numbers(experiment.execute(run)) == numbers(first)


def test_divergence_is_a_result(configure):
    record = experiment.execute(configure("family=vae", "source=ring", "family.optimisation.learning_rate=1e30",
                                      "family.optimisation.clip=null", *TINY))  # fmt: skip
    assert record.outcome is Outcome.DIVERGED
    assert "at update" in record.reason
    assert record.metrics == []
    assert record.trace is not None  # what it did before is kept


def test_what_a_run_did_before_it_diverged_is_kept(configure, monkeypatch):
    run = configure("family=vae", "source=ring", *TINY)
    plain = Family.update

    def until(self, *arguments):
        if self.progress > 0.6:
            raise Diverged("planted")
        plain(self, *arguments)

    monkeypatch.setattr(Family, "update", until)
    record = experiment.execute(run)
    assert record.outcome is Outcome.DIVERGED and record.train_seconds > 0
    assert len({point.train_flops for point in record.curve}) == 2 and len(record.trace.points) == 2


def test_a_failure_is_recorded_with_its_reason_and_run_again(configure, monkeypatch):
    run = configure("family=vae", "source=ring", *TINY)

    def broken(*arguments, **keywords):
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "evaluate", broken)
        record = experiment.execute(run)
    assert record.outcome is Outcome.FAILED and "the disk is full" in record.reason
    assert experiment.execute(run).outcome is Outcome.OK


def test_evaluate_measures_again_without_training(configure, monkeypatch):
    run = configure("family=flow_matching", "source=die", *TINY)
    first = experiment.execute(run)
    monkeypatch.setattr(experiment, "train", None)
    again = experiment.measure_again(run.directory)
    assert numbers(again) == numbers(first)


def test_five_lines_of_python_load_sample_and_judge(configure):
    run = configure("family=autoregressive", "source=digits", *TINY)
    assert experiment.execute(run).outcome is Outcome.OK
    saved = genfam.load_run(run.directory)
    x = saved.sample(16, seed=0)
    assert x.shape == (16, 1, 8, 8) and torch.equal(x, saved.sample(16, seed=0))
    assert bool((saved.log_prob(x) < 0).all())
    plain = saved.to_uint8(x)
    assert plain.shape == (16, 8, 8, 1) and plain.dtype == np.uint8
    stored = np.load(run.directory / "samples.npz")
    assert stored["samples"].shape[1:] == (1, 8, 8)
    # nearer than every other training image, by a count that shares no code with it
    train = saved.source.train.numpy().reshape(-1, 64).astype(float)
    distance = [np.linalg.norm(train - s.reshape(64), axis=1).min() for s in stored["samples"][:16].astype(float)]
    kept = stored["nearest"].reshape(16, 64).astype(float)
    assert np.allclose(np.linalg.norm(stored["samples"][:16].reshape(16, 64) - kept, axis=1), distance)
    assert all((train == image).all(axis=1).any() for image in kept)


def test_a_table_of_states_and_the_places_of_modes_are_kept(configure):
    run = configure("family=oracle", "source=tiny_images", *TINY)
    experiment.execute(run)
    stored = np.load(run.directory / "samples.npz")
    assert stored["states"].shape == (256, 1, 2, 2)
    assert stored["state_masses"].sum() == pytest.approx(1.0)
    for state, count in zip(stored["states"], stored["state_counts"], strict=True):
        assert count == (stored["samples"] == state).all(axis=(1, 2, 3)).sum()
    assert "nearest" not in stored  # 2×2 pixels: nothing to see
    run = configure("family=oracle", "source=ring", *TINY)
    experiment.execute(run)
    stored = np.load(run.directory / "samples.npz")
    assert np.allclose(np.linalg.norm(stored["mode_centres"], axis=1), 1.0)
    assert "states" not in stored


def test_the_oracle_reaches_what_samples_can_say_and_the_truth(configure):
    record = experiment.execute(configure("family=oracle", "source=grid", "evaluation.samples=2500"))
    by_name = {m.name: m.estimate for m in record.metrics if m.estimate}
    quality = by_name["high_quality_share"]
    assert abs(quality.value - (1 - math.exp(-4.5))) < 4 * quality.stderr
    assert by_name["modes_covered"].value == 25
    assert abs(by_name["kl_divergence"].value) < 4 * by_name["kl_divergence"].stderr + 0.02


def test_a_budget_below_one_update_is_refused(configure):
    with pytest.raises(ValueError, match=r"budget\.train_flops: expected at least"):
        experiment.execute(configure("family=gan", "source=ring", "budget.train_flops=1"))


def test_only_trusted_targets_are_built(configure):
    with pytest.raises(ValueError, match=r"plugins=\[os\]"):
        experiment.execute(configure("family=vae", "source=ring", "family._target_=os.system"))


def test_contents_tell_runs_on_folders_of_one_name_apart(configure, tmp_path):
    from PIL import Image

    def run(place, level):
        folder = tmp_path / place / "images"
        folder.mkdir(parents=True)
        for number in range(150):
            Image.new("L", (8, 8), (number + level) % 256).save(folder / f"{number:03}.png")
        given = f"data_dir={tmp_path / place}"
        return configure("source=image_folder", "family=oracle", given, "source.size=8", "extractor=identity")

    a, b = run("a", 0), run("b", 1)
    assert a.id != b.id and a.source["name"] == b.source["name"]
    seen = [make_source(it) for it in (a, b)]
    assert seen[0].fingerprint != seen[1].fingerprint
    with_name = {it.fingerprint.partition("contents")[0] for it in seen}
    assert len(with_name) == 1  # all else is the same


def test_what_changes_a_reference_changes_its_fingerprint(configure):
    plain, wide = (make_source(configure("source=ring", *more)) for more in ((), ("source.radius=100",)))
    assert plain.name == wide.name and plain.fingerprint != wide.fingerprint and "100" in wide.fingerprint


def test_rows_of_references_that_differ_share_no_table(configure, tmp_path):
    records = [
        execute(configure("source=ring", "metric=[frechet]", "evaluation.samples=100", *more))
        for more in (("family=oracle",), ("family=gaussian", "source.radius=100"))
    ]
    with pytest.raises(ValueError, match=r"expected one fingerprint in one table, got data=.*radius=100"):
        scorecard(to_frame(records))
