"""A store that somebody hands over runs nothing and writes nothing elsewhere, whatever reads it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from forked import call
from genfam.commands import cli, scripts, stored
from genfam.records.run import Run
from genfam.records.serialisation import record_from_json, record_to_json
from genfam.records.store import read_record, write_record
from genfam.running import experiment
from genfam.types import Outcome
from helpers import composed

TINY = ("family=vae", "source=die", "budget=smoke", "budget.train_flops=1e8", "budget.parameters=2000",
        "curve.points=1", "curve.samples=20", "trace.points=1", "trace.samples=20", "evaluation.samples=50",
        "metric=[frechet,modes]")  # fmt: skip
TRAP = """
import pathlib
pathlib.Path(__file__).with_name("sprung").touch()

class Trap:
    def __init__(self, **kwargs): ...
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small honest store."""
    place = tmp_path_factory.mktemp("honest")
    run = Run.of(composed(f"output_dir={place}/outputs", f"results_dir={place}/results", *TINY))
    assert experiment.execute(run).outcome is Outcome.OK
    return run.directory


@pytest.fixture
def store(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run's folder to be spoilt, in the folder that the user is in; `trap.py` lies beside it."""
    copy = tmp_path / "outputs" / "single" / finished.name
    shutil.copytree(finished, copy)
    (tmp_path / "trap.py").write_text(TRAP)
    monkeypatch.chdir(tmp_path)
    return copy


def change(folder: Path, edits: dict[str, Any]) -> None:
    """Edit `config.yaml` and the record's copy of it: dotted key -> value."""
    for path in (folder / "config.yaml", folder / "record.json"):
        content = yaml.safe_load(path.read_text())
        content.pop("checksum", None)  # a stranger can compute one, too
        config = content if path.suffix == ".yaml" else content["config"]
        for key, value in edits.items():
            node = config
            *parents, last = key.split(".")
            for parent in parents:
                node = node[parent]
            node[last] = value
        path.write_text(yaml.safe_dump(content) if path.suffix == ".yaml" else json.dumps(content))


def everything(place: Path) -> dict[str, Any]:
    """Every file below a folder, with what is in it."""
    return {str(p.relative_to(place)): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def readers(folder: Path) -> dict[str, Any]:
    """Every command that builds something from a stored run."""
    outputs = f"output_dir={folder.parents[1]}"
    return {
        "sample": lambda: stored.sample([f"run={folder}", "n=3"]),
        "evaluate": lambda: stored.evaluate([f"run={folder}", "--quiet"]),
        "evaluate a suite": lambda: stored.evaluate(["suite=single", outputs, "--quiet"]),
        "knobs": lambda: stored.evaluate([f"run={folder}", "temperature=0.9", "--quiet"]),
        "guide": lambda: stored.evaluate([f"run={folder}", "guidance=2", f"guide={folder}", "--quiet"]),
        "repeat": lambda: stored.repeat([f"run={folder}", "output_dir=again", "--quiet"]),
        "weights": lambda: scripts.publish(["suite=single", outputs, "weights=0", "results_dir=out", "--allow-mixed"]),
    }


SOURCE, FAMILY = "genfam.sources.known.Die", "genfam.families.vae.VAE"
HOSTILE: dict[str, dict[str, Any]] = {
    "os": {"plugins": ["os"], "source": {"_target_": "os.system", "name": "die", "command": "touch sprung"}},
    "subprocess": {"plugins": ["subprocess"],
                   "source": {"_target_": "subprocess.Popen", "name": "die", "args": ["touch", "sprung"]}},
    "builtins": {"plugins": ["builtins"],
                 "source": {"_target_": "builtins.exec", "name": "die", "source": "open('sprung', 'w')"}},
    "importlib": {"plugins": ["importlib"],
                  "source": {"_target_": "importlib.import_module", "name": "trap"}},
    "pathlib": {"plugins": ["pathlib"], "family._target_": "pathlib.Path.touch"},
    "a module of the current folder": {"plugins": ["trap"], "family._target_": "trap.Trap"},
    "a function of genfam": {"source": {"_target_": "genfam.files.write_atomically", "name": "die", "path": "sprung",
                                        "content": "x"}},
    "another function of genfam": {"family._target_": "genfam.commands.cli.main"},
    "a module through a module of genfam": {"source._target_": "genfam.sources.known.torch.load"},
    "a class of genfam in the wrong place": {"source._target_": FAMILY},
    "a class of another kind": {"family._target_": "genfam.networks.perceptron.Perceptron"},
    "a class that a module of that kind imports": {"source._target_": "genfam.sources.known.Tensor"},
    "an abstract class": {"source._target_": "genfam.sources.base.Source"},
    "nested in an argument": {"family.network.depth": {"_target_": "os.system", "command": "touch sprung"}},
    "nested in a part": {"family.optimisation._target_": "os.system"},
    "nested in a list": {"family.optimisation.betas": [{"_target_": "os.getcwd"}, 0.9]},
    "nested in a free mapping": {"source.weights": {"_target_": "trap.Trap"}},
    "in a metric": {"metrics.frechet._target_": "os.system"},
    "in the extractor": {"extractor._target_": "trap.Trap"},
    "in the condition": {"condition._target_": "trap.Trap"},
    "no dots": {"source._target_": "exec"},
    "dots only": {"source._target_": "genfam.sources..Die"},
    "a path": {"source._target_": "../trap.Trap"},
    "not a text": {"source._target_": ["os", "system"]},
    "a family named by a path": {"family.name": "../../../sprung"},
    "a source named by a path": {"source.name": "/sprung"},
    "a condition named by a path": {"condition.name": ".."},
    "a suite named by a path": {"suite": "../../sprung"},
    "an argument that there is not": {"family.callback": "os.system"},
}  # fmt: skip
IN_EVALUATION_ONLY = ("in a metric", "in the extractor")


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_of_it_runs_and_one_line_says_why(
    what: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(store, HOSTILE[what])
    for name, read in readers(store).items():
        if what in IN_EVALUATION_ONLY and name in ("sample", "weights", "guide"):
            continue  # they build neither
        before = everything(tmp_path)
        capsys.readouterr()
        code = read()
        shown = capsys.readouterr()
        assert code == 2, (name, shown)
        assert len(shown.err.splitlines()) == 1 and shown.err.startswith("genfam-"), (name, shown.err)
        assert "Traceback" not in shown.err + shown.out
        after = everything(tmp_path)
        changed = {file for file in after if before.get(file) != after[file]}
        assert not any("sprung" in file for file in after), name
        assert all(file.startswith("outputs/") for file in changed), (name, changed)
        assert all((store / file).read_bytes() == before[f"outputs/single/{store.name}/{file}"]
                   for file in ("record.json", "config.yaml", "weights.safetensors"))  # fmt: skip


@pytest.mark.parametrize("what", ["config.yaml", "record.json", "weights.safetensors", "samples.npz", "figures"])
def test_links_that_lead_out_of_the_folder_are_refused(
    what: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    place = store.parent / what if what == "figures" else store / what
    if what == "figures":
        elsewhere.mkdir()
    else:
        shutil.move(place, elsewhere)
    place.symlink_to(elsewhere)
    kept = elsewhere.read_bytes() if elsewhere.is_file() else sorted(elsewhere.iterdir())
    commands = readers(store) | {"report": lambda: scripts.report(["suite=single", f"output_dir={store.parents[1]}"])}
    for name, read in commands.items():
        if what == "figures" and name in ("sample", "evaluate", "knobs", "guide", "repeat"):
            continue  # they look at one run only
        capsys.readouterr()
        assert read() in (1, 2), name
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and "link" in err, (name, err)
    assert (elsewhere.read_bytes() if elsewhere.is_file() else sorted(elsewhere.iterdir())) == kept


def test_a_log_that_is_a_link_is_not_written_to(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (store / "record.json").unlink()
    (store / "log.txt").symlink_to(tmp_path / "elsewhere")
    assert cli.main(["-m", *TINY, f"output_dir={store.parents[1]}", "logger=none", "--quiet"]) == 1
    assert (tmp_path / "elsewhere").read_text() == "kept"


def test_names_of_a_record_stay_text(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Formulas are no formulas in the CSV, markup is none on the page, and paths are no paths."""
    record = read_record(store)
    assert record is not None
    for field, value in (("family", "=HYPERLINK(1)"), ("family", "<script>x</script>"), ("suite", "../../out")):
        spoilt = json.loads(record_to_json(record, indent=1)) | {field: value, "checksum": None}
        (store / "record.json").write_text(json.dumps(spoilt))
        code = scripts.report(["suite=single", f"output_dir={store.parents[1]}", "results_dir=results"])
        assert code == 0, capsys.readouterr()
        table = (store.parent / "scorecard.csv").read_text()
        assert ",=HYPER" not in table and "\n=HYPER" not in table
        assert "<script>x" not in (store.parent / "report.html").read_text()
        assert not (tmp_path / "out").exists()
    assert scripts.publish(["suite=single", f"output_dir={store.parents[1]}", "results_dir=r/deep"]) == 1
    assert "suite: expected a name" in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_what_a_stored_run_says_of_trackers_and_downloads_is_not_done(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("a network was asked"))
    change(store, {"logger": "none", "wandb.mode": "online", "output_dir": "/nowhere", "results_dir": "/nowhere"})
    assert stored.evaluate([f"run={store}", "--quiet"]) == 0
    assert not Path("/nowhere").exists()


def test_an_honest_plug_in_runs_when_it_is_named(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "honest.py").write_text("from genfam.sources.known import Die\n\n\nclass Mine(Die):\n    pass\n")
    change(store, {"plugins": ["honest"], "source._target_": "honest.Mine"})
    assert stored.sample([f"run={store}", "n=3"]) == 2
    said = capsys.readouterr().err
    assert "plugins=[honest]" in said and len(said.splitlines()) == 1
    call(["genfam-sample", f"run={store}", "n=3", "plugins=[honest]"], tmp_path)


def test_a_finished_record_is_never_replaced_by_a_lesser_one(store: Path) -> None:
    record = read_record(store)
    assert record is not None
    for outcome in (Outcome.RUNNING, Outcome.FAILED, Outcome.INTERRUPTED, Outcome.DIVERGED):
        lesser = record_from_json(record_to_json(record))
        lesser.outcome, lesser.reason = outcome, "planted"
        write_record(store, lesser)
        assert read_record(store) == record
    better = record_from_json(record_to_json(record))
    better.code_version = "measured again"
    write_record(store, better)
    assert read_record(store) == better


def test_a_record_is_written_before_trackers_are_told(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    run = configure(*TINY, "seed=1")
    seen = []

    class Failing(experiment.Tracker):
        def finish(self, record, pictures, gradient_norms):
            stored = read_record(run.directory)
            seen.append(None if stored is None else stored.outcome)
            raise OSError("the server is gone")

    monkeypatch.setattr(experiment, "make_tracker", lambda *arguments: Failing())
    with pytest.warns(UserWarning, match="its tracker failed: the server is gone"):
        assert experiment.execute(run).outcome is Outcome.OK
    assert seen == [Outcome.OK]
    assert os.path.exists(run.directory / "weights.safetensors")
