"""A trained run at several sampling knobs, without training and without a new identity."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from genfam.commands import scripts, stored
from genfam.families import flow_density
from genfam.families.flow_matching import FlowMatching
from genfam.records import environment
from genfam.records import sampling_costs as table
from genfam.records.run import Run
from genfam.records.store import Store, ended_well
from genfam.running import sampling_costs
from genfam.running.experiment import execute
from genfam.running.published_weights import publish_weights
from helpers import composed

TINY = ("budget=smoke", "budget.train_flops=1e9", "budget.parameters=8000", "curve.points=1", "curve.samples=50",
        "trace.points=1", "trace.samples=50", "evaluation.samples=300", "metrics.likelihood.events=20",
        "metrics.divergence.noise=1", "metrics.divergence.least_samples=2000",
        "metrics.divergence.likelihood_events=20")  # fmt: skip
FILE = table.FILE


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A store with a run of flow matching on the grid, solved by Heun's method in three steps."""
    place = tmp_path_factory.mktemp("trained")
    run = Run.of(
        composed(f"output_dir={place}/outputs", f"results_dir={place}/results", "family=flow_matching", "source=grid",
                 "family.solver.steps=3", *TINY)
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for steps in ("FEWEST_STEPS", "MOST_STEPS"):
            patch.setattr(flow_density, steps, 2)
        record = execute(run)
    assert record.outcome.finished, record.reason
    return run.directory


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(trained, tmp_path / "outputs" / "single" / trained.name))


def knob(rows: pd.DataFrame, name: str) -> pd.Series:
    """A knob's value in each row."""
    return rows["knobs"].map(lambda text: json.loads(text)[name])


def test_settings_are_measured_as_the_record_was(folder, capsys):
    before = (folder / "record.json").read_bytes()
    assert stored.evaluate([f"run={folder}", "steps=3,1", "--quiet"]) == 0
    assert "solver=heun, steps=3: 6 network evaluations" in capsys.readouterr().out
    rows = table.read(folder / FILE)
    assert list(rows.columns) == list(table.COLUMNS)
    record = ended_well(folder)
    own = {m.name: m for m in record.metrics}
    as_run = rows[rows["as_run"]].set_index("metric")
    assert {"fd_identity", "modes_covered", "high_quality_share", "mode_reverse_kl"} <= set(as_run.index)
    assert "within_class_variance" in as_run.index  # what sharpening costs, which no record need have
    for name, row in as_run.drop(
        "within_class_variance"
    ).iterrows():  # the same weights, noise and protocol give the record's own numbers
        assert row["value"] == pytest.approx(own[name].estimate.value, rel=1e-6), name
        assert row["fingerprint"] == own[name].fingerprint
    one = rows[knob(rows, "steps") == 1]
    assert set(one["network_evaluations"]) == {2.0} and set(as_run["network_evaluations"]) == {6.0}
    assert not one["as_run"].any() and set(rows["samples"]) == {300} and (rows["seconds"] > 0).all()
    assert set(rows["run_id"]) == {record.run_id} and set(rows["code_version"]) == {environment.code_version()}
    assert (folder / "record.json").read_bytes() == before


def test_what_is_there_is_not_drawn_again_and_nothing_is_lost(folder, monkeypatch, capsys):
    asked = []
    sample = FlowMatching.sample

    def drawn(self, n, *, generator, condition=None):
        asked.append((self.sampling["solver"], self.sampling["steps"]))
        if self.sampling["steps"] == 2:
            raise KeyboardInterrupt
        return sample(self, n, generator=generator)

    monkeypatch.setattr(FlowMatching, "sample", drawn)
    assert stored.evaluate([f"run={folder}", "steps=1,2", "--quiet"]) == 130
    assert "what was finished is kept" in capsys.readouterr().err
    assert set(knob(table.read(folder / FILE), "steps")) == {1}
    monkeypatch.setattr(FlowMatching, "sample", sample)
    heard = []
    rows = sampling_costs.measure(folder, {"steps": [1, 2]}, progress=lambda share, text: heard.append((share, text)))
    assert set(knob(rows, "steps")) == {1, 2} and asked == [("heun", 1), ("heun", 2)]
    shares = [share for share, _ in heard]
    assert shares == sorted(shares) and shares[-1] == 1.0
    drawing = "solver=heun, steps=2, guidance=1.0: drawing samples"
    assert sum(text == drawing for _, text in heard) == 4  # one per network call
    rows = sampling_costs.measure(folder, {"steps": [1], "solver": ["euler", "heun"]})
    assert set(knob(rows, "solver")) == {"euler", "heun"}


def test_a_straight_velocity_needs_one_step(folder, monkeypatch):
    monkeypatch.setattr(FlowMatching, "velocity", lambda self, t, x, predict: 0.5 * x.new_ones(len(x), 2))
    rows = sampling_costs.measure(folder, {"steps": [1, 4, 16]})
    for metric, own in rows.groupby("metric"):
        assert own["value"].to_numpy() == pytest.approx(own["value"].iloc[0], abs=1e-4), metric
    assert set(rows["network_evaluations"]) == {2.0, 8.0, 32.0}


def test_a_run_that_leads_away_from_itself_draws_the_same_at_twice_the_cost(folder, capsys):
    assert stored.evaluate([f"run={folder}", f"guide={folder}", "guidance=1,2", "--quiet"]) == 0
    rows = table.read(folder / FILE)
    plain, guided = (rows[knob(rows, "guidance") == weight].set_index("metric") for weight in (1.0, 2.0))
    assert guided["value"].to_dict() == pytest.approx(plain["value"].to_dict(), rel=1e-2)
    assert set(plain["network_evaluations"]) == {6.0} and set(guided["network_evaluations"]) == {12.0}
    assert plain["as_run"].all() and not guided["as_run"].any()


def test_refusals_name_what_there_is(folder, monkeypatch, capsys, configure):
    with pytest.raises(ValueError, match=r"solver: expected one of euler, .*got 'magic'"):
        sampling_costs.measure(folder, {"steps": [1], "solver": ["heun", "magic"]})
    with pytest.raises(ValueError, match=r"temperature: expected one of FlowMatching's sampling knobs, solver, steps"):
        sampling_costs.measure(folder, {"temperature": [0.5]})
    with pytest.raises(ValueError, match=r"guidance: expected a model that was trained with condition\.dropout"):
        sampling_costs.measure(folder, {"guidance": [1.5]})
    path = folder / "record.json"
    altered = json.loads(path.read_text().replace('"samples": "300"', '"samples": "7"')) | {"checksum": None}
    path.write_text(json.dumps(altered))
    assert stored.evaluate([f"run={folder}", "steps=1", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "fd_identity: expected the record's protocol" in said and "samples=7|" in said and "samples=300|" in said
    assert not (folder / FILE).exists()
    run = configure("family=gaussian", "source=die", *TINY)
    execute(run)
    assert stored.evaluate([f"run={run.directory}", "steps=1"]) == 1
    assert "Gaussian has no sampling knobs: one sample takes it 1 network evaluations" in capsys.readouterr().err
    (folder / FILE).write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"expected the columns run_id, family, .* got a, b"):
        table.read(folder / FILE)
    for wrong in ("steps=0", "steps=1,x", "steps=1 metric=m.yaml", "guide=elsewhere", "guidance=-1"):
        with pytest.raises(SystemExit):
            stored.evaluate([f"run={folder}", *wrong.split()])


def test_rows_are_published_and_weights_measured(folder, tmp_path, capsys):
    store, results = folder.parent, tmp_path / "results"
    (kept,) = publish_weights(store, results, seed=0)
    rows = sampling_costs.measure(kept, {"steps": [2]}, output_dir=tmp_path / "outputs")
    expected = sampling_costs.measure(folder, {"steps": [2]})
    assert rows["value"].tolist() == pytest.approx(expected["value"].tolist(), rel=1e-6)
    command = [f"output_dir={tmp_path}/outputs", f"results_dir={results}", "suite=single"]
    assert stored.evaluate([*command, "steps=1,2", "--quiet"]) == 0
    assert scripts.publish(command) == 0
    published = table.read(results / "single" / FILE)
    assert set(knob(published, "steps")) == {1, 2}
    assert "cost-grid" in (store / "report.html").read_text()
    records = Store(store).current()
    both = table.of_suite(results / "single", records)  # the published rows and those beside the weights
    assert len(both) == len(published)
    own = [rows[knob(rows, "steps") == 1].reset_index(drop=True) for rows in (both, published)]
    pd.testing.assert_frame_equal(*own)
    (folder / FILE).unlink()
    assert table.publish(store, results / "single") is None
    assert not (results / "single" / FILE).exists()
