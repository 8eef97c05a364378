"""Records survive the disk: strict JSON, atomic files, honest publication."""

import gzip
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from genfam.files import write_atomically
from genfam.metrics.extractors import classifier_fingerprint
from genfam.records.frame import COLUMNS, to_frame
from genfam.records.paths import strip_paths
from genfam.records.publication import REPORT_FILES, publish, publishable
from genfam.records.serialisation import record_from_json, record_to_json
from genfam.records.store import Store, load_published, write_published
from genfam.types import CurvePoint, Estimate, Kind, Likelihood, Measurement, Outcome, Record, Trace, TracePoint

PROTOCOL = {"source": "digits", "n": "500"}


def make(run_id="r0", family="vae", seed=0, outcome=Outcome.OK, **changes) -> Record:
    defaults = dict(
        run_id=run_id, outcome=outcome, reason="", suite="quick", family=family, source="digits", seed=seed,
        config={"family": {"_target_": "genfam.x"}, "weights": [0.1, 0.2], "budget": None}, digest="d1g3st",
        code_version="abc", package_versions={"torch": "2.14.1"}, device="cpu", threads=1, likelihood=Likelihood.EXACT,
        train_flops=1e9, train_seconds=0.1, parameters=10, peak_memory=2**30, evaluations_per_sample=1.0,
        curve=[CurvePoint(1e8, "fd_x", 3.0, Kind.HEADLINE)], stability={"grad_norm_q95": 2.0},
        metrics=[
            Measurement("fd_x", "1", False, Estimate(0.1, 0.01, 500), PROTOCOL),
            Measurement.not_applicable("modes_covered", "no modes"),
        ],
    )  # fmt: skip
    return Record(**{**defaults, **changes})


def strict(text: str):
    def refuse(word):
        raise AssertionError(f"bare {word}")

    return json.loads(text, parse_constant=refuse)


def test_round_trip_with_numbers_that_are_not_finite():
    record = make(
        stability={"a": math.nan, "b": math.inf},
        curve=[CurvePoint(1.0, "fd_x", -math.inf), CurvePoint(2.0, "fd_x", math.nan)],
        metrics=[
            Measurement("kl", "nats", False, Estimate(math.inf, None, 7), {"source": "f"}),
            Measurement("nan", "nats", None, Estimate(math.nan, math.inf, 7), {"source": "f"}),
            Measurement("tenth", "nats", True, Estimate(0.1, 1 / 3, 7), {"source": "f"}),
        ],
        config={"word": "NaN", "list": [1, True, None, "Infinity"], "weird": "a\u2028\n|"},
        seconds_per_sample=math.nan,
        reason="loss nan",
    )
    text = record_to_json(record)
    strict(text)
    assert "\n" not in text
    assert text.isascii()
    back = record_from_json(text)
    # repr tells inf, nan, "NaN" and each bit of a float apart, where == would not (nan != nan).
    assert repr(back) == repr(record)
    assert back.config["word"] == "NaN"
    assert record_to_json(back) == text


def test_a_line_in_columns_says_what_rows_say_in_half_the_bytes():
    points = [TracePoint(10 * i, 3, 0.5, (1, 2, i), None, {"critic": 0.25, "generator": math.inf}) for i in range(64)]
    record = make(
        curve=[CurvePoint(1e9 * step, metric, step / 7) for step in range(8) for metric in ("fd_identity", "kl")],
        trace=Trace(200, 8.0, 0.99, tuple(points)),
    )
    line, rows = record_to_json(record), record_to_json(record, indent=1)
    assert repr(record_from_json(line)) == repr(record_from_json(rows)) == repr(record)
    assert len(line) < 0.5 * len(json.dumps(json.loads(rows), separators=(",", ":")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema=99), "schema"),
        (lambda c: c.update(colour="blue"), "expected a record; colour: Unexpected"),
        (lambda c: c.pop("seed"), "expected a record; seed: Field required"),
        (lambda c: c.update(outcome="great"), "expected a record; outcome: .* got 'great'"),
        (lambda c: c.update(metrics=[{"name": "x"}]), "metrics.0.unit: Field required"),
        (lambda c: c.update(metrics=3), "malformed"),
        (
            lambda c: c.update(curve={"metric": ["kl", "kl"], "train_flops": [1.0], "value": [2.0]}),
            "malformed.*unequal",
        ),
        (
            lambda c: c.update(curve={"metric": {"of": ["kl"], "at": [1]}, "train_flops": [1], "value": [2]}),
            "malformed",
        ),
        (lambda c: c.update(curve={"metric": {"of": ["kl"], "at": [-1]}, "value": [2]}), "malformed.*indices"),
        (lambda c: c.update(curve={"metric": {"of": ["kl"], "at": [True]}, "value": [2]}), "malformed.*indices"),
        (lambda c: c.update(curve={"metric": "ab", "train_flops": [1, 2], "value": "34"}), "malformed.*no list"),
    ],
)
def test_what_is_not_a_record_is_refused(change, message):
    content = json.loads(record_to_json(make()))
    change(content)
    with pytest.raises(ValueError, match=message):
        record_from_json(json.dumps(content))


def test_bare_nan_and_objects_are_refused():
    with pytest.raises(ValueError, match="bare NaN"):
        record_from_json(record_to_json(make()).replace('"train_seconds":0.1', '"train_seconds":NaN'))
    with pytest.raises(TypeError, match=r"PosixPath is not JSON serializable"):
        record_to_json(make(config={"a": [Path("x")]}))
    with pytest.raises(ValueError, match=r"not JSON compliant"):
        record_to_json(make(config={"a": {"limit": math.inf}}))


KILLED = """
import os, sys
from genfam import files
os.replace = lambda *_: os.kill(os.getpid(), 9)  # the power goes between writing and renaming
files.write_atomically(sys.argv[1], "new")
"""


def test_atomic_write_survives_a_kill_and_an_error(tmp_path, monkeypatch):
    path = tmp_path / "run" / "record.json"
    write_atomically(path, "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60, check=False)
    assert killed.returncode == -9
    assert path.read_text() == "old"
    (left,) = [entry for entry in path.parent.iterdir() if entry != path]
    assert left.read_text() == "new"
    assert left.name.startswith(".")

    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            write_atomically(path, "newer")
    assert path.read_text() == "old"
    assert len(list(path.parent.iterdir())) == 2  # an error, unlike a kill, cleans up
    write_atomically(path, b"bytes\x00")
    assert path.read_bytes() == b"bytes\x00"


def test_store_names_broken_files_and_keeps_the_rest(tmp_path):
    store = Store(tmp_path)
    assert store.load() == []
    store.write(make("r1", seed=1))
    store.write(make("r0", seed=0))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "record.json").write_text('{"schema": 1')
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "record.json").write_text(record_to_json(make("r1", seed=1)))
    with pytest.warns(UserWarning, match="left out a broken record") as caught:
        loaded = store.load()
    assert [record.run_id for record in loaded] == ["r0", "r1"]
    assert loaded[0] == make("r0", seed=0)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "broken/record.json" in messages[0]
    assert "'copy'" in messages[1]


@pytest.mark.parametrize("run_id", ["", ".", "..", "../x", "a/b", ".hidden", "a\nb"])
def test_run_ids_stay_in_the_store(tmp_path, run_id):
    with pytest.raises(ValueError, match="run_id"):
        Store(tmp_path).directory(run_id)


def test_a_newer_run_of_one_seed_supersedes_the_older(tmp_path):
    store = Store(tmp_path)
    for age, name in enumerate(["zz_old", "aa_new"]):
        path = store.write(make(name))
        os.utime(path, ns=(age, age))
    with pytest.warns(UserWarning, match="zz_old"):
        (record,) = store.current()
    assert record.run_id == "aa_new"
    assert len(store.load()) == 2


def test_frame_has_a_row_per_measurement_cost_and_trace():
    frame = to_frame([make(), make("r1", seed=1, outcome=Outcome.DIVERGED, metrics=[], stability={})])
    assert tuple(frame.columns) == COLUMNS
    first = frame[frame["run_id"] == "r0"].set_index("metric")
    assert first.loc["fd_x", "value"] == 0.1
    assert first.loc["fd_x", "stderr"] == 0.01
    assert first.loc["fd_x", "n"] == 500
    assert first.loc["modes_covered", "status"] == "not_applicable"
    assert first.loc["modes_covered", "reason"] == "no modes"
    assert math.isnan(first.loc["modes_covered", "value"])
    assert first.loc["stability_grad_norm_q95", "value"] == 2.0
    assert first.loc["stability_grad_norm_q95", "higher_is_better"] is False
    assert first.loc["parameters", "higher_is_better"] is None
    assert first.loc["peak_memory", "unit"] == "bytes"
    assert first.loc["train_seconds", "fingerprint"] == "device=cpu|threads=1"
    mixed = to_frame([make(), make("r1", device="cpu, bfloat16")])  # one machine, two families' settings
    assert set(mixed.loc[mixed["metric"] == "train_seconds", "fingerprint"]) == {"device=cpu|threads=1"}
    # a run that diverged before it was measured is still there to be counted
    assert set(frame.loc[frame["run_id"] == "r1", "outcome"]) == {"diverged"}
    assert tuple(to_frame([]).columns) == COLUMNS


def test_machine_paths_are_stripped_and_the_rest_kept(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    text = (
        'File "/home/ada/genfam/src/genfam/x.py", see https://a.org/b/c, 1/2, a/b.yaml, at /home/ada: /srv/out/w.ckpt'
    )
    assert strip_paths(text) == 'File "<path>/x.py", see https://a.org/b/c, 1/2, a/b.yaml, at ~: <path>/w.ckpt'
    record = make(reason="x" * 5000, config={"a": [{"cache": "/home/ada/data/cache"}], "rate": 1 / 3})
    record.curve = [CurvePoint(float(i), "fd_x", float(i)) for i in range(1000)]
    short = publishable(record)
    assert short.config == {"a": [{"cache": "<path>/cache"}], "rate": 1 / 3}
    assert len(short.reason) == 2000
    assert len(short.curve) == 64
    assert short.curve[0].value == 0.0
    assert short.curve[-1].value == 999.0
    assert short.metrics == record.metrics


def fill(tmp_path: Path, *records: Record) -> Path:
    folder = tmp_path / "outputs" / "quick"
    store = Store(folder)
    for record in records:
        store.write(record)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    (folder / "figures" / "headline.png").write_bytes(b"png")
    (folder / "figures" / "headline.svg").write_bytes(b"drawn again by the report, so not published")
    for name in REPORT_FILES:
        write_atomically(folder / name, "made by the report")
    return folder


def test_publish_writes_everything_and_loads_again(tmp_path):
    records = [make("r1", seed=1), make("r0", seed=0), make("r2", seed=2, outcome=Outcome.DIVERGED, metrics=[])]
    old = tmp_path / "results" / "quick" / "figures" / "gone.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"stale")
    target = publish(fill(tmp_path, *records), tmp_path / "results", "make benchmark SUITE=quick")
    assert target == tmp_path / "results" / "quick"
    names = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert names == {
        "records.jsonl.gz", "scorecard.csv", "scorecard.md", "comparisons.csv", "metric_trial.csv", "stability.csv",
        "aggregate.csv", "variance.csv", "provenance.json", "figures/headline.png",
    }  # fmt: skip
    assert [record.run_id for record in load_published(target)] == ["r0", "r1", "r2"]
    assert load_published(target)[0] == make("r0", seed=0)
    facts = strict((target / "provenance.json").read_text())
    assert facts["command"] == "make benchmark SUITE=quick"
    assert facts["seeds"] == [0, 1, 2]
    assert facts["runs"] == {"running": 0, "ok": 2, "diverged": 1, "failed": 0, "interrupted": 0}
    assert facts["train_seconds"] == pytest.approx(0.3, abs=1e-12)
    assert facts["code_versions"] == ["abc"]
    assert facts["packages"] == {"torch": ["2.14.1"]}
    assert facts["machine"]["cores"] >= 1
    assert {"commit", "dirty", "date", "python"} <= facts.keys()


def test_provenance_has_the_classifiers_that_measured(tmp_path):
    own, other = {"w": torch.ones(2)}, {"w": torch.zeros(2)}
    names = [classifier_fingerprint("net", "0123abcd", state) for state in (own, other)]
    metrics = [Measurement("fd_net", "1", False, Estimate(0.1, 0.01, 500), PROTOCOL | {"extractor": names[0]})]
    folder = fill(tmp_path, make(metrics=metrics))
    cache = folder.parent / ".cache"
    cache.mkdir()

    def published() -> dict[str, float]:
        target = publish(folder, tmp_path / "results", "c")
        return strict((target / "provenance.json").read_text())["classifiers"]

    assert published() == {}
    save_file(other, cache / "net-0123abcd.safetensors", {"test_accuracy": "0.5"})
    assert published() == {}, "of another training: the same recipe, other weights"
    save_file(own, cache / "net-0123abcd.safetensors", {"test_accuracy": "0.9954"})
    assert published() == {names[0]: 0.9954}
    (cache / "net-0123abcd.safetensors").write_bytes(b"cut off")
    assert published() == {names[0]: 0.9954}, "what was published is kept where the records still name it"


def test_publish_refuses(tmp_path):
    results = tmp_path / "results"

    def refused(name, message, *records):
        with pytest.raises(ValueError, match=message):
            publish(fill(tmp_path / name, *records), results, "c")

    refused("empty", "empty store")
    refused("failed", r"bad \(failed\)", make("r0"), make("bad", seed=1, outcome=Outcome.FAILED))
    refused("cut", r"bad \(interrupted\)", make("bad", outcome=Outcome.INTERRUPTED))
    refused("mixed", r"d1g3st \(1 runs\), other \(1 runs\)", make("r0"), make("r1", seed=1, digest="other"))
    measured = [make("r0", measured_by="m1"), make("r1", seed=1), make("r2", seed=2, measured_by="m2")]
    refused("measured", r"what measures all on digits: m1 \(1 runs\), m2 \(1 runs\)", *measured)
    refused("suites", "one suite", make("r0"), make("r1", suite="other"))
    refused("escape", r"suite: expected a name", make("r0", suite="../../etc"))
    folder = fill(tmp_path / "hidden", make("r0"))
    (folder / "r9").mkdir()
    (folder / "r9" / "config.yaml").touch()
    with pytest.raises(ValueError, match=r"r9 \(cut off\)"):
        publish(folder, results, "c")
    folder = fill(tmp_path / "stale", make("r0"))
    os.utime(folder / "scorecard.md", ns=(1, 1))
    with pytest.raises(ValueError, match=r"scorecard.md"):
        publish(folder, results, "c")
    assert not results.exists()
    mixed = fill(tmp_path / "allowed", make("r0"), make("r1", seed=1, digest="other"))
    target = publish(mixed, results, "c", allow_mixed=True)
    assert json.loads((target / "provenance.json").read_text())["digests"] == {"digits/vae": ["d1g3st", "other"]}


def test_a_broken_published_line_is_named(tmp_path):
    good = record_to_json(replace(make(), reason="line\u2028separator"))
    path = tmp_path / "records.jsonl.gz"
    path.write_bytes(gzip.compress(f"{good}\n\n{good[:50]}\n".encode()))
    with pytest.raises(ValueError, match=r"records.jsonl.gz, line 3"):
        load_published(tmp_path)
    for damaged in (path.read_bytes()[:-20], good.encode()):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"records.jsonl.gz: expected records as gzip"):
            load_published(tmp_path)


def test_published_records_are_the_same_bytes_again(tmp_path):
    record = publishable(make())
    path = write_published(tmp_path, [record])
    first = path.read_bytes()
    assert load_published(tmp_path) == [record]
    assert write_published(tmp_path, load_published(tmp_path)).read_bytes() == first
    assert pd.read_json(path, lines=True)["run_id"].tolist() == [record.run_id]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_record_whose_number_was_changed_is_refused(indent):
    """Valid JSON, a valid record, another number: only the checksum can tell."""
    record = make()
    text = record_to_json(record, indent=indent)
    seconds = json.dumps(record.train_seconds)
    assert text.count(seconds) >= 1
    altered = text.replace(f'"train_seconds":{" " if indent else ""}{seconds}', '"train_seconds": 12.5')
    assert altered != text
    with pytest.raises(ValueError, match="edited or damaged"):
        record_from_json(altered)
    without = json.loads(altered)
    del without["checksum"]  # as records had none before, and a table may be made by hand
    assert record_from_json(json.dumps(without)).train_seconds == 12.5


def test_against_the_exact_distribution_all_error_is_the_draws() -> None:
    estimate = Estimate(0.1, 0.01, 500)
    measurements = [
        Measurement("total_variation", "1", False, estimate, PROTOCOL | {"table_samples": "20000"}, Kind.DIVERGENCE),
        Measurement("cell_kl", "nats", False, estimate, PROTOCOL | {"drawn": "20000", "cells": "512"}, Kind.DIVERGENCE),
        Measurement("fd_x", "1", False, estimate, PROTOCOL),  # the reference has its own error, which all runs share
        Measurement("kd_x", "1", False, replace(estimate, draw_stderr=0.005), PROTOCOL),
    ]
    frame = to_frame([make(metrics=measurements)]).set_index("metric")["draw_stderr"]
    assert frame[["total_variation", "cell_kl", "kd_x"]].tolist() == [0.01, 0.01, 0.005]
    assert math.isnan(frame["fd_x"])
