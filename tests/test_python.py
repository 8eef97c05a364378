"""`genfam.compare` and `genfam.train`: the command line's runs, from Python."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import genfam
from forked import call
from genfam.commands import python
from genfam.records.store import Store
from genfam.running.drawing import drawn
from genfam.types import Event

SMALL = (
    "budget.train_flops=1e8", "curve.points=2", "curve.samples=50", "trace.points=2", "trace.samples=20",
    "evaluation.samples=200", "metric=[frechet,divergence]",
)  # fmt: skip


@pytest.fixture
def in_a_fork(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line in a fork of this process, where torch is loaded; a fresh one is tested below."""

    def run(arguments: list[str], quiet: bool) -> None:
        call(["genfam", *arguments, "--quiet"], tmp_path)

    monkeypatch.setattr(python, "_genfam", run)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_a_fork")
def test_a_comparison_says_who_is_better_and_resumes() -> None:
    found = genfam.compare("die", ["autoregressive"], budget="smoke", seeds=2, store="s", overrides=SMALL)
    assert {(run.family, run.seed) for run in found.records} == {
        (family, seed) for family in ("autoregressive", "gaussian", "oracle") for seed in (0, 1)
    }
    table = found.table
    judged = table[table["judges"]].set_index("family")
    values = [
        measurement.estimate.value
        for run in found.records if run.family == "autoregressive"
        for measurement in run.metrics if measurement.name == "total_variation" and measurement.estimate
    ]  # fmt: skip
    assert judged.loc["autoregressive", "mean"] == pytest.approx(np.mean(values))
    assert f"autoregressive: {np.mean(values):.3g}" in found.verdict() and "not tested" in found.verdict()
    assert len(found.plot().axes[0].collections) and found.page.exists() and "<svg" in found._repr_html_()
    stamps = {path: path.stat().st_mtime_ns for path in found.folder.glob("*/record.json")}
    again = genfam.compare("die", ["autoregressive"], budget="smoke", seeds=[0, 1], store="s", overrides=SMALL)
    assert {path: path.stat().st_mtime_ns for path in again.folder.glob("*/record.json")} == stamps
    more = genfam.compare("die", ["autoregressive"], budget="smoke", seeds=1, store="s", overrides=SMALL)
    assert len(more.records) == 3 and more.folder == found.folder


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_fork")
def test_minutes_choose_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    small = [setting for setting in SMALL if "train_flops" not in setting]
    found = genfam.compare("die", ["vae"], minutes=0.05, seeds=1, store="s", overrides=small)
    (run,) = [run for run in found.records if run.family == "vae"]
    (pilot,) = [run for path in Path("s").glob("pilot-*/single") for run in Store(path).load() if run.family == "vae"]
    said = capsys.readouterr().out
    assert f"{run.config['budget']['train_flops']:.2g} training FLOPs a run" in said
    assert run.config["budget"]["train_flops"] != pilot.config["budget"]["train_flops"]
    with pytest.raises(ValueError, match="minutes: expected more than"):
        genfam.compare("die", ["vae"], minutes=1e-6, seeds=1, store="s", overrides=small)


@pytest.mark.usefixtures("in_a_fork")
def test_a_trained_run_samples() -> None:
    run = genfam.train("vae", "die", budget="smoke", store="s", overrides=SMALL)
    x = run.sample(100)
    assert x.shape == (100, 1) and int(x.max()) < 6
    assert torch.isfinite(run.log_prob(x)).all()
    assert repr(run).startswith("vae on die, seed 0\ntotal_variation") and repr(run).count("\n") == 2
    (bars,) = run.show(500).axes
    counts = run.sample(500).flatten().bincount(minlength=6)
    assert [bar.get_height() for bar in bars.patches] == counts.tolist()


@pytest.mark.parametrize(("event", "axes"), [(Event((1, 8, 8), 17), 1), (Event((2,)), 1), (Event((14,)), 12)])
def test_every_kind_of_event_can_be_shown(event: Event, axes: int) -> None:
    x = torch.zeros(9, *event.shape, dtype=torch.uint8 if event.levels else torch.float32)
    assert len([axis for axis in drawn(event, x).axes if axis.get_visible()]) == axes


NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "first_comparison.ipynb"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("in_a_fork")
def test_the_notebook_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    space: dict[str, object] = {}
    few = ["budget.train_flops=1e11", *(setting for setting in SMALL[1:] if "metric" not in setting)]
    for cell in cells:
        assert not cell.get("outputs"), "numbers of one machine do not stand in a notebook"
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]).replace('"smoke"', f'"smoke", overrides={few}'), space)
    assert len(space["found"].records) == 8 and space["found"].page.exists()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readmes_lines_of_python_run_as_they_stand(tmp_path: Path) -> None:
    readme = NOTEBOOK.parents[2] / "README.md"
    (block,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.S)
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "by fd_digits_cnn_depths" in done.stdout and "torch.Size([16, 1, 8, 8])" in done.stdout


def test_mistakes_are_said_as_the_command_line_says_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="families: expected at least one"):
        genfam.compare("die", [])
    with pytest.raises(ValueError, match="seeds: expected at least one"):
        genfam.compare("die", seeds=0)
    with pytest.raises(ValueError, match=r"data: expected a file.* die, .* got nosuch"):
        genfam.compare("nosuch")
    with pytest.raises(ValueError, match="data: expected an array"):
        genfam.compare(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="did you mean vae"):  # by a fresh process
        genfam.compare("die", ["vea"], store=tmp_path)
    assert not list(tmp_path.iterdir())


def test_data_in_memory_are_kept_by_their_contents(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.arange(30) % 3)
    paths = [python._written(data, tmp_path) for data in (x, torch.from_numpy(x), dataset)]
    assert paths[0] == paths[1] != paths[2]
    with np.load(paths[2]) as file:
        assert np.array_equal(file["x"], x) and np.array_equal(file["y"], np.arange(30) % 3)
    frame = pd.DataFrame({"a": x[:, 0].astype(float), "b": ["u", "v, w"] * 15})
    read = pd.read_csv(python._written(frame, tmp_path))
    assert read.equals(frame)
    assert len(list((tmp_path / "data").iterdir())) == 3


def test_names_are_there_without_torch() -> None:
    code = "import sys, genfam; print(dir(genfam), 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "compare" in said and "False" in said


@pytest.mark.slow
def test_three_lines_in_a_script(tmp_path: Path) -> None:
    """No `if __name__ == "__main__"` is asked for."""
    script = tmp_path / "script.py"
    script.write_text(
        "import genfam\n"
        f"found = genfam.compare('die', ['vae'], budget='smoke', seeds=1, overrides={list(SMALL)})\n"
        "print(found)\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "[3/3 runs" in done.stdout and "total_variation" in done.stdout and "report.html" in done.stdout
