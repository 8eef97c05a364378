"""Machines as they are: no home, clusters' variables, other folders, a wheel without its repository, users' files."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from genfam.commands import cli, scripts
from genfam.records.store import Store
from genfam.running.tracking.weights_and_biases import wandb_id
from genfam.types import Outcome

ROOT = Path(__file__).parent.parent
TINY = ("family=vae", "source=die", "budget=smoke", "budget.train_flops=1e8", "budget.parameters=3000",
        "curve.points=2", "curve.samples=20", "trace.points=1", "trace.samples=20", "evaluation.samples=50",
        "metric=[frechet]", "--quiet")  # fmt: skip
CLUSTERS = {
    "Slurm": {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_PROCID": "2", "SLURM_JOB_NAME": "job",
              "SLURM_NODELIST": "n1", "SLURM_LOCALID": "0"},
    "torchrun": {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3", "MASTER_ADDR": "10.1.1.1", "MASTER_PORT": "1234",
                 "TORCHELASTIC_RUN_ID": "x"},
    "LSF": {"LSB_JOBID": "7", "LSB_DJOB_RANKFILE": "/nowhere", "JSM_NAMESPACE_RANK": "1"},
    "no home": {"HOME": "/proc/nowhere"},
    "no TERM": {"TERM": "", "COLUMNS": "20", "LC_ALL": "C", "PYTHONUTF8": "0"},
}  # fmt: skip


def genfam(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "genfam", *arguments], cwd=place, env=os.environ | environment, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("where", "logger"),
    [
        ("Slurm", "none"),
        *(pytest.param(where, "none", marks=pytest.mark.slow) for where in CLUSTERS if where != "Slurm"),
        pytest.param("no home", "wandb", marks=pytest.mark.slow),
        pytest.param("Slurm", "wandb", marks=pytest.mark.slow),
    ],
)
def test_a_run_on_one_device_needs_nothing_of_its_surroundings(tmp_path: Path, where: str, logger: str) -> None:
    done = genfam(tmp_path, *TINY, f"logger={logger}", **CLUSTERS[where])
    assert done.returncode == 0, done.stderr
    assert [record.outcome for record in Store(tmp_path / "outputs/single").load()] == [Outcome.OK]
    assert "srun" not in done.stderr


FROM_THE_WHEEL = """
import numpy as np
import genfam

print(genfam.__file__)
x = np.random.default_rng(0).integers(0, 5, (400, 3))
few = ["evaluation.samples=100"]
small = ["budget.train_flops=1e9", "budget.parameters=5000", "curve.points=1", "trace.points=1", *few]
found = genfam.compare(x, ["vae"], budget="smoke", seeds=1, overrides=small)
print(found.verdict())
path = found.records[0].config["source"]["path"]
judged = genfam.judge(x[:100].astype("uint8"), "level_array", overrides=[f"source.path={path}", *few])
print(judged.table["metric"].tolist())
genfam.load_run(found.folder / found.records[-1].run_id).export("card")
"""


def test_a_wheel_works_without_the_repository(tmp_path: Path) -> None:
    """Configurations, weights of classifiers, templates: all that is read must be in it."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    (tmp_path / "script.py").write_text(FROM_THE_WHEEL)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(tmp_path) in done.stdout.splitlines()[0]  # and not the checkout
    assert "nobody to compare with: vae" in done.stdout
    assert (tmp_path / "card" / "README.md").exists() and list(tmp_path.glob("outputs/compare-*/single/report.html"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"source:\n\tname: x\n", 2),
        (b"source: {name: x\n", 2),
        (b"\xef\xbb\xbf# @package _global_\n", 1),
        (b"a: 1\nname: caf\xe9\n", 2),
        (b"a: [1\nb: 2\n", 2),
        ("name: x\n".encode("utf-16"), 1),
    ],
)
def test_a_users_yaml_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, line: int
) -> None:
    (tmp_path / "conf/source").mkdir(parents=True)
    path = tmp_path / "conf/source/mine.yaml"
    path.write_bytes(content)
    assert cli.main(["--config-dir", str(tmp_path / "conf"), "source=mine", "family=oracle"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{path}, line {line}" in said, said


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--multirun"]])
def test_alone_it_shows_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 0
    assert "genfam -m +suite=quick" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_mistake_is_said_without_torch(tmp_path: Path) -> None:
    code = "import sys; from genfam.commands import cli; cli.main(sys.argv[1:]); print('torch' in sys.modules)"
    for mistake in (
        "family.depht=3",
        "seed=1.5",
        "evaluation.samples=1",
        "familly=gan",
        "budget.train_flops=inf",
        "threads=0",
    ):
        command = [sys.executable, "-c", code, "source=die", mistake]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.strip() == "False" and done.stderr.count("\n") == 1, (mistake, done)
    assert not list(tmp_path.iterdir())


def test_wandbs_ids_keep_runs_apart_and_hold_what_it_allows() -> None:
    names = ["grid-vae-s0-abc", "a:b-vae-s0-abc", "a_b-vae-s0-abc", "a#b-vae-s0-abc", "a'b;c,d?e-s0"]
    ids = [wandb_id(name) for name in names]
    assert ids[0] == names[0] and len(set(ids)) == len(names)
    assert not set(":;,#?/'") & set("".join(ids))


@pytest.mark.parametrize("given", ["wandb.project=a/b", "wandb.project=", "wandb.project=a:b", "wandb.tags=['']"])
def test_names_that_wandb_refuses_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*TINY, "logger=wandb", given]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and given.partition("=")[0] in said and not list(tmp_path.iterdir())


def test_a_report_before_any_run_has_ended_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "outputs/mine/run").mkdir(parents=True)
    (tmp_path / "outputs/mine/run/config.yaml").write_text("seed: 0\n")
    assert scripts.report(["suite=mine", f"output_dir={tmp_path}/outputs", f"results_dir={tmp_path}/results"]) == 0
    assert "nothing is finished yet" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", "/proc/nowhere", "x" * 300):
        assert cli.main([*TINY, "logger=none", f"output_dir={place}"]) == 2
        assert capsys.readouterr().err.startswith("genfam: error: output_dir: expected a folder")
