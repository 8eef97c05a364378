"""Hundreds of random mistakes: overrides drawn from the configuration, and damage to a run's files.

No case ends in a traceback, none changes a number without a word.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import genfam
from genfam.build import ConfigurationError
from genfam.commands import scripts, stored
from genfam.files import sha256
from genfam.records.run import Run
from genfam.records.store import read_record
from genfam.running import experiment, preflight
from genfam.types import Outcome
from helpers import composed

CELLS = [
    ("family=gan", "source=grid"), ("family=vae", "source=digits", "condition=clusters"),
    ("family=autoregressive", "source=die", "condition=labels"), ("family=flow_matching", "source=tiny_images"),
    ("family=gaussian", "source=ring"), ("family=oracle", "source=stacked_digits"),
]  # fmt: skip
VALUES = [
    0, 1, -1, 2, 7, 10**12, 0.5, 1e-9, 1e4, 1.5, -3.5, float("inf"), float("nan"), True, False, None, "", "no", "off",
    "yes", "true", "abc", "../x", "a/b", "日本", "2024", "=1+1", "a\nb", [], [1, 2], ["x"], {}, {"a": 1},
    {"_target_": "os.system", "command": "false"}, {"_target_": "genfam.files.write_atomically"}, "x" * 300,
]  # fmt: skip
OVERRIDES, DAMAGES = 300, 30
TINY = ("family=vae", "source=die", "budget=smoke", "budget.train_flops=1e8", "budget.parameters=3000",
        "curve.points=2", "curve.samples=20", "trace.points=1", "trace.samples=20", "evaluation.samples=50",
        "metric=[frechet]")  # fmt: skip


def leaves(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every value of a configuration, inner ones too."""
    found = [path] if path else []
    for key, value in node.items() if isinstance(node, dict) else ():
        found += leaves(value, (*path, key))
    return found


@pytest.fixture(scope="module")
def configurations() -> list[dict[str, Any]]:
    return [composed(*cell, "budget=smoke") for cell in CELLS]


def test_any_value_for_any_key_is_taken_or_refused_in_a_line_that_names_it(
    configurations: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    refused = 0
    for case in range(OVERRIDES):
        config = copy.deepcopy(rng.choice(configurations))
        path = rng.choice(leaves(config))
        value = rng.choice(VALUES)
        node = config
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        told = f"case {case}: {'.'.join(path)}={value!r}"
        said = ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run = Run.of(config)
                assert run.identity and run.id and run.directory
                preflight.check([run])
                json.dumps(run.config, allow_nan=False)
        except ConfigurationError as error:
            said = str(error)
            refused += 1
        except BaseException as error:
            raise AssertionError(f"{told}: {error!r}") from error
        assert "\n" not in said.strip(), told
    assert 0.3 * OVERRIDES < refused < OVERRIDES  # most values do not fit, and some do
    assert not list(tmp_path.iterdir())  # nothing was written


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("fuzz") / "outputs"
    run = Run.of(composed(*TINY, f"output_dir={store}", "results_dir=nowhere"))
    assert experiment.execute(run).outcome is Outcome.OK
    return run.directory


def damage(file: Path, rng: random.Random) -> str:
    """Spoil a file in one of the ways that disks, copies and people do."""
    content = file.read_bytes()
    how = rng.choice(["empty", "cut", "flip", "flips", "zeros", "text", "folder", "gone", "twice"])
    if how == "empty":
        file.write_bytes(b"")
    elif how == "cut":
        file.write_bytes(content[: rng.randrange(len(content))])
    elif how in ("flip", "flips"):
        spoilt = bytearray(content)
        for _ in range(1 if how == "flip" else 20):
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        file.write_bytes(bytes(spoilt))
    elif how == "zeros":
        file.write_bytes(bytes(len(content)))
    elif how == "text":
        file.write_text(rng.choice(["null", "{}", "[]", "- a\n- b", "\x00", "{", "\t", "caf\xe9"]), encoding="latin-1")
    elif how == "twice":
        file.write_bytes(content + content)
    else:
        file.unlink()
        if how == "folder":
            file.mkdir()
    return f"{file.name} {how}"


def test_damage_to_a_runs_files_changes_no_number(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(1)
    truth = read_record(finished)
    assert truth is not None
    expected = {m.name: m.estimate for m in truth.metrics}
    drawn = genfam.load_run(finished).sample(8, seed=3)
    settings = Run.of(composed(*TINY, "results_dir=nowhere"))

    def numbers(folder: Path) -> None:
        record = read_record(folder)
        if record is not None and record.outcome is Outcome.OK:
            assert {m.name: m.estimate for m in record.metrics} == expected

    for case in range(DAMAGES):
        store = tmp_path / str(case) / "outputs"
        folder = store / "single" / finished.name
        shutil.copytree(finished, folder)
        told = damage(folder / rng.choice(["record.json", "config.yaml", "weights.safetensors", "samples.npz"]), rng)

        def load(folder: Path = folder) -> int:
            assert torch.equal(genfam.load_run(folder).sample(8, seed=3), drawn)
            return 0

        def again(store: Path = store, folder: Path = folder) -> int:
            run = settings.model_copy(update={"output_dir": store})
            assert run.directory == folder
            return int(experiment.execute(run).outcome is not Outcome.OK)

        commands: dict[str, Callable[[], int]] = {
            "load": load,
            "sample": lambda f=folder: stored.sample([f"run={f}", "n=4", f"out={f.parent / 's.npz'}"]),
            "evaluate": lambda f=folder: stored.evaluate([f"run={f}", "--quiet"]),
            "report": lambda s=store: scripts.report([f"output_dir={s}", "results_dir=nowhere", "suite=single"]),
            "repeat": lambda f=folder: stored.repeat([f"run={f}", f"output_dir={f.parent / 'r'}", "--quiet"]),
            "execute": again,
        }
        name = rng.choice(list(commands))
        told = f"case {case}: {name} after {told}"
        before = sha256(folder / "weights.safetensors") if (folder / "weights.safetensors").is_file() else ""
        capsys.readouterr()
        raised = ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = commands[name]()
        except (ValueError, OSError) as error:  # from Python, where commands print one line
            raised, code = str(error).strip(), 1
        except BaseException as error:
            raise AssertionError(f"{told}: {error!r}") from error
        assert "\n" not in raised and (not raised or name in ("load", "execute")), f"{told}: {raised}"
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out, told
        assert code == 0 or len(said.err.strip().splitlines()) <= 1, f"{told}: {said.err}"
        numbers(folder)
        if name not in ("execute",) and before:
            assert sha256(folder / "weights.safetensors") == before, f"{told}: its weights were touched"
