"""A trained run at several numbers of solver steps, without training and without a new identity."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from genfam import commands, experiment, run_folder, sampling_costs
from genfam.families.flow_matching import FlowMatching
from genfam.keepsakes import publish_weights
from helpers import composed

TINY = ("budget=smoke", "budget.train_flops=1e9", "budget.parameters=8000", "curve.points=1", "curve.samples=50",
        "trace.points=1", "trace.samples=50", "evaluation.samples=300", "metrics.likelihood.events=20",
        "metrics.divergence.noise=1", "metrics.divergence.least_samples=2000",
        "metrics.divergence.likelihood_events=20", "family.likelihood_steps=2")  # fmt: skip
FILE = sampling_costs.SAMPLING_COSTS


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A store with a run of flow matching on the grid, solved by Heun's method in three steps."""
    place = tmp_path_factory.mktemp("trained")
    config = composed(f"output_dir={place}/outputs", f"results_dir={place}/results", "family=flow_matching",
                      "source=grid", "family.steps=3", *TINY)  # fmt: skip
    record = experiment.run(config)
    assert record.outcome.finished, record.reason
    return run_folder.run_directory(config)


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(trained, tmp_path / "outputs" / "single" / trained.name))


def test_settings_are_measured_as_the_record_was(folder, capsys):
    before = (folder / "record.json").read_bytes()
    assert commands.evaluate([f"run={folder}", "steps=3,1", "--quiet"]) == 0
    assert "heun, 3 steps, 6 network evaluations" in capsys.readouterr().out
    rows = sampling_costs.read(folder / FILE)
    assert list(rows.columns) == list(sampling_costs.COLUMNS)
    record = run_folder.read_record(folder)
    own = {m.name: m for m in record.metrics}
    as_run = rows[rows["as_run"]].set_index("metric")
    assert {"fd_identity", "modes_covered", "high_quality_share", "mode_reverse_kl"} <= set(as_run.index)
    for name, row in as_run.iterrows():  # the same weights, noise and protocol give the record's own numbers
        assert row["value"] == pytest.approx(own[name].estimate.value, rel=1e-6), name
        assert row["fingerprint"] == own[name].fingerprint
    one = rows[rows["steps"] == 1]
    assert set(one["network_evaluations"]) == {2.0} and set(as_run["network_evaluations"]) == {6.0}
    assert not one["as_run"].any() and set(rows["samples"]) == {300} and (rows["seconds"] > 0).all()
    assert set(rows["run_id"]) == {record.run_id} and set(rows["code_version"]) == {
        experiment.environment.code_version()
    }
    assert (folder / "record.json").read_bytes() == before


def test_what_is_there_is_not_drawn_again_and_nothing_is_lost(folder, monkeypatch, capsys):
    asked = []
    sample = FlowMatching.sample

    def drawn(self, n, *, generator):
        asked.append((self.solver, self.steps))
        if self.steps == 2:
            raise KeyboardInterrupt
        return sample(self, n, generator=generator)

    monkeypatch.setattr(FlowMatching, "sample", drawn)
    assert commands.evaluate([f"run={folder}", "steps=1,2", "--quiet"]) == 130
    assert "what was finished is kept" in capsys.readouterr().err
    assert set(sampling_costs.read(folder / FILE)["steps"]) == {1}
    monkeypatch.setattr(FlowMatching, "sample", sample)
    heard = []
    rows = sampling_costs.measure(folder, [1, 2], progress=lambda share, text: heard.append((share, text)))
    assert set(rows["steps"]) == {1, 2} and asked == [("heun", 1), ("heun", 2)]
    shares = [share for share, _ in heard]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert sum(text == "heun, 2 steps: drawing samples" for _, text in heard) == 4  # one per network call
    assert set(sampling_costs.measure(folder, [1], ["euler", "heun"])["solver"]) == {"euler", "heun"}


def test_a_straight_velocity_needs_one_step(folder, monkeypatch):
    monkeypatch.setattr(FlowMatching, "velocity", lambda self, t, x, guidance: 0.5 * x.new_ones(len(x), 2))
    rows = sampling_costs.measure(folder, [1, 4, 16])
    for metric, own in rows.groupby("metric"):
        assert own["value"].to_numpy() == pytest.approx(own["value"].iloc[0], abs=1e-4), metric
    assert set(rows["network_evaluations"]) == {2.0, 8.0, 32.0}


def test_refusals_name_what_there_is(folder, monkeypatch, capsys, configure):
    with pytest.raises(ValueError, match=r"expected one that takes a given number of steps, euler, .*got 'magic'"):
        sampling_costs.measure(folder, [1], ["magic"])
    path = folder / "record.json"
    path.write_text(path.read_text().replace("|n=300|", "|n=7|"))
    assert commands.evaluate([f"run={folder}", "steps=1", "--quiet"]) == 1
    assert "expected the record's protocol grid|n=7|" in capsys.readouterr().err
    assert not (folder / FILE).exists()
    config = configure("family=gaussian", "source=die", *TINY[:-1])
    experiment.run(config)
    assert commands.evaluate([f"run={run_folder.run_directory(config)}", "steps=1"]) == 1
    assert "Gaussian has no steps of sampling to choose: one sample takes it" in capsys.readouterr().err
    (folder / FILE).write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"expected the columns run_id, family, .* got a, b"):
        sampling_costs.read(folder / FILE)
    for wrong in ("steps=0", "steps=1,x", "steps=1 metric=m.yaml", "solver=euler"):
        with pytest.raises(SystemExit):
            commands.evaluate([f"run={folder}", *wrong.split()])


def test_rows_are_published_and_weights_measured(folder, tmp_path, capsys):
    store, results = folder.parent, tmp_path / "results"
    (kept,) = publish_weights(store, results, seed=0)
    rows = sampling_costs.measure(kept, [2], output_dir=tmp_path / "outputs")
    expected = sampling_costs.measure(folder, [2])
    assert rows["value"].tolist() == pytest.approx(expected["value"].tolist(), rel=1e-6)
    command = [f"output_dir={tmp_path}/outputs", f"results_dir={results}", "suite=single"]
    assert commands.evaluate([*command, "steps=1,2", "--quiet"]) == 0
    assert commands.publish(command) == 0
    published = sampling_costs.read(results / "single" / FILE)
    assert set(published["steps"]) == {1, 2}
    assert (results / "single" / "figures" / "costs_grid.png").stat().st_size > 5000
    assert "costs_grid.png" in (results / "single" / "scorecard.md").read_text()
    records = sampling_costs.Store(store).current()
    both = sampling_costs.of_suite(results / "single", records)  # the published rows and those beside the weights
    assert len(both) == len(published)
    pd.testing.assert_frame_equal(both[both["steps"] == 1].reset_index(drop=True), published[published["steps"] == 1])
    (folder / FILE).unlink()
    assert sampling_costs.publish(store, results / "single") is None
    assert not (results / "single" / FILE).exists()
