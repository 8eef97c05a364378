"""Files of a run that are torn, altered, foreign or newer: recognised, set aside, said; never used or overwritten."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genfam
from forked import start
from genfam.build import ConfigurationError
from genfam.commands import scripts, stored
from genfam.files import set_aside
from genfam.records import store
from genfam.records.run import Run
from genfam.records.store import Owned, Store, at_work, owned, read_record
from genfam.running import checkpoints, experiment, training
from genfam.types import Outcome
from helpers import composed

TINY = ("family=vae", "source=die", "budget=smoke", "budget.train_flops=1e9", "budget.parameters=3000",
        "curve.points=4", "curve.samples=20", "trace.points=1", "trace.samples=20", "evaluation.samples=50",
        "metric=[frechet,modes]")  # fmt: skip


def interrupted(run: Run, monkeypatch: pytest.MonkeyPatch, at: float = 0.6) -> None:
    """Cut the run off after a share of its training, between two checkpoints."""

    class Eager(training.Conductor):
        def on_train_batch_end(self, *arguments: Any) -> None:
            self.reported = 0.0
            super().on_train_batch_end(*arguments)

    def stop(share: float, text: str) -> None:
        if share / experiment.TRAINING_SHARE > at and text.startswith("update"):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(training, "Conductor", Eager)
        assert experiment.execute(run, progress=stop).outcome is Outcome.INTERRUPTED


def estimates(run: Run) -> list[Any]:
    record = read_record(run.directory)
    assert record is not None
    return [m.estimate for m in record.metrics]


def damage(content: bytes, how: str, rng: random.Random) -> bytes:
    if how == "empty":
        return b""
    if how == "truncated":
        return content[: rng.randrange(1, len(content))]
    if how == "foreign":
        return b"PK\x03\x04 something else"
    place = rng.randrange(len(content))  # one bit
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "bit 0",
        *(pytest.param(how, marks=pytest.mark.slow) for how in ("empty", "foreign", "bit 1", "bit 2")),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_goes_on(
    configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    run = configure(*TINY)
    whole = experiment.execute(run.model_copy(update={"output_dir": tmp_path / "whole"}))
    interrupted(run, monkeypatch)
    path = run.directory / checkpoints.NAME
    assert (run.directory / checkpoints.PREVIOUS).exists()
    path.write_bytes(damage(path.read_bytes(), how.split()[0], random.Random(how)))
    with pytest.warns(
        UserWarning, match=r"checkpoint\.pt: expected a whole checkpoint.*kept as checkpoint\.broken1\.pt"
    ):
        record = experiment.execute(run)
    assert record.outcome is Outcome.OK
    assert estimates(run) == [m.estimate for m in whole.metrics]
    assert (run.directory / "checkpoint.broken1.pt").exists()
    assert not path.exists() and not (run.directory / checkpoints.PREVIOUS).exists()


def test_where_no_checkpoint_is_whole_the_run_starts_anew(
    configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = configure(*TINY)
    whole = experiment.execute(run.model_copy(update={"output_dir": tmp_path / "whole"}))
    interrupted(run, monkeypatch)
    for name in (checkpoints.NAME, checkpoints.PREVIOUS):
        (run.directory / name).write_bytes(b"")
    with pytest.warns(UserWarning, match="goes on without it"):
        experiment.execute(run)
    assert estimates(run) == [m.estimate for m in whole.metrics]


def test_a_checkpoint_with_numbers_that_are_not_finite_is_no_divergence(
    configure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = configure(*TINY)
    interrupted(run, monkeypatch)
    state = checkpoints.read(run.directory)
    assert state is not None
    name = next(key for key, value in state["weights"].items() if value.is_floating_point() and value.numel())
    state["weights"][name] = torch.full_like(state["weights"][name], torch.nan)
    (run.directory / checkpoints.PREVIOUS).unlink()
    checkpoints.write(run.directory, state)
    (run.directory / checkpoints.PREVIOUS).unlink()
    with pytest.warns(UserWarning, match="expected finite weights"):
        assert experiment.execute(run).outcome is Outcome.OK


def test_a_checkpoint_of_other_code_is_not_gone_on_from(configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = configure(*TINY)
    interrupted(run, monkeypatch)
    monkeypatch.setattr(experiment, "numerics_digest", lambda *arguments: "other")
    with pytest.warns(UserWarning, match="expected a checkpoint of code other"):
        assert experiment.execute(run).outcome is Outcome.OK


def test_a_run_that_was_cut_off_after_its_last_update_is_only_measured(
    configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = configure(*TINY)
    whole = experiment.execute(run.model_copy(update={"output_dir": tmp_path / "whole"}))

    def slow(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "evaluate", slow)
        start = time.monotonic()
        record = experiment.execute(run)
    assert record.outcome is Outcome.INTERRUPTED and "its training is kept" in record.reason
    assert time.monotonic() - start < 30
    with monkeypatch.context() as patch:
        patch.setattr(training, "Trainer", lambda *arguments, **options: pytest.fail("it was trained again"))
        assert experiment.execute(run).outcome is Outcome.OK
    assert estimates(run) == [m.estimate for m in whole.metrics]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    run = Run.of(composed(f"output_dir={place}/outputs", f"results_dir={place}/results", *TINY))
    assert experiment.execute(run).outcome is Outcome.OK
    return run.directory


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "single" / finished.name
    shutil.copytree(finished, folder)
    return folder


@pytest.mark.parametrize("number", range(12))
def test_damaged_weights_are_neither_sampled_from_nor_measured(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    path, rng = copy / "weights.safetensors", random.Random(number)
    how = ["truncated", "empty", "foreign", "bit"][min(number, 3)]
    path.write_bytes(damage(path.read_bytes(), how, rng))
    before = (copy / "record.json").read_bytes()
    for command in (
        lambda: stored.sample([f"run={copy}", "n=2", f"out={tmp_path}/s.npz"]),
        lambda: stored.evaluate([f"run={copy}", "--quiet"]),
        lambda: stored.evaluate([f"run={copy}", "temperature=0.9", "--quiet"]),
    ):
        assert command() == 1
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and "weights.safetensors: expected the weights" in err
    assert (copy / "record.json").read_bytes() == before and not (tmp_path / "s.npz").exists()


@pytest.mark.parametrize("how", ["empty", "truncated", "foreign", "other"])
def test_a_damaged_configuration_is_said(copy: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    path = copy / "config.yaml"
    text = path.read_text()
    assert "batch_size: 128\n" in text
    path.write_text({"empty": "", "truncated": text[: len(text) // 2], "foreign": "a: [1\n\tb", "other":
                     text.replace("batch_size: 128\n", "batch_size: 64\n")}[how])  # fmt: skip
    before = (copy / "record.json").read_bytes()
    assert stored.evaluate([f"run={copy}", "--quiet"]) in (1, 2)
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "config.yaml: expected" in err
    assert (copy / "record.json").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"schema": 3}',
        *(
            pytest.param(text, marks=pytest.mark.slow)
            for text in ("", "[" * 100_000, '{"schema": 3, "config": null}', "null", "\x00\x01")
        ),
    ],
)
def test_one_broken_record_is_left_out_by_name_and_the_rest_goes_on(
    copy: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    broken = copy.parent / "broken"
    broken.mkdir()
    (broken / "record.json").write_text(content)
    folder = copy.parent / "folder" / "record.json"
    folder.mkdir(parents=True)
    with pytest.warns(UserWarning, match="left out a broken record"):
        assert [record.run_id for record in Store(copy.parent).load()] == [copy.name]
    with pytest.warns(UserWarning, match="left out a broken record"):
        assert scripts.report(["suite=single", f"output_dir={copy.parents[1]}", "results_dir=none"]) == 0


def test_pictures_are_not_drawn_from_samples_that_were_replaced(copy: Path) -> None:
    """A page's mode masses are counted on them."""
    arguments = [f"output_dir={copy.parents[1]}", "results_dir=results", f"suite={copy.parent.name}"]
    assert scripts.report(arguments) == 0
    content = dict(np.load(copy / "samples.npz"))
    np.savez_compressed(copy / "samples.npz", **content | {"mode_counts": content["mode_counts"][::-1]})
    with pytest.warns(UserWarning, match=r"not those of the record beside them.*samples\.npz"):
        assert scripts.report(arguments) == 0


def test_torn_weights_of_one_run_do_not_stop_a_suites_evaluation(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy.parent / "other"
    shutil.copytree(copy, other)
    content = json.loads((other / "record.json").read_text()) | {"run_id": "other", "seed": 7, "checksum": None}
    (other / "record.json").write_text(json.dumps(content))
    (other / "weights.safetensors").write_bytes(b"torn")
    assert stored.evaluate(["suite=single", f"output_dir={copy.parents[1]}", "results_dir=none", "--quiet"]) == 1
    out = capsys.readouterr().out
    assert "ok        " + copy.name in out and "skipped" in out and "other/weights.safetensors" in out


def test_a_record_of_a_later_version_is_not_overwritten(configure: Any) -> None:
    run = configure(*TINY)
    run.directory.mkdir(parents=True)
    (run.directory / "record.json").write_text('{"schema": 99, "wonders": true}')
    with pytest.raises(ConfigurationError, match="expected a record of schema 3, got 99: a later version"):
        experiment.execute(run)
    assert json.loads((run.directory / "record.json").read_text())["wonders"] is True


def test_a_record_that_cannot_be_read_is_kept_under_another_name(configure: Any) -> None:
    run = configure(*TINY, "budget.train_flops=1e8")
    run.directory.mkdir(parents=True)
    (run.directory / "record.json").write_text("half a rec")
    with pytest.warns(UserWarning, match=r"could not be read and is kept as record\.broken1\.json"):
        assert experiment.execute(run).outcome is Outcome.OK
    assert (run.directory / "record.broken1.json").read_text() == "half a rec"


def test_names_of_what_is_set_aside_do_not_collide(tmp_path: Path) -> None:
    for number in range(1, 4):
        (tmp_path / "a.pt").write_text(str(number))
        assert set_aside(tmp_path / "a.pt").name == f"a.broken{number}.pt"
    assert (tmp_path / "a.broken2.pt").read_text() == "2"


WORKER = """
import sys
from genfam.records.store import owned
from pathlib import Path
with owned(Path(sys.argv[1]), "x"):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_a_run_has_one_owner_who_is_named(configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = configure(*TINY)
    command = [sys.executable, "-c", WORKER, str(run.directory)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "mine\n"
    assert at_work(run.directory)
    monkeypatch.setattr(store, "PATIENCE", 0.2)
    with pytest.raises(Owned, match=rf"process {other.pid} on .*, since .* is at work on it"):
        experiment.execute(run)
    other.kill()
    other.communicate()
    assert not at_work(run.directory)
    assert experiment.execute(run.model_copy(update={"seed": 3})).outcome is Outcome.OK
    with owned(run.directory.parent / "new", "new"):
        pass
    assert not (run.directory.parent / "new").exists(), "a run that was refused leaves no folder"


def test_sigterm_writes_checkpoint_and_record_and_exits_143(tmp_path: Path) -> None:
    command = ["genfam", "family=vae", "source=grid", "logger=none", f"output_dir={tmp_path}/o", "curve.points=100"]
    process = start(command, tmp_path, tmp_path / "log.txt")
    end = time.monotonic() + 120
    while not list(tmp_path.glob("o/single/*/checkpoint.pt")):
        assert time.monotonic() < end and process.is_alive()
        time.sleep(0.1)
    process.terminate()
    process.join(60)
    said = (tmp_path / "log.txt").read_text()
    assert process.exitcode == 143, said
    assert "interrupted: the same command goes on where it stopped" in said
    (record,) = Store(tmp_path / "o" / "single").load()
    assert record.outcome is Outcome.INTERRUPTED and "stopped at update" in record.reason


def test_loading_checks_weights_against_the_record(copy: Path) -> None:
    assert genfam.load_run(copy).sample(2).shape == (2, 1)
    record = read_record(copy)
    assert record is not None and set(record.files) == {"weights.safetensors", "samples.npz"}
