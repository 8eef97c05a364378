"""Samples from elsewhere are measured as a family's are, and have no say in what is said of others."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

import genfam
from genfam.build import ConfigurationError
from genfam.commands import scripts, stored
from genfam.commands.judge import command
from genfam.comparing.statistics import t_interval
from genfam.families.guest import Guest
from genfam.records.publication import check_publishable
from genfam.records.store import Store, beside_published, load_published, write_published
from genfam.report.findings import findings
from genfam.report.page import NAME
from genfam.running import experiment
from genfam.running.saved import load_run
from genfam.seeds import derived_generator
from genfam.sources.images import Digits
from genfam.sources.known import Die, Grid
from genfam.types import Estimate, Event, Record, TooFewSamples

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
FAST = ("metric=[frechet,divergence,likelihood]", "evaluation.samples=500")


def throws(n: int, seed: int) -> np.ndarray:
    return Die().sample(n, generator=derived_generator(seed, "guest")).numpy()


# ---- the guest in the place of a family ---------------------------------------------------------------------


def test_a_guest_hands_out_every_sample_once() -> None:
    guest = Guest(Event((1,), 200), "hash")
    guest.events = torch.arange(200, dtype=torch.uint8)[:, None]
    one, other = derived_generator(0, "a"), derived_generator(0, "a")
    drawn = torch.cat([guest.sample(80, generator=one), guest.sample(120, generator=one)])
    assert sorted(drawn[:, 0].tolist()) == list(range(200)) and drawn[:, 0].tolist() != list(range(200))
    assert torch.equal(guest.sample(80, generator=other), drawn[:80])
    assert not torch.equal(guest.sample(80, generator=derived_generator(1, "a")), drawn[:80])
    with pytest.raises(TooFewSamples, match="needs 201 samples or more, and there are 200"):
        guest.sample(1, generator=one)


# ---- judging ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guests") / "outputs"


@pytest.fixture(scope="module")
def enough(store: Path) -> Any:
    """A fair die's throws, more than any metric draws."""
    files = [throws(21_000, seed) for seed in range(3)]
    return genfam.judge(files, "die", "fair", overrides=FAST, output_dir=store, results_dir=RESULTS)


def test_a_guest_is_measured_as_the_oracle_is(enough: Any) -> None:
    (oracle,) = enough.oracles
    theirs = {m.name: m for m in oracle.metrics if m.estimate}
    for record in enough.records:
        assert record.role == "guest" and record.outcome == "ok" and record.seconds_per_sample == 0
        assert record.marks == ["guest", "compute not stated"] and record.train_flops == 0
        own = {m.name: m for m in record.metrics if m.estimate}
        assert own.keys() == theirs.keys() - {"nll_nats", "bits_per_dim"}
        assert all(m.fingerprint == theirs[name].fingerprint for name, m in own.items())
        refused = {m.name: m.reason for m in record.metrics if m.estimate is None}
        assert refused == dict.fromkeys(("nll_nats", "bits_per_dim"),
                                        "samples alone have no likelihood: that takes the model")  # fmt: skip
    row = enough.table.set_index("metric").loc["total_variation"]
    values = [m.estimate.value for r in enough.records for m in r.metrics if m.name == "total_variation"]
    assert row["mean"] == pytest.approx(np.mean(values)) and row["files"] == 3
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(t_interval(values))
    assert 0.0 < row["mean"] < 0.02 and row["oracle"] == theirs["total_variation"].estimate.value
    assert "over 3 files" in repr(enough) and "total_variation" in repr(enough) and len(repr(enough).splitlines()) <= 6


def test_the_oracles_own_samples_have_the_oracles_numbers(store: Path, enough: Any) -> None:
    (oracle,) = enough.oracles
    run = load_run(store / "guests" / oracle.run_id)
    drawn = run.family.sample(500, generator=derived_generator(oracle.seed, "die", "evaluation"))
    found = genfam.judge(drawn, "die", "copy", overrides=FAST, output_dir=store).records[0]
    values = [{m.name: m.estimate.value for m in r.metrics if m.estimate}["fd_identity"] for r in (oracle, found)]
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_what_draws_more_samples_than_there_are_does_not_apply(store: Path, enough: Any) -> None:
    few = genfam.judge(throws(500, 7), "die", "few", overrides=FAST, output_dir=store)
    known = few.table.set_index("metric")
    assert known.loc["divergence", "reason"] == "needs 10,000 samples or more, and there are 500"
    assert "total_variation" not in known.index and known.loc["fd_identity", "files"] == 1
    (measured,) = [m for m in few.records[0].metrics if m.name == "fd_identity"]
    half = (known.loc["fd_identity", "ci_high"] - known.loc["fd_identity", "ci_low"]) / 2
    assert half == pytest.approx(1.959964 * measured.estimate.stderr)
    assert few.intervals == "one file, the metric's own standard error"


def test_a_loaded_die_is_found_out(store: Path, enough: Any) -> None:
    x = throws(21_000, 9)
    x[:2100] = 5
    row = genfam.judge(x, "die", "loaded", overrides=FAST, output_dir=store).table.set_index("metric")
    assert row.loc["total_variation", "mean"] == pytest.approx(0.1 * 5 / 6, abs=0.02)
    assert row.loc["total_variation", "ci_low"] > 0.06


def test_a_stored_guest_is_measured_again_and_not_twice(store: Path, enough: Any) -> None:
    record = enough.records[0]
    folder = store / "guests" / record.run_id
    touched = (folder / "record.json").stat().st_mtime_ns
    files = [throws(21_000, seed) for seed in range(3)]
    again = genfam.judge(files, "die", "fair", overrides=FAST, output_dir=store)
    assert [r.run_id for r in again.records] == [r.run_id for r in enough.records]
    assert (folder / "record.json").stat().st_mtime_ns == touched
    measured = experiment.measure_again(folder)
    numbers = [{m.name: m.estimate for m in r.metrics} for r in (record, measured)]
    assert numbers[0] == numbers[1] and measured.role == "guest"
    assert load_run(folder).sample(4, seed=0).shape == (4, 1)
    assert stored.repeat([f"run={folder}", f"output_dir={store}/repeated", "--quiet"]) == 1
    assert not (store / "repeated").exists() or not list((store / "repeated").glob("*/*/record.json"))


def test_points_are_judged_by_cells(tmp_path: Path) -> None:
    points = Grid().sample(20_000, generator=derived_generator(0, "guest")).numpy()
    pd.DataFrame(points, columns=["x", "y"]).to_csv(tmp_path / "points.csv", index=False)
    chosen = {"metric": "[frechet]", "output_dir": tmp_path / "o"}
    known = genfam.judge(tmp_path / "points.csv", "grid", "exact", **chosen).table.set_index("metric")
    found, oracle = known.loc["cell_total_variation", ["mean", "oracle"]]
    assert found == pytest.approx(math.sqrt(512 / (2 * math.pi * 20_000)), rel=0.2) and found == pytest.approx(
        oracle, 0.2
    )
    points[:, 0] += 0.1  # two standard deviations of a mode
    moved = genfam.judge(points, "grid", "moved", **chosen).table.set_index("metric")
    assert moved.loc["cell_total_variation", "mean"] > 0.4


@pytest.mark.parametrize(("changes", "said"), [
    ({"name": "vae"}, "name: expected one that no family has, got vae"),
    ({"name": "a/b"}, "name: expected a name of at most 60 bytes"),
    ({"source": "diee"}, "no source 'diee'; did you mean die"),
    ({"samples": throws(99, 0)}, r"samples: expected at least 500, .*got 99; evaluation.samples=99 measures by fewer"),
    ({"samples": [throws(500, 0), throws(499, 0)]}, "got 499 in file 2 of 2"),
    ({"samples": [throws(500, 0), throws(500, 0)]}, "expected other samples in every file, got the same in two"),
    ({"samples": []}, "samples: expected at least one file or array, got none"),
    ({"samples": throws(500, 0) + 1}, "expected levels 0 to 5, got 1 to 6"),
    ({"suite": "likelihood"}, r"suite=likelihood: expected its runs in .*likelihood or in .*results, found none"),
    ({"suite": "gan_failures"}, "suite=gan_failures: expected runs on die, got some on ring"),
    ({"suite": "quick"}, r"suite=quick: expected to measure .* got others: samples: 2500, here 500"),
    ({"compute": -1.0}, "compute: expected a positive number of FLOPs, got -1.0"),
    ({"metric": "mine.yaml"}, "metric: expected a YAML file, found no mine.yaml"),
    ({"metric": "frechett", "overrides": ()}, "no metric 'frechett'; did you mean frechet"),
    ({"overrides": (*FAST, "condition=labels")}, "condition: expected none, for nobody knows"),
    ({"overrides": (*FAST, "corruption=tenth")}, "corruption: expected none"),
    ({"overrides": (*FAST, "evaluation.sample=5")}, "no key or group 'evaluation.sample'; did you mean evaluation.s"),
])  # fmt: skip
def test_mistakes_come_before_any_measuring(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    given = {"samples": throws(500, 0), "source": "die", "name": "mine", "overrides": FAST} | changes
    with pytest.raises(ConfigurationError, match=said) as caught:
        genfam.judge(given.pop("samples"), given.pop("source"), output_dir=tmp_path / "o", results_dir=RESULTS, **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_a_name_stands_for_one_set_of_samples(store: Path, enough: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"name: fair has other samples on die in suite guests already"):
        genfam.judge(throws(21_000, 50), "die", "fair", overrides=FAST, output_dir=store)


def test_the_command_says_what_the_function_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", throws(500, 0))
    said = [f"samples={tmp_path}/a.npy", "source=die", *FAST, f"output_dir={tmp_path / 'o'}", "--quiet"]
    assert command([*said, "name=vae"]) == 2
    assert capsys.readouterr().err == "genfam-judge: error: name: expected one that no family has, got vae\n"
    for wrong in ("range=0-1", "compute=lots", "--nonsense=1"):
        with pytest.raises(SystemExit) as end:
            command([*said, "name=mine", wrong])
        assert end.value.code == 2
    assert not (tmp_path / "o").exists()
    assert command([*said, "name=mine", "compute=2e9"]) == 0
    out = capsys.readouterr().out
    assert "mine on die: guest, 2e+09 training FLOPs stated" in out and "fd_identity" in out
    assert "nll_nats                           does not apply: samples alone have no likelihood" in out


def test_a_metric_of_ones_own_and_a_strange_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guests_own_metric.py").write_text(
        "from genfam.metrics.base import Metric\n"
        "from genfam.metrics.estimators import mean\n"
        "from genfam.types import Measurement\n\n\n"
        "class Sixes(Metric):\n"
        "    def measure(self, evaluation):\n"
        "        found = mean((evaluation.samples == 5).double().flatten())\n"
        "        return [Measurement('sixes', '1', None, found, evaluation.protocol(features=False))]\n"
    )
    (tmp_path / "sixes.yaml").write_text("_target_: guests_own_metric.Sixes\n")
    monkeypatch.syspath_prepend(tmp_path)
    x, strange = throws(500, 3), tmp_path / "a b, 日本 (1) \\ x=1"
    given = {"overrides": FAST, "metric": tmp_path / "sixes.yaml", "output_dir": strange}
    with pytest.raises(ConfigurationError, match="if you trust it, add plugins=\\[guests_own_metric\\]"):
        genfam.judge(x, "die", "mine", **given)
    assert not strange.exists()
    found = genfam.judge(x, "die", "mine", plugins=["guests_own_metric"], **given)
    assert found.table.set_index("metric").loc["sixes", "mean"] == pytest.approx((x == 5).mean())
    assert len(list(strange.glob("guests/die-mine-s0-*/record.json"))) == 1


# ---- beside a suite -----------------------------------------------------------------------------------------


def published(*sources: str) -> list[Record]:
    """Of suite quick; some sources are faster than all."""
    return [record for record in load_published(RESULTS / "quick") if record.source in sources]


def published_in(folder: Path, records: list[Record]) -> Path:
    """A folder of results with these."""
    write_published(folder / "quick", records)
    return folder


def planted(role: str) -> list[Record]:
    """The published runs, and on each source somebody with a tenth of the best family's numbers in everything."""
    found, machine = [], {"device": "another machine"} if role == "guest" else {}
    for record in published("die", "digits"):
        if record.family != {"die": "autoregressive", "digits": "vae"}[record.source]:
            continue
        metrics = [
            replace(m, estimate=Estimate(m.estimate.value * (1.1 if m.higher_is_better else 0.1), 0.0, 9, 0.01))
            for m in record.metrics if m.estimate is not None and m.kind != "likelihood"
        ]  # fmt: skip
        changed = replace(record, family="cheat", role=role, metrics=metrics, curve=[], trace=None, train_flops=1e9)
        found.append(
            replace(changed, run_id=f"cheat-{record.run_id}", seed=record.seed + 7, judge="coverage", **machine)
        )
    return [*found, *published("die", "digits")]


def others(table: pd.DataFrame) -> pd.DataFrame:
    kept = table[table["family"] != "cheat"] if "family" in table else table
    return kept.reset_index(drop=True)


def test_a_guest_changes_nothing_that_is_said_of_others() -> None:
    before, after = findings(published("die", "digits")), findings(planted("guest"))
    for name in "card", "comparisons", "metric_trial", "stability", "aggregate", "variance", "dimension", "corruption":
        assert_frame_equal(others(getattr(after, name)), getattr(before, name), obj=name)
    assert repr(after.verdicts) == repr(before.verdicts) and after.scaling.points.equals(before.scaling.points)
    own = after.card[after.card["family"] == "cheat"]
    assert len(own) > 20 and own["rank"].isna().all() and not own["leads"].any()
    assert "cheat" not in set(after.variance["family"])
    assert not set(own["metric"]) & {"train_seconds", "parameters", "peak_memory", "evaluations_per_sample"}
    told, untold = after.summary({}), before.summary({})
    assert told.seeds == untold.seeds and told.legend[-1].startswith("Guests:") and len(untold.legend) == 4
    for table, plain in zip(told.tables, untold.tables, strict=True):
        assert [row for row in table.rows if row.family != "cheat"] == plain.rows
        assert (table.choice, table.pairs, table.trial, table.scatter) == (
            plain.choice, plain.pairs, plain.trial, plain.scatter)  # fmt: skip
        (place,) = [number for number, row in enumerate(table.rows) if row.family == "cheat"]
        assert [row.role for row in table.rows[place - 1 :]] == ["contestant", "guest", "floor", "oracle"]
        assert table.rows[place].note == "guest, 1e+09 FLOPs as stated"
    competing = findings(planted("contestant"))  # the same numbers would win if they had a vote
    assert repr(competing.verdicts) != repr(before.verdicts)
    assert not others(competing.card)["rank"].equals(before.card["rank"])


def test_a_guest_stands_in_scorecard_and_page_of_a_published_suite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"{seed}.npy" for seed in range(2)]
    for seed, file in enumerate(files):
        np.save(file, throws(20_000, seed))
    results = published_in(tmp_path / "results", published("die"))
    kept = (results / "quick" / "records.jsonl.gz").read_bytes()
    store = tmp_path / "outputs"
    assert command([f"samples={tmp_path}/?.npy", "source=die", "name=mine", "suite=quick", f"output_dir={store}",
                    f"results_dir={results}", "--quiet"]) == 0  # fmt: skip
    folder = store / "quick"
    assert (results / "quick" / "records.jsonl.gz").read_bytes() == kept
    printed = capsys.readouterr().out
    assert "mine (guest)" in printed and "die: mine is a guest, compute not stated" in printed
    text = (folder / "scorecard.md").read_text()
    assert "| mine (guest, compute not stated) |" in text and "| vae |" in text and "Guests: samples from" in text
    page = (folder / NAME).read_text()
    assert "(guest, compute not stated: samples from elsewhere" in page
    records = Store(folder).current()
    assert [record.role for record in records] == ["guest", "guest"]
    for record in records:
        assert f'href="{record.run_id}/record.json"' in page and f"genfam-evaluate run={record.run_id}" in page
    assert "records.jsonl.gz#line=18" in page
    assert scripts.report(["suite=quick", "format=markdown", f"output_dir={store}", f"results_dir={results}"]) == 0
    assert "mine (guest, compute not stated)" in capsys.readouterr().out
    assert len(beside_published(records, results / "quick")) == 2 + 12 * 3
    with pytest.raises(ValueError, match="expected runs of the suite beside its guests, got guests alone"):
        check_publishable(Store(folder), records)


def test_guests_alone_make_a_report_too(store: Path, enough: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert scripts.report(["suite=guests", f"output_dir={store}", f"results_dir={RESULTS}"]) == 0
    printed = capsys.readouterr().out
    assert "fair (guest)" in printed and "oracle" in printed and (store / "guests" / NAME).exists()


def test_numbers_of_another_version_of_a_metric_are_refused(tmp_path: Path) -> None:
    old = [
        replace(record, metrics=[replace(m, protocol=m.protocol | {"kernel": "old"}) if m.name == "kd_identity" else m
                                 for m in record.metrics])
        for record in published("die")
    ]  # fmt: skip
    results = published_in(tmp_path / "results", old)
    with pytest.raises(ValueError, match=r"kd_identity on die: expected .*kernel=old.*as suite quick has it"):
        genfam.judge(throws(2500, 0), "die", "mine", suite="quick", output_dir=tmp_path / "o", results_dir=results)
    assert not list((tmp_path / "o").glob("*/*/record.json"))


# ---- the study ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_study_writes_guests_beside_published_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "studies")
    study = importlib.import_module("guests")
    results = published_in(tmp_path / "results", published("digits"))
    target = results / "guests"
    chosen = study.study(tmp_path / "store", results, target, sources=["digits"], seeds=[100, 101])
    assert chosen == json.loads((target / "settings.json").read_text())
    assert chosen["digits"]["n_components"] in (1, 2, 4, 8) and 0.5 < chosen["digits"]["bandwidth"] < 5
    records = load_published(target)
    assert [(r.family, r.seed) for r in records] == [
        (guest, seed) for guest in ("gaussian_mixture", "kernel_density") for seed in (100, 101)
    ]
    assert {(r.role, r.suite) for r in records} == {("guest", "guests")} and str(tmp_path) not in repr(records)
    card = pd.read_csv(target / "scorecard.csv").set_index(["family", "metric"])
    own = card.loc[["gaussian_mixture", "kernel_density"]]
    assert own["rank"].isna().all() and (own["n_ok"] == 2).all()
    before = findings(published("digits")).card.set_index(["family", "metric"])
    assert card.loc[("vae", "coverage"), "mean"] == pytest.approx(before.loc[("vae", "coverage"), "mean"])
    assert "| kernel_density (guest, compute not stated) |" in (target / "scorecard.md").read_text()
    # kernels stand on training events, so their samples are nearer to these than held-out events are
    assert card.loc[("kernel_density", "data_copying"), "mean"] < card.loc[("gaussian_mixture", "data_copying"), "mean"]


@pytest.mark.slow
def test_settings_are_chosen_by_their_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "studies")
    study = importlib.import_module("guests")
    rng = np.random.default_rng(0)
    four = rng.normal(size=(800, 2)) * 0.1 + rng.choice([-5.0, 5.0], (800, 2))
    assert study.components(four) == 4
    normal = rng.normal(size=(800, 1))
    # the bandwidth of least error, for a normal density: 1.06 σ N^(-1/5) = 0.28 (Silverman 1986, equation 3.28)
    assert study.bandwidth(normal) == pytest.approx(0.25, rel=0.05)
    digits = Digits()
    x = study.events(digits, 0)
    assert np.array_equal(np.floor(x), digits.train.flatten(1).numpy()) and x.shape == (1297, 64)
    mixture = study.GaussianMixture(1, random_state=0).fit(x)
    drawn = study.drawn(mixture, digits, 7, 0)
    assert drawn.shape == (7, 1, 8, 8) and drawn.dtype == np.uint8 and drawn.max() <= 16
